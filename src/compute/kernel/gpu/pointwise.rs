//! What is done to each value by itself, a pass over memory each: a norm by its running statistics
//! with what follows it, and what a VOneBlock makes of its filters' responses.
#![allow(
    clippy::collapsible_if,
    reason = "what is known when a kernel is compiled is asked by itself"
)]

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::super::cells::{COMPLEX_EPSILON, NOISE_EPSILON};
use super::{argument, dims, made, own};

/// Cubes for `count` threads.
pub(super) fn cubes(of: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new(&of.client, count);
    (calculate_cube_count_elemwise(&of.client, count, cube), cube)
}

fn count(of: &CubeTensor) -> usize {
    dims(of).iter().product()
}

/// Values of a map that a thread takes, one after the other: whose channel they are takes two divisions
/// to find, which cost more than what is done to a value.
fn run_of(of: &CubeTensor) -> usize {
    let [_, _, height, width] = dims(of);
    match height * width % RUN {
        0 => RUN,
        _ => 1,
    }
}

const RUN: usize = 4;

#[cube(launch_unchecked)]
fn affine_kernel(
    x: &Tensor<f32>,
    skip: &Tensor<f32>,
    scale: &Tensor<f32>,
    shift: &Tensor<f32>,
    y: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    #[comptime] run: usize,
    #[comptime] relu: bool,
    #[comptime] has_skip: bool,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let channel = first / area % channels;
    let (scale, shift) = (scale[channel], shift[channel]);
    #[unroll]
    for i in 0..run {
        let mut value = x[first + i] * scale + shift;
        if comptime![has_skip] {
            value += skip[first + i];
        }
        if comptime![relu] {
            value = max(value, 0.0);
        }
        y[first + i] = value;
    }
}

/// `x · scale + shift`, two numbers for each channel, plus `skip`, then ReLU where `relu`.
pub fn affine(
    x: CubeTensor,
    skip: Option<CubeTensor>,
    [scale, shift]: [CubeTensor; 2],
    relu: bool,
) -> CubeTensor {
    let (x, skip) = (own(x), skip.map(own));
    let [scale, shift] = [scale, shift].map(own);
    let shape @ [_, channels, height, width] = dims(&x);
    let y = made(&x, shape);
    let count = count(&y);
    if count == 0 {
        return y;
    }
    let run = run_of(&x);
    let (cubes, cube) = cubes(&x, count / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        affine_kernel::launch_unchecked(
            &x.client,
            cubes,
            cube,
            argument(&x),
            argument(skip.as_ref().unwrap_or(&x)),
            argument(&scale),
            argument(&shift),
            argument(&y),
            count,
            height * width,
            channels,
            run,
            relu,
            skip.is_some(),
        );
    }
    y
}

#[cube(launch_unchecked)]
fn affine_backward_kernel(
    y: &Tensor<f32>,
    scale: &Tensor<f32>,
    grad: &Tensor<f32>,
    back: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    #[comptime] run: usize,
    #[comptime] relu: bool,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let scale = scale[first / area % channels];
    #[unroll]
    for i in 0..run {
        let mut value = grad[first + i] * scale;
        if comptime![relu] {
            value = select(y[first + i] <= 0.0, 0.0, value);
        }
        back[first + i] = value;
    }
}

/// Gradient with respect to `x`, `y` being the result.
pub fn affine_backward(
    y: CubeTensor,
    scale: CubeTensor,
    grad: CubeTensor,
    relu: bool,
) -> CubeTensor {
    let [y, scale, grad] = [y, scale, grad].map(own);
    let shape @ [_, channels, height, width] = dims(&grad);
    let back = made(&grad, shape);
    let count = count(&back);
    if count == 0 {
        return back;
    }
    let run = run_of(&grad);
    let (cubes, cube) = cubes(&grad, count / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        affine_backward_kernel::launch_unchecked(
            &grad.client,
            cubes,
            cube,
            argument(&y),
            argument(&scale),
            argument(&grad),
            argument(&back),
            count,
            height * width,
            channels,
            run,
            relu,
        );
    }
    back
}

#[cube(launch_unchecked)]
fn affine_add_backward_kernel(
    y: &Tensor<f32>,
    scale: &Tensor<f32>,
    grad: &Tensor<f32>,
    to_x: &mut Tensor<f32>,
    to_skip: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    #[comptime] run: usize,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let scale = scale[first / area % channels];
    #[unroll]
    for i in 0..run {
        let value = select(y[first + i] > 0.0, grad[first + i], 0.0);
        to_skip[first + i] = value;
        to_x[first + i] = value * scale;
    }
}

/// Gradients with respect to `x` and `skip`, `y` being the result.
pub fn affine_add_backward(
    y: CubeTensor,
    scale: CubeTensor,
    grad: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let [y, scale, grad] = [y, scale, grad].map(own);
    let shape @ [_, channels, height, width] = dims(&grad);
    let (to_x, to_skip) = (made(&grad, shape), made(&grad, shape));
    let count = count(&grad);
    if count == 0 {
        return (to_x, to_skip);
    }
    let run = run_of(&grad);
    let (cubes, cube) = cubes(&grad, count / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        affine_add_backward_kernel::launch_unchecked(
            &grad.client,
            cubes,
            cube,
            argument(&y),
            argument(&scale),
            argument(&grad),
            argument(&to_x),
            argument(&to_skip),
            count,
            height * width,
            channels,
            run,
        );
    }
    (to_x, to_skip)
}

#[cube(launch_unchecked)]
fn running_numbers_kernel(
    gain: &Tensor<f32>,
    bias: &Tensor<f32>,
    mean: &Tensor<f32>,
    variance: &Tensor<f32>,
    scale: &mut Tensor<f32>,
    shift: &mut Tensor<f32>,
    count: usize,
    epsilon: f32,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let value = gain[ABSOLUTE_POS] / (variance[ABSOLUTE_POS] + epsilon).sqrt();
    scale[ABSOLUTE_POS] = value;
    shift[ABSOLUTE_POS] = bias[ABSOLUTE_POS] - mean[ABSOLUTE_POS] * value;
}

/// Scale and shift, `[channels]` each, of a norm's gain, bias, running mean and running variance.
pub fn running_numbers(numbers: [CubeTensor; 4], epsilon: f32) -> (CubeTensor, CubeTensor) {
    let [gain, bias, mean, variance] = numbers.map(own);
    let [count] = gain.shape().dims();
    let [scale, shift] = [(); 2].map(|()| made(&gain, [count]));
    if count == 0 {
        return (scale, shift);
    }
    let (cubes, cube) = cubes(&gain, count);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        running_numbers_kernel::launch_unchecked(
            &gain.client,
            cubes,
            cube,
            argument(&gain),
            argument(&bias),
            argument(&mean),
            argument(&variance),
            argument(&scale),
            argument(&shift),
            count,
            epsilon,
        );
    }
    (scale, shift)
}

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
    let [q0, q1] = [q0, q1].map(own);
    let shape @ [_, channels, height, width] = dims(&q0);
    let y = made(&q0, shape);
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
) -> (CubeTensor, CubeTensor) {
    let [q0, q1, grad] = [q0, q1, grad].map(own);
    let shape @ [_, channels, height, width] = dims(&q0);
    let (to_first, to_second) = (made(&q0, shape), made(&q1, dims(&q1)));
    let count = count(&to_first);
    if count == 0 {
        return (to_first, to_second);
    }
    let run = run_of(&q0);
    let (cubes, cube) = cubes(&q0, count / run);
    // Nothing is bound that has no values; a result must not be bound twice.
    let spare = made(&q0, [1, 1, 1, 1]);
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
    (to_first, to_second)
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

/// The positive part of responses whose spike counts have been given noise of their mean's
/// variance; `noise` is for each image or for one.
pub fn spiking(x: CubeTensor, noise: CubeTensor, scale: f32, level: f32) -> CubeTensor {
    let [x, noise] = [x, noise].map(own);
    let y = made(&x, dims(&x));
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
    [x, noise, y, grad]: [CubeTensor; 4],
    scale: f32,
    level: f32,
) -> CubeTensor {
    let [x, noise, y, grad] = [x, noise, y, grad].map(own);
    let back = made(&x, dims(&x));
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
