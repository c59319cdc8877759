//! A scale and a shift for each channel, a skip connection and ReLU in one pass over the maps: batch
//! norm by its running statistics, and what follows it.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::conv::each_chunk;
use super::norm::{gate, positive};
use super::own;

/// What becomes of a convolution's values: a scale and a shift for each channel, and ReLU where asked
/// for, or a skip connection of the same shape and ReLU.
pub struct After {
    numbers: [FlexTensor; 2],
    skip: Option<FlexTensor>,
    relu: bool,
}

/// The same, to be read.
pub(super) struct Finish<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    skip: Option<&'a [f32]>,
    relu: bool,
}

impl After {
    pub fn scaled(numbers: [FlexTensor; 2], relu: bool) -> Self {
        Self {
            numbers,
            skip: None,
            relu,
        }
    }

    pub fn added(numbers: [FlexTensor; 2], skip: FlexTensor) -> Self {
        Self {
            numbers,
            skip: Some(skip),
            relu: true,
        }
    }

    /// With all in the order of their shapes.
    pub(super) fn own(self) -> Self {
        Self {
            numbers: self.numbers.map(own),
            skip: self.skip.map(own),
            relu: self.relu,
        }
    }

    /// # Panics
    /// Where these are not the own ones.
    pub(super) fn finish(&self) -> Finish<'_> {
        let [scale, shift] = &self.numbers;
        Finish {
            scale: scale.storage(),
            shift: shift.storage(),
            skip: self.skip.as_ref().map(FlexTensor::storage),
            relu: self.relu,
        }
    }
}

impl Finish<'_> {
    /// Values of a channel, the first of them this far in the skip connection.
    #[inline(always)]
    pub fn apply(&self, channel: usize, start: usize, values: &mut [f32]) {
        let (scale, shift) = (self.scale[channel], self.shift[channel]);
        let skip = self.skip.map(|skip| &skip[start..][..values.len()]);
        match (skip, self.relu) {
            (Some(skip), _) => values
                .iter_mut()
                .zip(skip)
                .for_each(|(v, skip)| *v = positive(*v * scale + shift + skip)),
            (None, true) => values
                .iter_mut()
                .for_each(|v| *v = positive(*v * scale + shift)),
            (None, false) => values.iter_mut().for_each(|v| *v = *v * scale + shift),
        }
    }
}

/// `x` finished, `[n, channels, h, w]`.
pub fn forward(x: FlexTensor, after: After) -> FlexTensor {
    let after = after.own();
    let finish = after.finish();
    each_map(x, |channel, start, map| finish.apply(channel, start, map))
}

/// Gradient with respect to `x`, of [`forward`] with ReLU, `y` being the result.
pub fn backward_relu(y: FlexTensor, scale: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let (y, scale) = (own(y), own(scale));
    let (y, scale): (&[f32], &[f32]) = (y.storage(), scale.storage());
    each_map(grad, |channel, start, map| {
        for (v, y) in map.iter_mut().zip(&y[start..]) {
            *v = gate(*v * scale[channel], *y > 0.0);
        }
    })
}

/// The same without ReLU.
pub fn backward(scale: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let scale = own(scale);
    let scale: &[f32] = scale.storage();
    each_map(grad, |channel, _, map| {
        map.iter_mut().for_each(|v| *v *= scale[channel]);
    })
}

/// `work` on each map of `[n, channels, h, w]` with its channel and where it starts; in place where
/// nobody else holds the maps.
pub(super) fn each_map(
    x: FlexTensor,
    work: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> FlexTensor {
    let [images, channels, height, width] = x.shape().dims::<4>();
    let mut x = own(x);
    let area = height * width;
    let maps = &mut x.storage_mut::<f32>()[..images * channels * area];
    each_chunk(maps, area.max(1), |place, map| {
        work(place % channels, place * area, map);
    });
    x
}
