//! The gradient of a convolution's weights on a GPU: the product of the result's gradient with what
//! each tap of the kernel reads, summed over positions, in tiles.
//!
//! There are few weights and many positions: the positions are shared among several cubes for each
//! tile, and what these make is added up.
#![allow(
    clippy::collapsible_if,
    reason = "two short questions take a driver less time to compile than one of two parts"
)]

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{argument, contiguous, cubes, dims, empty, reshaped};

/// Threads of a cube along taps, and along channels.
const ACROSS: usize = 16;
const DOWN: usize = 8;

/// Steps of the sum whose factors are in shared memory at a time.
const STEPS: usize = 16;

/// Channels of a thread, and taps of its input channels, where there are this many at least.
const CHANNELS: [(usize, usize); 2] = [(8, 33), (4, 1)];
const TAPS: [(usize, usize); 2] = [(4, 33), (2, 1)];

/// Cubes that are enough to keep a device busy.
const CUBES: usize = 64;

/// Positions of a cube, at least.
const LEAST_POSITIONS: usize = 128;

/// Sizes of one pass; `x` is what is read, `y` what is made.
#[derive(CubeLaunch, CubeType)]
struct Sizes {
    /// Channels of `x` and of `y`.
    from: usize,
    to: usize,
    /// Rows and columns of `x` and of `y`.
    height: usize,
    width: usize,
    height_out: usize,
    width_out: usize,
    /// Positions of `y` of all images.
    positions: usize,
    padding: usize,
}

/// These of `[images, from, height, width]` and `[images, to, height_out, width_out]`.
fn sizes(x: [usize; 4], y: [usize; 4], padding: usize) -> SizesLaunch {
    let [_, from, height, width] = x;
    let [images, to, height_out, width_out] = y;
    let positions = images * height_out * width_out;
    SizesLaunch::new(
        from, to, height, width, height_out, width_out, positions, padding,
    )
}

/// Where tap `tap` reads for a position, within its map; past the map's end where it reads nothing.
/// Selected rather than branched to: what a driver does with branches in a loop can double with each.
#[cube]
fn place_read(
    row: usize,
    column: usize,
    tap: usize,
    sizes: &Sizes,
    #[comptime] side: usize,
    #[comptime] stride: usize,
) -> usize {
    let none = sizes.height * sizes.width;
    // What lies before the first row or column becomes a very large number.
    let y = row * stride + tap / side - sizes.padding;
    let x = column * stride + tap % side - sizes.padding;
    let place = select(x < sizes.width, y * sizes.width + x, none);
    select(y < sizes.height, place, none)
}

/// A thread's products of the factors in shared memory, `[steps][rows of a cube]` and `[steps][columns
/// of a cube]`: its rows lie side by side, its columns `ACROSS` apart.
#[cube]
fn add_products(
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
fn weight_products(
    x: &Tensor<f32>,
    grad: &Tensor<f32>,
    y: &mut Tensor<f32>,
    sizes: Sizes,
    // Positions of a cube.
    share: usize,
    #[comptime] side: usize,
    #[comptime] stride: usize,
    #[comptime] channels: usize,
    #[comptime] taps: usize,
) {
    let wide = comptime![ACROSS * taps];
    let high = comptime![DOWN * channels];
    let threads = comptime![ACROSS * DOWN];
    let area = comptime![side * side];

    let unit = UNIT_POS as usize;
    let across = unit % ACROSS;
    let down = unit / ACROSS;
    let first_column = CUBE_POS_X as usize * wide;
    let first_channel = CUBE_POS_Y as usize * high;
    let part = CUBE_POS_Z as usize;
    let begin = part * share;
    let end = min(begin + share, sizes.positions);
    let columns = sizes.from * area;
    let area_in = sizes.height * sizes.width;
    let area_out = sizes.height_out * sizes.width_out;

    let mut gradients = Shared::<[f32]>::new_slice(comptime![STEPS * high]);
    let mut values = Shared::<[f32]>::new_slice(comptime![STEPS * wide]);
    let mut sums = Array::<f32>::new(comptime![channels * taps]);
    #[unroll]
    for i in 0..comptime![channels * taps] {
        sums[i] = 0.0;
    }

    let rounds = (end - begin).div_ceil(STEPS);
    for round in 0..rounds {
        // The position whose values this thread brings: `STEPS` divides the threads.
        let position = begin + round * STEPS + unit % STEPS;
        let is_there = position < end;
        let position = min(position, end - 1);
        let image = position / area_out;
        let place = position % area_out;
        let row = place / sizes.width_out;
        let column = place % sizes.width_out;
        #[unroll]
        for i in 0..comptime![STEPS * high / threads] {
            let line = unit / STEPS + i * comptime![threads / STEPS];
            let channel = first_channel + line;
            let there = image * sizes.to + min(channel, sizes.to - 1);
            let value = select(channel < sizes.to, grad[there * area_out + place], 0.0);
            gradients[unit % STEPS * high + line] = select(is_there, value, 0.0);
        }
        #[unroll]
        for i in 0..comptime![STEPS * wide / threads] {
            let line = unit / STEPS + i * comptime![threads / STEPS];
            let from = (first_column + line) / area;
            let tap = (first_column + line) % area;
            let read = place_read(row, column, tap, &sizes, side, stride);
            let there = image * sizes.from + min(from, sizes.from - 1);
            let value = x[there * area_in + min(read, area_in - 1)];
            let value = select(read < area_in, value, 0.0);
            let value = select(from < sizes.from, value, 0.0);
            values[unit % STEPS * wide + line] = select(is_there, value, 0.0);
        }
        sync_cube();
        add_products(&mut sums, &gradients, &values, down, across, channels, taps);
        sync_cube();
    }

    #[unroll]
    for j in 0..taps {
        let column = first_column + across + j * ACROSS;
        #[unroll]
        for i in 0..channels {
            let channel = first_channel + down * channels + i;
            if column < columns {
                if channel < sizes.to {
                    y[(part * sizes.to + channel) * columns + column] = sums[i * taps + j];
                }
            }
        }
    }
}

#[cube(launch_unchecked)]
fn add_parts(parts: &Tensor<f32>, y: &mut Tensor<f32>, count: usize, number: usize) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mut sum = 0.0f32;
    for part in 0..number {
        sum += parts[part * count + ABSOLUTE_POS];
    }
    y[ABSOLUTE_POS] = sum;
}

/// Gradient with respect to the weights, `[out, in, side, side]`.
pub fn weight_gradient(
    x: CubeTensor,
    side: usize,
    grad: CubeTensor,
    stride: usize,
    padding: usize,
) -> CubeTensor {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let [_, from, ..] = dims(&x);
    let [images, to, height_out, width_out] = dims(&grad);
    let columns = from * side * side;
    let positions = images * height_out * width_out;
    let [channels, taps] = [share(&CHANNELS, to), share(&TAPS, columns)];
    let [across, down] = [
        columns.div_ceil(ACROSS * taps),
        to.div_ceil(DOWN * channels),
    ];
    let parts = CUBES.div_ceil((across * down).max(1));
    let parts = parts.min(positions.div_ceil(LEAST_POSITIONS)).max(1);
    let of_part = positions.div_ceil(parts).next_multiple_of(STEPS);
    let parts = positions.div_ceil(of_part.max(1)).max(1);

    let partial = empty(&x, [parts, to, from, side * side]);
    if to * columns == 0 {
        return reshaped(partial, [to, from, side, side]);
    }
    let count = CubeCount::Static(across as u32, down as u32, parts as u32);
    let sizes = sizes(dims(&x), dims(&grad), padding);
    // SAFETY: the kernel compares every index with the sizes of what it reads or writes.
    unsafe {
        weight_products::launch_unchecked(
            &x.client,
            count,
            CubeDim::new_2d(ACROSS as u32, DOWN as u32),
            argument(&x),
            argument(&grad),
            argument(&partial),
            sizes,
            of_part,
            side,
            stride,
            channels,
            taps,
        );
    }
    if parts == 1 {
        return reshaped(partial, [to, from, side, side]);
    }
    let y = empty(&x, [to, from, side, side]);
    let (cube_count, cube) = cubes(&x, to * columns);
    // SAFETY: no thread past the last weight goes on.
    unsafe {
        add_parts::launch_unchecked(
            &x.client,
            cube_count,
            cube,
            argument(&partial),
            argument(&y),
            to * columns,
            parts,
        );
    }
    y
}

/// What a thread takes of `count`; the last line takes all.
fn share(table: &[(usize, usize)], count: usize) -> usize {
    let line = table.iter().find(|(_, least)| count >= *least);
    line.map_or(1, |(share, _)| *share)
}
