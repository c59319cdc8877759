//! GPU tensors, and the threads that kernels are launched with.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

/// Threads of a cube; of few threads there are smaller cubes, and so some for each core.
const LARGE: u32 = 64;
const SMALL: u32 = 8;
const FEW: usize = 512;

/// Values of a map that a thread takes where there are as many.
const RUN: usize = 4;

/// Memory for a result on the device of `like`; the kernel fills it.
pub fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_of(like, shape, like.dtype)
}

/// The same, of this type.
pub fn empty_of<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let count = shape.iter().product::<usize>();
    let memory = like.client.empty(count * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, Shape::from(shape), memory, dtype)
}

/// Values side by side as their shape has them.
pub fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// The same values in another shape; they lie side by side.
pub fn reshaped(tensor: CubeTensor, shape: [usize; 4]) -> CubeTensor {
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
pub fn argument(tensor: &CubeTensor) -> TensorArg {
    tensor.clone().binding().into_tensor_arg()
}

pub fn dims(tensor: &CubeTensor) -> [usize; 4] {
    tensor.shape().dims()
}

/// Cubes for `count` threads.
pub fn cubes(of: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new(&of.client, count);
    (calculate_cube_count_elemwise(&of.client, count, cube), cube)
}

pub fn count(of: &CubeTensor) -> usize {
    dims(of).iter().product()
}

/// Cubes for so many threads.
pub fn threads_of(like: &CubeTensor, threads: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new_1d(match threads < FEW {
        true => SMALL,
        false => LARGE,
    });
    (
        calculate_cube_count_elemwise(&like.client, threads, cube),
        cube,
    )
}

/// Values of a map that a thread takes, one after the other: whose channel they are takes two divisions
/// to find, which cost more than what is done to a value.
pub fn run_of(of: &CubeTensor) -> usize {
    let [_, _, height, width] = dims(of);
    match height * width % RUN {
        0 => RUN,
        _ => 1,
    }
}

/// The smallest power of two that holds this many, or the most.
pub fn fit(count: usize, most: usize) -> usize {
    count.next_power_of_two().min(most)
}
