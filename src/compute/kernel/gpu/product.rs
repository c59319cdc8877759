//! Convolution on a GPU, forward or back to the input, as the product of two matrices that are never
//! laid out: the kernels, and the values that each position of the result is made of.
//!
//! A cube of threads makes a tile of the result, some channels of some positions, of whatever images.
//! It brings the factors of a few steps of the sum into shared memory, and each thread sums a smaller
//! tile of its own in registers: a value that was brought is used by as many threads as the tile is
//! wide, and one that was read from there as often as the thread's own tile is.
#![allow(
    clippy::too_many_arguments,
    reason = "a kernel is told all it needs, one by one"
)]
#![allow(
    clippy::manual_is_multiple_of,
    reason = "kernels have no such function"
)]

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::pointwise::cubes;
use super::{argument, dims, made, own, reshaped};

/// Threads of a cube along positions, and along channels.
pub(super) const ACROSS: usize = 16;
pub(super) const DOWN: usize = 8;

/// Positions of a thread, where there are this many to make at least.
const POSITIONS: [(usize, usize); 4] = [(8, 97), (4, 33), (2, 17), (1, 1)];

/// Steps of the sum whose factors are in shared memory at a time.
pub(super) const STEPS: usize = 16;

/// Channels of a thread, where there are this many to make at least.
const CHANNELS: [(usize, usize); 2] = [(8, 33), (4, 1)];

/// What a kernel is told of one pass; `x` is what is read, `y` what is made.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Sizes {
    /// Channels of `x` and of `y`.
    pub from: usize,
    pub to: usize,
    /// Rows and columns of `x` and of `y`.
    pub height: usize,
    pub width: usize,
    pub height_out: usize,
    pub width_out: usize,
    /// Positions of `y` of all images.
    pub positions: usize,
    pub padding: usize,
}

/// These of `[images, from, height, width]` and `[images, to, height_out, width_out]`.
pub(super) fn sizes(x: [usize; 4], y: [usize; 4], padding: usize) -> SizesLaunch {
    let [_, from, height, width] = x;
    let [images, to, height_out, width_out] = y;
    let positions = images * height_out * width_out;
    SizesLaunch::new(
        from, to, height, width, height_out, width_out, positions, padding,
    )
}

/// Where tap `tap` reads for a position, within its map; past the map's end where it reads nothing.
#[cube]
pub(super) fn place_read(
    row: usize,
    column: usize,
    tap: usize,
    sizes: &Sizes,
    #[comptime] side: usize,
    #[comptime] stride: usize,
    #[comptime] backward: bool,
) -> usize {
    let below = tap / side;
    let beside = tap % side;
    let mut place = sizes.height * sizes.width;
    if comptime![backward] {
        let y = row + sizes.padding;
        let x = column + sizes.padding;
        if y >= below && x >= beside {
            let y = y - below;
            let x = x - beside;
            let inside = y / stride < sizes.height && x / stride < sizes.width;
            if inside && y % stride == 0 && x % stride == 0 {
                place = y / stride * sizes.width + x / stride;
            }
        }
    } else {
        let y = row * stride + below;
        let x = column * stride + beside;
        if y >= sizes.padding && x >= sizes.padding {
            let y = y - sizes.padding;
            let x = x - sizes.padding;
            if y < sizes.height && x < sizes.width {
                place = y * sizes.width + x;
            }
        }
    }
    place
}

/// A thread's products of the factors in shared memory, `[steps][rows of a cube]` and `[steps][columns
/// of a cube]`: its rows lie side by side, its columns `ACROSS` apart.
#[cube]
pub(super) fn add_products(
    sums: &mut Array<f32>,
    rows: &Shared<[f32]>,
    columns: &Shared<[f32]>,
    down: usize,
    across: usize,
    #[comptime] own_rows: usize,
    #[comptime] own_columns: usize,
) {
    for step in 0..STEPS {
        let mut ours = Array::<f32>::new(own_columns);
        #[unroll]
        for j in 0..own_columns {
            ours[j] = columns[step * comptime![ACROSS * own_columns] + across + j * ACROSS];
        }
        #[unroll]
        for i in 0..own_rows {
            let row = rows[step * comptime![DOWN * own_rows] + down * own_rows + i];
            #[unroll]
            for j in 0..own_columns {
                sums[i * own_columns + j] += row * ours[j];
            }
        }
    }
}

#[cube(launch_unchecked)]
fn products(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    y: &mut Tensor<f32>,
    sizes: Sizes,
    // How far apart kernels of neighbouring channels lie, of `x`'s and of `y`'s.
    weight_from: usize,
    weight_to: usize,
    #[comptime] side: usize,
    #[comptime] stride: usize,
    #[comptime] backward: bool,
    #[comptime] channels: usize,
    #[comptime] positions: usize,
) {
    let wide = comptime![ACROSS * positions];
    let high = comptime![DOWN * channels];
    let threads = comptime![ACROSS * DOWN];
    let area = comptime![side * side];

    let unit = UNIT_POS as usize;
    let across = unit % ACROSS;
    let down = unit / ACROSS;
    let first_position = CUBE_POS_X as usize * wide;
    let first_channel = CUBE_POS_Y as usize * high;

    let mut kernels = Shared::<[f32]>::new_slice(comptime![STEPS * high]);
    let mut values = Shared::<[f32]>::new_slice(comptime![STEPS * wide]);
    let mut sums = Array::<f32>::new(comptime![channels * positions]);
    #[unroll]
    for i in 0..comptime![channels * positions] {
        sums[i] = 0.0;
    }

    // The position whose values this thread brings, always the same.
    let position = first_position + unit % wide;
    let area_out = sizes.height_out * sizes.width_out;
    let area_in = sizes.height * sizes.width;
    let image = position / area_out;
    let row = position % area_out / sizes.width_out;
    let column = position % area_out % sizes.width_out;
    let start = image * sizes.from * area_in;
    let is_there = position < sizes.positions;

    let length = sizes.from * area;
    let rounds = length.div_ceil(STEPS);
    for round in 0..rounds {
        let first_step = round * STEPS;
        #[unroll]
        for i in 0..comptime![(STEPS * high).div_ceil(threads)] {
            let at = unit + i * threads;
            let step = first_step + at % STEPS;
            let channel = first_channel + at / STEPS;
            let mut value = 0.0f32;
            if step < length && channel < sizes.to {
                let from = step / area;
                let tap = step % area;
                value = weight[channel * weight_to + from * weight_from + tap];
            }
            if at < comptime![STEPS * high] {
                kernels[(at % STEPS) * high + at / STEPS] = value;
            }
        }
        // Not unrolled, here and below: a driver takes seconds to compile it, once for each size of
        // kernel.
        for i in 0..comptime![STEPS * wide / threads] {
            let line = unit / wide + i * comptime![threads / wide];
            let step = first_step + line;
            let place = place_read(row, column, step % area, &sizes, side, stride, backward);
            let mut value = 0.0f32;
            if is_there && step < length && place < area_in {
                value = x[start + step / area * area_in + place];
            }
            values[line * wide + unit % wide] = value;
        }
        sync_cube();
        add_products(
            &mut sums, &kernels, &values, down, across, channels, positions,
        );
        sync_cube();
    }

    #[unroll]
    for j in 0..positions {
        let position = first_position + across + j * ACROSS;
        if position < sizes.positions {
            let image = position / area_out;
            let place = position % area_out;
            #[unroll]
            for i in 0..channels {
                let channel = first_channel + down * channels + i;
                if channel < sizes.to {
                    y[(image * sizes.to + channel) * area_out + place] = sums[i * positions + j];
                }
            }
        }
    }
}

/// What each tap of each channel brings, `[n, channels · area, h′, w′]`, added up where it belongs.
#[cube(launch_unchecked)]
fn gather(
    taps: &Tensor<f32>,
    y: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] side: usize,
    #[comptime] stride: usize,
) {
    let area_out = sizes.height_out * sizes.width_out;
    if ABSOLUTE_POS >= sizes.positions * sizes.to {
        terminate!();
    }
    let area = comptime![side * side];
    let area_in = sizes.height * sizes.width;
    let row = ABSOLUTE_POS % area_out / sizes.width_out;
    let column = ABSOLUTE_POS % area_out % sizes.width_out;
    // Of all images' channels.
    let first = ABSOLUTE_POS / area_out * area;
    let mut sum = 0.0f32;
    for tap in 0..area {
        let place = place_read(row, column, tap, &sizes, side, stride, true);
        if place < area_in {
            sum += taps[(first + tap) * area_in + place];
        }
    }
    y[ABSOLUTE_POS] = sum;
}

/// `[n, in, h, w]` and `[out, in, k, k]` to `[n, out, h′, w′]`.
pub fn forward(x: CubeTensor, weight: CubeTensor, stride: usize, padding: usize) -> CubeTensor {
    let [_, _, height, width] = dims(&x);
    let [to, _, side, _] = dims(&weight);
    let out = |size: usize| (size + 2 * padding).saturating_sub(side) / stride + 1;
    let size = [out(height), out(width)];
    launch(x, weight, to, size, [stride, padding], false)
}

/// Gradient with respect to the input, `size` its rows and columns.
pub fn backward_x(
    size: [usize; 2],
    weight: CubeTensor,
    grad: CubeTensor,
    stride: usize,
    padding: usize,
) -> CubeTensor {
    let [_, to, ..] = dims(&weight);
    match is_gathered(&weight, &grad) {
        true => gathered(grad, weight, size, [stride, padding]),
        false => launch(grad, weight, to, size, [stride, padding], true),
    }
}

/// Of fewer channels most of a tile would be empty: what each tap brings is a product of its own then,
/// unless that were more than a device should be asked to hold.
const LEAST_CHANNELS: usize = 8;
const MOST_TAPS: usize = 32 << 20;

fn is_gathered(weight: &CubeTensor, grad: &CubeTensor) -> bool {
    let [_, to, side, _] = dims(weight);
    let [images, _, height, width] = dims(grad);
    let taps = images * to * side * side * height * width;
    to < LEAST_CHANNELS && side > 1 && taps <= MOST_TAPS
}

fn gathered(
    grad: CubeTensor,
    weight: CubeTensor,
    [height_out, width_out]: [usize; 2],
    [stride, padding]: [usize; 2],
) -> CubeTensor {
    let weight = own(weight);
    let [from, to, side, _] = dims(&weight);
    let [images, _, height, width] = dims(&grad);
    let y = made(&grad, [images, to, height_out, width_out]);
    let count = images * to * height_out * width_out;
    if count == 0 {
        return y;
    }
    let area = side * side;
    let flat = reshaped(weight, [from, to * area, 1, 1]);
    let taps = launch(grad.clone(), flat, to * area, [height, width], [1, 0], true);
    let sizes = sizes(dims(&grad), dims(&y), padding);
    let (number, cube) = cubes(&taps, count);
    // SAFETY: no thread past the last value goes on, and the kernel compares what it reads with the
    // map's size.
    unsafe {
        gather::launch_unchecked(
            &taps.client,
            number,
            cube,
            argument(&taps),
            argument(&y),
            sizes,
            side,
            stride,
        );
    }
    y
}

fn launch(
    x: CubeTensor,
    weight: CubeTensor,
    to: usize,
    [height_out, width_out]: [usize; 2],
    [stride, padding]: [usize; 2],
    backward: bool,
) -> CubeTensor {
    let (x, weight) = (own(x), own(weight));
    let [images, ..] = dims(&x);
    let [_, inner, side, _] = dims(&weight);
    let y = made(&x, [images, to, height_out, width_out]);
    let positions = images * height_out * width_out;
    if positions * to == 0 {
        return y;
    }
    let area = side * side;
    let [weight_from, weight_to] = match backward {
        true => [inner * area, area],
        false => [area, inner * area],
    };
    let [of_thread, channels] = [share(&POSITIONS, positions), share(&CHANNELS, to)];
    let count = CubeCount::Static(
        positions.div_ceil(ACROSS * of_thread) as u32,
        to.div_ceil(DOWN * channels) as u32,
        1,
    );
    let sizes = sizes(dims(&x), dims(&y), padding);
    // SAFETY: the kernel compares every index with the sizes of what it reads or writes.
    unsafe {
        products::launch_unchecked(
            &x.client,
            count,
            CubeDim::new_2d(ACROSS as u32, DOWN as u32),
            argument(&x),
            argument(&weight),
            argument(&y),
            sizes,
            weight_from,
            weight_to,
            side,
            stride,
            backward,
            channels,
            of_thread,
        );
    }
    y
}

/// What a thread takes of `count`; the last line takes all.
pub(super) fn share(table: &[(usize, usize)], count: usize) -> usize {
    let line = table.iter().find(|(_, least)| count >= *least);
    line.map_or(1, |(share, _)| *share)
}
