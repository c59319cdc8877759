//! The gradient of a convolution's weights on a GPU: the product of the result's gradient with what
//! each tap of the kernel reads, summed over positions, in tiles as in [`super::product`].
//!
//! There are few weights and many positions: the positions are shared among several cubes for each
//! tile, and what these make is added up.
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
use super::product::{ACROSS, DOWN, STEPS, Sizes, add_products, place_read, share, sizes};
use super::{argument, dims, made, own, reshaped};

/// Channels of a thread, and taps of its input channels, where there are this many at least.
const CHANNELS: [(usize, usize); 2] = [(8, 33), (4, 1)];
const TAPS: [(usize, usize); 2] = [(4, 33), (2, 1)];

/// Cubes that are enough to keep a device busy.
const CUBES: usize = 64;

/// Positions of a cube, at least.
const LEAST_POSITIONS: usize = 128;

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
        let image = position / area_out;
        let place = position % area_out;
        let row = place / sizes.width_out;
        let column = place % sizes.width_out;
        #[unroll]
        for i in 0..comptime![STEPS * high / threads] {
            let line = unit / STEPS + i * comptime![threads / STEPS];
            let channel = first_channel + line;
            let mut value = 0.0f32;
            if position < end && channel < sizes.to {
                value = grad[(image * sizes.to + channel) * area_out + place];
            }
            gradients[unit % STEPS * high + line] = value;
        }
        #[unroll]
        for i in 0..comptime![STEPS * wide / threads] {
            let line = unit / STEPS + i * comptime![threads / STEPS];
            let from = (first_column + line) / area;
            let tap = (first_column + line) % area;
            let read = place_read(row, column, tap, &sizes, side, stride, false);
            let mut value = 0.0f32;
            if position < end && from < sizes.from && read < area_in {
                value = x[(image * sizes.from + from) * area_in + read];
            }
            values[unit % STEPS * wide + line] = value;
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
            if column < columns && channel < sizes.to {
                y[(part * sizes.to + channel) * columns + column] = sums[i * taps + j];
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
pub fn backward_weight(
    x: CubeTensor,
    side: usize,
    grad: CubeTensor,
    stride: usize,
    padding: usize,
) -> CubeTensor {
    let (x, grad) = (own(x), own(grad));
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

    let made_of = made(&x, [parts, to, from, side * side]);
    if to * columns == 0 {
        return reshaped(made_of, [to, from, side, side]);
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
            argument(&made_of),
            sizes,
            of_part,
            side,
            stride,
            channels,
            taps,
        );
    }
    if parts == 1 {
        return reshaped(made_of, [to, from, side, side]);
    }
    let y = made(&x, [to, from, side, side]);
    let (cube_count, cube) = cubes(&x, to * columns);
    // SAFETY: no thread past the last weight goes on.
    unsafe {
        add_parts::launch_unchecked(
            &x.client,
            cube_count,
            cube,
            argument(&made_of),
            argument(&y),
            to * columns,
            parts,
        );
    }
    y
}
