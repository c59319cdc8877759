//! Convolution by 3x3 kernels at stride 1 with fewer multiplications (Winograd 1980; Lavin and Gray
//! 2016), forward or back to the input.
//!
//! A tile of the result, 2x2 or 4x4, is made of a patch of the input, 4x4 or 6x6, by as many
//! products as the patch has values, where the sum over taps takes 36 or 144. Patches and kernels
//! are evaluated at points, channels are summed there, and the result is interpolated. The larger
//! tile's points are 0, ±√½, ±√2 and infinity: with them its rounding errors are those of the sum
//! over taps, with the usual 0, ±1, ±2 four times as large.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::{Arch, Simd, WithSimd};

use super::conv::{Scratch, Shared, each, threads};
use super::pass::{Part, Pass};
use super::sum::{Segment, Sum, block_rows, block_width, transpose};

/// Floats of evaluated patches that are made before they are summed: they stay in a second-level
/// cache of 1 MB beside the weights.
const PATCH_FLOATS: usize = 128 * 1024;

/// Of fewer tiles the evaluated weights would be read for too little.
/// The wider a machine's vectors, the sooner a weight is used up, and reading the next takes as long.
const LEAST_TILES: [(usize, usize); 2] = [(4, 2), (2, 2)];

/// Floats of evaluated weights at most: those of the widest layer of CORnet-S at its smaller tile.
const MOST_WEIGHTS: usize = 80 << 20;

/// Channels whose kernels are evaluated before they are laid out.
const PACKED_AT_ONCE: usize = 8;

/// Of fewer channels the evaluations cost more than the products save.
const LEAST_CHANNELS: usize = 8;

/// Values of a patch along an axis, at most.
const MOST: usize = 6;

/// How an axis is evaluated and interpolated.
trait Tile {
    /// Results along an axis.
    const OUT: usize;
    /// Values read along an axis, and points.
    const IN: usize = Self::OUT + 2;

    /// Values of a kernel's axis at the points.
    fn weight(w: [f32; 3]) -> [f32; MOST];

    /// The same of an input's axis.
    fn input<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST];

    /// Results of the products.
    fn output<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; 4];
}

/// At 0, 1, −1 and infinity.
struct Two;

impl Tile for Two {
    const OUT: usize = 2;

    fn weight([a, b, c]: [f32; 3]) -> [f32; MOST] {
        let (even, odd) = (0.5 * (a + c), 0.5 * b);
        [a, even + odd, even - odd, c, 0.0, 0.0]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        [
            simd.sub_f32s(a, c),
            simd.add_f32s(b, c),
            simd.sub_f32s(c, b),
            simd.sub_f32s(b, d),
            e,
            f,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; 4] {
        let (even, odd) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        [simd.add_f32s(a, even), simd.sub_f32s(odd, d), a, a]
    }
}

/// At 0, ±√½, ±√2 and infinity.
struct Four;

impl Tile for Four {
    const OUT: usize = 4;

    fn weight([a, b, c]: [f32; 3]) -> [f32; MOST] {
        let (near, near_odd) = (-(2.0 * a + c) / 3.0, -2.0 / 3.0 * FRAC_1_SQRT_2 * b);
        let (far, far_odd) = ((a + 2.0 * c) / 6.0, SQRT_2 / 6.0 * b);
        [
            a,
            near + near_odd,
            near - near_odd,
            far + far_odd,
            far - far_odd,
            c,
        ]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let near = fma(simd, -2.0, c, e);
        let near_odd = scaled(simd, FRAC_1_SQRT_2, fma(simd, -2.0, b, d));
        let far = fma(simd, -0.5, c, e);
        let far_odd = scaled(simd, SQRT_2, fma(simd, -0.5, b, d));
        [
            fma(simd, -2.5, c, simd.add_f32s(a, e)),
            simd.add_f32s(near, near_odd),
            simd.sub_f32s(near, near_odd),
            simd.add_f32s(far, far_odd),
            simd.sub_f32s(far, far_odd),
            fma(simd, -2.5, d, simd.add_f32s(b, f)),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; 4] {
        let (near, far) = (simd.add_f32s(b, c), simd.add_f32s(d, e));
        let near_odd = scaled(simd, FRAC_1_SQRT_2, simd.sub_f32s(b, c));
        let far_odd = scaled(simd, SQRT_2, simd.sub_f32s(d, e));
        [
            simd.add_f32s(a, simd.add_f32s(near, far)),
            simd.add_f32s(near_odd, far_odd),
            fma(simd, 0.5, near, simd.add_f32s(far, far)),
            fma(simd, 0.5, near_odd, fma(simd, 2.0, far_odd, f)),
        ]
    }
}

/// A pass by tiles of one size.
pub(super) struct Winograd<'a> {
    pass: &'a Pass<'a>,
    /// Results of a tile along an axis.
    out: usize,
    /// Tiles of an image, down and across.
    tiles: [usize; 2],
    /// Zeros above and left of what is read.
    padding: usize,
    /// Floats from one position to the next, channels in whole vectors.
    pitch: usize,
}

/// Rows of tiles, some of one image's or all of several images', and channels to make of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    image: usize,
    images: usize,
    top: usize,
    rows: usize,
    part: Part,
}

impl<'a> Winograd<'a> {
    /// With the tiles that promise most; `None` where a sum over taps does as well.
    pub fn of(pass: &'a Pass<'a>, lanes: usize) -> Option<Self> {
        let g = pass.geometry();
        let few = g.channels_in.min(g.channels_out) < LEAST_CHANNELS || pass.from.image() == 0;
        if g.kernel != 3 || g.stride != 1 || g.padding > 2 || few {
            return None;
        }
        let tiles = |out: usize| pass.size.map(|side| side.div_ceil(out));
        // Products of an image, with what the evaluations add to them.
        let cost = |out: usize| {
            let [down, across] = tiles(out);
            (out + 2).pow(2) * down * across * 9 / 8
        };
        let enough = |(out, least): &(usize, usize)| {
            let [down, across] = tiles(*out);
            let weights = (out + 2).pow(2) * pass.from.channels * pass.to_whole();
            g.images * down * across >= *least * lanes && weights <= MOST_WEIGHTS
        };
        let by_taps = 9 * pass.size[0] * pass.size[1];
        let possible = LEAST_TILES.iter().filter(|t| enough(t)).map(|t| t.0);
        let out = possible.min_by_key(|out| cost(*out))?;
        (cost(out) < by_taps).then(|| Self {
            pass,
            out,
            tiles: tiles(out),
            padding: pass.padding(),
            pitch: pass.from.channels.next_multiple_of(lanes),
        })
    }

    pub fn tile(&self) -> usize {
        self.out
    }

    /// Points of a patch.
    fn points(&self) -> usize {
        (self.out + 2).pow(2)
    }

    /// `[out, in, 3, 3]` at the points, `[block][points][from, width of the block]`.
    pub fn pack(&self, weight: &[f32]) -> Vec<f32> {
        struct Pack<'a>(&'a Winograd<'a>, &'a [f32], Part, &'a mut [f32]);
        impl WithSimd for Pack<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                match self.0.out {
                    2 => self.0.pack_for::<S, Two>(self.1, self.2, self.3),
                    _ => self.0.pack_for::<S, Four>(self.1, self.2, self.3),
                }
            }
        }
        let row = self.pass.from.channels * self.points();
        let packed = Shared::zeros(self.pass.to_whole() * row);
        each(&self.pass.parts(threads()), |part, _| {
            // SAFETY: no two parts share a channel.
            let packed = &mut unsafe { packed.get() }[part.first * row..part.end * row];
            Arch::new().dispatch(Pack(self, weight, *part, packed));
        });
        packed.into_inner()
    }

    #[inline(always)]
    fn pack_for<S: Simd, T: Tile>(&self, weight: &[f32], part: Part, packed: &mut [f32]) {
        let (from, to) = (self.pass.from.channels, self.pass.to);
        let points = self.points();
        let mut near = vec![0.0; points * PACKED_AT_ONCE * block_width::<S>(part.end - part.first)];
        let mut first = part.first;
        while first < part.end {
            let width = block_width::<S>(part.end - first);
            let start = (first - part.first) * from * points;
            let block = &mut packed[start..][..width * from * points];
            // A kernel's values lie far apart, and powers of two: they are brought together first,
            // and go out in runs.
            for f in (0..from).step_by(PACKED_AT_ONCE) {
                let run = PACKED_AT_ONCE.min(from - f);
                for i in 0..run {
                    for t in 0..width.min(to.saturating_sub(first)) {
                        let kernel = self.pass.kernel(weight, f + i, first + t);
                        let mut columns = [[0.0; MOST]; 3];
                        for (column, row) in columns.iter_mut().zip(kernel.as_chunks::<3>().0) {
                            *column = T::weight(*row);
                        }
                        for x in 0..T::IN {
                            let [a, b, c] = &columns;
                            let values = T::weight([a[x], b[x], c[x]]);
                            for (y, value) in values[..T::IN].iter().enumerate() {
                                near[((y * T::IN + x) * PACKED_AT_ONCE + i) * width + t] = *value;
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

    /// Work for this many threads: a share of the rows each, or of the channels where there are more
    /// of these, and so more weights to read than values.
    pub fn units(&self, threads: usize) -> Vec<Unit> {
        let images = self.pass.geometry().images;
        let [down, across] = self.tiles;
        let by_channels = threads > 1 && self.pass.to_whole() > images * down * across;
        let parts = match by_channels {
            true => self.pass.parts(threads),
            false => self.pass.parts(1),
        };
        // Rows of tiles whose patches fit, and as many as leave every thread some.
        let fit = PATCH_FLOATS / (self.points() * self.pitch * across);
        let share = (images * down).div_ceil(2 * threads);
        let most = match threads > 1 && !by_channels {
            true => fit.min(share),
            false => fit,
        };
        let unit = |image, images, top, rows| {
            let parts = parts.iter();
            parts.map(move |part| Unit {
                image,
                images,
                top,
                rows,
                part: *part,
            })
        };
        if most >= down {
            let group = (most / down).max(1);
            let groups = (0..images).step_by(group);
            return groups
                .flat_map(|image| unit(image, group.min(images - image), 0, down))
                .collect();
        }
        let rows = most.max(1);
        let tops = || (0..down).step_by(rows);
        (0..images)
            .flat_map(|image| tops().map(move |top| (image, top)))
            .flat_map(|(image, top)| unit(image, 1, top, rows.min(down - top)))
            .collect()
    }

    /// A unit of `[n, from, h, w]` to `[n, to, h′, w′]`.
    pub fn run(&self, unit: Unit, x: &[f32], packed: &[f32], y: &Shared, scratch: &mut Scratch) {
        struct Run<'a> {
            winograd: &'a Winograd<'a>,
            unit: Unit,
            x: &'a [f32],
            packed: &'a [f32],
            out: &'a mut [f32],
            scratch: &'a mut Scratch,
        }
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self {
                    winograd,
                    unit,
                    x,
                    packed,
                    out,
                    scratch,
                } = self;
                winograd.lay_out(unit, x, scratch);
                match winograd.out {
                    2 => winograd.evaluate::<S, Two>(simd, unit, scratch),
                    _ => winograd.evaluate::<S, Four>(simd, unit, scratch),
                }
                winograd.multiply(simd, unit, packed, scratch);
                winograd.hand_out(unit, scratch, out);
            }
        }
        let from = self.pass.from.image();
        let to = self.pass.to * self.pass.size[0] * self.pass.size[1];
        // SAFETY: no two units share a channel of a row of an image, and a unit writes to its own only.
        let out = &mut unsafe { y.get() }[unit.image * to..][..unit.images * to];
        Arch::new().dispatch(Run {
            winograd: self,
            unit,
            x: &x[unit.image * from..][..unit.images * from],
            packed,
            out,
            scratch,
        });
    }

    /// Positions of a laid out row.
    fn width(&self) -> usize {
        self.tiles[1] * self.out + 2
    }

    /// Rows laid out of an image.
    fn height(&self, unit: Unit) -> usize {
        unit.rows * self.out + 2
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
        scratch.maps.resize(unit.images * rows * row, 0.0);
        let (left, right) = (
            self.padding * self.pitch,
            (self.padding + width) * self.pitch,
        );
        let places = scratch.maps.chunks_exact_mut(rows * row);
        for (image, place) in x.chunks_exact(from.image()).zip(places) {
            for (r, place) in place.chunks_exact_mut(row).enumerate() {
                let there = (unit.top * self.out + r).checked_sub(self.padding);
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
    fn evaluate<S: Simd, T: Tile>(&self, simd: S, unit: Unit, scratch: &mut Scratch) {
        let lanes = S::F32_LANES;
        let row = self.width() * self.pitch;
        let (rows, plane) = (self.height(unit), self.count(unit) * self.pitch);
        scratch.patches.resize(self.points() * plane, 0.0);
        let zero = simd.splat_f32s(0.0);
        let mut tile = 0;
        for image in 0..unit.images {
            for down in 0..unit.rows {
                for across in 0..self.tiles[1] {
                    let start = (image * rows + down * T::OUT) * row + across * T::OUT * self.pitch;
                    for c in (0..self.pitch).step_by(lanes) {
                        let patch = &scratch.maps[start + c..];
                        let mut columns = [[zero; MOST]; MOST];
                        for (y, column) in columns[..T::IN].iter_mut().enumerate() {
                            let mut values = [zero; MOST];
                            for (x, value) in values[..T::IN].iter_mut().enumerate() {
                                *value = load(simd, &patch[y * row + x * self.pitch..]);
                            }
                            *column = T::input(simd, values);
                        }
                        let out = &mut scratch.patches[tile * self.pitch + c..];
                        for x in 0..T::IN {
                            let values = T::input(simd, across_at(&columns, x));
                            for (y, value) in values[..T::IN].iter().enumerate() {
                                store(simd, &mut out[(y * T::IN + x) * plane..], *value);
                            }
                        }
                    }
                    tile += 1;
                }
            }
        }
    }

    /// Sums over channels at each point, and the results they make: positions of the unit's tiles
    /// with channels innermost.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, unit: Unit, packed: &[f32], scratch: &mut Scratch) {
        let (from, whole) = (self.pass.from.channels, self.pass.to_whole());
        let (points, tiles) = (self.points(), self.count(unit));
        let positions = unit.images * unit.rows * self.out * self.tiles[1] * self.out;
        scratch.sums.resize(positions * whole, 0.0);
        let mut first = unit.part.first;
        while first < unit.part.end {
            let width = block_width::<S>(unit.part.end - first);
            let packed = &packed[first * from * points..][..width * from * points];
            scratch.products.resize(points * tiles * width, 0.0);
            for point in 0..points {
                let mut done = 0;
                while done < tiles {
                    let rows = block_rows::<S>(tiles - done, width);
                    Sum {
                        a: &scratch.patches[(point * tiles + done) * self.pitch..],
                        a_row: self.pitch,
                        a_step: 1,
                        b: &packed[point * from * width..],
                        b_step: width,
                        length: from,
                        segments: &[Segment { a: 0, b: 0 }],
                        out: &mut scratch.products[(point * tiles + done) * width..],
                        out_row: width,
                        add: false,
                    }
                    .run(simd, rows, width);
                    done += rows;
                }
            }
            match self.out {
                2 => self.interpolate::<S, Two>(simd, unit, [first, width], scratch),
                _ => self.interpolate::<S, Four>(simd, unit, [first, width], scratch),
            }
            first += width;
        }
    }

    #[inline(always)]
    fn interpolate<S: Simd, T: Tile>(
        &self,
        simd: S,
        unit: Unit,
        [first, width]: [usize; 2],
        scratch: &mut Scratch,
    ) {
        let whole = self.pass.to_whole();
        let plane = self.count(unit) * width;
        let row = self.tiles[1] * T::OUT * whole;
        let zero = simd.splat_f32s(0.0);
        let mut tile = 0;
        for line in 0..unit.images * unit.rows {
            for across in 0..self.tiles[1] {
                for v in (0..width).step_by(S::F32_LANES) {
                    let products = &scratch.products[tile * width + v..];
                    let mut columns = [[zero; 4]; MOST];
                    for (y, column) in columns[..T::IN].iter_mut().enumerate() {
                        let mut values = [zero; MOST];
                        for (x, value) in values[..T::IN].iter_mut().enumerate() {
                            *value = load(simd, &products[(y * T::IN + x) * plane..]);
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

    /// The results to where they belong in `[images, to, h′, w′]`.
    #[inline(always)]
    fn hand_out(&self, unit: Unit, scratch: &Scratch, out: &mut [f32]) {
        let whole = self.pass.to_whole();
        let [height, width] = self.pass.size;
        let across = self.tiles[1] * self.out;
        let area = height * width;
        let rows = unit.rows * self.out;
        let Part { first, end } = unit.part;
        for image in 0..unit.images {
            let out = &mut out[(image * self.pass.to + first) * area..];
            for r in 0..rows.min(height - unit.top * self.out) {
                transpose(
                    &scratch.sums[(image * rows + r) * across * whole + first..],
                    |p| p * whole,
                    [width, end.min(self.pass.to) - first],
                    &mut out[(unit.top * self.out + r) * width..],
                    |c| c * area,
                );
            }
        }
    }
}

// No closures where vectors are: one that is not inlined would be compiled without them.

/// `k · x + y`.
#[inline(always)]
fn fma<S: Simd>(simd: S, k: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(k), x, y)
}

#[inline(always)]
fn scaled<S: Simd>(simd: S, k: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(k), x)
}

/// The values at `x` of each.
#[inline(always)]
fn across_at<V: Copy, const N: usize>(columns: &[[V; N]; MOST], x: usize) -> [V; MOST] {
    let [a, b, c, d, e, f] = columns;
    [a[x], b[x], c[x], d[x], e[x], f[x]]
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
