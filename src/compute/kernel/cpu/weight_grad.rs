//! The gradient of a convolution with respect to its weights.

use pulp::{Arch, Simd, WithSimd};

use super::geometry::{Geometry, Maps, Pass};
use super::microkernel::{Microkernel, Segment, block_rows, block_width, lanes, transpose};
use super::threads::{Scratch, Shared, each, threads};

/// Floats of laid out maps of a group of images, read again for each block of weights.
const GROUP_FLOATS: usize = 64 * 1024;

/// Rows of weights of one item of work: whole blocks of every kind.
const ROWS: usize = 48;

/// Sizes of a gradient and of its factors.
struct Sizes<'a> {
    g: &'a Geometry,
    /// The forward pass, which reads the same input.
    forward: Pass<'a>,
    to: Maps,
    /// Weights of a row of the kernel. What they read lies side by side, so that they are rows of
    /// the sum as channels are.
    taps: usize,
}

/// Some of the weights of a row of the kernel.
#[derive(Clone, Copy, Debug)]
struct Item {
    dy: usize,
    first: usize,
    rows: usize,
}

/// Laid out images, `[images][maps]`.
#[derive(Default)]
struct Group {
    images: usize,
    from: Vec<f32>,
    to: Vec<f32>,
}

/// `[out, in, k, k]` of `x` and the gradient of the result.
pub fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let lanes = lanes();
    let sizes = Sizes {
        g,
        forward: Pass::forward(g, lanes),
        to: Maps {
            size: g.size_out,
            channels: g.channels_out,
            pitch: g.channels_out.next_multiple_of(lanes),
            left: 0,
            width: g.size_out[1],
        },
        taps: g.kernel * g.channels_in,
    };
    // [k, k · in, out], the last in whole vectors.
    let sums = Shared::zeros(g.kernel * sizes.taps * sizes.to.pitch);
    let items = sizes.items();
    let most = GROUP_FLOATS / (sizes.forward.from.floats() + sizes.to.floats());
    let mut group = Group::default();
    for first in (0..g.images).step_by(most.max(1)) {
        group.images = most.max(1).min(g.images - first);
        Arch::new().dispatch(LayOut {
            sizes: &sizes,
            x: &x[first * sizes.forward.from.image()..],
            grad: &grad[first * sizes.to.image()..],
            group: &mut group,
        });
        each(&items, |item, scratch| {
            Arch::new().dispatch(Add {
                sizes: &sizes,
                item: *item,
                group: &group,
                sums: &sums,
                scratch,
            });
        });
    }
    sizes.unpack(&sums.into_inner())
}

struct LayOut<'a> {
    sizes: &'a Sizes<'a>,
    x: &'a [f32],
    grad: &'a [f32],
    group: &'a mut Group,
}

impl WithSimd for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Group { images, from, to } = self.group;
        let kinds = [
            (&self.sizes.forward.from, self.x, from),
            (&self.sizes.to, self.grad, to),
        ];
        for (maps, values, out) in kinds {
            out.resize(*images * maps.floats(), 0.0);
            let places = out.chunks_exact_mut(maps.floats());
            for (image, out) in values.chunks_exact(maps.image()).zip(places) {
                maps.lay_out(image, 0..maps.size[0], out);
            }
        }
    }
}

struct Add<'a> {
    sizes: &'a Sizes<'a>,
    item: Item,
    group: &'a Group,
    sums: &'a Shared,
    scratch: &'a mut Scratch,
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Item { dy, first, rows } = self.item;
        let Sizes { g, to, taps, .. } = self.sizes;
        let from = &self.sizes.forward.from;
        let segments = &mut self.scratch.segments;
        self.sizes.segments(dy, self.group.images, segments);
        let start = (dy * taps + first) * to.pitch;
        // SAFETY: no two items share a weight.
        let sums = &mut unsafe { self.sums.get() }[start..][..rows * to.pitch];
        let mut channel = 0;
        while channel < to.pitch {
            let width = block_width::<S>(to.pitch - channel);
            let mut row = 0;
            while row < rows {
                let block = block_rows::<S>(rows - row, width);
                Microkernel {
                    a: &self.group.from[first + row..],
                    a_row: 1,
                    a_step: g.stride * from.pitch,
                    b: &self.group.to[channel..],
                    b_step: to.pitch,
                    length: g.size_out[1],
                    segments,
                    out: &mut sums[row * to.pitch + channel..],
                    out_row: to.pitch,
                    add: true,
                }
                .run(simd, block, width);
                row += block;
            }
            channel += width;
        }
    }
}

impl Sizes<'_> {
    fn items(&self) -> Vec<Item> {
        // With one thread a row of the kernel is one item: its segments are listed once.
        let rows = match threads() {
            1 => self.taps,
            _ => ROWS,
        };
        (0..self.g.kernel)
            .flat_map(|dy| {
                (0..self.taps).step_by(rows).map(move |first| Item {
                    dy,
                    first,
                    rows: rows.min(self.taps - first),
                })
            })
            .collect()
    }

    /// The rows of images under a row of the kernel.
    #[inline(always)]
    fn segments(&self, dy: usize, images: usize, segments: &mut Vec<Segment>) {
        segments.clear();
        let (g, from, to) = (self.g, &self.forward.from, &self.to);
        for image in 0..images {
            for row in 0..g.size_out[0] {
                let Some(y) = self.forward.read_row(row, dy) else {
                    continue;
                };
                segments.push(Segment {
                    a: image * from.floats() + y * from.row(),
                    b: image * to.floats() + row * to.row(),
                });
            }
        }
    }

    /// `[k², in, out]`, the last in whole vectors, to `[out, in, k²]`.
    fn unpack(&self, sums: &[f32]) -> Vec<f32> {
        let (area, channels) = (self.g.area(), self.g.channels_in);
        let row = area * channels;
        let mut weight = vec![0.0; self.g.channels_out * row];
        let place = |i: usize| (i % area * channels + i / area) * self.to.pitch;
        let sizes = [row, self.g.channels_out];
        transpose(sums, place, sizes, &mut weight, |o| o * row);
        weight
    }
}
