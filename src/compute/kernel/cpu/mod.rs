//! The kernels of the CPU, with SIMD on the threads of the pool they run in.

mod batch_norm;
mod convolution;
mod direct;
mod epilogue;
mod first_layer;
mod geometry;
mod microkernel;
mod pointwise;
mod pool;
mod tensor;
pub mod threads;
mod vone;
mod weight_cache;
mod weight_grad;
mod winograd;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::epilogue::Epilogue;
use super::ops::{KernelGradients, Kernels, Window};

/// Drops the packed forms of weights that nobody else holds any more.
pub fn forget_unused() {
    // First the groups of first layers: they hold weights that are packed themselves.
    first_layer::forget_unused();
    weight_cache::forget_unused();
}

impl Kernels for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self> {
        convolution::forward(x, weight, stride, padding, epilogue)
    }

    fn apply_epilogue(x: FloatTensor<Self>, epilogue: Epilogue<Self>) -> FloatTensor<Self> {
        epilogue::forward(x, epilogue)
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        pool::forward(x, window)
    }

    fn batch_norm_training(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        batch_norm::forward(x, gain, bias, epsilon as f32, relu)
    }

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self> {
        vone::cells(q0, q1, simple, gain as f32)
    }

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        vone::spiking(x, noise, scale as f32, level as f32)
    }
}

impl KernelGradients for Flex {
    fn convolution_x_backward(
        size: [usize; 2],
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        convolution::backward_x(size, weight, grad, stride, padding)
    }

    fn convolution_weight_backward(
        x: FloatTensor<Self>,
        kernel: usize,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        convolution::backward_weight(x, kernel, grad, stride, padding)
    }

    fn scale_shift_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        epilogue::backward(y, scale, grad, relu)
    }

    fn max_pool_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        pool::backward(x, y, grad, window)
    }

    fn batch_norm_training_backward(
        maps: [FloatTensor<Self>; 2],
        gain: FloatTensor<Self>,
        statistics: [FloatTensor<Self>; 2],
        grad: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> [FloatTensor<Self>; 3] {
        batch_norm::backward(maps, gain, statistics, grad, epsilon as f32, relu)
    }

    fn simple_and_complex_backward(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> [FloatTensor<Self>; 2] {
        vone::cells_backward(q0, q1, grad, simple, gain as f32)
    }

    fn spiking_backward(
        tensors: [FloatTensor<Self>; 3],
        grad: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        vone::spiking_backward(tensors, grad, scale as f32, level as f32)
    }
}
