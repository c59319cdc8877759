//! The cells of a VOneBlock (Dapello, Marques et al. 2020) on the CPU: simple and complex cells, and neuronal
//! noise.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::super::ops::{COMPLEX_EPSILON, NOISE_EPSILON};
use super::epilogue::{each_map, gate, rectify};
use super::tensor::{contiguous, tensor};
use super::threads::Shared;

/// Where a batch's cells lie.
#[derive(Clone, Copy)]
struct Cells {
    /// Channels of simple cells.
    simple: usize,
    /// Floats of a map, and of an image.
    area: usize,
    size: usize,
}

impl Cells {
    fn of(q0: &FlexTensor, simple: usize) -> Self {
        let [_, channels, height, width] = q0.shape().dims::<4>();
        let area = height * width;
        Self {
            simple,
            area,
            size: channels * area,
        }
    }

    /// Where the other quadrature of complex cells lies, theirs starting here.
    fn pair_of(&self, start: usize) -> std::ops::Range<usize> {
        let image = start / self.size;
        let pair = start - (image + 1) * self.simple * self.area;
        pair..pair + self.area
    }
}

/// `gain` times the positive part of the first `simple` channels of `q0`, and the root mean square
/// of the others with `q1`.
pub fn cells(q0: FlexTensor, q1: FlexTensor, simple: usize, gain: f32) -> FlexTensor {
    let cells = Cells::of(&q0, simple);
    let q1 = contiguous(q1);
    let second: &[f32] = q1.storage();
    each_map(q0, |channel, start, map| {
        if channel < simple {
            return map.iter_mut().for_each(|v| *v = rectify(*v) * gain);
        }
        for (a, b) in map.iter_mut().zip(&second[cells.pair_of(start)]) {
            *a = amplitude(*a, *b) / std::f32::consts::SQRT_2 * gain;
        }
    })
}

fn amplitude(a: f32, b: f32) -> f32 {
    (a * a + b * b + COMPLEX_EPSILON as f32).sqrt()
}

/// Gradients with respect to `q0` and `q1`.
pub fn cells_backward(
    q0: FlexTensor,
    q1: FlexTensor,
    grad: FlexTensor,
    simple: usize,
    gain: f32,
) -> [FlexTensor; 2] {
    let cells = Cells::of(&q0, simple);
    let shape = q1.shape().dims::<4>();
    let [q0, q1] = [q0, q1].map(contiguous);
    let [first, second] = [&q0, &q1].map(|tensor| tensor.storage::<f32>());
    let gain_complex = gain * std::f32::consts::FRAC_1_SQRT_2;
    let to_second = Shared::unwritten(second.len());
    let to_first = each_map(grad, |channel, start, map| {
        let first = &first[start..][..map.len()];
        if channel < simple {
            for (g, v) in map.iter_mut().zip(first) {
                *g = gate(*g * gain, *v > 0.0);
            }
            return;
        }
        let pair = cells.pair_of(start);
        // SAFETY: every map is one item, and has a pair of its own.
        let to_second = &mut unsafe { to_second.get() }[pair.clone()];
        let pairs = first.iter().zip(&second[pair]);
        for ((g, to_second), (a, b)) in map.iter_mut().zip(to_second).zip(pairs) {
            let steep = *g * gain_complex / amplitude(*a, *b);
            *to_second = steep * b;
            *g = steep * a;
        }
    });
    [to_first, tensor(to_second.into_inner(), shape)]
}

/// The positive part of responses `x` whose spike counts, `x · scale + level`, have been given noise
/// whose variance is their mean: `noise` holds standard normal draws, for each image or for one.
pub fn spiking(x: FlexTensor, noise: FlexTensor, scale: f32, level: f32) -> FlexTensor {
    let [of_noise, of_x] = [&noise, &x].map(|t| t.shape().dims::<4>()[0]);
    assert!(
        of_noise == 1 || of_noise == of_x,
        "noise for one image or for each"
    );
    let noise = contiguous(noise);
    let noise: &[f32] = noise.storage();
    each_map(x, |_, start, map| {
        for (x, noise) in map.iter_mut().zip(&noise[start % noise.len()..]) {
            let spikes = *x * scale + level;
            *x = rectify((spikes + noise * spread(spikes) - level) / scale);
        }
    })
}

fn spread(spikes: f32) -> f32 {
    (rectify(spikes) + NOISE_EPSILON as f32).sqrt()
}

/// Gradient with respect to `x`, `y` being the result.
pub fn spiking_backward(
    [x, noise, y]: [FlexTensor; 3],
    grad: FlexTensor,
    scale: f32,
    level: f32,
) -> FlexTensor {
    let [x, noise, y] = [x, noise, y].map(contiguous);
    let [x, noise, y] = [&x, &noise, &y].map(|tensor| tensor.storage::<f32>());
    each_map(grad, |_, start, map| {
        let responses = x[start..].iter().zip(&y[start..]);
        let noise = &noise[start % noise.len()..];
        for ((g, (x, y)), noise) in map.iter_mut().zip(responses).zip(noise) {
            let spikes = *x * scale + level;
            let steep = 1.0 + gate(0.5 * noise / spread(spikes), spikes > 0.0);
            *g = gate(*g * steep, *y > 0.0);
        }
    })
}
