//! First-layer filters as pictures, and what each Gabor of a bank is tuned to.

use std::f64::consts::TAU;

use serde_bytes::ByteBuf;

use super::filter_bank::{FilterBank, GaborInfo};
use super::load::Loaded;

/// Orientations and frequencies a filter is probed at.
const ORIENTATIONS: usize = 24;
const FREQUENCIES: usize = 16;

/// The filters of the layer that takes the image; `None` where its input is not the three colours.
pub fn first_layer(loaded: &Loaded) -> Option<FilterBank> {
    // The first layer is declared first.
    let name = loaded.config.tensors().into_iter().next()?.name;
    let tensor = loaded.weights.get(&name)?;
    let [count, 3, size, _] = *tensor.shape.as_slice() else {
        return None;
    };
    let gabors = match &loaded.config.front {
        Some(vone) => {
            let pixels_per_degree = vone.image_size as f64 / vone.visual_degrees;
            let probe = Probe::new(size);
            tensor
                .values
                .chunks_exact(3 * size * size)
                .enumerate()
                .map(|(i, filter)| {
                    probe.tuning(filter, pixels_per_degree, i >= vone.simple_channels)
                })
                .collect()
        }
        None => Vec::new(),
    };
    let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Some(FilterBank {
        layer: name.trim_end_matches(".weight").to_owned(),
        count,
        size,
        weights: ByteBuf::from(bytes),
        gabors,
    })
}

/// Gratings of every probed orientation and frequency, as a table of cosines and sines.
struct Probe {
    area: usize,
    /// `(orientation, frequency, cosines and sines over the filter's pixels)`.
    gratings: Vec<(f64, f64, Vec<[f32; 2]>)>,
}

impl Probe {
    fn new(size: usize) -> Self {
        let half = (size / 2) as f64;
        let mut gratings = Vec::with_capacity(ORIENTATIONS * FREQUENCIES);
        for o in 0..ORIENTATIONS {
            let theta = std::f64::consts::PI * o as f64 / ORIENTATIONS as f64;
            for f in 0..FREQUENCIES {
                // Log-spaced from one cycle a filter to the Nyquist limit.
                let lowest = 1.0 / size as f64;
                let step = f as f64 / (FREQUENCIES - 1) as f64;
                let frequency = lowest * (0.5 / lowest).powf(step);
                let wave = grating(size, half, theta, frequency);
                gratings.push((theta, frequency, wave));
            }
        }
        Self {
            area: size * size,
            gratings,
        }
    }

    /// The grating with the largest response.
    fn tuning(&self, filter: &[f32], pixels_per_degree: f64, complex: bool) -> GaborInfo {
        // A Gabor of the bank filters one colour; the other two planes are zero.
        let energy = |plane: &&[f32]| plane.iter().map(|w| w * w).sum::<f32>();
        let plane = filter
            .chunks_exact(self.area)
            .max_by(|a, b| energy(a).total_cmp(&energy(b)))
            .unwrap_or(filter);
        let mut best = (0.0_f32, 0.0, 0.0, 0.0);
        for (theta, frequency, wave) in &self.gratings {
            let (mut re, mut im) = (0.0_f32, 0.0_f32);
            for (w, [cos, sin]) in plane.iter().zip(wave) {
                re += w * cos;
                im -= w * sin;
            }
            let power = re * re + im * im;
            if power > best.0 {
                let phase = f64::from(im.atan2(re));
                best = (power, *theta, *frequency, phase);
            }
        }
        let (_, theta, frequency, phase) = best;
        GaborInfo {
            orientation: theta.to_degrees() as f32,
            frequency: (frequency * pixels_per_degree) as f32,
            phase: phase.to_degrees().rem_euclid(360.0) as f32,
            complex,
        }
    }
}

/// θ turns from the rows' axis, as in [`super::gabor::Gabor::kernel`].
fn grating(size: usize, half: f64, theta: f64, frequency: f64) -> Vec<[f32; 2]> {
    let (sin_theta, cos_theta) = theta.sin_cos();
    (0..size * size)
        .map(|i| {
            let (row, column) = ((i / size) as f64 - half, (i % size) as f64 - half);
            let angle = TAU * frequency * (row * cos_theta + column * sin_theta);
            [angle.cos() as f32, angle.sin() as f32]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gabor::Gabor;

    #[test]
    fn the_tuning_of_a_gabor_is_found() {
        let size = 25;
        for (degrees, frequency) in [(30.0_f64, 0.12), (90.0, 0.2), (142.5, 0.15)] {
            let gabor = Gabor {
                frequency,
                theta: degrees.to_radians(),
                phase: 0.7,
                sigma_across: 4.0,
                sigma_along: 5.0,
            };
            let mut filter = vec![0.0; 3 * size * size];
            filter[size * size..2 * size * size].copy_from_slice(&gabor.kernel(size));
            let found = Probe::new(size).tuning(&filter, 1.0, false);
            assert!(
                (f64::from(found.orientation) - degrees).abs() <= 7.5,
                "{found:?}"
            );
            assert!(
                (f64::from(found.frequency) / frequency).ln().abs() < 0.15,
                "{found:?}"
            );
        }
    }
}
