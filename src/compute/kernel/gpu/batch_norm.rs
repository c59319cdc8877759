//! Batch norm by its running statistics on a GPU: folded to a scale and a shift.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{argument, contiguous, cubes, empty};

#[cube(launch_unchecked)]
fn fold_kernel(
    gain: &Tensor<f32>,
    bias: &Tensor<f32>,
    mean: &Tensor<f32>,
    variance: &Tensor<f32>,
    scale: &mut Tensor<f32>,
    shift: &mut Tensor<f32>,
    count: usize,
    epsilon: f32,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let value = gain[ABSOLUTE_POS] / (variance[ABSOLUTE_POS] + epsilon).sqrt();
    scale[ABSOLUTE_POS] = value;
    shift[ABSOLUTE_POS] = bias[ABSOLUTE_POS] - mean[ABSOLUTE_POS] * value;
}

/// Scale and shift, `[channels]` each, of a norm's gain, bias, running mean and running variance.
pub fn fold(statistics: [CubeTensor; 4], epsilon: f32) -> (CubeTensor, CubeTensor) {
    let [gain, bias, mean, variance] = statistics.map(contiguous);
    let [count] = gain.shape().dims();
    let [scale, shift] = [(); 2].map(|()| empty(&gain, [count]));
    if count == 0 {
        return (scale, shift);
    }
    let (cubes, cube) = cubes(&gain, count);
    // SAFETY: no thread past the last value goes on.
    unsafe {
        fold_kernel::launch_unchecked(
            &gain.client,
            cubes,
            cube,
            argument(&gain),
            argument(&bias),
            argument(&mean),
            argument(&variance),
            argument(&scale),
            argument(&shift),
            count,
            epsilon,
        );
    }
    (scale, shift)
}
