//! A scale and a shift for each channel, a skip connection and ReLU in one pass over the maps: batch
//! norm by its running statistics, and what follows it.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::conv::each_chunk;
use super::norm::{gate, positive};
use super::own;

/// `x · scale + shift` and, where `relu`, its positive part.
pub fn forward(x: FlexTensor, scale: FlexTensor, shift: FlexTensor, relu: bool) -> FlexTensor {
    each_map(x, [scale, shift], |_, map, [scale, shift]| match relu {
        true => map
            .iter_mut()
            .for_each(|v| *v = positive(*v * scale + shift)),
        false => map.iter_mut().for_each(|v| *v = *v * scale + shift),
    })
}

/// The positive part of `x · scale + shift + skip`.
pub fn forward_add(
    x: FlexTensor,
    skip: FlexTensor,
    scale: FlexTensor,
    shift: FlexTensor,
) -> FlexTensor {
    let skip = own(skip);
    let skip: &[f32] = skip.storage();
    each_map(x, [scale, shift], |start, map, [scale, shift]| {
        for (v, skip) in map.iter_mut().zip(&skip[start..]) {
            *v = positive(*v * scale + shift + skip);
        }
    })
}

/// Gradient with respect to `x`, of [`forward`] with ReLU, `y` being the result.
pub fn backward_relu(y: FlexTensor, scale: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let y = own(y);
    let y: &[f32] = y.storage();
    each_map(grad, [scale.clone(), scale], |start, map, [scale, _]| {
        for (v, y) in map.iter_mut().zip(&y[start..]) {
            *v = gate(*v * scale, *y > 0.0);
        }
    })
}

/// The same without ReLU.
pub fn backward(scale: FlexTensor, grad: FlexTensor) -> FlexTensor {
    each_map(grad, [scale.clone(), scale], |_, map, [scale, _]| {
        map.iter_mut().for_each(|v| *v *= scale);
    })
}

/// `work` on each map of `[n, channels, h, w]` with where it starts and its channel's two numbers;
/// in place where nobody else holds the maps.
fn each_map(
    x: FlexTensor,
    numbers: [FlexTensor; 2],
    work: impl Fn(usize, &mut [f32], [f32; 2]) + Sync,
) -> FlexTensor {
    let [images, channels, height, width] = x.shape().dims::<4>();
    let [first, second] = numbers.map(own);
    let (first, second): (&[f32], &[f32]) = (first.storage(), second.storage());
    let mut x = own(x);
    let area = height * width;
    let maps = &mut x.storage_mut::<f32>()[..images * channels * area];
    each_chunk(maps, area.max(1), |place, map| {
        let channel = place % channels;
        work(place * area, map, [first[channel], second[channel]]);
    });
    x
}
