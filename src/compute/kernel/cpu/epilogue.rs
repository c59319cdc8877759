//! The epilogue on the CPU: as the last step of a convolution, on maps by itself, and backward.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};

use super::super::epilogue::Epilogue;
use super::tensor::contiguous;
use super::threads::{Shared, each_chunk};

/// An epilogue whose tensors are contiguous, as slices.
pub struct CpuEpilogue<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    skip: Option<&'a [f32]>,
    relu: bool,
}

impl<'a> CpuEpilogue<'a> {
    /// Of an epilogue with contiguous tensors; `None` where nothing is to be done.
    pub fn of(epilogue: &'a Epilogue<Flex>) -> Option<Self> {
        let (scale, shift, skip) = match epilogue {
            Epilogue::Identity => return None,
            Epilogue::ScaleShift { scale, shift, .. } => (scale, shift, None),
            Epilogue::Residual { scale, shift, skip } => (scale, shift, Some(skip)),
        };
        Some(Self {
            scale: scale.storage(),
            shift: shift.storage(),
            skip: skip.map(FlexTensor::storage),
            relu: epilogue.has_relu(),
        })
    }

    /// Values of a channel, the first of them this far in the skip connection.
    #[inline(always)]
    pub fn apply(&self, channel: usize, start: usize, values: &mut [f32]) {
        let (scale, shift) = (self.scale[channel], self.shift[channel]);
        let skip = self.skip.map(|skip| &skip[start..][..values.len()]);
        match (skip, self.relu) {
            (Some(skip), _) => values
                .iter_mut()
                .zip(skip)
                .for_each(|(v, skip)| *v = rectify(*v * scale + shift + skip)),
            (None, true) => values
                .iter_mut()
                .for_each(|v| *v = rectify(*v * scale + shift)),
            (None, false) => values.iter_mut().for_each(|v| *v = *v * scale + shift),
        }
    }
}

/// The maps a convolution writes, each place of them once. The epilogue is applied while the values are in the
/// cache.
pub struct Output<'a> {
    values: Shared,
    channels: usize,
    /// Positions of a map.
    area: usize,
    epilogue: Option<&'a CpuEpilogue<'a>>,
}

impl<'a> Output<'a> {
    pub fn new(
        images: usize,
        [channels, area]: [usize; 2],
        epilogue: Option<&'a CpuEpilogue>,
    ) -> Self {
        Self {
            values: Shared::unwritten(images * channels * area),
            channels,
            area,
            epilogue,
        }
    }

    /// Floats of an image.
    fn size(&self) -> usize {
        self.channels * self.area
    }

    /// An image's maps.
    ///
    /// # Safety
    /// As of [`Shared::get`].
    #[allow(clippy::mut_from_ref, reason = "that is what the caller promises")]
    pub unsafe fn image(&self, image: usize) -> &mut [f32] {
        // SAFETY: the caller promises it.
        let all = unsafe { self.values.get() };
        &mut all[image * self.size()..][..self.size()]
    }

    /// Applies the epilogue to some positions of some channels of an image; `maps` are the image's.
    #[inline(always)]
    pub fn apply_epilogue(
        &self,
        image: usize,
        maps: &mut [f32],
        channels: Range<usize>,
        positions: Range<usize>,
    ) {
        let Some(epilogue) = self.epilogue else {
            return;
        };
        for channel in channels {
            let start = channel * self.area + positions.start;
            let values = &mut maps[start..][..positions.len()];
            epilogue.apply(channel, image * self.size() + start, values);
        }
    }

    pub fn into_inner(self) -> Vec<f32> {
        self.values.into_inner()
    }
}

/// The epilogue of `x`, `[n, channels, h, w]`.
pub fn forward(x: FlexTensor, epilogue: Epilogue<Flex>) -> FlexTensor {
    let epilogue = epilogue.map(contiguous);
    match CpuEpilogue::of(&epilogue) {
        Some(cpu) => each_map(x, |channel, start, map| cpu.apply(channel, start, map)),
        None => x,
    }
}

/// Gradient with respect to the input of a scale and shift, `y` being the result.
pub fn backward(y: FlexTensor, scale: FlexTensor, grad: FlexTensor, relu: bool) -> FlexTensor {
    let scale = contiguous(scale);
    let scale: &[f32] = scale.storage();
    if !relu {
        return each_map(grad, |channel, _, map| {
            map.iter_mut().for_each(|v| *v *= scale[channel]);
        });
    }
    let y = contiguous(y);
    let y: &[f32] = y.storage();
    each_map(grad, |channel, start, map| {
        for (v, y) in map.iter_mut().zip(&y[start..]) {
            *v = gate(*v * scale[channel], *y > 0.0);
        }
    })
}

/// `work` on each map of `[n, channels, h, w]` with its channel and where it starts; in place where
/// nobody else holds the maps.
pub fn each_map(x: FlexTensor, work: impl Fn(usize, usize, &mut [f32]) + Sync) -> FlexTensor {
    let [images, channels, height, width] = x.shape().dims::<4>();
    let mut x = contiguous(x);
    let area = height * width;
    let maps = &mut x.storage_mut::<f32>()[..images * channels * area];
    each_chunk(maps, area.max(1), |place, map| {
        work(place % channels, place * area, map);
    });
    x
}

/// ReLU; NaN stays NaN. Compilers have a vector instruction for this, and none for `f32::max`.
#[inline]
pub fn rectify(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}

/// `g` where `open`, 0 elsewhere; by bits, because the compiler makes a branch of a choice.
#[inline]
pub fn gate(g: f32, open: bool) -> f32 {
    f32::from_bits(g.to_bits() & u32::from(open).wrapping_neg())
}
