//! Max pooling on the CPU.
//!
//! Forward, a row of maxima takes in the window's rows first, then of these each column of the window.
//! Backward, the first of the largest values gets the gradient; it is looked for again rather than kept.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::super::ops::Window;
use super::tensor::{contiguous, tensor};
use super::threads::each_chunk;

impl Window {
    /// The row of the map at place `offset` of the window of row `row`; `None` outside.
    fn source(&self, row: usize, offset: usize, side: usize) -> Option<usize> {
        let at = (row * self.stride + offset).checked_sub(self.padding)?;
        (at < side).then_some(at)
    }

    /// The columns of the result whose window's place `offset` lies in a map of this width.
    fn inside(&self, offset: usize, width: usize) -> Range<usize> {
        let columns = self.out(width);
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride);
        let past = (width + self.padding).saturating_sub(offset);
        let past = past.div_ceil(self.stride).min(columns);
        first.min(past)..past
    }
}

/// `[n, c, h, w]` to `[n, c, h′, w′]`; NaN where a window holds one.
pub fn forward(x: FlexTensor, window: Window) -> FlexTensor {
    let [n, channels, height, width] = x.shape().dims();
    let size = [window.out(height), window.out(width)];
    let (area, area_out) = (height * width, size[0] * size[1]);
    let x = contiguous(x);
    let values: &[f32] = x.storage();
    let mut y = vec![0.0; n * channels * area_out];
    each_chunk(&mut y, area_out.max(1), |place, y| {
        maxima(&values[place * area..][..area], [height, width], window, y);
    });
    tensor(y, [n, channels, size[0], size[1]])
}

fn maxima(map: &[f32], [height, width]: [usize; 2], window: Window, y: &mut [f32]) {
    // Of the window's rows, a column each: these lie side by side, and are compared many at a time.
    let mut line = vec![0.0; width];
    for (row, y) in y.chunks_exact_mut(window.out(width)).enumerate() {
        line.fill(f32::NEG_INFINITY);
        for dy in 0..window.kernel {
            if let Some(source) = window.source(row, dy, height) {
                take_in(&mut line, map[source * width..][..width].iter());
            }
        }
        y.fill(f32::NEG_INFINITY);
        for dx in 0..window.kernel {
            let columns = window.inside(dx, width);
            let first = (columns.start * window.stride + dx).checked_sub(window.padding);
            if let Some(line) = first.and_then(|first| line.get(first..)) {
                take_in(&mut y[columns], line.iter().step_by(window.stride));
            }
        }
    }
}

/// The larger of each pair, NaN where one of them is.
fn take_in<'a>(most: &mut [f32], values: impl Iterator<Item = &'a f32>) {
    for (most, value) in most.iter_mut().zip(values) {
        // Not `max`, which passes over NaN.
        let is_taken = *value > *most || value.is_nan();
        *most = if is_taken { *value } else { *most };
    }
}

/// Gradient with respect to `x`, `y` being the result.
pub fn backward(x: FlexTensor, y: FlexTensor, grad: FlexTensor, window: Window) -> FlexTensor {
    let shape @ [n, channels, height, width] = x.shape().dims::<4>();
    let [_, _, rows, columns] = y.shape().dims::<4>();
    let (area, area_out) = (height * width, rows * columns);
    let (x, y, grad) = (contiguous(x), contiguous(y), contiguous(grad));
    let (x, y, grad): (&[f32], &[f32], &[f32]) = (x.storage(), y.storage(), grad.storage());
    let mut out = vec![0.0; n * channels * area];
    each_chunk(&mut out, area.max(1), |place, out| {
        let map = &x[place * area..][..area];
        let there = place * area_out..(place + 1) * area_out;
        let (y, grad) = (&y[there.clone()], &grad[there]);
        hand_back(map, [height, width], window, y, grad, out);
    });
    tensor(out, shape)
}

fn hand_back(
    map: &[f32],
    size: [usize; 2],
    window: Window,
    y: &[f32],
    grad: &[f32],
    out: &mut [f32],
) {
    let columns = window.out(size[1]);
    for (at, (most, grad)) in y.iter().zip(grad).enumerate() {
        let (row, column) = (at / columns, at % columns);
        if let Some(place) = first_of(*most, map, size, window, [row, column]) {
            out[place] += grad;
        }
    }
}

/// Where the window of a position first holds `most`.
fn first_of(
    most: f32,
    map: &[f32],
    [height, width]: [usize; 2],
    window: Window,
    [row, column]: [usize; 2],
) -> Option<usize> {
    let clip = |at: usize, side: usize| {
        let first = (at * window.stride).saturating_sub(window.padding);
        let past = (at * window.stride + window.kernel).saturating_sub(window.padding);
        first..past.min(side)
    };
    let columns = clip(column, width);
    for y in clip(row, height) {
        for x in columns.clone() {
            let value = map[y * width + x];
            if value == most || (most.is_nan() && value.is_nan()) {
                return Some(y * width + x);
            }
        }
    }
    None
}
