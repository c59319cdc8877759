//! Convolution on the CPU as matrix products.
//!
//! The patches under the kernel are laid out as columns for a tile of output positions at a time,
//! of several images where maps are small and of a few rows where they are large, so that the
//! tile's columns stay in the second-level cache. With `K = in · k²` rows of patches:
//!
//! - forward: `y = W · columns`, `[out, K] · [K, tile]`
//! - gradient of the weights: `dW += dy · columnsᵀ`
//! - gradient of the input: at stride 1 a forward pass of `dy` with the kernel turned round, at
//!   larger strides `columns = Wᵀ · dy`, summed back to where the patches came from.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};

/// Floats of patches held at a time: half of a second-level cache of 1 MB.
const TILE_FLOATS: usize = 128 * 1024;

/// Output positions that a matrix product should at least have.
const FEW_POSITIONS: usize = 256;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    images: usize,
    channels_in: usize,
    channels_out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    size_in: [usize; 2],
    size_out: [usize; 2],
}

impl Geometry {
    fn new(x: [usize; 4], weight: [usize; 4], stride: usize, padding: usize) -> Self {
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

    fn rows(&self) -> usize {
        self.channels_in * self.kernel * self.kernel
    }

    fn positions_in(&self) -> usize {
        self.size_in[0] * self.size_in[1]
    }

    fn positions_out(&self) -> usize {
        self.size_out[0] * self.size_out[1]
    }

    /// Whether an image is its own matrix of patches.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    fn tiles(&self) -> Vec<Tile> {
        let [height, width] = self.size_out;
        let images = FEW_POSITIONS.div_ceil(self.positions_out()).max(1);
        if images > 1 {
            let starts = (0..self.images).step_by(images);
            return starts
                .map(|first| Tile {
                    first,
                    images: images.min(self.images - first),
                    top: 0,
                    height,
                })
                .collect();
        }
        let rows = match self.is_pointwise() {
            true => height,
            false => (TILE_FLOATS / (self.rows() * width)).clamp(1, height),
        };
        (0..self.images)
            .flat_map(|first| {
                (0..height).step_by(rows).map(move |top| Tile {
                    first,
                    images: 1,
                    top,
                    height: rows.min(height - top),
                })
            })
            .collect()
    }
}

/// Rows of output positions, of one image or whole of several.
#[derive(Clone, Copy, Debug)]
struct Tile {
    first: usize,
    images: usize,
    top: usize,
    height: usize,
}

impl Tile {
    /// Output positions of one of its images.
    fn positions(&self, g: &Geometry) -> usize {
        self.height * g.size_out[1]
    }
}

/// A row-major matrix inside a slice; `stride` floats from row to row.
struct Matrix<'a> {
    values: &'a [f32],
    stride: usize,
    transposed: bool,
}

/// `out = a · b`, or `out += a · b`, with `a` `[m, k]` and `b` `[k, n]`.
fn multiply(
    out: &mut [f32],
    out_stride: usize,
    a: Matrix,
    b: Matrix,
    [m, k, n]: [usize; 3],
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let reach = |rows: usize, columns: usize, stride: usize| match rows {
        0 => 0,
        _ => (rows - 1) * stride + columns,
    };
    let needs = |matrix: &Matrix, rows, columns| match matrix.transposed {
        true => reach(columns, rows, matrix.stride),
        false => reach(rows, columns, matrix.stride),
    };
    assert!(reach(m, n, out_stride) <= out.len());
    assert!(needs(&a, m, k) <= a.values.len() && needs(&b, k, n) <= b.values.len());
    let strides = |matrix: &Matrix| match matrix.transposed {
        true => (matrix.stride as isize, 1),
        false => (1, matrix.stride as isize),
    };
    let ((a_columns, a_rows), (b_columns, b_rows)) = (strides(&a), strides(&b));
    // SAFETY: the three slices reach as far as the sizes and strides do, which was just checked,
    // and `out` is borrowed mutably, so it overlaps neither of the others.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            add,
            a.values.as_ptr(),
            a_columns,
            a_rows,
            b.values.as_ptr(),
            b_columns,
            b_rows,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `[n, in, h, w]` and `[out, in, k, k]` to `[n, out, h′, w′]`.
pub fn forward(x: FlexTensor, weight: FlexTensor, stride: usize, padding: usize) -> FlexTensor {
    let g = Geometry::new(x.shape().dims(), weight.shape().dims(), stride, padding);
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let y = correlate(&g, x.storage(), weight.storage());
    tensor(y, [g.images, g.channels_out, g.size_out[0], g.size_out[1]])
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

fn correlate(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let y = Shared::zeros(g.images * g.channels_out * g.positions_out());
    let tiles = g.tiles();
    each(&tiles, |tile, scratch| {
        // SAFETY: no two tiles share an output position.
        let y = unsafe { y.get() };
        correlate_tile(g, tile, x, weight, y, scratch);
    });
    y.into_inner()
}

fn correlate_tile(
    g: &Geometry,
    tile: &Tile,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    let positions = tile.positions(g);
    let sizes = [g.channels_out, g.rows(), positions * tile.images];
    let weight = Matrix {
        values: weight,
        stride: g.rows(),
        transposed: false,
    };
    if tile.images == 1 {
        let start = tile.first * g.channels_out * g.positions_out() + tile.top * g.size_out[1];
        let columns = columns_of(g, tile, x, &mut scratch.columns);
        return multiply(
            &mut y[start..],
            g.positions_out(),
            weight,
            columns,
            sizes,
            false,
        );
    }
    let columns = columns_of(g, tile, x, &mut scratch.columns);
    let all = positions * tile.images;
    scratch.result.resize(g.channels_out * all, 0.0);
    multiply(&mut scratch.result, all, weight, columns, sizes, false);
    let start = tile.first * g.channels_out * positions;
    let images = y[start..].chunks_exact_mut(g.channels_out * positions);
    for (i, image) in images.take(tile.images).enumerate() {
        for (c, map) in image.chunks_exact_mut(positions).enumerate() {
            map.copy_from_slice(&scratch.result[c * all + i * positions..][..positions]);
        }
    }
}

/// Gradient with respect to the input `[n, in, h, w]`, `[h, w]` being `size`.
pub fn backward_x(
    size: [usize; 2],
    weight: FlexTensor,
    grad: FlexTensor,
    stride: usize,
    padding: usize,
) -> FlexTensor {
    let [n, ..] = grad.shape().dims::<4>();
    let [out, channels, kernel, _] = weight.shape().dims::<4>();
    let x = [n, channels, size[0], size[1]];
    let g = Geometry::new(x, [out, channels, kernel, kernel], stride, padding);
    let (weight, grad) = (weight.to_contiguous(), grad.to_contiguous());
    let gradient = match stride == 1 && padding < kernel {
        true => correlate(
            &Geometry::new(
                [n, out, g.size_out[0], g.size_out[1]],
                [channels, out, kernel, kernel],
                1,
                kernel - 1 - padding,
            ),
            grad.storage(),
            &turned(weight.storage(), [out, channels, kernel]),
        ),
        false => scatter(&g, weight.storage(), grad.storage()),
    };
    tensor(gradient, x)
}

/// `[out, in, k, k]` to `[in, out, k, k]`, each kernel turned by 180 degrees.
fn turned(weight: &[f32], [out, channels, kernel]: [usize; 3]) -> Vec<f32> {
    let area = kernel * kernel;
    let mut turned = Vec::with_capacity(weight.len());
    for c in 0..channels {
        for o in 0..out {
            let kernel = &weight[(o * channels + c) * area..][..area];
            turned.extend(kernel.iter().rev());
        }
    }
    turned
}

fn scatter(g: &Geometry, weight: &[f32], grad: &[f32]) -> Vec<f32> {
    let x = Shared::zeros(g.images * g.channels_in * g.positions_in());
    // Tiles of one image overlap in the input: whole images only.
    let [height, _] = g.size_out;
    let tiles: Vec<Tile> = (0..g.images)
        .map(|first| Tile {
            first,
            images: 1,
            top: 0,
            height,
        })
        .collect();
    each(&tiles, |tile, scratch| {
        let positions = g.positions_out();
        scratch.columns.resize(g.rows() * positions, 0.0);
        let weight = Matrix {
            values: weight,
            stride: g.rows(),
            transposed: true,
        };
        let grad = Matrix {
            values: &grad[tile.first * g.channels_out * positions..],
            stride: positions,
            transposed: false,
        };
        let sizes = [g.rows(), g.channels_out, positions];
        multiply(&mut scratch.columns, positions, weight, grad, sizes, false);
        let length = g.channels_in * g.positions_in();
        // SAFETY: every tile is an image of its own.
        let image = &mut unsafe { x.get() }[tile.first * length..][..length];
        fold(g, &scratch.columns, image);
    });
    x.into_inner()
}

/// Adds patches up where they came from.
fn fold(g: &Geometry, columns: &[f32], image: &mut [f32]) {
    let [_, width] = g.size_out;
    let maps = image.chunks_exact_mut(g.positions_in());
    let patches = columns.chunks_exact(g.kernel * g.kernel * g.positions_out());
    for (map, patches) in maps.zip(patches) {
        for (k, patch) in patches.chunks_exact(g.positions_out()).enumerate() {
            for (row, line) in patch.chunks_exact(width).enumerate() {
                let Some(y) = source(row, k / g.kernel, g, g.size_in[0]) else {
                    continue;
                };
                let target = &mut map[y * g.size_in[1]..][..g.size_in[1]];
                let (columns, first) = inside(k % g.kernel, g);
                for (i, value) in line[columns].iter().enumerate() {
                    target[first + i * g.stride] += value;
                }
            }
        }
    }
}

/// Gradient with respect to the weights, `[out, in, k, k]`.
pub fn backward_weight(
    x: FlexTensor,
    kernel: usize,
    grad: FlexTensor,
    stride: usize,
    padding: usize,
) -> FlexTensor {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let [_, channels, ..] = x.shape().dims::<4>();
    let [_, out, ..] = grad.shape().dims::<4>();
    let shape = [out, channels, kernel, kernel];
    let g = Geometry::new(x.shape().dims(), shape, stride, padding);
    let (x, grad) = (x.storage(), grad.storage());
    // In the order of the tiles, so that the sum is the same on any number of threads.
    let mut weight = vec![0.0_f32; out * g.rows()];
    let mut scratch = Scratch::default();
    for tile in g.tiles() {
        let positions = tile.positions(&g);
        let all = positions * tile.images;
        let gradients = match tile.images {
            1 => Matrix {
                values: &grad[tile.first * out * g.positions_out() + tile.top * g.size_out[1]..],
                stride: g.positions_out(),
                transposed: false,
            },
            _ => gather(grad, &tile, [out, positions], &mut scratch.result),
        };
        let columns = Matrix {
            transposed: true,
            ..columns_of(&g, &tile, x, &mut scratch.columns)
        };
        let sizes = [out, all, g.rows()];
        multiply(&mut weight, g.rows(), gradients, columns, sizes, true);
    }
    tensor(weight, shape)
}

/// The maps of several images side by side: `[channels, images · positions]`.
fn gather<'a>(
    maps: &[f32],
    tile: &Tile,
    [channels, positions]: [usize; 2],
    out: &'a mut Vec<f32>,
) -> Matrix<'a> {
    out.clear();
    for c in 0..channels {
        for image in tile.first..tile.first + tile.images {
            out.extend_from_slice(&maps[(image * channels + c) * positions..][..positions]);
        }
    }
    Matrix {
        values: out,
        stride: positions * tile.images,
        transposed: false,
    }
}

/// The patches of a tile, `[in · k², positions]`.
fn columns_of<'a>(
    g: &Geometry,
    tile: &Tile,
    x: &'a [f32],
    columns: &'a mut Vec<f32>,
) -> Matrix<'a> {
    if g.is_pointwise() && tile.images == 1 {
        return Matrix {
            values: &x[tile.first * g.channels_in * g.positions_in() + tile.top * g.size_in[1]..],
            stride: g.positions_in(),
            transposed: false,
        };
    }
    if g.is_pointwise() {
        return gather(x, tile, [g.channels_in, g.positions_in()], columns);
    }
    let positions = tile.positions(g);
    let all = positions * tile.images;
    columns.resize(g.rows() * all, 0.0);
    let [_, width] = g.size_out;
    for (r, row) in columns.chunks_exact_mut(all).enumerate() {
        let (channel, k) = (r / (g.kernel * g.kernel), r % (g.kernel * g.kernel));
        let (dy, dx) = (k / g.kernel, k % g.kernel);
        let (inner, first) = inside(dx, g);
        for (i, patch) in row.chunks_exact_mut(positions).enumerate() {
            let map = (tile.first + i) * g.channels_in + channel;
            let map = &x[map * g.positions_in()..][..g.positions_in()];
            for (line, out) in patch.chunks_exact_mut(width).enumerate() {
                let Some(y) = source(tile.top + line, dy, g, g.size_in[0]) else {
                    out.fill(0.0);
                    continue;
                };
                let row = &map[y * g.size_in[1]..][..g.size_in[1]];
                out[..inner.start].fill(0.0);
                out[inner.end..].fill(0.0);
                shifted(&row[first..], g.stride, &mut out[inner.clone()]);
            }
        }
    }
    Matrix {
        values: columns,
        stride: all,
        transposed: false,
    }
}

/// The input's row under row `offset` of the kernel for output row `row`; `None` in the padding.
fn source(row: usize, offset: usize, g: &Geometry, side: usize) -> Option<usize> {
    let y = (row * g.stride + offset).checked_sub(g.padding)?;
    (y < side).then_some(y)
}

/// The output columns whose input lies inside the image under column `dx` of the kernel, and the
/// input column of the first of them.
fn inside(dx: usize, g: &Geometry) -> (std::ops::Range<usize>, usize) {
    let [_, width] = g.size_out;
    let from = g.padding.saturating_sub(dx).div_ceil(g.stride).min(width);
    let past = (g.size_in[1] + g.padding).saturating_sub(dx);
    let to = past.div_ceil(g.stride).clamp(from, width);
    (from..to, (from * g.stride + dx).saturating_sub(g.padding))
}

/// Every `stride`th value of a row.
#[inline]
fn shifted(row: &[f32], stride: usize, out: &mut [f32]) {
    match stride {
        // A loop, not a call: rows of compact networks are shorter than a call is worth.
        1 if out.len() < 64 => out.iter_mut().zip(row).for_each(|(o, v)| *o = *v),
        1 => out.copy_from_slice(&row[..out.len()]),
        _ => {
            let source = row.iter().step_by(stride);
            out.iter_mut().zip(source).for_each(|(o, v)| *o = *v);
        }
    }
}

/// Buffers a thread uses again and again.
#[derive(Default)]
struct Scratch {
    columns: Vec<f32>,
    result: Vec<f32>,
}

/// A buffer whose tiles are written by several threads.
struct Shared {
    start: *mut f32,
    values: Vec<f32>,
}

// SAFETY: `get` asks its callers not to touch the same place from two threads.
unsafe impl Sync for Shared {}

impl Shared {
    fn zeros(length: usize) -> Self {
        let mut values = vec![0.0_f32; length];
        Self {
            start: values.as_mut_ptr(),
            values,
        }
    }

    /// # Safety
    /// Two threads must not write to, or one read what the other writes, the same place.
    #[allow(clippy::mut_from_ref, reason = "that is what the caller promises")]
    unsafe fn get(&self) -> &mut [f32] {
        // SAFETY: the vector is neither moved nor resized while it is shared.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.values.len()) }
    }

    fn into_inner(self) -> Vec<f32> {
        self.values
    }
}

/// `work` on every tile, on the threads of the pool this runs in.
#[cfg(not(target_arch = "wasm32"))]
fn each(tiles: &[Tile], work: impl Fn(&Tile, &mut Scratch) + Sync) {
    use rayon::prelude::*;
    if tiles.len() < 2 || rayon::current_num_threads() < 2 {
        let mut scratch = Scratch::default();
        return tiles.iter().for_each(|tile| work(tile, &mut scratch));
    }
    tiles
        .par_iter()
        .for_each_init(Scratch::default, |scratch, tile| work(tile, scratch));
}

#[cfg(target_arch = "wasm32")]
fn each(tiles: &[Tile], work: impl Fn(&Tile, &mut Scratch)) {
    let mut scratch = Scratch::default();
    tiles.iter().for_each(|tile| work(tile, &mut scratch));
}
