//! Convolution as a sum over the taps of its kernel: one pass over maps with their channels innermost,
//! forward or back to the input.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::epilogue::Output;
use super::geometry::{Part, Pass, most_read};
use super::microkernel::{Microkernel, Segment, block_rows, block_width, transpose};
use super::threads::{Scratch, Shared, each, grown, shares, threads};

/// Floats of laid out maps that a band reads again and again: they stay in a second-level cache
/// of 1 MB beside the weights.
const BAND_FLOATS: usize = 128 * 1024;

/// Rows of what is computed, of one image, and channels of them.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    image: usize,
    top: usize,
    height: usize,
    part: Part,
}

impl Pass<'_> {
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
    pub fn run(&self, band: Band, x: &[f32], packed: &[f32], y: &Output, scratch: &mut Scratch) {
        struct Run<'a> {
            pass: &'a Pass<'a>,
            band: Band,
            image: &'a [f32],
            packed: &'a [f32],
            y: &'a Output<'a>,
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
        y: &Output,
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
                        Microkernel {
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
            y.apply_epilogue(band.image, out, channel..channel + 1, rows.clone());
        }
    }
}
