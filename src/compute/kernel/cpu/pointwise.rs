//! Convolution by 1x1 kernels at stride 1 and without padding: a product of the weights with each image as it
//! lies, positions in the lanes.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::epilogue::Output;
use super::geometry::Pass;
use super::microkernel::{Microkernel, Segment, block_rows, block_width, copy_columns, lanes};
use super::threads::{Scratch, grown, shares};

/// Floats of laid out positions, and of weights that are read beside them, at a time: both stay in a
/// second-level cache.
const POSITION_FLOATS: usize = 64 * 1024;
const WEIGHT_FLOATS: usize = 32 * 1024;

/// A convolution by 1x1 kernels at stride 1 and without padding.
pub struct Pointwise<'a> {
    pub pass: &'a Pass<'a>,
    /// `[n, from, positions]`.
    pub x: &'a [f32],
    /// `[out, in]`.
    pub weight: &'a [f32],
    /// `[n, to, positions]`.
    pub y: &'a Output<'a>,
}

/// Channels of a share at least: computing them then takes much longer than laying out their input.
const CHANNELS_SHARED: usize = 60;

/// A multiple of most blocks' rows.
const ROWS: usize = 4;

/// Some channels of an image's result, at some positions.
#[derive(Clone, Copy, Debug)]
pub struct Item {
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
        // Shares of the positions begin where a block of the largest width does, and are worth reading the weights
        // for.
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
            // The first block may begin before `done`: it writes those positions again.
            let begin = scratch.blocks.first().map_or(done, |block| block.start);
            let end = item.first + item.channels;
            for first in (item.first..end).step_by(channels) {
                let rows = first..end.min(first + channels);
                let mut maps = &scratch.maps[..];
                for block in &scratch.blocks {
                    self.multiply(simd, rows.clone(), block, maps, out);
                    maps = &maps[from * block.len()..];
                }
                self.y.apply_epilogue(item.image, out, rows, begin..done);
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
            Microkernel {
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
