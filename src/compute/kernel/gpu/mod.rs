//! The kernels of a GPU, through CubeCL. Burn's own take a pass for each operation, and its convolution
//! reads every factor anew for each product unless it searches for a better kernel first.
#![allow(
    clippy::too_many_arguments,
    reason = "a kernel takes plain arguments only"
)]

mod batch_norm;
mod convolution;
mod direct;
mod epilogue;
mod pool;
mod tensor;
mod vone;
mod weight_cache;
mod weight_grad;
mod winograd;

pub use weight_cache::{forget_unused, use_f16_weights};

use burn::backend::Cube;
use burn::backend::tensor::FloatTensor;

use super::epilogue::Epilogue;
use super::ops::{KernelGradients, Kernels, Window};

impl Kernels for Cube {
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
        epilogue::apply(x, epilogue)
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        pool::max_pool(x, window)
    }

    fn fold_batch_norm(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        batch_norm::fold([gain, bias, mean, variance], epsilon as f32)
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

impl KernelGradients for Cube {
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
        weight_grad::weight_gradient(x, kernel, grad, stride, padding)
    }

    fn scale_shift_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        epilogue::scale_shift_backward(y, scale, grad, relu)
    }

    fn residual_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        epilogue::residual_backward(y, scale, grad)
    }

    fn max_pool_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        pool::max_pool_backward(x, y, grad, window)
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
