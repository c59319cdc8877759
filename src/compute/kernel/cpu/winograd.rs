//! Convolution by 3x3 kernels with fewer multiplications, by the tiles of [`super::super::tiles`].

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::super::tiles::{Convolution, MOST, Sizes, Tile, Transform, with_transform};
use super::epilogue::Output;
use super::geometry::{PART, Part, Pass, most_read};
use super::microkernel::{Microkernel, Segment, block_rows, block_width, transpose, vectorized};
use super::threads::{Scratch, Shared, each, grown, shares, threads};

/// Floats of evaluated patches at a time: they stay in a second-level cache of 1 MB beside the weights.
const PATCH_FLOATS: usize = 128 * 1024;

/// Tiles a lane at least: with fewer, reading the evaluated weights takes longer than the products save. Wider
/// vectors use a weight up sooner, and reading the next takes as long.
const LEAST_TILES: usize = 2;

/// Floats of evaluated weights at most: forward those of the widest layer of CORnet-S at its smaller
/// tile, back those of the next. The cached weights of both directions then fit a browser's memory.
const MOST_WEIGHTS: usize = 80 << 20;
const MOST_WEIGHTS_BACK: usize = 40 << 20;

/// Channels whose kernels are evaluated before they are laid out.
const PACKED_AT_ONCE: usize = 8;

/// With fewer channels the evaluations cost more than the products save.
const LEAST_CHANNELS: usize = 8;

/// A pass by tiles of one size.
pub struct Winograd<'a> {
    pass: &'a Pass<'a>,
    tile: Tile,
    sizes: Sizes,
    /// Tiles of an image, down and across.
    tiles: [usize; 2],
    /// Zeros above and left of the input.
    padding: usize,
    /// Floats from one position to the next, channels in whole vectors.
    pitch: usize,
}

/// Rows of tiles, some of one image's or all of several images'.
#[derive(Clone, Copy, Debug)]
struct Unit {
    image: usize,
    images: usize,
    top: usize,
    rows: usize,
}

/// Where patches go among those of a unit.
struct Places<'a> {
    /// `[points][tiles][pitch]`.
    patches: &'a mut [f32],
    /// The first of the tiles.
    first: usize,
    tiles: usize,
}

/// So many parts, as even as can be, none larger than one before it.
fn even(all: Range<usize>, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let (size, larger) = (all.len() / parts, all.len() % parts);
    let start = move |part: usize| all.start + part * size + part.min(larger);
    (0..parts).map(move |part| start(part)..start(part + 1))
}

/// Rows of tiles of an image in so many parts.
fn rows_of(image: usize, all: Range<usize>, parts: usize) -> impl Iterator<Item = Unit> {
    even(all, parts).map(move |rows| Unit {
        image,
        images: 1,
        top: rows.start,
        rows: rows.len(),
    })
}

/// Channels whose products lie side by side, as far as they stay in the cache, in whole blocks:
/// the values of a patch are read for all of them at once.
#[inline(always)]
fn group<S: Simd>(products: usize, left: usize) -> usize {
    let fit = PATCH_FLOATS / products / PART * PART;
    fit.max(block_width::<S>(left)).min(left)
}

/// Weights of some channels at a point, and where among the products theirs lie.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// `[from, width]`.
    packed: &'a [f32],
    width: usize,
    place: usize,
    /// Floats from the products of a position to the next.
    pitch: usize,
}

impl<'a> Winograd<'a> {
    /// With the cheapest tiles; `None` where a sum over taps is as cheap.
    pub fn of(pass: &'a Pass<'a>, lanes: usize) -> Option<Self> {
        let g = pass.g;
        if g.channels_in.min(g.channels_out) < LEAST_CHANNELS || pass.from.image() == 0 {
            return None;
        }
        let tiles = |tile: Tile| pass.size.map(|side| side.div_ceil(tile.sizes().out));
        let count = |tile: Tile| tiles(tile).iter().product::<usize>();
        // Products of an image, with what the evaluations add to them.
        let cost = |tile: Tile| tile.sizes().points.pow(2) * count(tile) * 9 / 8;
        let most = match pass.backward {
            true => MOST_WEIGHTS_BACK,
            false => MOST_WEIGHTS,
        };
        let enough = |tile: &Tile| {
            let weights = tile.sizes().weights.pow(2) * pass.from.channels * pass.to_whole;
            g.images * count(*tile) >= LEAST_TILES * lanes && weights <= most
        };
        let by_taps = match g.stride {
            1 => 9 * pass.size[0] * pass.size[1],
            _ => 9 * g.positions_out(),
        };
        let convolution = Convolution {
            kernel: g.kernel,
            stride: g.stride,
            padding: g.padding,
            backward: pass.backward,
        };
        let possible = convolution.tiles().iter().copied().filter(enough);
        let tile = possible.min_by_key(|tile| cost(*tile))?;
        (cost(tile) < by_taps).then(|| Self {
            pass,
            tile,
            sizes: tile.sizes(),
            tiles: tiles(tile),
            padding: match (g.stride, pass.backward) {
                (2, true) => 0,
                _ => pass.padding(),
            },
            pitch: pass.from.channels.next_multiple_of(lanes),
        })
    }

    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Products of a patch.
    fn points(&self) -> usize {
        self.sizes.points.pow(2)
    }

    /// Values of a kernel.
    fn weights(&self) -> usize {
        self.sizes.weights.pow(2)
    }

    /// `[out, in, 3, 3]` at the points, `[block][weights][from, width of the block]`.
    pub fn pack(&self, weight: &[f32]) -> Vec<f32> {
        struct Pack<'a>(&'a Winograd<'a>, &'a [f32], Part, &'a mut [f32]);
        impl WithSimd for Pack<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                with_transform!(self.0.tile, T => self.0.pack_for::<S, T>(self.1, self.2, self.3));
            }
        }
        let row = self.pass.from.channels * self.weights();
        let packed = Shared::zeros(self.pass.to_whole * row);
        each(&self.pass.parts(threads()), |part, _| {
            // SAFETY: no two parts share a channel.
            let packed = &mut unsafe { packed.get() }[part.first * row..part.end * row];
            Arch::new().dispatch(Pack(self, weight, *part, packed));
        });
        packed.into_inner()
    }

    #[inline(always)]
    fn pack_for<S: Simd, T: Transform>(&self, weight: &[f32], part: Part, packed: &mut [f32]) {
        let (from, to) = (self.pass.from.channels, self.pass.to);
        let points = self.weights();
        let mut near = vec![0.0; points * PACKED_AT_ONCE * block_width::<S>(part.end - part.first)];
        let mut first = part.first;
        while first < part.end {
            let width = block_width::<S>(part.end - first);
            let start = (first - part.first) * from * points;
            let block = &mut packed[start..][..width * from * points];
            // A kernel's values lie apart by powers of two, which share few places of a cache: they are gathered
            // first, and written in runs.
            for f in (0..from).step_by(PACKED_AT_ONCE) {
                let run = PACKED_AT_ONCE.min(from - f);
                for i in 0..run {
                    for t in 0..width.min(to.saturating_sub(first)) {
                        let kernel = self.pass.kernel(weight, f + i, first + t);
                        let mut columns = [[0.0; MOST]; 3];
                        for (column, row) in columns.iter_mut().zip(kernel.as_chunks::<3>().0) {
                            *column = T::weight(*row);
                        }
                        for x in 0..T::WEIGHTS {
                            let [a, b, c] = &columns;
                            let values = T::weight([a[x], b[x], c[x]]);
                            for (y, value) in values[..T::WEIGHTS].iter().enumerate() {
                                near[((y * T::WEIGHTS + x) * PACKED_AT_ONCE + i) * width + t] =
                                    *value;
                            }
                        }
                    }
                }
                for point in 0..points {
                    let run = run * width;
                    block[(point * from + f) * width..][..run]
                        .copy_from_slice(&near[point * PACKED_AT_ONCE * width..][..run]);
                }
            }
            first += width;
        }
    }

    /// Whether threads share the channels: there are more of these than tiles, and so more weights to
    /// read than values.
    fn is_by_channels(&self, threads: usize) -> bool {
        let tiles = self.pass.g.images * self.tiles[0] * self.tiles[1];
        threads > 1 && self.pass.to_whole > tiles
    }

    /// Units of work for this many threads.
    fn units(&self, threads: usize) -> Vec<Unit> {
        let images = self.pass.g.images;
        let [down, across] = self.tiles;
        // As many rows of tiles as fit the cache and leave every thread an equal share. Rows between two units are
        // evaluated for both.
        let weights = self.weights() * self.pass.from.channels * self.pass.to_whole;
        let fit = most_read(PATCH_FLOATS, weights) / (self.points() * self.pitch * across);
        let least = shares(threads).div_ceil(2);
        if images >= least && fit >= down {
            let group = (fit / down).min(images.div_ceil(least));
            return even(0..images, images.div_ceil(group))
                .map(|images| Unit {
                    image: images.start,
                    images: images.len(),
                    top: 0,
                    rows: down,
                })
                .collect();
        }
        let wanted = least.div_ceil(images).max(down.div_ceil(fit.max(1)));
        // Weights are read once a unit, so there should not be many more units.
        let count = (wanted..=down.min(2 * wanted))
            .find(|count| (images * count).is_multiple_of(threads))
            .unwrap_or(wanted.min(down));
        (0..images)
            .flat_map(|image| rows_of(image, 0..down, count))
            .collect()
    }

    /// Units with their channels. Where units are few and would leave a thread idle, the
    /// last of them are shared by channels, and evaluated for each share.
    fn items(&self, threads: usize) -> Vec<(Unit, Part)> {
        let units = self.units(threads);
        let (all, some) = (self.pass.parts(1), self.pass.parts(threads));
        let left = units.len() % threads;
        let left = match units.len() < shares(threads) && left * some.len() <= threads {
            true => left,
            false => 0,
        };
        let (whole, shared) = units.split_at(units.len() - left);
        let whole = whole.iter().map(|unit| (unit, &all));
        let shared = shared.iter().map(|unit| (unit, &some));
        whole
            .chain(shared)
            .flat_map(|(unit, parts)| parts.iter().map(|part| (*unit, *part)))
            .collect()
    }

    /// `[n, from, h, w]` to `[n, to, h′, w′]`.
    pub fn run(&self, x: &[f32], packed: &[f32], y: &Output) {
        let floats = |unit: &Unit| self.points() * self.count(*unit) * self.pitch;
        if !self.is_by_channels(threads()) {
            each(&self.items(threads()), |(unit, part), scratch| {
                let mut own = std::mem::take(&mut scratch.patches);
                let patches = grown(&mut own, floats(unit));
                self.evaluate_part(*unit, *unit, x, patches, scratch);
                self.make(*unit, *part, patches, packed, y, scratch);
                scratch.patches = own;
            });
            return;
        }
        // Threads share the channels, and so every unit.
        let units = self.units(1);
        let patches = Shared::unwritten(units.iter().map(floats).max().unwrap_or(0));
        for unit in units {
            let parts = shares(threads()).div_ceil(unit.images).min(unit.rows);
            let parts: Vec<Unit> = (unit.image..unit.image + unit.images)
                .flat_map(|image| rows_of(image, unit.top..unit.top + unit.rows, parts))
                .collect();
            each(&parts, |part, scratch| {
                // SAFETY: no two parts share a tile.
                self.evaluate_part(unit, *part, x, unsafe { patches.get() }, scratch);
            });
            each(&self.pass.parts(shares(threads())), |part, scratch| {
                // SAFETY: nobody writes to them any more.
                let patches = &*unsafe { patches.get() };
                self.make(unit, *part, patches, packed, y, scratch);
            });
        }
    }

    /// The patches of some of a unit's tiles at the points, among those of the unit.
    fn evaluate_part(
        &self,
        unit: Unit,
        part: Unit,
        x: &[f32],
        patches: &mut [f32],
        scratch: &mut Scratch,
    ) {
        struct Run<'a> {
            winograd: &'a Winograd<'a>,
            part: Unit,
            places: Places<'a>,
            x: &'a [f32],
            scratch: &'a mut Scratch,
        }
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self {
                    winograd,
                    part,
                    places,
                    x,
                    scratch,
                } = self;
                winograd.lay_out(part, x, scratch);
                with_transform!(winograd.tile, T => {
                    let maps = &scratch.maps;
                    vectorized(simd, Evaluate::<T>(winograd, part, maps, places, PhantomData))
                });
            }
        }
        let from = self.pass.from.image();
        let line = (part.image - unit.image) * unit.rows + part.top - unit.top;
        Arch::new().dispatch(Run {
            winograd: self,
            part,
            places: Places {
                patches,
                first: line * self.tiles[1],
                tiles: self.count(unit),
            },
            x: &x[part.image * from..][..part.images * from],
            scratch,
        });
    }

    /// Some channels of a unit's results.
    fn make(
        &self,
        unit: Unit,
        part: Part,
        patches: &[f32],
        packed: &[f32],
        y: &Output,
        scratch: &mut Scratch,
    ) {
        struct Run<'a> {
            winograd: &'a Winograd<'a>,
            unit: Unit,
            part: Part,
            patches: &'a [f32],
            packed: &'a [f32],
            y: &'a Output<'a>,
            scratch: &'a mut Scratch,
        }
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let (winograd, unit, scratch) = (self.winograd, self.unit, self.scratch);
                let made = [self.patches, self.packed];
                winograd.multiply(simd, unit, self.part, made, scratch);
                winograd.write_out(unit, self.part, scratch, self.y);
            }
        }
        Arch::new().dispatch(Run {
            winograd: self,
            unit,
            part,
            patches,
            packed,
            y,
            scratch,
        });
    }

    /// Positions of a laid out row.
    fn width(&self) -> usize {
        (self.tiles[1] - 1) * self.sizes.step + self.sizes.read
    }

    /// Rows laid out of an image.
    fn height(&self, unit: Unit) -> usize {
        (unit.rows - 1) * self.sizes.step + self.sizes.read
    }

    /// Tiles of a unit.
    fn count(&self, unit: Unit) -> usize {
        unit.images * unit.rows * self.tiles[1]
    }

    /// The input with its channels innermost and zeros around it.
    #[inline(always)]
    fn lay_out(&self, unit: Unit, x: &[f32], scratch: &mut Scratch) {
        let from = &self.pass.from;
        let [height, width] = from.size;
        let (rows, row) = (self.height(unit), self.width() * self.pitch);
        let maps = grown(&mut scratch.maps, unit.images * rows * row);
        let (left, right) = (
            self.padding * self.pitch,
            (self.padding + width) * self.pitch,
        );
        let places = maps.chunks_exact_mut(rows * row);
        for (image, place) in x.chunks_exact(from.image()).zip(places) {
            for (r, place) in place.chunks_exact_mut(row).enumerate() {
                let there = (unit.top * self.sizes.step + r).checked_sub(self.padding);
                let Some(r) = there.filter(|r| *r < height) else {
                    place.fill(0.0);
                    continue;
                };
                place[..left].fill(0.0);
                place[right..].fill(0.0);
                if self.pitch > from.channels {
                    place[left..right].fill(0.0);
                }
                transpose(
                    &image[r * width..],
                    |c| c * height * width,
                    [from.channels, width],
                    &mut place[left..],
                    |q| q * self.pitch,
                );
            }
        }
    }

    /// The patches at the points, `[points][tiles][pitch]`.
    #[inline(always)]
    fn evaluate<S: Simd, T: Transform>(&self, simd: S, unit: Unit, maps: &[f32], places: Places) {
        let lanes = S::F32_LANES;
        let row = self.width() * self.pitch;
        let (rows, plane) = (self.height(unit), places.tiles * self.pitch);
        let zero = simd.splat_f32s(0.0);
        let mut tile = places.first;
        for image in 0..unit.images {
            for down in 0..unit.rows {
                for across in 0..self.tiles[1] {
                    let start =
                        (image * rows + down * T::STEP) * row + across * T::STEP * self.pitch;
                    for c in (0..self.pitch).step_by(lanes) {
                        let patch = &maps[start + c..];
                        let mut columns = [[zero; MOST]; MOST];
                        for (y, column) in columns[..T::READ].iter_mut().enumerate() {
                            let mut values = [zero; MOST];
                            for (x, value) in values[..T::READ].iter_mut().enumerate() {
                                *value = load(simd, &patch[y * row + x * self.pitch..]);
                            }
                            *column = T::input(simd, values);
                        }
                        let out = &mut places.patches[tile * self.pitch + c..];
                        for x in 0..T::POINTS {
                            let values = T::input(simd, across_at(&columns, x));
                            for (y, value) in values[..T::POINTS].iter().enumerate() {
                                store(simd, &mut out[(y * T::POINTS + x) * plane..], *value);
                            }
                        }
                    }
                    tile += 1;
                }
            }
        }
    }

    /// Sums over channels at each point, and their interpolation: positions of the unit's tiles with channels
    /// innermost.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        unit: Unit,
        part: Part,
        [patches, packed]: [&[f32]; 2],
        scratch: &mut Scratch,
    ) {
        let (from, whole) = (self.pass.from.channels, self.pass.to_whole);
        let (side, tiles) = (self.sizes.weights, self.count(unit));
        let positions = tiles * self.sizes.out.pow(2);
        grown(&mut scratch.sums, positions * whole);
        let mut first = part.first;
        while first < part.end {
            let left = part.end - first;
            let group = group::<S>(self.points() * tiles, left);
            let products = grown(&mut scratch.products, self.points() * tiles * group);
            for weight in 0..self.weights() {
                // Products of one weight along the axis across lie side by side.
                let across = self.points_of(weight % side);
                let mut done = 0;
                while done < group {
                    let width = block_width::<S>(left - done);
                    let start = (first + done) * self.weights() + weight * width;
                    let block = Block {
                        packed: &packed[start * from..][..width * from],
                        width,
                        place: done,
                        pitch: group,
                    };
                    for down in self.points_of(weight / side) {
                        let start = (down * self.sizes.points + across.start) * tiles;
                        let rows = start..start + across.len() * tiles;
                        self.multiply_rows(simd, rows, patches, block, products);
                    }
                    done += width;
                }
            }
            with_transform!(self.tile, T => {
                let channels = [first, group];
                vectorized(simd, Interpolate::<T>(self, unit, channels, scratch, PhantomData));
            });
            first += group;
        }
    }

    /// The products along an axis with this value of a kernel's.
    fn points_of(&self, weight: usize) -> Range<usize> {
        match weight + 1 == self.sizes.weights {
            true => weight..self.sizes.points,
            false => weight..weight + 1,
        }
    }

    /// Rows of patches times a block's weights.
    #[inline(always)]
    fn multiply_rows<S: Simd>(
        &self,
        simd: S,
        all: Range<usize>,
        patches: &[f32],
        block: Block,
        products: &mut [f32],
    ) {
        let mut done = all.start;
        while done < all.end {
            let rows = block_rows::<S>(all.end - done, block.width);
            Microkernel {
                a: &patches[done * self.pitch..],
                a_row: self.pitch,
                a_step: 1,
                b: block.packed,
                b_step: block.width,
                length: self.pass.from.channels,
                segments: &[Segment { a: 0, b: 0 }],
                out: &mut products[done * block.pitch + block.place..],
                out_row: block.pitch,
                add: false,
            }
            .run(simd, rows, block.width);
            done += rows;
        }
    }

    #[inline(always)]
    fn interpolate<S: Simd, T: Transform>(
        &self,
        simd: S,
        unit: Unit,
        [first, width]: [usize; 2],
        scratch: &mut Scratch,
    ) {
        let whole = self.pass.to_whole;
        let plane = self.count(unit) * width;
        let row = self.tiles[1] * T::OUT * whole;
        let zero = simd.splat_f32s(0.0);
        let mut tile = 0;
        for line in 0..unit.images * unit.rows {
            for across in 0..self.tiles[1] {
                for v in (0..width).step_by(S::F32_LANES) {
                    let products = &scratch.products[tile * width + v..];
                    let mut columns = [[zero; MOST]; MOST];
                    for (y, column) in columns[..T::POINTS].iter_mut().enumerate() {
                        let mut values = [zero; MOST];
                        for (x, value) in values[..T::POINTS].iter_mut().enumerate() {
                            *value = load(simd, &products[(y * T::POINTS + x) * plane..]);
                        }
                        *column = T::output(simd, values);
                    }
                    let start = line * T::OUT * row + across * T::OUT * whole + first + v;
                    let out = &mut scratch.sums[start..];
                    for x in 0..T::OUT {
                        let values = T::output(simd, across_at(&columns, x));
                        for (y, value) in values[..T::OUT].iter().enumerate() {
                            store(simd, &mut out[y * row + x * whole..], *value);
                        }
                    }
                }
                tile += 1;
            }
        }
    }

    /// Copies the results to their places in `[n, to, h′, w′]`.
    #[inline(always)]
    fn write_out(&self, unit: Unit, part: Part, scratch: &Scratch, y: &Output) {
        let whole = self.pass.to_whole;
        let [height, width] = self.pass.size;
        let across = self.tiles[1] * self.sizes.out;
        let area = height * width;
        let rows = unit.rows * self.sizes.out;
        let top = unit.top * self.sizes.out;
        let there = rows.min(height - top);
        let channels = part.first..part.end.min(self.pass.to);
        for image in 0..unit.images {
            // SAFETY: no two of these share a channel of a row of an image, and each writes to its own.
            let out = unsafe { y.image(unit.image + image) };
            for r in 0..there {
                transpose(
                    &scratch.sums[(image * rows + r) * across * whole + part.first..],
                    |p| p * whole,
                    [width, channels.len()],
                    out,
                    |c| (part.first + c) * area + (top + r) * width,
                );
            }
            let positions = top * width..(top + there) * width;
            y.apply_epilogue(unit.image + image, out, channels.clone(), positions);
        }
    }
}

struct Evaluate<'a, T>(
    &'a Winograd<'a>,
    Unit,
    &'a [f32],
    Places<'a>,
    PhantomData<T>,
);

impl<T: Transform> WithSimd for Evaluate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.evaluate::<S, T>(simd, self.1, self.2, self.3);
    }
}

struct Interpolate<'a, T>(
    &'a Winograd<'a>,
    Unit,
    [usize; 2],
    &'a mut Scratch,
    PhantomData<T>,
);

impl<T: Transform> WithSimd for Interpolate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.interpolate::<S, T>(simd, self.1, self.2, self.3);
    }
}

// No closures where vectors are: one that is not inlined would be compiled without them.

/// The values at `x` of each.
#[inline(always)]
fn across_at<V: Copy>(columns: &[[V; MOST]; MOST], x: usize) -> [V; MOST] {
    let mut column = columns[0];
    for (value, row) in column.iter_mut().zip(columns) {
        *value = row[x];
    }
    column
}

/// The first vector of `from`.
#[inline(always)]
fn load<S: Simd>(_: S, from: &[f32]) -> S::f32s {
    let (whole, _) = S::as_simd_f32s(&from[..S::F32_LANES]);
    whole[0]
}

#[inline(always)]
fn store<S: Simd>(_: S, to: &mut [f32], value: S::f32s) {
    let (whole, _) = S::as_mut_simd_f32s(&mut to[..S::F32_LANES]);
    whole[0] = value;
}
