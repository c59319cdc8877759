//! What a convolution reads and writes: its sizes, maps with their channels innermost, and the pass from one
//! to the other, forward or back to the input.

use std::ops::Range;

use super::microkernel::transpose;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub images: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub size_in: [usize; 2],
    pub size_out: [usize; 2],
}

impl Geometry {
    /// Of `x` `[n, in, h, w]` and weights `[out, in, k, k]`.
    pub fn new(x: [usize; 4], weight: [usize; 4], stride: usize, padding: usize) -> Self {
        let [images, channels_in, height, width] = x;
        let [channels_out, _, kernel, _] = weight;
        let out = |side: usize| (side + 2 * padding).saturating_sub(kernel) / stride + 1;
        Self {
            images,
            channels_in,
            channels_out,
            kernel,
            stride,
            padding,
            size_in: [height, width],
            size_out: [out(height), out(width)],
        }
    }

    pub fn positions_in(&self) -> usize {
        self.size_in[0] * self.size_in[1]
    }

    pub fn positions_out(&self) -> usize {
        self.size_out[0] * self.size_out[1]
    }

    pub fn area(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Whether most positions of the input are not read.
    pub fn is_sparse(&self) -> bool {
        self.kernel == 1 && self.stride > 1 && self.padding == 0
    }

    /// The same with only the positions that are read.
    pub fn thinned(&self) -> Self {
        Self {
            stride: 1,
            size_in: self.size_out,
            ..*self
        }
    }

    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// The shape of the result.
    pub fn shape_out(&self) -> [usize; 4] {
        let [height, width] = self.size_out;
        [self.images, self.channels_out, height, width]
    }
}

/// Maps with channels innermost and columns of zeros at their sides.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
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

    /// Floats of an image in the input's own layout.
    pub fn image(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// Copies these rows of `[channels, h, w]` to their places in `out`.
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

/// A convolution, or the gradient of its input, which is a convolution whose taps step through the result.
pub struct Pass<'a> {
    pub g: &'a Geometry,
    pub backward: bool,
    /// The maps that are read.
    pub from: Maps,
    /// Channels of the result.
    pub to: usize,
    /// These in whole vectors.
    pub to_whole: usize,
    /// `[height, width]` of the result.
    pub size: [usize; 2],
    /// From a position to the next with the same taps.
    pub step: usize,
    /// Positions read from one such position to the next.
    pub reads: usize,
    /// Taps of a segment: forward, those of a row of the kernel read what lies side by side.
    pub taps: usize,
    /// Where its channels belong in the result, if it computes only some of them.
    pub places: Option<&'a [usize]>,
}

/// Channels of the result, whole blocks of vectors.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub first: usize,
    pub end: usize,
}

/// Channels of a part are a multiple of this, and so of every block's channels.
pub const PART: usize = 64;

/// Floats to read at a time beside all the weights: what stays in the cache or, where the weights themselves do
/// not fit, a quarter of these. The weights are read once each time.
pub fn most_read(in_cache: usize, weights: usize) -> usize {
    in_cache.max(weights / 4)
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

    /// The same, its channels being these channels of the result.
    pub fn placed(self, places: &'a [usize]) -> Self {
        Self {
            places: Some(places),
            ..self
        }
    }

    /// At stride 1, zeros before the first value that is read.
    pub fn padding(&self) -> usize {
        match self.backward {
            true => self.g.kernel - 1 - self.g.padding,
            false => self.g.padding,
        }
    }

    /// The 3x3 weights between two channels, in the order of the values they read.
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
    /// `at` of the result; `None` before the first, or where no step of the tap leads.
    #[inline(always)]
    pub fn read(&self, at: usize, tap: usize, left: usize) -> Option<usize> {
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
}
