//! The kernels of a GPU, through CubeCL: Burn's own take a pass for each operation, and its
//! convolution without a search for a better one reads every factor anew for each product.
#![allow(
    clippy::too_many_arguments,
    reason = "a kernel is told all it needs, one by one"
)]

mod convolution;
mod pointwise;
mod pool;
mod storage;
mod weights;
mod winograd;

pub use convolution::{Finish, backward_x, forward};
pub use pointwise::{
    affine, affine_add_backward, affine_backward, cells, cells_backward, running_numbers, spiking,
    spiking_backward,
};
pub use pool::{max_pool, max_pool_backward};
pub use storage::{forget_unused, halve_weights};
pub use weights::backward_weight;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::TensorArg;

/// Memory for a result on the device of `like`; the kernel fills it.
fn made<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    made_of(like, shape, like.dtype)
}

/// The same, of numbers of this type.
fn made_of<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let numbers = shape.iter().product::<usize>();
    let memory = like.client.empty(numbers * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, Shape::from(shape), memory, dtype)
}

/// Values side by side as their shape has them.
fn own(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// The same values in another shape; they lie side by side.
fn reshaped(tensor: CubeTensor, shape: [usize; 4]) -> CubeTensor {
    let CubeTensor {
        client,
        device,
        handle,
        dtype,
        ..
    } = tensor;
    CubeTensor::new_contiguous(client, device, shape.into(), handle, dtype)
}

/// What a kernel reads or writes.
fn argument(tensor: &CubeTensor) -> TensorArg {
    tensor.clone().binding().into_tensor_arg()
}

fn dims(tensor: &CubeTensor) -> [usize; 4] {
    tensor.shape().dims()
}
