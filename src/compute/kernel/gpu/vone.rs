//! The cells of a VOneBlock (Dapello, Marques et al. 2020) on a GPU: simple and complex cells, and neuronal
//! noise.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::ops::{COMPLEX_EPSILON, NOISE_EPSILON};
use super::tensor::{argument, contiguous, count, cubes, dims, empty, run_of};

/// Where a value of all cells is among those that have a second quadrature.
#[cube]
fn second_at(at: usize, area: usize, channels: usize, simple: usize) -> usize {
    let image = at / (area * channels);
    at - (image + 1) * simple * area
}

#[cube(launch_unchecked)]
fn cells_kernel(
    q0: &Tensor<f32>,
    q1: &Tensor<f32>,
    y: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    simple: usize,
    gain: f32,
    epsilon: f32,
    #[comptime] run: usize,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    if first / area % channels >= simple {
        let second = second_at(first, area, channels, simple);
        #[unroll]
        for i in 0..run {
            let (a, b) = (q0[first + i], q1[second + i]);
            let value = (a * a + b * b + epsilon).sqrt();
            y[first + i] = value * comptime![std::f32::consts::FRAC_1_SQRT_2] * gain;
        }
    } else {
        #[unroll]
        for i in 0..run {
            y[first + i] = max(q0[first + i], 0.0) * gain;
        }
    }
}

/// `gain` times the positive part of the first `simple` channels of `q0`, and the root mean square
/// of the others with `q1`.
pub fn cells(q0: CubeTensor, q1: CubeTensor, simple: usize, gain: f32) -> CubeTensor {
    let [q0, q1] = [q0, q1].map(contiguous);
    let shape @ [_, channels, height, width] = dims(&q0);
    let y = empty(&q0, shape);
    let count = count(&y);
    if count == 0 {
        return y;
    }
    let run = run_of(&q0);
    let (cubes, cube) = cubes(&q0, count / run);
    // Without complex cells there is no second quadrature, and nothing to bind.
    let second = if simple < channels { &q1 } else { &q0 };
    // SAFETY: no thread past the last value goes on, and only complex cells read the second.
    unsafe {
        cells_kernel::launch_unchecked(
            &q0.client,
            cubes,
            cube,
            argument(&q0),
            argument(second),
            argument(&y),
            count,
            height * width,
            channels,
            simple,
            gain,
            COMPLEX_EPSILON as f32,
            run,
        );
    }
    y
}

#[cube(launch_unchecked)]
fn cells_backward_kernel(
    q0: &Tensor<f32>,
    q1: &Tensor<f32>,
    grad: &Tensor<f32>,
    to_first: &mut Tensor<f32>,
    to_second: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    simple: usize,
    gain: f32,
    epsilon: f32,
    #[comptime] run: usize,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    if first / area % channels >= simple {
        let second = second_at(first, area, channels, simple);
        #[unroll]
        for i in 0..run {
            let (a, b) = (q0[first + i], q1[second + i]);
            let g = grad[first + i] * gain * comptime![std::f32::consts::FRAC_1_SQRT_2];
            let steep = g / (a * a + b * b + epsilon).sqrt();
            to_first[first + i] = steep * a;
            to_second[second + i] = steep * b;
        }
    } else {
        #[unroll]
        for i in 0..run {
            let g = grad[first + i] * gain;
            to_first[first + i] = select(q0[first + i] > 0.0, g, 0.0);
        }
    }
}

/// Gradients with respect to `q0` and `q1`.
pub fn cells_backward(
    q0: CubeTensor,
    q1: CubeTensor,
    grad: CubeTensor,
    simple: usize,
    gain: f32,
) -> [CubeTensor; 2] {
    let [q0, q1, grad] = [q0, q1, grad].map(contiguous);
    let shape @ [_, channels, height, width] = dims(&q0);
    let (to_first, to_second) = (empty(&q0, shape), empty(&q1, dims(&q1)));
    let count = count(&to_first);
    if count == 0 {
        return [to_first, to_second];
    }
    let run = run_of(&q0);
    let (cubes, cube) = cubes(&q0, count / run);
    // Nothing is bound that has no values; a result must not be bound twice.
    let spare = empty(&q0, [1, 1, 1, 1]);
    let (second, to) = match simple < channels {
        true => (&q1, &to_second),
        false => (&q0, &spare),
    };
    // SAFETY: as in `cells`.
    unsafe {
        cells_backward_kernel::launch_unchecked(
            &q0.client,
            cubes,
            cube,
            argument(&q0),
            argument(second),
            argument(&grad),
            argument(&to_first),
            argument(to),
            count,
            height * width,
            channels,
            simple,
            gain,
            COMPLEX_EPSILON as f32,
            run,
        );
    }
    [to_first, to_second]
}

#[cube]
fn spread(spikes: f32, epsilon: f32) -> f32 {
    (max(spikes, 0.0) + epsilon).sqrt()
}

#[cube(launch_unchecked)]
fn spiking_kernel(
    x: &Tensor<f32>,
    noise: &Tensor<f32>,
    y: &mut Tensor<f32>,
    count: usize,
    drawn: usize,
    scale: f32,
    level: f32,
    epsilon: f32,
    #[comptime] run: usize,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let from = first % drawn;
    #[unroll]
    for i in 0..run {
        let spikes = x[first + i] * scale + level;
        let noisy = spikes + noise[from + i] * spread(spikes, epsilon);
        y[first + i] = max((noisy - level) / scale, 0.0);
    }
}

/// The positive part of responses whose spike counts have been given noise whose variance is their mean;
/// `noise` is for each image or for one.
pub fn spiking(x: CubeTensor, noise: CubeTensor, scale: f32, level: f32) -> CubeTensor {
    let [x, noise] = [x, noise].map(contiguous);
    let y = empty(&x, dims(&x));
    let (number, drawn) = (count(&y), count(&noise));
    if number == 0 {
        return y;
    }
    let run = run_of(&x);
    let (cubes, cube) = cubes(&x, number / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        spiking_kernel::launch_unchecked(
            &x.client,
            cubes,
            cube,
            argument(&x),
            argument(&noise),
            argument(&y),
            number,
            drawn,
            scale,
            level,
            NOISE_EPSILON as f32,
            run,
        );
    }
    y
}

#[cube(launch_unchecked)]
fn spiking_backward_kernel(
    x: &Tensor<f32>,
    noise: &Tensor<f32>,
    y: &Tensor<f32>,
    grad: &Tensor<f32>,
    back: &mut Tensor<f32>,
    count: usize,
    drawn: usize,
    scale: f32,
    level: f32,
    epsilon: f32,
    #[comptime] run: usize,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let from = first % drawn;
    #[unroll]
    for i in 0..run {
        let spikes = x[first + i] * scale + level;
        let noisy = 0.5 * noise[from + i] / spread(spikes, epsilon);
        let steep = 1.0f32 + select(spikes > 0.0, noisy, 0.0);
        back[first + i] = select(y[first + i] > 0.0, grad[first + i] * steep, 0.0);
    }
}

/// Gradient with respect to `x`, `y` being the result.
pub fn spiking_backward(
    tensors: [CubeTensor; 3],
    grad: CubeTensor,
    scale: f32,
    level: f32,
) -> CubeTensor {
    let [x, noise, y] = tensors.map(contiguous);
    let grad = contiguous(grad);
    let back = empty(&x, dims(&x));
    let (number, drawn) = (count(&back), count(&noise));
    if number == 0 {
        return back;
    }
    let run = run_of(&x);
    let (cubes, cube) = cubes(&x, number / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        spiking_backward_kernel::launch_unchecked(
            &x.client,
            cubes,
            cube,
            argument(&x),
            argument(&noise),
            argument(&y),
            argument(&grad),
            argument(&back),
            number,
            drawn,
            scale,
            level,
            NOISE_EPSILON as f32,
            run,
        );
    }
    back
}
