//! Max pooling on a GPU: of maps as they lie, where Burn's kernels have channels innermost.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::ops::Window;
use super::tensor::{argument, contiguous, cubes, dims, empty};

/// Sizes of the map and of the result.
#[derive(CubeLaunch, CubeType)]
struct Sizes {
    height: usize,
    width: usize,
    height_out: usize,
    width_out: usize,
    padding: usize,
    /// Values that are made.
    count: usize,
}

fn sizes(x: &CubeTensor, y: &CubeTensor, window: Window, count: usize) -> SizesLaunch {
    let [_, _, height, width] = dims(x);
    let [_, _, height_out, width_out] = dims(y);
    SizesLaunch::new(height, width, height_out, width_out, window.padding, count)
}

/// The row, or column, of a map at a place of a window. What lies outside is the nearest within, which
/// the window has too.
#[cube]
fn within(first: usize, place: usize, padding: usize, side: usize) -> usize {
    min(max(first + place, padding) - padding, side - 1)
}

/// Where the map of a value of the result begins, and the row and column, in a map with its padding,
/// at which the value's window does.
#[cube]
fn window_of(at: usize, sizes: &Sizes, #[comptime] stride: usize) -> (usize, usize, usize) {
    let area_out = sizes.height_out * sizes.width_out;
    let map = at / area_out * sizes.height * sizes.width;
    let top = at % area_out / sizes.width_out * stride;
    let left = at % sizes.width_out * stride;
    (map, top, left)
}

#[cube(launch_unchecked)]
fn pool(
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
) {
    if ABSOLUTE_POS >= sizes.count {
        terminate!();
    }
    let (map, top, left) = window_of(ABSOLUTE_POS, &sizes, stride);
    let at = map
        + within(top, 0, sizes.padding, sizes.height) * sizes.width
        + within(left, 0, sizes.padding, sizes.width);
    let mut most = x[at];
    for below in 0..kernel {
        let row = within(top, below, sizes.padding, sizes.height);
        for beside in 0..kernel {
            let column = within(left, beside, sizes.padding, sizes.width);
            most = max(most, x[map + row * sizes.width + column]);
        }
    }
    y[ABSOLUTE_POS] = most;
}

/// Where in its map the first of the largest values of each window lies.
#[cube(launch_unchecked)]
fn find_first(
    x: &Tensor<f32>,
    y: &Tensor<f32>,
    places: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
) {
    if ABSOLUTE_POS >= sizes.count {
        terminate!();
    }
    let (map, top, left) = window_of(ABSOLUTE_POS, &sizes, stride);
    let most = y[ABSOLUTE_POS];
    let mut first = sizes.height * sizes.width;
    for below in 0..kernel {
        let row = within(top, below, sizes.padding, sizes.height) * sizes.width;
        for beside in 0..kernel {
            let place = row + within(left, beside, sizes.padding, sizes.width);
            first = min(first, select(x[map + place] == most, place, first));
        }
    }
    places[ABSOLUTE_POS] = f32::reinterpret(first as u32);
}

/// A thread for each value of the map: it takes the gradients of the windows of which it is the first
/// of the largest.
#[cube(launch_unchecked)]
fn pool_backward(
    places: &Tensor<f32>,
    grad: &Tensor<f32>,
    back: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
) {
    if ABSOLUTE_POS >= sizes.count {
        terminate!();
    }
    let area = sizes.height * sizes.width;
    let map_out = ABSOLUTE_POS / area * sizes.height_out * sizes.width_out;
    let place = ABSOLUTE_POS % area;
    // Windows that reach the value, and one past them.
    let below = place / sizes.width + sizes.padding;
    let beside = place % sizes.width + sizes.padding;
    let last_row = min(below / stride + 1, sizes.height_out);
    let last_column = min(beside / stride + 1, sizes.width_out);
    let first_row = (max(below + 1, kernel) - kernel).div_ceil(stride);
    let first_column = (max(beside + 1, kernel) - kernel).div_ceil(stride);
    let mut sum = 0.0f32;
    for row in first_row..last_row {
        for column in first_column..last_column {
            let window = map_out + row * sizes.width_out + column;
            let first = u32::reinterpret(places[window]) as usize;
            sum += select(first == place, grad[window], 0.0);
        }
    }
    back[ABSOLUTE_POS] = sum;
}

/// `[n, c, h, w]` to `[n, c, h′, w′]`.
pub fn max_pool(x: CubeTensor, window: Window) -> CubeTensor {
    let x = contiguous(x);
    let [images, channels, height, width] = dims(&x);
    let y = empty(
        &x,
        [images, channels, window.out(height), window.out(width)],
    );
    let count = dims(&y).iter().product();
    if count == 0 {
        return y;
    }
    let (number, cube) = cubes(&x, count);
    // SAFETY: no thread past the last value goes on, and places are kept within the map.
    unsafe {
        pool::launch_unchecked(
            &x.client,
            number,
            cube,
            argument(&x),
            argument(&y),
            sizes(&x, &y, window, count),
            window.kernel,
            window.stride,
        );
    }
    y
}

/// Gradient with respect to `x`, `y` being the result: to the first of the largest values.
pub fn max_pool_backward(
    x: CubeTensor,
    y: CubeTensor,
    grad: CubeTensor,
    window: Window,
) -> CubeTensor {
    let [x, y, grad] = [x, y, grad].map(contiguous);
    let (places, back) = (empty(&x, dims(&y)), empty(&x, dims(&x)));
    let [windows, count] = [&y, &x].map(|maps| dims(maps).iter().product());
    if windows == 0 {
        return back;
    }
    let (number, cube) = cubes(&x, windows);
    // SAFETY: as in `max_pool`.
    unsafe {
        find_first::launch_unchecked(
            &x.client,
            number,
            cube,
            argument(&x),
            argument(&y),
            argument(&places),
            sizes(&x, &y, window, windows),
            window.kernel,
            window.stride,
        );
    }
    let (number, cube) = cubes(&x, count);
    // SAFETY: no thread past the last value goes on, and windows are kept within the result.
    unsafe {
        pool_backward::launch_unchecked(
            &x.client,
            number,
            cube,
            argument(&places),
            argument(&grad),
            argument(&back),
            sizes(&x, &y, window, count),
            window.kernel,
            window.stride,
        );
    }
    back
}
