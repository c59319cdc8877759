//! Convolution on the CPU, with channels in the lanes of vectors.
//!
//! Maps are laid out with their channels innermost, `[height, width, channels]`. All three passes
//! are then sums of one kind ([`super::microkernel`]): rows times vectors that stay in registers to the end.
//!
//! - Forward, the rows are positions side by side, the vectors output channels, a segment is a
//!   tap of the kernel and the sum runs over input channels.
//! - The gradient of the input is the same with the channels' roles exchanged; at stride 2 every
//!   second position of a row has the same taps.
//! - For the gradient of the weights the rows are taps of a row of the kernel with their input
//!   channels, the vectors output channels, a segment is a row of an image and the sum runs along
//!   it.
//!
//! Nothing is copied for each tap: those above and below a map are left out, those to its sides
//! read columns of zeros. Kernels of 3x3 take fewer products where there is enough to do
//! ([`super::winograd`]). 1x1 kernels at stride 1 have positions in the lanes instead, and leave the maps as
//! they lie ([`super::pointwise`]).

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};

use super::super::epilogue::Epilogue;
use super::super::weight_cache::Packing;
use super::epilogue::{CpuEpilogue, Output};
use super::first_layer::{self, Filters, is_first_layer};
use super::geometry::{Geometry, Pass};
use super::microkernel::lanes;
use super::pointwise::Pointwise;
use super::tensor::{contiguous, tensor};
use super::threads::{each, each_chunk, threads};
use super::weight_cache::packed;
use super::weight_grad::weight_gradient;
use super::winograd::Winograd;

/// `[n, in, h, w]` and `[out, in, k, k]` to `[n, out, h′, w′]`.
pub fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    stride: usize,
    padding: usize,
    epilogue: Epilogue<Flex>,
) -> FlexTensor {
    let g = Geometry::new(x.shape().dims(), weight.shape().dims(), stride, padding);
    let (x, filters) = (contiguous(x), Filters(weight));
    let epilogue = epilogue.map(contiguous);
    let epilogue = CpuEpilogue::of(&epilogue);
    let epilogue = epilogue.as_ref();
    let by_colour = match is_first_layer(&g) {
        true => first_layer::forward(&g, x.storage(), &filters, epilogue),
        false => None,
    };
    let y = by_colour.unwrap_or_else(|| {
        let weight = contiguous(filters.0);
        match g.is_sparse() {
            true => {
                let x = thin(&g, x.storage());
                run(&g.thinned(), false, &x, &weight, epilogue)
            }
            false => run(&g, false, x.storage(), &weight, epilogue),
        }
    });
    tensor(y, g.shape_out())
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
    let (filters, grad) = (Filters(weight), contiguous(grad));
    let by_taps = match is_first_layer(&g) {
        true => first_layer::backward_x(&g, grad.storage(), &filters),
        false => None,
    };
    let gradient = by_taps.unwrap_or_else(|| {
        let weight = contiguous(filters.0);
        match g.is_sparse() {
            true => thicken(&g, &run(&g.thinned(), true, grad.storage(), &weight, None)),
            false => run(&g, true, grad.storage(), &weight, None),
        }
    });
    tensor(gradient, x)
}

/// Gradient with respect to the weights, `[out, in, k, k]`.
pub fn backward_weight(
    x: FlexTensor,
    kernel: usize,
    grad: FlexTensor,
    stride: usize,
    padding: usize,
) -> FlexTensor {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let [_, channels, ..] = x.shape().dims::<4>();
    let [_, out, ..] = grad.shape().dims::<4>();
    let shape = [out, channels, kernel, kernel];
    let g = Geometry::new(x.shape().dims(), shape, stride, padding);
    let weight = match g.is_sparse() {
        true => weight_gradient(&g.thinned(), &thin(&g, x.storage()), grad.storage()),
        false => weight_gradient(&g, x.storage(), grad.storage()),
    };
    tensor(weight, shape)
}

/// The positions of the input that a sparse convolution looks at.
fn thin(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let mut thin = vec![0.0; g.images * g.channels_in * g.positions_out()];
    each_chunk(&mut thin, g.positions_out().max(1), |map, thin| {
        let map = &x[map * g.positions_in()..][..g.positions_in()];
        let rows = map.chunks_exact(g.size_in[1]).step_by(g.stride);
        for (row, thin) in rows.zip(thin.chunks_exact_mut(g.size_out[1])) {
            for (thin, value) in thin.iter_mut().zip(row.iter().step_by(g.stride)) {
                *thin = *value;
            }
        }
    });
    thin
}

/// Its inverse, zeros at the positions not looked at.
fn thicken(g: &Geometry, thin: &[f32]) -> Vec<f32> {
    let width = g.size_in[1];
    let mut x = vec![0.0; g.images * g.channels_in * g.positions_in()];
    each_chunk(&mut x, g.positions_in().max(1), |map, x| {
        let thin = &thin[map * g.positions_out()..][..g.positions_out()];
        let rows = x.chunks_exact_mut(width).step_by(g.stride);
        for (row, thin) in rows.zip(thin.chunks_exact(g.size_out[1])) {
            for (value, thin) in row.iter_mut().step_by(g.stride).zip(thin) {
                *value = *thin;
            }
        }
    });
    x
}

/// The convolution of `x` with its epilogue, or the gradient of its input where `x` is that of its result.
fn run(
    g: &Geometry,
    backward: bool,
    x: &[f32],
    weight: &FlexTensor,
    epilogue: Option<&CpuEpilogue>,
) -> Vec<f32> {
    let lanes = lanes();
    let pass = match backward {
        false => Pass::forward(g, lanes),
        true => Pass::backward(g, lanes),
    };
    let positions = pass.size[0] * pass.size[1];
    let y = Output::new(g.images, [pass.to, positions], epilogue);
    if g.is_pointwise() && positions >= lanes {
        let work = Pointwise {
            pass: &pass,
            x,
            weight: weight.storage(),
            y: &y,
        };
        each(&work.items(threads()), |item, scratch| {
            work.run(*item, scratch)
        });
        return y.into_inner();
    }
    if let Some(winograd) = Winograd::of(&pass, lanes) {
        let packing = Packing::f32(backward, Some(winograd.tile()));
        let weight = packed(weight, packing, |weight| winograd.pack(weight));
        winograd.run(x, &weight, &y);
        return y.into_inner();
    }
    let packing = Packing::f32(backward, None);
    let packed = packed(weight, packing, |weight| pass.pack(weight));
    each(&pass.bands(threads()), |band, scratch| {
        pass.run(*band, x, &packed, &y, scratch);
    });
    y.into_inner()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::forget_unused;
    use super::*;

    /// `[filters, colours, k, k]`, each filter reading one colour.
    fn gabors(filters: usize, colours: usize, kernel: usize) -> FlexTensor {
        let area = kernel * kernel;
        let value = |i: usize| {
            let (filter, colour) = (i / (colours * area), i / area % colours);
            f32::from(u8::from(colour == filter % colours)) * (i % 7) as f32
        };
        let values = (0..filters * colours * area).map(value).collect();
        tensor(values, [filters, colours, kernel, kernel])
    }

    fn ones(shape: [usize; 4]) -> FlexTensor {
        tensor(vec![1.0; shape.iter().product()], shape)
    }

    #[test]
    fn filters_that_are_gone_are_held_by_nothing_made_of_them() {
        for (colours, side) in [(1, 9), (3, 9), (3, 3)] {
            let filters = gabors(6, colours, 3);
            let gone = Arc::downgrade(&filters.data_arc());
            for _ in 0..2 {
                let x = ones([2, colours, side, side]);
                let y = forward(x, filters.clone(), 1, 1, Epilogue::Identity);
                backward_x([side, side], filters.clone(), y, 1, 1);
            }
            drop(filters);
            forget_unused();
            assert!(gone.upgrade().is_none(), "{colours} colours, {side} px");
        }
    }

    #[test]
    fn some_of_a_banks_filters_make_what_they_make_among_all() {
        let all = gabors(8, 3, 5);
        let some = all.narrow(0, 3, 5);
        let x = ones([2, 3, 12, 12]);
        for _ in 0..2 {
            let [of_all, of_some] =
                [&all, &some].map(|f| forward(x.clone(), f.clone(), 2, 2, Epilogue::Identity));
            let ours: &[f32] = of_some.storage();
            let theirs: &[f32] = of_all.storage();
            for image in 0..2 {
                let theirs = &theirs[(image * 8 + 3) * 36..][..5 * 36];
                assert_eq!(&ours[image * 5 * 36..][..5 * 36], theirs);
            }
        }
    }
}
