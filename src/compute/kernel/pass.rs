//! A convolution forward, or back to its input: one pass over laid out maps.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::conv::{Geometry, Results, Scratch, Shared, each, grown, shares, threads};
use super::sum::{Segment, Sum, block_rows, block_width, copy_columns, lanes, transpose};

/// Floats of laid out maps that a band reads again and again: they stay in a second-level cache
/// of 1 MB beside the weights.
const BAND_FLOATS: usize = 128 * 1024;

/// Maps with channels innermost and columns of zeros at their sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub size: [usize; 2],
    pub channels: usize,
    /// Floats from one position to the next; those past the channels are zero.
    pub pitch: usize,
    /// Columns of zeros before each row.
    pub left: usize,
    /// All columns.
    pub width: usize,
}

impl Maps {
    /// Floats of a row.
    pub fn row(&self) -> usize {
        self.width * self.pitch
    }

    pub fn floats(&self) -> usize {
        self.size[0] * self.row()
    }

    /// Floats of an image as it comes.
    pub fn image(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// These rows of `[channels, h, w]`, to where they belong in `out`.
    #[inline(always)]
    pub fn lay_out(&self, image: &[f32], rows: Range<usize>, out: &mut [f32]) {
        let [height, width] = self.size;
        let area = height * width;
        if self.width == width && self.pitch == self.channels {
            let out = &mut out[rows.start * self.row()..];
            let sizes = [self.channels, rows.len() * width];
            let image = &image[rows.start * width..];
            return transpose(image, |c| c * area, sizes, out, |p| p * self.pitch);
        }
        for r in rows {
            let row = &mut out[r * self.row()..][..self.row()];
            row.fill(0.0);
            let row = &mut row[self.left * self.pitch..];
            let sizes = [self.channels, width];
            transpose(
                &image[r * width..],
                |c| c * area,
                sizes,
                row,
                |q| q * self.pitch,
            );
        }
    }
}

/// A convolution, or the gradient of its input, which is one whose taps step through the result.
pub(super) struct Pass<'a> {
    g: &'a Geometry,
    backward: bool,
    /// What is read.
    pub from: Maps,
    /// Channels of what is computed.
    pub to: usize,
    /// The same in whole vectors.
    to_whole: usize,
    /// `[height, width]` of what is computed.
    pub size: [usize; 2],
    /// From a position to the next with the same taps.
    step: usize,
    /// Positions read from one such position to the next.
    reads: usize,
    /// Taps of a segment: forward, those of a row of the kernel read what lies side by side.
    taps: usize,
    /// Which channels of the result its own are, where these are some of more.
    places: Option<&'a [usize]>,
}

/// Channels of what is computed, whole blocks of vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub first: usize,
    pub end: usize,
}

/// Channels of a part are a multiple of these: of every block's.
pub(super) const PART: usize = 64;

/// Floats to read at a time beside all the weights: what stays in the cache, or, where the weights
/// are too many to stay there themselves, a part of these. They are read once each time.
pub(super) fn most_read(in_cache: usize, weights: usize) -> usize {
    in_cache.max(weights / 4)
}

/// Rows of what is computed, of one image, and channels of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    image: usize,
    top: usize,
    height: usize,
    part: Part,
}

impl<'a> Pass<'a> {
    pub fn forward(g: &'a Geometry, lanes: usize) -> Self {
        let [_, width] = g.size_in;
        let reach = (g.size_out[1] - 1) * g.stride + g.kernel;
        Self {
            g,
            backward: false,
            from: Maps {
                size: g.size_in,
                channels: g.channels_in,
                pitch: g.channels_in,
                left: g.padding,
                width: reach.max(g.padding + width),
            },
            to: g.channels_out,
            to_whole: g.channels_out.next_multiple_of(lanes),
            size: g.size_out,
            step: 1,
            reads: g.stride,
            taps: g.kernel,
            places: None,
        }
    }

    pub fn backward(g: &'a Geometry, lanes: usize) -> Self {
        let [_, width] = g.size_out;
        // The last tap reaches furthest to the left, the first to the right.
        let left = (g.kernel - 1).saturating_sub(g.padding).div_ceil(g.stride);
        let reach = left + (g.size_in[1] - 1 + g.padding) / g.stride + 1;
        Self {
            g,
            backward: true,
            from: Maps {
                size: g.size_out,
                channels: g.channels_out,
                pitch: g.channels_out,
                left,
                width: reach.max(left + width),
            },
            to: g.channels_in,
            to_whole: g.channels_in.next_multiple_of(lanes),
            size: g.size_in,
            step: g.stride,
            reads: 1,
            taps: 1,
            places: None,
        }
    }

    /// The same, its channels being these of the result.
    pub fn placed(self, places: &'a [usize]) -> Self {
        Self {
            places: Some(places),
            ..self
        }
    }

    pub fn geometry(&self) -> &Geometry {
        self.g
    }

    pub fn is_backward(&self) -> bool {
        self.backward
    }

    /// Channels of what is computed, in whole vectors.
    pub fn to_whole(&self) -> usize {
        self.to_whole
    }

    /// At stride 1, zeros before the first value that is read.
    pub fn padding(&self) -> usize {
        match self.backward {
            true => self.g.kernel - 1 - self.g.padding,
            false => self.g.padding,
        }
    }

    /// The weights between two channels in the order in which what they read lies.
    #[inline(always)]
    pub fn kernel(&self, weight: &[f32], from: usize, to: usize) -> [f32; 9] {
        let [out, channel] = match self.backward {
            true => [from, to],
            false => [to, from],
        };
        let start = (out * self.g.channels_in + channel) * 9;
        let mut kernel = [0.0; 9];
        kernel.copy_from_slice(&weight[start..][..9]);
        if self.backward {
            kernel.reverse();
        }
        kernel
    }

    /// The row or column, `left` zeros before it counted, that tap `tap` reads for row or column
    /// `at` of what is computed; `None` before the first, or where no step of the tap leads.
    #[inline(always)]
    fn read(&self, at: usize, tap: usize, left: usize) -> Option<usize> {
        let g = self.g;
        if !self.backward {
            return (at * g.stride + tap + left).checked_sub(g.padding);
        }
        let steps = (at + g.padding + left * g.stride).checked_sub(tap)?;
        (steps % g.stride == 0).then_some(steps / g.stride)
    }

    /// The row that row `tap` of the kernel reads for row `row`; `None` above and below the map.
    #[inline(always)]
    pub fn read_row(&self, row: usize, tap: usize) -> Option<usize> {
        let row = self.read(row, tap, 0)?;
        (row < self.from.size[0]).then_some(row)
    }

    /// The rows read for these.
    fn read_rows(&self, band: Band) -> Range<usize> {
        let rows = band.top..band.top + band.height;
        let read = || {
            rows.clone()
                .flat_map(|r| (0..self.g.kernel).filter_map(move |tap| self.read_row(r, tap)))
        };
        match (read().min(), read().max()) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// The taps of the positions that begin a row with this column, beside weights of this width.
    #[inline(always)]
    fn segments(&self, row: usize, column: usize, width: usize, segments: &mut Vec<Segment>) {
        segments.clear();
        let kernel = self.g.kernel;
        for dy in 0..kernel {
            let Some(y) = self.read_row(row, dy) else {
                continue;
            };
            for dx in (0..kernel).step_by(self.taps) {
                if let Some(x) = self.read(column, dx, self.from.left) {
                    segments.push(Segment {
                        a: y * self.from.row() + x * self.from.pitch,
                        b: (dy * kernel + dx) * self.from.channels * width,
                    });
                }
            }
        }
    }

    /// All channels in at most as many parts.
    pub fn parts(&self, most: usize) -> Vec<Part> {
        let size = self.to_whole.div_ceil(most).next_multiple_of(PART);
        (0..self.to_whole)
            .step_by(size)
            .map(|first| Part {
                first,
                end: self.to_whole.min(first + size),
            })
            .collect()
    }

    /// `[out, in, k, k]` as blocks of vectors, `[block][k², from, width of the block]`.
    pub fn pack(&self, weight: &[f32]) -> Vec<f32> {
        struct Pack<'a>(&'a Pass<'a>, &'a [f32], Part, &'a mut [f32]);
        impl WithSimd for Pack<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                self.0.pack_for::<S>(self.1, self.2, self.3);
            }
        }
        let row = self.g.area() * self.from.channels;
        let packed = Shared::zeros(self.to_whole * row);
        each(&self.parts(threads()), |part, _| {
            // SAFETY: no two parts share a channel.
            let packed = &mut unsafe { packed.get() }[part.first * row..part.end * row];
            Arch::new().dispatch(Pack(self, weight, *part, packed));
        });
        packed.into_inner()
    }

    #[inline(always)]
    fn pack_for<S: Simd>(&self, weight: &[f32], part: Part, packed: &mut [f32]) {
        let (area, from) = (self.g.area(), self.from.channels);
        let mut first = part.first;
        while first < part.end {
            let width = block_width::<S>(part.end - first);
            let there = width.min(self.to.saturating_sub(first));
            let block = &mut packed[(first - part.first) * from * area..];
            if there == 0 {
                return;
            }
            if self.backward {
                for f in 0..from {
                    let weight = &weight[(f * self.to + first) * area..];
                    let place = |tap| (tap * from + f) * width;
                    transpose(weight, |t| t * area, [there, area], block, place);
                }
            } else {
                let row = from * area;
                let weight = &weight[first * row..];
                let place = |i| (i % area * from + i / area) * width;
                transpose(weight, |t| t * row, [there, row], block, place);
            }
            first += width;
        }
    }

    /// Work for this many threads: a share of the rows each, or of the channels where there are more
    /// of these, and so more weights to read than values.
    pub fn bands(&self, threads: usize) -> Vec<Band> {
        let [height, width] = self.size;
        let images = self.g.images.max(1);
        let by_channels = threads > 1 && self.to_whole > images * height * width;
        let parts = match by_channels {
            true => self.parts(threads),
            false => self.parts(1),
        };
        let weights = self.g.area() * self.from.channels * self.to_whole;
        let by_cache = self.from.floats().div_ceil(most_read(BAND_FLOATS, weights));
        let by_threads = match images < threads && !by_channels {
            true => shares(threads).div_ceil(images),
            false => 1,
        };
        let rows = height.div_ceil(by_cache.max(by_threads)).max(1);
        let tops = || (0..height).step_by(rows);
        let band = |image, top: usize| {
            let parts = parts.iter();
            parts.map(move |part| Band {
                image,
                top,
                height: rows.min(height - top),
                part: *part,
            })
        };
        (0..self.g.images)
            .flat_map(|image| tops().map(move |top| (image, top)))
            .flat_map(|(image, top)| band(image, top))
            .collect()
    }

    /// A band of `[n, from, h, w]` to `[n, to, h′, w′]`.
    pub fn run(&self, band: Band, x: &[f32], packed: &[f32], y: &Results, scratch: &mut Scratch) {
        struct Run<'a> {
            pass: &'a Pass<'a>,
            band: Band,
            image: &'a [f32],
            packed: &'a [f32],
            y: &'a Results<'a>,
            scratch: &'a mut Scratch,
        }
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let scratch = self.scratch;
                self.pass
                    .run_for(simd, self.band, self.image, self.packed, self.y, scratch);
            }
        }
        let image = &x[band.image * self.from.image()..][..self.from.image()];
        Arch::new().dispatch(Run {
            pass: self,
            band,
            image,
            packed,
            y,
            scratch,
        });
    }

    #[inline(always)]
    fn run_for<S: Simd>(
        &self,
        simd: S,
        band: Band,
        image: &[f32],
        packed: &[f32],
        y: &Results,
        scratch: &mut Scratch,
    ) {
        let [height, width] = self.size;
        let maps = grown(&mut scratch.maps, self.from.floats());
        self.from.lay_out(image, self.read_rows(band), maps);
        let sums = grown(&mut scratch.sums, band.height * width * self.to_whole);
        let inner = self.g.area() * self.from.channels;
        let Part { first: start, end } = band.part;
        let mut first = start;
        while first < end {
            let block = block_width::<S>(end - first);
            let packed = &packed[first * inner..][..block * inner];
            for row in 0..band.height {
                for phase in 0..self.step.min(width) {
                    self.segments(band.top + row, phase, block, &mut scratch.segments);
                    let positions = (width - phase).div_ceil(self.step);
                    let mut done = 0;
                    while done < positions {
                        let rows = block_rows::<S>(positions - done, block);
                        let at = row * width + phase + done * self.step;
                        Sum {
                            a: &maps[done * self.reads * self.from.pitch..],
                            a_row: self.reads * self.from.pitch,
                            a_step: 1,
                            b: packed,
                            b_step: block,
                            length: self.taps * self.from.channels,
                            segments: &scratch.segments,
                            out: &mut sums[at * self.to_whole + first..],
                            out_row: self.step * self.to_whole,
                            add: false,
                        }
                        .run(simd, rows, block);
                        done += rows;
                    }
                }
            }
            first += block;
        }
        let sizes = [band.height * width, end.min(self.to) - start];
        // SAFETY: no two bands share a channel of a row of an image, and a band writes to its own only.
        let out = unsafe { y.image(band.image) };
        let rows = band.top * width..(band.top + band.height) * width;
        let places = self.places;
        let placed = |channel| places.map_or(channel, |places| places[channel]);
        let place = |c| placed(start + c) * height * width + rows.start;
        transpose(&sums[start..], |p| p * self.to_whole, sizes, out, place);
        for channel in start..end.min(self.to) {
            let channel = placed(channel);
            y.finish(band.image, out, channel..channel + 1, rows.clone());
        }
    }
}

/// Floats of laid out positions, and of weights that are read beside them, of a convolution by
/// kernels of one weight: both stay in a second-level cache, however many of either there are.
const POSITION_FLOATS: usize = 64 * 1024;
const WEIGHT_FLOATS: usize = 32 * 1024;

/// A convolution by kernels of one weight, at stride 1 and without padding: a product of the
/// weights with each image, positions in the lanes.
pub(super) struct Pointwise<'a> {
    pub pass: &'a Pass<'a>,
    /// `[n, from, positions]`.
    pub x: &'a [f32],
    /// `[out, in]`.
    pub weight: &'a [f32],
    /// `[n, to, positions]`.
    pub y: &'a Results<'a>,
}

/// Channels of a share at least: laying out what they read is little beside making them.
const CHANNELS_SHARED: usize = 60;

/// Channels that most blocks of rows take without a rest.
const ROWS: usize = 4;

/// Some channels of what is computed of an image, at some positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    image: usize,
    first: usize,
    channels: usize,
    begin: usize,
    end: usize,
}

impl Pointwise<'_> {
    /// Work for this many threads: images, or shares of their positions, or of their channels where
    /// there are too few of these.
    pub fn items(&self, threads: usize) -> Vec<Item> {
        let images = self.pass.g.images;
        let positions = self.pass.size[0] * self.pass.size[1];
        let parts = match images < threads {
            true => shares(threads).div_ceil(images.max(1)),
            false => 1,
        };
        // Shares of the positions begin where a block does, as wide as one may be, and have enough
        // for what weights are read once for.
        let block = 4 * lanes();
        let stretches = parts.min(positions / (4 * block)).max(1);
        let begin = |place: usize| match place == stretches {
            // The last share is no shorter than a vector.
            true => positions,
            false => place * positions / stretches / block * block,
        };
        // Shares of the channels for the others, all alike: the positions are laid out again for each.
        let most = parts
            .div_ceil(stretches)
            .min(self.pass.to.div_ceil(CHANNELS_SHARED));
        let groups = (most.div_ceil(2)..=most)
            .rev()
            .find(|groups| (images * stretches * groups).is_multiple_of(threads))
            .unwrap_or(most);
        let channels = self.pass.to.div_ceil(groups).next_multiple_of(ROWS);
        let mut items = Vec::new();
        for image in 0..images {
            for first in (0..self.pass.to).step_by(channels) {
                for place in 0..stretches {
                    items.push(Item {
                        image,
                        first,
                        channels: channels.min(self.pass.to - first),
                        begin: begin(place),
                        end: begin(place + 1),
                    });
                }
            }
        }
        items
    }

    pub fn run(&self, item: Item, scratch: &mut Scratch) {
        struct Run<'a>(&'a Pointwise<'a>, Item, &'a mut Scratch);
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.0.run_for(simd, self.1, self.2);
            }
        }
        Arch::new().dispatch(Run(self, item, scratch));
    }

    #[inline(always)]
    fn run_for<S: Simd>(&self, simd: S, item: Item, scratch: &mut Scratch) {
        let pass = self.pass;
        let from = pass.from.channels;
        let positions = pass.size[0] * pass.size[1];
        let image = &self.x[item.image * from * positions..][..from * positions];
        // SAFETY: no two items share a position of a channel of an image, and an item writes to its
        // own only.
        let out = unsafe { self.y.image(item.image) };
        let channels = (WEIGHT_FLOATS / from / 12 * 12).max(12);
        let mut done = item.begin;
        while done < item.end {
            done = lay_out(simd, image, positions, done..item.end, scratch);
            // The first may begin before what was done: it writes that again.
            let begin = scratch.blocks.first().map_or(done, |block| block.start);
            let end = item.first + item.channels;
            for first in (item.first..end).step_by(channels) {
                let rows = first..end.min(first + channels);
                let mut maps = &scratch.maps[..];
                for block in &scratch.blocks {
                    self.multiply(simd, rows.clone(), block, maps, out);
                    maps = &maps[from * block.len()..];
                }
                self.y.finish(item.image, out, rows, begin..done);
            }
        }
    }

    /// Some channels at a block of positions, `maps` what is read there, `[from, positions]`.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        block: &Range<usize>,
        maps: &[f32],
        out: &mut [f32],
    ) {
        let pass = self.pass;
        let (from, positions) = (pass.from.channels, pass.size[0] * pass.size[1]);
        let (a_row, a_step) = match pass.backward {
            true => (1, pass.to),
            false => (from, 1),
        };
        let mut channel = rows.start;
        while channel < rows.end {
            let count = block_rows::<S>(rows.end - channel, block.len());
            Sum {
                a: &self.weight[channel * a_row..],
                a_row,
                a_step,
                b: maps,
                b_step: block.len(),
                length: from,
                segments: &[Segment { a: 0, b: 0 }],
                out: &mut out[channel * positions + block.start..],
                out_row: positions,
                add: false,
            }
            .run(simd, count, block.len());
            channel += count;
        }
    }
}

/// Some of an image's positions in blocks of vectors, those of a block side by side, as many as
/// stay in the cache; where they end. They are read again for each block of rows, and in the maps
/// its rows lie a power of two apart more often than not: a cache has few places for what does.
#[inline(always)]
fn lay_out<S: Simd>(
    simd: S,
    image: &[f32],
    positions: usize,
    wanted: Range<usize>,
    scratch: &mut Scratch,
) -> usize {
    scratch.blocks.clear();
    let channels = image.len() / positions;
    let (mut laid_out, mut done) = (0, wanted.start);
    while done < wanted.end && (done == wanted.start || laid_out < POSITION_FLOATS) {
        // The last vector overlaps the one before it rather than leave a rest.
        let first = done.min(wanted.end - S::F32_LANES);
        let width = block_width::<S>(wanted.end - first);
        let maps = grown(&mut scratch.maps, laid_out + channels * width);
        copy_columns(
            simd,
            &image[first..],
            positions,
            width,
            &mut maps[laid_out..],
        );
        laid_out += channels * width;
        scratch.blocks.push(first..first + width);
        done = first + width;
    }
    done
}
