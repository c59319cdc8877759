//! Kernels of our own: convolution with an epilogue, batch norm, max pooling and the cells of a VOneBlock.
//!
//! They enter Burn as a backend extension ([`ops`]), so autodiff and every device work as with Burn's
//! own operations. The CPU has kernels of its own for all of them ([`cpu`]), a GPU for most (`gpu`).

mod autodiff;
mod cpu;
mod epilogue;
#[cfg(any(feature = "worker", feature = "gpu"))]
mod gpu;
mod ops;
mod tiles;
mod weight_cache;

pub use cpu::threads::threads;
pub use epilogue::Epilogue;
pub use ops::COMPLEX_EPSILON;
#[cfg(all(target_arch = "wasm32", feature = "worker-threads"))]
pub use pulp::wasm::enable_relaxed_simd as fuse_multiply_adds;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use ops::{Kernels, Window};

/// Cross-correlation with zero padding: `[n, in, h, w]` and `[out, in, k, k]` to
/// `[n, out, (h + 2 · padding − k) / stride + 1, …]`.
pub fn convolution(x: Tensor<4>, weight: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    convolution_epilogue(x, weight, [stride, padding], Epilogue::Identity)
}

/// [`convolution`], then [`apply_epilogue`], in one pass where a device has one.
pub fn convolution_epilogue(
    x: Tensor<4>,
    weight: Tensor<4>,
    [stride, padding]: [usize; 2],
    epilogue: Epilogue,
) -> Tensor<4> {
    let [x, weight] = [x, weight].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::convolution(x, weight, stride, padding, epilogue))
}

/// An epilogue by itself, `[n, channels, h, w]` to the same.
pub fn apply_epilogue(x: Tensor<4>, epilogue: Epilogue) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::apply_epilogue(x.into_dispatch(), epilogue))
}

/// Scale and shift of batch norm by its running statistics, `[channels]` each: `gain / √(variance + epsilon)`
/// and `bias − mean · scale`. There is no gradient to any of the four.
pub fn fold_batch_norm(
    [gain, bias, mean, variance]: [Tensor<1>; 4],
    epsilon: f64,
) -> [Tensor<1>; 2] {
    let [gain, bias, mean, variance] = [gain, bias, mean, variance].map(Tensor::into_dispatch);
    let (scale, shift) = Dispatch::fold_batch_norm(gain, bias, mean, variance, epsilon);
    [scale, shift].map(Tensor::from_dispatch)
}

/// Batch norm by the batch's own statistics (Ioffe and Szegedy 2015), then ReLU where `relu`; returns the
/// result and the batch's mean and biased variance, `[channels]` each.
pub fn batch_norm_training(
    x: Tensor<4>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    relu: bool,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let (x, gain, bias) = (
        x.into_dispatch(),
        gain.into_dispatch(),
        bias.into_dispatch(),
    );
    let (y, mean, variance) = Dispatch::batch_norm_training(x, gain, bias, epsilon, relu);
    (
        Tensor::from_dispatch(y),
        Tensor::from_dispatch(mean),
        Tensor::from_dispatch(variance),
    )
}

/// Simple and complex cells of filter responses: `gain` times the positive part of the first `simple`
/// channels of `q0`, and `gain` times √((q0² + q1²) / 2) of the others, of which `q1` is the second
/// quadrature.
pub fn simple_and_complex(q0: Tensor<4>, q1: Tensor<4>, simple: usize, gain: f64) -> Tensor<4> {
    let [q0, q1] = [q0, q1].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::simple_and_complex(q0, q1, simple, gain))
}

/// The positive part of responses with neuronal noise: the spike counts `x · scale + level` get noise whose
/// variance is their mean. `noise` holds standard normal draws, `[n, …]` or `[1, …]`; there is no gradient
/// to it.
pub fn spiking(x: Tensor<4>, noise: Tensor<4>, scale: f64, level: f64) -> Tensor<4> {
    let [x, noise] = [x, noise].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::spiking(x, noise, scale, level))
}

/// Max pooling with `padding` positions around the map that are never the largest: `[n, c, h, w]`
/// to `[n, c, (h + 2 · padding − kernel) / stride + 1, …]`.
pub fn max_pool(x: Tensor<4>, kernel: usize, stride: usize, padding: usize) -> Tensor<4> {
    let window = Window {
        kernel,
        stride,
        padding,
    };
    Tensor::from_dispatch(Dispatch::max_pool(x.into_dispatch(), window))
}

/// Whether a GPU's convolutions read weights in f16 from now on (a relative error of 2⁻¹¹ at most from
/// 6.1e-5 to 65,504, an absolute one of 6e-8 below, infinite above), on every GPU of this process.
/// Activations, gradients, sums and linear layers stay in f32.
pub fn use_f16_weights(f16: bool) {
    #[cfg(any(feature = "worker", feature = "gpu"))]
    gpu::use_f16_weights(f16);
    #[cfg(not(any(feature = "worker", feature = "gpu")))]
    let _ = f16;
}

/// Drops cached forms of weights that nobody holds any more.
pub fn forget_unused() {
    cpu::forget_unused();
    #[cfg(any(feature = "worker", feature = "gpu"))]
    gpu::forget_unused();
}
