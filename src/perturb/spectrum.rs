//! Where in the frequency plane a perturbation lies.

use std::f64::consts::TAU;

/// Amplitudes are taken not to be smaller than this, so that their logarithm is finite: about a
/// thousandth of an 8-bit level over a single pixel.
const FLOOR: f64 = 1e-6;

/// Log10 of the amplitude spectrum of a change `[channels, side, side]`, the mean over channels,
/// as `[side, side]` with the frequency 0 in the middle (at `side / 2`). Amplitudes are divided by
/// `side`, which keeps the sum of squares.
///
/// Transformed row by row and column by column by the definition: pictures are small, and sides
/// are any number.
pub fn log_amplitude(change: &[f32], side: usize) -> Vec<f32> {
    let area = side * side;
    let mut sum = vec![0.0_f64; area];
    let waves: Vec<(f64, f64)> = (0..side).map(|k| wave(k, side)).collect();
    let channels = change.chunks_exact(area.max(1));
    let count = channels.len().max(1) as f64;
    for channel in channels {
        let planes = transform(channel, side, &waves);
        for (sum, (re, im)) in sum.iter_mut().zip(planes) {
            *sum += re.hypot(im);
        }
    }
    let half = side / 2;
    let from = |i: usize| (i + side - half) % side;
    (0..area)
        .map(|i| {
            let amplitude = sum[from(i / side) * side + from(i % side)] / (count * side as f64);
            amplitude.max(FLOOR).log10() as f32
        })
        .collect()
}

fn wave(k: usize, side: usize) -> (f64, f64) {
    let angle = -TAU * k as f64 / side as f64;
    (libm::cos(angle), libm::sin(angle))
}

/// The two-dimensional discrete Fourier transform of one plane.
fn transform(plane: &[f32], side: usize, waves: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut rows = vec![(0.0, 0.0); side * side];
    for (row, out) in plane.chunks_exact(side).zip(rows.chunks_exact_mut(side)) {
        for (k, out) in out.iter_mut().enumerate() {
            *out = row
                .iter()
                .enumerate()
                .fold((0.0, 0.0), |(re, im), (x, value)| {
                    let (c, s) = waves[k * x % side];
                    let value = f64::from(*value);
                    (re + value * c, im + value * s)
                });
        }
    }
    let mut planes = vec![(0.0, 0.0); side * side];
    for (k, out) in planes.chunks_exact_mut(side).enumerate() {
        for (y, row) in rows.chunks_exact(side).enumerate() {
            let (c, s) = waves[k * y % side];
            for (out, (re, im)) in out.iter_mut().zip(row) {
                out.0 += re * c - im * s;
                out.1 += re * s + im * c;
            }
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_grating_is_two_points_and_a_constant_is_one() {
        let side = 12;
        let grating = |cycles: f64, row: bool| -> Vec<f32> {
            (0..side * side)
                .map(|i| {
                    let place = if row { i / side } else { i % side };
                    (0.3 * libm::cos(TAU * cycles * place as f64 / side as f64)) as f32
                })
                .collect()
        };
        let above = |spectrum: &[f32]| -> Vec<usize> {
            (0..side * side).filter(|i| spectrum[*i] > -2.0).collect()
        };
        let middle = side / 2 * side + side / 2;
        assert_eq!(above(&log_amplitude(&grating(0.0, true), side)), [middle]);
        let across = log_amplitude(&grating(3.0, false), side);
        assert_eq!(above(&across), [middle - 3, middle + 3]);
        // Half of 0.3 · side² in each of the two, divided by the side.
        assert!((f64::from(across[middle + 3]) - (0.15 * side as f64).log10()).abs() < 1e-5);
        let down = log_amplitude(&grating(3.0, true), side);
        assert_eq!(above(&down), [middle - 3 * side, middle + 3 * side]);
    }

    #[test]
    fn the_sum_of_squares_is_kept_for_any_side() {
        let mut rng = Rng::from_seed(1);
        for side in [5, 8, 33] {
            let mut change = vec![0.0_f32; side * side];
            rng.fill_normal(&mut change);
            let squares: f64 = change.iter().map(|v| f64::from(*v).powi(2)).sum();
            let spectrum = log_amplitude(&change, side);
            let sum: f64 = spectrum
                .iter()
                .map(|v| 10_f64.powf(2.0 * f64::from(*v)))
                .sum();
            assert!(
                (sum / squares - 1.0).abs() < 1e-4,
                "{side}: {sum} {squares}"
            );
        }
    }
}
