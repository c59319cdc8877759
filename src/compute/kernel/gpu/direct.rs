//! Convolution on a GPU as a sum over the taps of its kernel, forward or back to the input, with its epilogue.
//!
//! A thread computes a patch of four channels of the result, 4 by 4 positions where the map has as many.
//! For each channel of the input it reads the patch's surroundings and the kernels' weights into
//! registers, and multiplies them there: a 3x3 kernel takes 36 values and 36 weights for 576 products.
//! Nothing is laid out beforehand, and threads do not wait for each other.
//!
//! Back to the input of a strided convolution, positions that lie `stride` apart have the same taps:
//! each such phase is a convolution of its own, by every `stride`-th tap.
#![allow(
    clippy::collapsible_if,
    reason = "two short questions take a driver less time to compile than one of two parts"
)]

use burn::backend::Cube;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::epilogue::Epilogue;
use super::super::tiles::Convolution;
use super::epilogue::{EpilogueKind, finished, tensors};
use super::tensor::{argument, dims, empty, fit, threads_of};
use super::weight_cache::{element, stored};

/// Output channels of a thread.
const CHANNELS: usize = 4;

/// Rows and columns of a thread's patch, and positions of it where a map is one row.
const PATCH: usize = 4;
const ROW: usize = 16;

/// Kernels of more rows are taken a row of taps at a time, and of more columns a tap at a time.
const MOST_ROWS: usize = 3;
const MOST_COLUMNS: usize = 11;

/// What is known of a pass when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Of the kernel.
    side: usize,
    /// Back to the input.
    backward: bool,
    /// Rows or columns of the input from one of a patch to the next.
    step: usize,
    /// Along a side of the result: positions that lie as far apart have the same taps.
    phases: usize,
    /// Of a patch.
    rows: usize,
    columns: usize,
    /// Rows and columns of taps whose weights are in registers at a time.
    down: usize,
    across: usize,
    epilogue: EpilogueKind,
}

impl Plan {
    /// For maps of the result of this size.
    fn new(side: usize, stride: usize, backward: bool, size: [usize; 2]) -> Self {
        let [step, phases] = match backward {
            true => [1, stride],
            false => [stride, 1],
        };
        let taps = side.div_ceil(phases);
        // Phases differ in the number of their taps.
        let whole = taps <= MOST_ROWS && step == 1 && phases == 1;
        let [height, width] = size.map(|side| side.div_ceil(phases));
        let [rows, columns] = match height {
            1 => [1, fit(width, ROW)],
            _ => [fit(height, PATCH), fit(width, PATCH)],
        };
        Self {
            side,
            backward,
            step,
            phases,
            rows,
            columns,
            down: if whole { taps } else { 1 },
            across: if taps <= MOST_COLUMNS { taps } else { 1 },
            epilogue: EpilogueKind::default(),
        }
    }

    /// Rows of the input for these of a patch, beside some rows of taps; columns alike.
    fn read(self, patch: usize, taps: usize) -> usize {
        match taps {
            1 => patch,
            _ => (patch - 1) * self.step + taps,
        }
    }

    /// How far apart these lie.
    fn pitch(self, taps: usize) -> usize {
        if taps == 1 { self.step } else { 1 }
    }

    /// Which of these the given tap of the given row, or column, of a patch reads.
    fn reads(self, place: usize, tap: usize, taps: usize) -> usize {
        match taps {
            1 => place,
            _ => place * self.step + tap,
        }
    }

    /// Whether a phase may have fewer taps than are taken at a time.
    fn is_ragged(self) -> bool {
        self.phases > 1 && self.across > 1
    }
}

/// Sizes of one pass; `x` is what is read, `y` what is computed.
#[derive(CubeLaunch, CubeType)]
struct MapSizes {
    /// Channels of `x` and of `y`.
    from: usize,
    to: usize,
    /// Rows and columns of `x` and of `y`.
    height: usize,
    width: usize,
    height_out: usize,
    width_out: usize,
    padding: usize,
    /// Patches of a map, of one phase.
    tile_rows: usize,
    tile_columns: usize,
    /// Of all images.
    tiles: usize,
    /// Groups of `y`'s channels, and threads for all of them.
    groups: usize,
    threads: usize,
    /// How far apart kernels of neighbouring channels lie, of `x`'s and of `y`'s.
    weight_from: usize,
    weight_to: usize,
}

/// Taps of a phase: how many, the first of the kernel, and what the first of them reads for the first
/// position, the number of rows before the map (a number that wraps).
#[cube]
fn taps_of(phase: usize, padding: usize, #[comptime] plan: Plan) -> (usize, usize, usize) {
    if comptime![plan.backward] {
        let phases = comptime![plan.phases];
        let shifted = phase + padding;
        let least = shifted % phases;
        let count = (comptime![plan.side + plan.phases - 1] - least) / phases;
        let first = least + count * phases - phases;
        (count, first, count - 1 - shifted / phases)
    } else {
        (comptime![plan.side].runtime(), 0usize.runtime(), padding)
    }
}

#[cube(launch_unchecked)]
fn patches<W: Float>(
    x: &Tensor<f32>,
    weight: &Tensor<W>,
    scale: &Tensor<f32>,
    shift: &Tensor<f32>,
    skip: &Tensor<f32>,
    y: &mut Tensor<f32>,
    maps: MapSizes,
    #[comptime] plan: Plan,
    #[define(W)] _stored: ElemType,
) {
    if ABSOLUTE_POS >= maps.threads {
        terminate!();
    }
    // Neighbouring threads have neighbouring patches, then come the next channels.
    let tile = ABSOLUTE_POS % maps.tiles;
    let group = ABSOLUTE_POS / maps.tiles;
    let phase = group / maps.groups;
    let channel = group % maps.groups * comptime![CHANNELS];
    let [rows, columns] = comptime![[plan.rows, plan.columns]];
    let [down, across] = comptime![[plan.down, plan.across]];
    let in_rows = comptime![plan.read(rows, down)];
    let in_columns = comptime![plan.read(columns, across)];

    let phase_row = phase / comptime![plan.phases];
    let phase_column = phase % comptime![plan.phases];
    let (count_y, first_y, before_y) = taps_of(phase_row, maps.padding, plan);
    let (count_x, first_x, before_x) = taps_of(phase_column, maps.padding, plan);
    let image = tile / (maps.tile_rows * maps.tile_columns);
    let row = tile / maps.tile_columns % maps.tile_rows * rows;
    let column = tile % maps.tile_columns * columns;
    let top = row * comptime![plan.step] - before_y;
    let left = column * comptime![plan.step] - before_x;
    let area_in = maps.height * maps.width;

    // Channels past the last are the last again, and write what it writes.
    let mut kernels = Array::<usize>::new(CHANNELS);
    #[unroll]
    for c in 0..CHANNELS {
        kernels[c] = min(channel + c, maps.to - 1) * maps.weight_to;
    }
    let mut sums = Array::<f32>::new(comptime![rows * columns * CHANNELS]);
    #[unroll]
    for i in 0..comptime![rows * columns * CHANNELS] {
        sums[i] = 0.0;
    }

    let mut row_at = Array::<usize>::new(in_rows);
    let mut row_there = Array::<u32>::new(in_rows);
    let mut column_at = Array::<usize>::new(in_columns);
    let mut column_there = Array::<u32>::new(in_columns);
    let mut weights = Array::<f32>::new(comptime![down * across * CHANNELS]);
    let mut values = Array::<f32>::new(in_columns);
    for tap_y in range_stepped(0, count_y, down) {
        #[unroll]
        for i in 0..in_rows {
            let at = top + tap_y + i * comptime![plan.pitch(down)];
            row_at[i] = min(at, maps.height - 1) * maps.width;
            row_there[i] = select(at < maps.height, 1u32, 0u32);
        }
        for tap_x in range_stepped(0, count_x, across) {
            #[unroll]
            for j in 0..in_columns {
                let at = left + tap_x + j * comptime![plan.pitch(across)];
                column_at[j] = min(at, maps.width - 1);
                column_there[j] = select(at < maps.width, 1u32, 0u32);
            }
            let mut map = image * maps.from * area_in;
            let mut kernel = 0;
            for _ in 0..maps.from {
                #[unroll]
                for u in 0..down {
                    #[unroll]
                    for v in 0..across {
                        let below = tap_at(first_y, min(tap_y + u, count_y - 1), plan);
                        let beside = tap_at(first_x, min(tap_x + v, count_x - 1), plan);
                        let tap = below * comptime![plan.side] + beside;
                        #[unroll]
                        for c in 0..CHANNELS {
                            let mut value = f32::cast_from(weight[kernels[c] + kernel + tap]);
                            if comptime![plan.is_ragged()] {
                                value = select(tap_x + v < count_x, value, 0.0);
                            }
                            weights[(u * across + v) * CHANNELS + c] = value;
                        }
                    }
                }
                #[unroll]
                for i in 0..in_rows {
                    #[unroll]
                    for j in 0..in_columns {
                        let value = x[map + row_at[i] + column_at[j]];
                        let there = row_there[i] & column_there[j];
                        values[j] = select(there != 0, value, 0.0);
                    }
                    add_row(&mut sums, &values, &weights, i, plan);
                }
                map += area_in;
                kernel += maps.weight_from;
            }
        }
    }

    let area_out = maps.height_out * maps.width_out;
    #[unroll]
    for c in 0..CHANNELS {
        let channel = min(channel + c, maps.to - 1);
        let mut a = 1.0f32;
        let mut b = 0.0f32;
        if comptime![plan.epilogue.scale_shift] {
            a = scale[channel];
            b = shift[channel];
        }
        #[unroll]
        for r in 0..rows {
            let row = (row + r) * comptime![plan.phases] + phase_row;
            if row < maps.height_out {
                #[unroll]
                for q in 0..columns {
                    let column = (column + q) * comptime![plan.phases] + phase_column;
                    if column < maps.width_out {
                        let at =
                            (image * maps.to + channel) * area_out + row * maps.width_out + column;
                        let sum = sums[(r * columns + q) * CHANNELS + c];
                        y[at] = finished(sum, a, b, skip, at, comptime![plan.epilogue]);
                    }
                }
            }
        }
    }
}

/// Of the kernel, the tap that comes at this place of a phase's.
#[cube]
fn tap_at(first: usize, place: usize, #[comptime] plan: Plan) -> usize {
    if comptime![plan.backward] {
        first - place * comptime![plan.phases]
    } else {
        place
    }
}

/// The products of a row of the input with all taps, in all rows of a patch, that read it.
#[cube]
fn add_row(
    sums: &mut Array<f32>,
    values: &Array<f32>,
    weights: &Array<f32>,
    #[comptime] row: usize,
    #[comptime] plan: Plan,
) {
    let [rows, columns] = comptime![[plan.rows, plan.columns]];
    let [down, across] = comptime![[plan.down, plan.across]];
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for u in 0..down {
            if comptime![plan.reads(r, u, down) == row] {
                #[unroll]
                for v in 0..across {
                    #[unroll]
                    for q in 0..columns {
                        let value = values[comptime![plan.reads(q, v, across)]];
                        #[unroll]
                        for c in 0..CHANNELS {
                            sums[(r * columns + q) * CHANNELS + c] +=
                                value * weights[(u * across + v) * CHANNELS + c];
                        }
                    }
                }
            }
        }
    }
}

/// Contiguous maps `x` by contiguous `weight` to maps of this size with `to` channels.
pub fn run(
    x: &CubeTensor,
    weight: CubeTensor,
    to: usize,
    size: [usize; 2],
    convolution: Convolution,
    epilogue: &Epilogue<Cube>,
) -> CubeTensor {
    let [images, from, height, width] = dims(x);
    let [_, inner, side, _] = dims(&weight);
    let Convolution {
        stride,
        padding,
        backward,
        ..
    } = convolution;
    let y = empty(x, [images, to, size[0], size[1]]);
    if images * to * size[0] * size[1] == 0 {
        return y;
    }
    // By kernels of one weight a map is as good as a row.
    let is_pointwise = side == 1 && stride == 1 && padding == 0;
    let [height, width, height_out, width_out] = match is_pointwise {
        true => [1, height * width, 1, height * width],
        false => [height, width, size[0], size[1]],
    };
    let plan = Plan {
        epilogue: EpilogueKind::of(epilogue),
        ..Plan::new(side, stride, backward, [height_out, width_out])
    };
    let [tile_rows, tile_columns] = [
        height_out.div_ceil(plan.phases * plan.rows),
        width_out.div_ceil(plan.phases * plan.columns),
    ];
    let tiles = images * tile_rows * tile_columns;
    let area = side * side;
    let [weight_from, weight_to] = match backward {
        true => [inner * area, area],
        false => [area, inner * area],
    };
    let groups = to.div_ceil(CHANNELS);
    let threads = tiles * groups * plan.phases * plan.phases;
    let maps = MapSizesLaunch::new(
        from,
        to,
        height,
        width,
        height_out,
        width_out,
        padding,
        tile_rows,
        tile_columns,
        tiles,
        groups,
        threads,
        weight_from,
        weight_to,
    );
    let (count, cube) = threads_of(x, threads);
    let [scale, shift, skip] = tensors(epilogue, x);
    let weight = stored(weight);
    // SAFETY: the kernel keeps what it reads within the maps, and asks before it writes.
    unsafe {
        patches::launch_unchecked(
            &x.client,
            count,
            cube,
            argument(x),
            argument(&weight),
            argument(scale),
            argument(shift),
            argument(skip),
            argument(&y),
            maps,
            plan,
            element(&weight),
        );
    }
    y
}
