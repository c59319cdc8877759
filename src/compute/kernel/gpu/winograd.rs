//! Convolution by 3x3 kernels on a GPU with fewer multiplications, by the tiles of
//! [`super::super::tiles`]: patches of the input and kernels are evaluated at points, channels are
//! summed there as one product of matrices a point, and results are interpolated, each a pass.
//!
//! Evaluated weights are kept for as long as the weights are in use.
#![allow(
    clippy::collapsible_if,
    reason = "two short questions take a driver less time to compile than one of two parts"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "loops of a kernel count, for they are unrolled"
)]

use burn::backend::Cube;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::epilogue::Epilogue;
use super::super::tiles::{Convolution, MOST, Tile};
use super::epilogue::{EpilogueKind, finished, tensors};
use super::tensor::{argument, dims, empty, empty_of, fit, threads_of};
use super::weight_cache::{dtype, element, packed, packing};

/// Channels of a thread, and tiles where there are as many.
const CHANNELS: usize = 8;
const TILES: usize = 8;

/// With fewer channels the evaluations cost more than the products save.
const LEAST_CHANNELS: usize = 12;

/// With fewer tiles reading the evaluated weights, up to four times the weights, costs more than it saves.
const LEAST_TILES: usize = 4;

/// Floats of a buffer at most: what WebGPU promises a kernel.
const MOST_FLOATS: usize = 32 << 20;

/// Sizes of one pass.
#[derive(CubeLaunch, CubeType)]
struct MapSizes {
    /// Channels of these maps.
    channels: usize,
    /// Rows and columns of them.
    height: usize,
    width: usize,
    padding: usize,
    /// Tiles of an image, and of all images.
    tile_rows: usize,
    tile_columns: usize,
    tiles: usize,
    threads: usize,
}

/// Some of the values, times these.
#[cube]
fn combined(
    values: &Array<f32>,
    #[comptime] start: usize,
    #[comptime] pitch: usize,
    #[comptime] row: [f32; MOST],
) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..MOST {
        if comptime![row[i] != 0.0] {
            sum += values[comptime![start + i * pitch]] * comptime![row[i]];
        }
    }
    sum
}

/// The image of a tile, and the tile's place in it.
#[cube]
fn place(tile: usize, maps: &MapSizes) -> (usize, usize, usize) {
    let image = tile / (maps.tile_rows * maps.tile_columns);
    let row = tile / maps.tile_columns % maps.tile_rows;
    (image, row, tile % maps.tile_columns)
}

/// `[n, channels, h, w]` to `[points, channels, tiles]`.
#[cube(launch_unchecked)]
fn evaluate_patches(x: &Tensor<f32>, y: &mut Tensor<f32>, maps: MapSizes, #[comptime] form: Tile) {
    if ABSOLUTE_POS >= maps.threads {
        terminate!();
    }
    let sizes = comptime![form.sizes()];
    let table = comptime![form.matrices().input];
    let [read, points] = comptime![[sizes.read, sizes.points]];
    let tile = ABSOLUTE_POS % maps.tiles;
    let channel = ABSOLUTE_POS / maps.tiles;
    let (image, row, column) = place(tile, &maps);
    let top = row * comptime![sizes.step] - maps.padding;
    let left = column * comptime![sizes.step] - maps.padding;
    let start = (image * maps.channels + channel) * maps.height * maps.width;

    let mut values = Array::<f32>::new(comptime![read * read]);
    #[unroll]
    for r in 0..read {
        // What lies before the first row or column becomes a very large number.
        let row = top + r;
        let row_at = start + min(row, maps.height - 1) * maps.width;
        #[unroll]
        for q in 0..read {
            let column = left + q;
            let value = x[row_at + min(column, maps.width - 1)];
            let value = select(column < maps.width, value, 0.0);
            values[comptime![r * read + q]] = select(row < maps.height, value, 0.0);
        }
    }
    let mut half = Array::<f32>::new(comptime![points * read]);
    #[unroll]
    for i in 0..points {
        #[unroll]
        for q in 0..read {
            half[comptime![i * read + q]] = combined(&values, q, read, comptime![table[i]]);
        }
    }
    #[unroll]
    for i in 0..points {
        #[unroll]
        for l in 0..points {
            let value = combined(&half, comptime![i * read], 1usize, comptime![table[l]]);
            y[(comptime![i * points + l] * maps.channels + channel) * maps.tiles + tile] = value;
        }
    }
}

/// `[out, in, 3, 3]` to `[points, from, to]`.
#[cube(launch_unchecked)]
fn evaluate_weights<W: Float>(
    weight: &Tensor<f32>,
    y: &mut Tensor<W>,
    from: usize,
    to: usize,
    threads: usize,
    #[comptime] form: Tile,
    #[comptime] backward: bool,
    #[define(W)] _stored: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let table = comptime![form.matrices().weight];
    let points = comptime![form.sizes().weights];
    let channel = ABSOLUTE_POS % to;
    let read = ABSOLUTE_POS / to;
    let mut start = channel * from + read;
    if comptime![backward] {
        start = read * to + channel;
    }
    let mut values = Array::<f32>::new(9usize);
    #[unroll]
    for tap in 0..9 {
        // Back to the input, taps are in the order in which what they read lies.
        values[tap] = weight[start * 9 + comptime![if backward { 8 - tap } else { tap }]];
    }
    let mut half = Array::<f32>::new(comptime![points * 3]);
    #[unroll]
    for i in 0..points {
        #[unroll]
        for q in 0..3 {
            half[comptime![i * 3 + q]] = combined(&values, q, 3usize, comptime![table[i]]);
        }
    }
    #[unroll]
    for i in 0..points {
        #[unroll]
        for l in 0..points {
            let value = combined(&half, comptime![i * 3], 1usize, comptime![table[l]]);
            y[comptime![i * points + l] * from * to + ABSOLUTE_POS] = W::cast_from(value);
        }
    }
}

/// `[points, from, to]` and `[points, from, tiles]` to `[points, to, tiles]`, all of them points of
/// the patches; `steps` channels at a time.
#[cube(launch_unchecked)]
fn point_products<W: Float>(
    weights: &Tensor<W>,
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
    from: usize,
    to: usize,
    tiles: usize,
    // How far apart a thread's tiles lie: neighbouring threads have neighbouring ones.
    span: usize,
    // Groups of channels.
    groups: usize,
    threads: usize,
    #[comptime] form: Tile,
    #[comptime] own: usize,
    #[comptime] steps: usize,
    #[define(W)] _stored: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let points = comptime![form.sizes().points];
    let of_weights = comptime![form.sizes().weights];
    let tile = ABSOLUTE_POS % span;
    let group = ABSOLUTE_POS / span;
    let channel = group % groups * comptime![CHANNELS];
    let point = group / groups;
    let last = comptime![of_weights - 1];
    let row = min(point / points, last.runtime());
    let column = min(point % points, last.runtime());

    // Those past the last are the last again, and write what it writes.
    let mut rows = Array::<usize>::new(CHANNELS);
    #[unroll]
    for i in 0..CHANNELS {
        rows[i] = min(channel + i, to - 1);
    }
    let mut columns = Array::<usize>::new(own);
    #[unroll]
    for j in 0..own {
        columns[j] = min(tile + j * span, tiles - 1);
    }
    let mut sums = Array::<f32>::new(comptime![CHANNELS * own]);
    #[unroll]
    for i in 0..comptime![CHANNELS * own] {
        sums[i] = 0.0;
    }
    let mut w = (row * of_weights + column) * from * to;
    let mut v = point * from * tiles;
    let mut left = Array::<f32>::new(comptime![steps * CHANNELS]);
    let mut right = Array::<f32>::new(comptime![steps * own]);
    for _ in range_stepped(0, from, steps) {
        #[unroll]
        for step in 0..steps {
            #[unroll]
            for i in 0..CHANNELS {
                left[comptime![step * CHANNELS + i]] = f32::cast_from(weights[w + rows[i]]);
            }
            #[unroll]
            for j in 0..own {
                right[comptime![step * own + j]] = x[v + columns[j]];
            }
            w += to;
            v += tiles;
        }
        #[unroll]
        for i in 0..CHANNELS {
            #[unroll]
            for j in 0..own {
                if comptime![steps == 2] {
                    sums[i * own + j] += left[i] * right[j]
                        + left[comptime![CHANNELS + i]] * right[comptime![own + j]];
                } else {
                    sums[i * own + j] += left[i] * right[j];
                }
            }
        }
    }
    #[unroll]
    for i in 0..CHANNELS {
        #[unroll]
        for j in 0..own {
            y[(point * to + rows[i]) * tiles + columns[j]] = sums[i * own + j];
        }
    }
}

/// `[points, channels, tiles]` to `[n, channels, h, w]`, and what follows.
#[cube(launch_unchecked)]
fn interpolate(
    x: &Tensor<f32>,
    scale: &Tensor<f32>,
    shift: &Tensor<f32>,
    skip: &Tensor<f32>,
    y: &mut Tensor<f32>,
    maps: MapSizes,
    #[comptime] form: Tile,
    #[comptime] kind: EpilogueKind,
) {
    if ABSOLUTE_POS >= maps.threads {
        terminate!();
    }
    let sizes = comptime![form.sizes()];
    let table = comptime![form.matrices().output];
    let [out, points] = comptime![[sizes.out, sizes.points]];
    let tile = ABSOLUTE_POS % maps.tiles;
    let channel = ABSOLUTE_POS / maps.tiles;
    let (image, row, column) = place(tile, &maps);
    let start = (image * maps.channels + channel) * maps.height * maps.width;

    let mut values = Array::<f32>::new(comptime![points * points]);
    #[unroll]
    for i in 0..comptime![points * points] {
        values[i] = x[(i * maps.channels + channel) * maps.tiles + tile];
    }
    let mut half = Array::<f32>::new(comptime![out * points]);
    #[unroll]
    for r in 0..out {
        #[unroll]
        for l in 0..points {
            half[comptime![r * points + l]] = combined(&values, l, points, comptime![table[r]]);
        }
    }
    let mut a = 1.0f32;
    let mut b = 0.0f32;
    if comptime![kind.scale_shift] {
        a = scale[channel];
        b = shift[channel];
    }
    #[unroll]
    for r in 0..out {
        let row = row * out + r;
        if row < maps.height {
            #[unroll]
            for q in 0..out {
                let column = column * out + q;
                if column < maps.width {
                    let at = start + row * maps.width + column;
                    let value = combined(&half, comptime![r * points], 1usize, comptime![table[q]]);
                    y[at] = finished(value, a, b, skip, at, kind);
                }
            }
        }
    }
}

/// A pass by tiles.
struct Plan {
    tile: Tile,
    convolution: Convolution,
    from: usize,
    to: usize,
    /// Tiles of an image, down and across, and of all images.
    tiles: [usize; 2],
    all: usize,
}

impl Plan {
    /// With the cheapest tiles; `None` where a sum over taps is as cheap. `size` is that of the result's
    /// maps.
    fn of(
        images: usize,
        [from, to]: [usize; 2],
        size: [usize; 2],
        convolution: Convolution,
    ) -> Option<Self> {
        if from.min(to) < LEAST_CHANNELS {
            return None;
        }
        let plans = convolution.tiles().iter().map(|&tile| {
            let tiles = size.map(|side| side.div_ceil(tile.sizes().out));
            let all = images * tiles[0] * tiles[1];
            Self {
                tile,
                convolution,
                from,
                to,
                tiles,
                all,
            }
        });
        let best = plans.filter(Plan::is_possible).min_by_key(Plan::products)?;
        // Along one axis at stride 2 back to the input positions have one tap and two in turns.
        let by_taps = match (convolution.backward, convolution.stride) {
            (true, 2) => 9 * size[0].div_ceil(2) * size[1].div_ceil(2),
            _ => 9 * size[0] * size[1],
        };
        // A product takes half again as long as in a sum over taps, which reads less for each.
        (best.products() * 3 / 2 < images * by_taps).then_some(best)
    }

    fn is_possible(&self) -> bool {
        let points = self.tile.sizes().points.pow(2);
        self.all >= LEAST_TILES
            && self.weights() <= MOST_FLOATS
            && points * self.all * self.from.max(self.to) <= MOST_FLOATS
    }

    /// Of two channels, in all tiles.
    fn products(&self) -> usize {
        self.tile.sizes().points.pow(2) * self.all
    }

    /// Floats of the evaluated weights.
    fn weights(&self) -> usize {
        self.tile.sizes().weights.pow(2) * self.from * self.to
    }

    fn maps(&self, channels: usize, size: [usize; 2], padding: usize) -> MapSizesLaunch {
        let threads = channels * self.all;
        let ([height, width], [down, across]) = (size, self.tiles);
        MapSizesLaunch::new(
            channels, height, width, padding, down, across, self.all, threads,
        )
    }

    fn run(
        &self,
        x: &CubeTensor,
        weight: &CubeTensor,
        size: [usize; 2],
        epilogue: &Epilogue<Cube>,
    ) -> CubeTensor {
        let packing = packing(self.convolution.backward, Some(self.tile));
        let weights = packed(weight, packing, || {
            self.evaluate_weights(weight, dtype(packing))
        });
        let patches = self.evaluate_patches(x);
        let products = self.multiply(&weights, &patches);
        self.interpolate(&products, size, epilogue)
    }

    fn evaluate_weights(&self, weight: &CubeTensor, dtype: DType) -> CubeTensor {
        let [from, to] = [self.from, self.to];
        let points = self.tile.sizes().weights.pow(2);
        let y = empty_of(weight, [points, from, to, 1], dtype);
        let (count, cube) = threads_of(weight, from * to);
        // SAFETY: a thread has a kernel of its own, which is within the weights.
        unsafe {
            evaluate_weights::launch_unchecked(
                &weight.client,
                count,
                cube,
                argument(weight),
                argument(&y),
                from,
                to,
                from * to,
                self.tile,
                self.convolution.backward,
                element(&y),
            );
        }
        y
    }

    fn evaluate_patches(&self, x: &CubeTensor) -> CubeTensor {
        let [_, _, height, width] = dims(x);
        let points = self.tile.sizes().points.pow(2);
        let y = empty(x, [points, self.from, self.all, 1]);
        let padding = match (self.convolution.stride, self.convolution.backward) {
            (2, true) => 0,
            (_, true) => self.convolution.kernel - 1 - self.convolution.padding,
            _ => self.convolution.padding,
        };
        let (count, cube) = threads_of(x, self.from * self.all);
        let maps = self.maps(self.from, [height, width], padding);
        // SAFETY: the kernel keeps what it reads within the maps, and a thread has a tile of its own.
        unsafe {
            evaluate_patches::launch_unchecked(
                &x.client,
                count,
                cube,
                argument(x),
                argument(&y),
                maps,
                self.tile,
            );
        }
        y
    }

    fn multiply(&self, weights: &CubeTensor, patches: &CubeTensor) -> CubeTensor {
        let points = self.tile.sizes().points.pow(2);
        let y = empty(patches, [points, self.to, self.all, 1]);
        let tiles = fit(self.all, TILES);
        let [span, groups] = [self.all.div_ceil(tiles), self.to.div_ceil(CHANNELS)];
        let threads = points * span * groups;
        let (count, cube) = threads_of(patches, threads);
        // SAFETY: the kernel keeps channels and tiles within those there are.
        unsafe {
            point_products::launch_unchecked(
                &patches.client,
                count,
                cube,
                argument(weights),
                argument(patches),
                argument(&y),
                self.from,
                self.to,
                self.all,
                span,
                groups,
                threads,
                self.tile,
                tiles,
                if self.from.is_multiple_of(2) { 2 } else { 1 },
                element(weights),
            );
        }
        y
    }

    fn interpolate(
        &self,
        x: &CubeTensor,
        size: [usize; 2],
        epilogue: &Epilogue<Cube>,
    ) -> CubeTensor {
        let images = self.all / (self.tiles[0] * self.tiles[1]);
        let y = empty(x, [images, self.to, size[0], size[1]]);
        let [scale, shift, skip] = tensors(epilogue, x);
        let (count, cube) = threads_of(x, self.to * self.all);
        // SAFETY: the kernel asks before it writes, and a thread has a tile of its own.
        unsafe {
            interpolate::launch_unchecked(
                &x.client,
                count,
                cube,
                argument(x),
                argument(scale),
                argument(shift),
                argument(skip),
                argument(&y),
                self.maps(self.to, size, 0),
                self.tile,
                EpilogueKind::of(epilogue),
            );
        }
        y
    }
}

/// Contiguous maps `x` by contiguous `weight` to maps of this size with `to` channels; `None` where a
/// sum over taps is as cheap.
pub fn run(
    x: &CubeTensor,
    weight: &CubeTensor,
    to: usize,
    size: [usize; 2],
    convolution: Convolution,
    epilogue: &Epilogue<Cube>,
) -> Option<CubeTensor> {
    let [images, from, ..] = dims(x);
    let plan = Plan::of(images, [from, to], size, convolution)?;
    Some(plan.run(x, weight, size, epilogue))
}
