//! The epilogue on a GPU: as the last step of a convolution, on maps by itself, and backward.
#![allow(
    clippy::collapsible_if,
    reason = "what is known when a kernel is compiled is asked by itself"
)]

use burn::backend::Cube;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::epilogue::Epilogue;
use super::tensor::{argument, contiguous, count, cubes, dims, empty, run_of};

/// What an epilogue consists of, known when a kernel is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpilogueKind {
    pub scale_shift: bool,
    pub skip: bool,
    pub relu: bool,
}

impl EpilogueKind {
    pub fn of(epilogue: &Epilogue<Cube>) -> Self {
        Self {
            scale_shift: epilogue.scale().is_some(),
            skip: matches!(epilogue, Epilogue::Residual { .. }),
            relu: epilogue.has_relu(),
        }
    }
}

/// Scale, shift and skip connection to bind; `nothing`, which is not read, in the place of those it lacks.
pub fn tensors<'a>(epilogue: &'a Epilogue<Cube>, nothing: &'a CubeTensor) -> [&'a CubeTensor; 3] {
    match epilogue {
        Epilogue::Identity => [nothing; 3],
        Epilogue::ScaleShift { scale, shift, .. } => [scale, shift, nothing],
        Epilogue::Residual { scale, shift, skip } => [scale, shift, skip],
    }
}

/// A value with its epilogue: scale and shift of its channel, its place in the skip connection.
#[cube]
pub(super) fn finished(
    sum: f32,
    scale: f32,
    shift: f32,
    skip: &Tensor<f32>,
    at: usize,
    #[comptime] kind: EpilogueKind,
) -> f32 {
    let mut value = sum;
    if comptime![kind.scale_shift] {
        value = value * scale + shift;
    }
    if comptime![kind.skip] {
        value += skip[at];
    }
    if comptime![kind.relu] {
        value = max(value, 0.0);
    }
    value
}

#[cube(launch_unchecked)]
fn epilogue_kernel(
    x: &Tensor<f32>,
    skip: &Tensor<f32>,
    scale: &Tensor<f32>,
    shift: &Tensor<f32>,
    y: &mut Tensor<f32>,
    count: usize,
    area: usize,
    channels: usize,
    #[comptime] run: usize,
    #[comptime] kind: EpilogueKind,
) {
    let first = ABSOLUTE_POS * run;
    if first >= count {
        terminate!();
    }
    let channel = first / area % channels;
    let (scale, shift) = (scale[channel], shift[channel]);
    #[unroll]
    for i in 0..run {
        let at = first + i;
        y[at] = finished(x[at], scale, shift, skip, at, kind);
    }
}

/// The epilogue of `x`, `[n, channels, h, w]`.
pub fn apply(x: CubeTensor, epilogue: Epilogue<Cube>) -> CubeTensor {
    if matches!(epilogue, Epilogue::Identity) {
        return x;
    }
    let (x, epilogue) = (contiguous(x), epilogue.map(contiguous));
    let shape @ [_, channels, height, width] = dims(&x);
    let y = empty(&x, shape);
    let count = count(&y);
    if count == 0 {
        return y;
    }
    let run = run_of(&x);
    let (cubes, cube) = cubes(&x, count / run);
    let [scale, shift, skip] = tensors(&epilogue, &x);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        epilogue_kernel::launch_unchecked(
            &x.client,
            cubes,
            cube,
            argument(&x),
            argument(skip),
            argument(scale),
            argument(shift),
            argument(&y),
            count,
            height * width,
            channels,
            run,
            EpilogueKind::of(&epilogue),
        );
    }
    y
}

#[cube(launch_unchecked)]
fn scale_shift_backward_kernel(
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

/// Gradient with respect to the input of a scale and shift, `y` being the result.
pub fn scale_shift_backward(
    y: CubeTensor,
    scale: CubeTensor,
    grad: CubeTensor,
    relu: bool,
) -> CubeTensor {
    let [y, scale, grad] = [y, scale, grad].map(contiguous);
    let shape @ [_, channels, height, width] = dims(&grad);
    let back = empty(&grad, shape);
    let count = count(&back);
    if count == 0 {
        return back;
    }
    let run = run_of(&grad);
    let (cubes, cube) = cubes(&grad, count / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        scale_shift_backward_kernel::launch_unchecked(
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
fn residual_backward_kernel(
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

/// Gradients with respect to a residual's input and skip connection, `y` being the result.
pub fn residual_backward(
    y: CubeTensor,
    scale: CubeTensor,
    grad: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let [y, scale, grad] = [y, scale, grad].map(contiguous);
    let shape @ [_, channels, height, width] = dims(&grad);
    let (to_x, to_skip) = (empty(&grad, shape), empty(&grad, shape));
    let count = count(&grad);
    if count == 0 {
        return (to_x, to_skip);
    }
    let run = run_of(&grad);
    let (cubes, cube) = cubes(&grad, count / run);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        residual_backward_kernel::launch_unchecked(
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
