//! Kernels of our own: convolution, batch norm with what follows it, and max pooling.
//!
//! They enter Burn as a backend extension, so autodiff and every device go on working. On the CPU
//! they replace Burn's: a convolution keeps its sums in registers and copies nothing for each tap
//! of its kernel, and batch norm reads each channel where it lies instead of transposing the
//! batch. Elsewhere they are Burn's own operations.

mod affine;
pub mod cells;
mod conv;
#[cfg(any(feature = "worker", feature = "gpu"))]
mod gpu;
mod norm;
mod packed;
mod pass;
mod pool;
mod stem;
mod sum;
mod weights;
mod winograd;

pub use conv::threads;
#[cfg(all(target_arch = "wasm32", feature = "worker-threads"))]
pub use pulp::wasm::enable_relaxed_simd as fuse_multiply_adds;

#[cfg(any(feature = "worker", feature = "gpu"))]
use burn::backend::Cube;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{IntDType, Shape, Slice, Tensor, TensorData};

use affine::After;

/// Cross-correlation with zero padding: `[n, in, h, w]` and `[out, in, k, k]` to
/// `[n, out, (h + 2 · padding − k) / stride + 1, …]`.
pub fn convolution(x: Tensor<4>, weight: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::convolution(x, weight, stride, padding))
}

/// Batch norm by the batch's own statistics, then ReLU where `relu`; returns the result and the
/// batch's mean and biased variance, each `[channels]`.
pub fn norm_by_batch(
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
    let (y, mean, variance) = Dispatch::norm_by_batch(x, gain, bias, epsilon, relu);
    (
        Tensor::from_dispatch(y),
        Tensor::from_dispatch(mean),
        Tensor::from_dispatch(variance),
    )
}

/// `x · scale + shift`, two numbers for each channel, then ReLU where `relu`: batch norm by its
/// running statistics. There is no gradient to the numbers.
pub fn affine(x: Tensor<4>, [scale, shift]: [Tensor<1>; 2], relu: bool) -> Tensor<4> {
    let [scale, shift] = [scale, shift].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::affine(x.into_dispatch(), scale, shift, relu))
}

/// What a norm's running statistics come to, a scale and a shift for each channel: `gain / √(variance +
/// epsilon)` and `bias − mean · scale`. There is no gradient to any of them.
pub fn running_numbers(
    [gain, bias, mean, variance]: [Tensor<1>; 4],
    epsilon: f64,
) -> [Tensor<1>; 2] {
    let [gain, bias, mean, variance] = [gain, bias, mean, variance].map(Tensor::into_dispatch);
    let (scale, shift) = Dispatch::running_numbers(gain, bias, mean, variance, epsilon);
    [scale, shift].map(Tensor::from_dispatch)
}

/// [`convolution`], then [`affine`], in one pass where a device has one.
pub fn convolution_affine(
    x: Tensor<4>,
    weight: Tensor<4>,
    [stride, padding]: [usize; 2],
    [scale, shift]: [Tensor<1>; 2],
    relu: bool,
) -> Tensor<4> {
    let [scale, shift] = [scale, shift].map(Tensor::into_dispatch);
    let [x, weight] = [x, weight].map(Tensor::into_dispatch);
    let y = Dispatch::convolution_affine(x, weight, scale, shift, stride, padding, relu);
    Tensor::from_dispatch(y)
}

/// [`convolution`], then [`affine_add`], in one pass where a device has one.
pub fn convolution_affine_add(
    x: Tensor<4>,
    weight: Tensor<4>,
    [stride, padding]: [usize; 2],
    skip: Tensor<4>,
    [scale, shift]: [Tensor<1>; 2],
) -> Tensor<4> {
    let [scale, shift] = [scale, shift].map(Tensor::into_dispatch);
    let [x, weight, skip] = [x, weight, skip].map(Tensor::into_dispatch);
    let y = Dispatch::convolution_affine_add(x, weight, skip, scale, shift, stride, padding);
    Tensor::from_dispatch(y)
}

/// The positive part of `x · scale + shift + skip`, all of one shape.
pub fn affine_add(x: Tensor<4>, skip: Tensor<4>, [scale, shift]: [Tensor<1>; 2]) -> Tensor<4> {
    let [scale, shift] = [scale, shift].map(Tensor::into_dispatch);
    let [x, skip] = [x, skip].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::affine_add(x, skip, scale, shift))
}

/// Simple and complex cells of filter responses: `gain` times the positive part of the first `simple`
/// channels of `q0`, and `gain` times √((q0² + q1²) / 2) of the others, of which `q1` is the second
/// quadrature.
pub fn simple_and_complex(q0: Tensor<4>, q1: Tensor<4>, simple: usize, gain: f64) -> Tensor<4> {
    let [q0, q1] = [q0, q1].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::simple_and_complex(q0, q1, simple, gain))
}

/// The positive part of responses with neuronal noise: as spike counts `x · scale + level` they get
/// noise whose variance is their mean. `noise` holds standard normal draws, `[n, …]` or `[1, …]`;
/// there is no gradient to it.
pub fn spiking(x: Tensor<4>, noise: Tensor<4>, scale: f64, level: f64) -> Tensor<4> {
    let [x, noise] = [x, noise].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::spiking(x, noise, scale, level))
}

/// Max pooling with `padding` positions around the map that are never the largest: `[n, c, h, w]`
/// to `[n, c, (h + 2 · padding − kernel) / stride + 1, …]`.
pub fn max_pool(x: Tensor<4>, kernel: usize, stride: usize, padding: usize) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::max_pool(
        x.into_dispatch(),
        kernel,
        stride,
        padding,
    ))
}

/// A tensor with its values one after the other, in its own memory where nobody else holds that: the
/// tensor it was does not.
fn own(tensor: FlexTensor) -> FlexTensor {
    let contiguous = tensor.to_contiguous();
    drop(tensor);
    contiguous
}

/// A tensor of the CPU's.
fn flex<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

/// What a backend is asked for. The default is Burn's own operations.
#[backend_extension(Flex, Cube: cfg(any(feature = "worker", feature = "gpu")), Autodiff)]
pub trait Kernels: Backend {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, options(stride, padding))
    }

    fn convolution_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, grad, options(stride, padding))
    }

    fn convolution_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, grad, options(stride, padding))
    }

    fn max_pool(
        x: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::max_pool2d(x, [kernel; 2], [stride; 2], [padding; 2], [1; 2], false)
    }

    /// Gradient with respect to `x`, `y` being the result: to the first of the largest values.
    fn max_pool_backward(
        x: FloatTensor<Self>,
        _y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [padding; 2]);
        let found = Self::max_pool2d_with_indices(
            x.clone(),
            kernel,
            stride,
            padding,
            [1; 2],
            false,
            IntDType::I32,
        );
        let back = Self::max_pool2d_with_indices_backward(
            x,
            kernel,
            stride,
            padding,
            [1; 2],
            false,
            grad,
            found.indices,
        );
        back.x_grad
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let scaled = Self::float_mul(x, by_channel::<Self>(scale));
        let y = Self::float_add(scaled, by_channel::<Self>(shift));
        match relu {
            true => Self::relu(y),
            false => y,
        }
    }

    /// Gradient with respect to `x`, `y` being the result.
    fn affine_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let grad = match relu {
            true => Self::relu_backward(y, grad),
            false => grad,
        };
        Self::float_mul(grad, by_channel::<Self>(scale))
    }

    fn affine_add(
        x: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let y = Self::affine(x, scale, shift, false);
        Self::relu(Self::float_add(y, skip))
    }

    /// Gradients with respect to `x` and `skip`, `y` being the result.
    fn affine_add_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let grad = Self::relu_backward(y.clone(), grad);
        let to_x = Self::affine_backward(y, scale, grad.clone(), false);
        (to_x, grad)
    }

    fn running_numbers(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let spread = Self::float_sqrt(Self::float_add_scalar(variance, epsilon.into()));
        let scale = Self::float_div(gain, spread);
        let shift = Self::float_sub(bias, Self::float_mul(mean, scale.clone()));
        (scale, shift)
    }

    #[allow(clippy::too_many_arguments, reason = "two operations' arguments")]
    fn convolution_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let y = Self::convolution(x, weight, stride, padding);
        Self::affine(y, scale, shift, relu)
    }

    #[allow(clippy::too_many_arguments, reason = "two operations' arguments")]
    fn convolution_affine_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let y = Self::convolution(x, weight, stride, padding);
        Self::affine_add(y, skip, scale, shift)
    }

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self> {
        let [simple, complex] = halves::<Self>(q0, simple);
        let complex = Self::float_mul_scalar(
            amplitude::<Self>(complex, q1),
            std::f64::consts::FRAC_1_SQRT_2.into(),
        );
        let cells = Self::float_cat(vec![Self::relu(simple), complex], 1);
        Self::float_mul_scalar(cells, gain.into())
    }

    /// Gradients with respect to `q0` and `q1`.
    fn simple_and_complex_backward(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let grad = Self::float_mul_scalar(grad, gain.into());
        let [grad_simple, grad_complex] = halves::<Self>(grad, simple);
        let [simple, complex] = halves::<Self>(q0, simple);
        let to_simple = Self::relu_backward(Self::relu(simple), grad_simple);
        let steep = Self::float_div(grad_complex, amplitude::<Self>(complex.clone(), q1.clone()));
        let steep = Self::float_mul_scalar(steep, std::f64::consts::FRAC_1_SQRT_2.into());
        let to_complex = Self::float_mul(steep.clone(), complex);
        let to_first = Self::float_cat(vec![to_simple, to_complex], 1);
        (to_first, Self::float_mul(steep, q1))
    }

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        let spikes = spikes::<Self>(x, scale, level);
        let noise = Self::float_mul(noise, spread::<Self>(spikes.clone()));
        let noisy = Self::float_sub_scalar(Self::float_add(spikes, noise), level.into());
        Self::relu(Self::float_div_scalar(noisy, scale.into()))
    }

    /// Gradient with respect to `x`, `y` being the result.
    fn spiking_backward(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        let spikes = spikes::<Self>(x, scale, level);
        let noise = Self::float_div(noise, spread::<Self>(spikes.clone()));
        let noise = Self::float_mul_scalar(noise, 0.5.into());
        let steep = Self::float_add_scalar(Self::relu_backward(spikes, noise), 1.0.into());
        Self::float_mul(Self::relu_backward(y, grad), steep)
    }

    fn norm_by_batch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let normed = Self::batch_norm_train(x, gain, bias, epsilon);
        let y = match relu {
            true => Self::relu(normed.output),
            false => normed.output,
        };
        (y, normed.mean, normed.variance)
    }

    /// Gradients with respect to `x`, gain and bias. `y` is the result, which tells where the
    /// ReLU was open.
    #[allow(clippy::too_many_arguments, reason = "the state of a pass, once")]
    fn norm_by_batch_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let grad = match relu {
            true => Self::relu_backward(y, grad),
            false => grad,
        };
        let back = Self::batch_norm_train_backward(x, gain, mean, variance, epsilon, grad);
        (back.x_grad, back.gamma_grad, back.beta_grad)
    }
}

/// `[channels]` to `[1, channels, 1, 1]`.
fn by_channel<B: Backend>(numbers: FloatTensor<B>) -> FloatTensor<B> {
    let [channels] = numbers.shape().dims();
    B::float_reshape(numbers, Shape::from([1, channels, 1, 1]))
}

/// The first `simple` channels, and the others.
fn halves<B: Backend>(x: FloatTensor<B>, simple: usize) -> [FloatTensor<B>; 2] {
    let [_, channels, ..] = x.shape().dims::<4>();
    [0..simple, simple..channels].map(|part| {
        let part = [Slice::full(), Slice::from(part)];
        B::float_slice(x.clone(), &part)
    })
}

fn amplitude<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let squared = [a, b].map(|q| B::float_mul(q.clone(), q));
    let [a, b] = squared;
    let energy = B::float_add_scalar(B::float_add(a, b), cells::COMPLEX_EPSILON.into());
    B::float_sqrt(energy)
}

fn spikes<B: Backend>(x: FloatTensor<B>, scale: f64, level: f64) -> FloatTensor<B> {
    B::float_add_scalar(B::float_mul_scalar(x, scale.into()), level.into())
}

fn spread<B: Backend>(spikes: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sqrt(B::float_add_scalar(
        B::relu(spikes),
        cells::NOISE_EPSILON.into(),
    ))
}

/// Whether a GPU's convolutions read weights in 16 bits a number from now on (f16: a relative error of 2⁻¹¹
/// at most from 6.1e-5 to 65,504, an absolute one of 6e-8 below, infinite above), on every GPU of this
/// process. Maps, gradients, sums and linear layers keep 32 bits.
pub fn halve_weights(half: bool) {
    #[cfg(any(feature = "worker", feature = "gpu"))]
    gpu::halve_weights(half);
    #[cfg(not(any(feature = "worker", feature = "gpu")))]
    let _ = half;
}

/// Drops what was made of weights that nobody holds any more.
pub fn forget_unused() {
    // Before what is packed of the banks' parts, which the banks hold.
    stem::forget_unused();
    packed::forget_unused();
    #[cfg(any(feature = "worker", feature = "gpu"))]
    gpu::forget_unused();
}

fn options(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

#[cfg(any(feature = "worker", feature = "gpu"))]
impl Kernels for Cube {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        gpu::forward(x, weight, stride, padding, gpu::Finish::default())
    }

    fn convolution_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let [_, _, height, width] = x.shape().dims();
        gpu::backward_x([height, width], weight, grad, stride, padding)
    }

    fn convolution_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let [_, _, side, _] = weight.shape().dims();
        gpu::backward_weight(x, side, grad, stride, padding)
    }

    fn max_pool(
        x: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        gpu::max_pool(x, window(kernel, stride, padding))
    }

    fn max_pool_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        gpu::max_pool_backward(x, y, grad, window(kernel, stride, padding))
    }

    fn affine_add_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gpu::affine_add_backward(y, scale, grad)
    }

    fn running_numbers(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gpu::running_numbers([gain, bias, mean, variance], epsilon as f32)
    }

    fn convolution_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let finish = gpu::Finish {
            numbers: Some([scale, shift]),
            skip: None,
            relu,
        };
        gpu::forward(x, weight, stride, padding, finish)
    }

    fn convolution_affine_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let finish = gpu::Finish {
            numbers: Some([scale, shift]),
            skip: Some(skip),
            relu: true,
        };
        gpu::forward(x, weight, stride, padding, finish)
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        gpu::affine(x, None, [scale, shift], relu)
    }

    fn affine_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        gpu::affine_backward(y, scale, grad, relu)
    }

    fn affine_add(
        x: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        gpu::affine(x, Some(skip), [scale, shift], true)
    }

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self> {
        gpu::cells(q0, q1, simple, gain as f32)
    }

    fn simple_and_complex_backward(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gpu::cells_backward(q0, q1, grad, simple, gain as f32)
    }

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        gpu::spiking(x, noise, scale as f32, level as f32)
    }

    fn spiking_backward(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        gpu::spiking_backward([x, noise, y, grad], scale as f32, level as f32)
    }
}

impl Kernels for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        conv::forward(x, weight, stride, padding, None)
    }

    fn convolution_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        conv::forward(
            x,
            weight,
            stride,
            padding,
            Some(After::scaled([scale, shift], relu)),
        )
    }

    fn convolution_affine_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        conv::forward(
            x,
            weight,
            stride,
            padding,
            Some(After::added([scale, shift], skip)),
        )
    }

    fn convolution_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let [_, _, height, width] = x.shape().dims();
        conv::backward_x([height, width], weight, grad, stride, padding)
    }

    fn convolution_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let [_, _, kernel, _] = weight.shape().dims();
        conv::backward_weight(x, kernel, grad, stride, padding)
    }

    fn max_pool(
        x: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        pool::forward(x, window(kernel, stride, padding))
    }

    fn max_pool_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        pool::backward(x, y, grad, window(kernel, stride, padding))
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        affine::forward(x, After::scaled([scale, shift], relu))
    }

    fn affine_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        match relu {
            true => affine::backward_relu(y, scale, grad),
            false => affine::backward(scale, grad),
        }
    }

    fn affine_add(
        x: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        affine::forward(x, After::added([scale, shift], skip))
    }

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self> {
        cells::forward(q0, q1, simple, gain as f32)
    }

    fn simple_and_complex_backward(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cells::backward(q0, q1, grad, simple, gain as f32)
    }

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        cells::spiking(x, noise, scale as f32, level as f32)
    }

    fn spiking_backward(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        cells::spiking_backward(x, noise, y, grad, scale as f32, level as f32)
    }

    fn norm_by_batch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        norm::forward(x, gain, bias, epsilon as f32, relu)
    }

    fn norm_by_batch_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let statistics = [mean, variance];
        norm::backward(x, y, gain, statistics, grad, epsilon as f32, relu)
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl<B: Kernels> Backward<B, 2> for ConvolutionBackward {
    type State = (NodeId, NodeId, usize, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, stride, padding) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        register_convolved::<B>(nodes, [x, weight, grad], [stride, padding], grads);
    }
}

/// Registers the gradients of a convolution's input and weights, where these are asked for.
fn register_convolved<B: Kernels>(
    nodes: [Option<NodeId>; 2],
    [x, weight, grad]: [FloatTensor<B>; 3],
    [stride, padding]: [usize; 2],
    grads: &mut Gradients,
) {
    let [node_x, node_weight] = nodes;
    if let Some(node) = node_x {
        let (x, weight, grad) = (x.clone(), weight.clone(), grad.clone());
        let grad = B::convolution_x_backward(x, weight, grad, stride, padding);
        grads.register::<B>(node, grad);
    }
    if let Some(node) = node_weight {
        let grad = B::convolution_weight_backward(x, weight, grad, stride, padding);
        grads.register::<B>(node, grad);
    }
}

fn window(kernel: usize, stride: usize, padding: usize) -> pool::Window {
    pool::Window {
        kernel,
        stride,
        padding,
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: Kernels> Backward<B, 1> for PoolBackward {
    type State = (NodeId, FloatTensor<B>, [usize; 3]);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, y, [kernel, stride, padding]) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        if let Some(node) = node {
            let grad = B::max_pool_backward(x, y, grad, kernel, stride, padding);
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct AffineBackward;

impl<B: Kernels> Backward<B, 1> for AffineBackward {
    /// The result, where its sign is needed, and the scale.
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (y, scale, relu) = ops.state;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::affine_backward(y, scale, grad, relu));
        }
    }
}

#[derive(Debug)]
struct AffineAddBackward;

impl<B: Kernels> Backward<B, 2> for AffineAddBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, skip] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (y, scale) = ops.state;
        let (to_x, to_skip) = B::affine_add_backward(y, scale, grad);
        for (node, grad) in [(x, to_x), (skip, to_skip)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// A convolution whose result was made into another before it was kept.
#[derive(Clone, Debug)]
struct Convolved<B: Kernels> {
    x: NodeId,
    weight: NodeId,
    /// What became of the result, and by which scale.
    y: FloatTensor<B>,
    scale: FloatTensor<B>,
    stride: usize,
    padding: usize,
    relu: bool,
}

impl<B: Kernels> Convolved<B> {
    /// Registers the gradients of input and weights, `grad` being that of the convolution itself.
    fn register(
        self,
        nodes: [Option<NodeId>; 2],
        grad: FloatTensor<B>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.weight);
        let sizes = [self.stride, self.padding];
        register_convolved::<B>(nodes, [x, weight, grad], sizes, grads);
    }
}

#[derive(Debug)]
struct ConvolutionAffineBackward;

impl<B: Kernels> Backward<B, 2> for ConvolutionAffineBackward {
    type State = Convolved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let kept = ops.state;
        let grad = B::affine_backward(kept.y.clone(), kept.scale.clone(), grad, kept.relu);
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        kept.register(nodes, grad, grads, checkpointer);
    }
}

#[derive(Debug)]
struct ConvolutionAffineAddBackward;

impl<B: Kernels> Backward<B, 3> for ConvolutionAffineAddBackward {
    type State = Convolved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x, weight, skip] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        let kept = ops.state;
        let (grad, to_skip) = B::affine_add_backward(kept.y.clone(), kept.scale.clone(), grad);
        if let Some(node) = skip {
            grads.register::<B>(node, to_skip);
        }
        kept.register([x, weight], grad, grads, checkpointer);
    }
}

#[derive(Debug)]
struct CellsBackward;

impl<B: Kernels> Backward<B, 2> for CellsBackward {
    type State = ([FloatTensor<B>; 2], usize, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let nodes = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let ([q0, q1], simple, gain) = ops.state;
        let (q0, q1) = B::simple_and_complex_backward(q0, q1, grad, simple, gain);
        for (node, grad) in nodes.into_iter().zip([q0, q1]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct SpikingBackward;

impl<B: Kernels> Backward<B, 1> for SpikingBackward {
    /// Responses, noise and result.
    type State = ([FloatTensor<B>; 3], f64, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let ([x, noise, y], scale, level) = ops.state;
        if let Some(node) = node {
            let grad = B::spiking_backward(x, noise, y, grad, scale, level);
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl<B: Kernels> Backward<B, 3> for NormBackward {
    type State = (NodeId, NodeId, [FloatTensor<B>; 3], f64, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gain, [y, mean, variance], epsilon, relu) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gain = checkpointer.retrieve_node_output::<FloatTensor<B>>(gain);
        let (x, gain, bias) =
            B::norm_by_batch_backward(x, y, gain, mean, variance, grad, epsilon, relu);
        for (node, grad) in ops.parents.into_iter().zip([x, gain, bias]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        match ConvolutionBackward
            .prepare::<C>([x.node(), weight.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = (
                    prep.checkpoint(&x),
                    prep.checkpoint(&weight),
                    stride,
                    padding,
                );
                let y =
                    B::convolution(x.into_primitive(), weight.into_primitive(), stride, padding);
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolution(
                x.into_primitive(),
                weight.into_primitive(),
                stride,
                padding,
            )),
        }
    }

    fn max_pool(
        x: FloatTensor<Self>,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        match PoolBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let at = prep.checkpoint(&x);
                let y = B::max_pool(x.into_primitive(), kernel, stride, padding);
                prep.finish((at, y.clone(), [kernel, stride, padding]), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::max_pool(x.into_primitive(), kernel, stride, padding))
            }
        }
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let [scale, shift] = [scale, shift].map(|numbers| numbers.into_primitive());
        match AffineBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let y = B::affine(x.into_primitive(), scale.clone(), shift, relu);
                prep.finish((y.clone(), scale, relu), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::affine(x.into_primitive(), scale, shift, relu))
            }
        }
    }

    fn affine_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: bool,
    ) -> FloatTensor<Self> {
        first_order_only()
    }

    fn affine_add(
        x: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [scale, shift] = [scale, shift].map(|numbers| numbers.into_primitive());
        match AffineAddBackward
            .prepare::<C>([x.node(), skip.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let (x, skip) = (x.into_primitive(), skip.into_primitive());
                let y = B::affine_add(x, skip, scale.clone(), shift);
                prep.finish((y.clone(), scale), y)
            }
            OpsKind::UnTracked(prep) => {
                let (x, skip) = (x.into_primitive(), skip.into_primitive());
                prep.finish(B::affine_add(x, skip, scale, shift))
            }
        }
    }

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self> {
        let prepared = CellsBackward
            .prepare::<C>([q0.node(), q1.node()])
            .compute_bound()
            .stateful();
        let (q0, q1) = (q0.into_primitive(), q1.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let kept = [q0.clone(), q1.clone()];
                let y = B::simple_and_complex(q0, q1, simple, gain);
                prep.finish((kept, simple, gain), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::simple_and_complex(q0, q1, simple, gain)),
        }
    }

    fn affine_add_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        first_order_only()
    }

    fn running_numbers(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [gain, bias, mean, variance] =
            [gain, bias, mean, variance].map(|numbers| numbers.into_primitive());
        let (scale, shift) = B::running_numbers(gain, bias, mean, variance, epsilon);
        (
            Self::FloatTensorPrimitive::new(scale),
            Self::FloatTensorPrimitive::new(shift),
        )
    }

    fn convolution_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let [scale, shift] = [scale, shift].map(|numbers| numbers.into_primitive());
        let run = |x, weight, scale| {
            B::convolution_affine(x, weight, scale, shift, stride, padding, relu)
        };
        match ConvolutionAffineBackward
            .prepare::<C>([x.node(), weight.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let [at, weight_at] = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = run(x.into_primitive(), weight.into_primitive(), scale.clone());
                let kept = Convolved {
                    x: at,
                    weight: weight_at,
                    y: y.clone(),
                    scale,
                    stride,
                    padding,
                    relu,
                };
                prep.finish(kept, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(run(x.into_primitive(), weight.into_primitive(), scale))
            }
        }
    }

    fn convolution_affine_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let [scale, shift] = [scale, shift].map(|numbers| numbers.into_primitive());
        let prepared = ConvolutionAffineAddBackward
            .prepare::<C>([x.node(), weight.node(), skip.node()])
            .compute_bound()
            .stateful();
        let skip = skip.into_primitive();
        let run = |x, weight, scale| {
            B::convolution_affine_add(x, weight, skip, scale, shift, stride, padding)
        };
        match prepared {
            OpsKind::Tracked(mut prep) => {
                let [at, weight_at] = [prep.checkpoint(&x), prep.checkpoint(&weight)];
                let y = run(x.into_primitive(), weight.into_primitive(), scale.clone());
                let kept = Convolved {
                    x: at,
                    weight: weight_at,
                    y: y.clone(),
                    scale,
                    stride,
                    padding,
                    relu: true,
                };
                prep.finish(kept, y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(run(x.into_primitive(), weight.into_primitive(), scale))
            }
        }
    }

    fn simple_and_complex_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
        _: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        first_order_only()
    }

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        let noise = noise.into_primitive();
        match SpikingBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let x = x.into_primitive();
                let y = B::spiking(x.clone(), noise.clone(), scale, level);
                prep.finish(([x, noise, y.clone()], scale, level), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::spiking(x.into_primitive(), noise, scale, level))
            }
        }
    }

    fn spiking_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: f64,
    ) -> FloatTensor<Self> {
        first_order_only()
    }

    fn max_pool_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
        _: usize,
        _: usize,
    ) -> FloatTensor<Self> {
        first_order_only()
    }

    fn norm_by_batch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (y, mean, variance) = match NormBackward
            .prepare::<C>([x.node(), gain.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let (x_state, gain_state) = (prep.checkpoint(&x), prep.checkpoint(&gain));
                let (y, mean, variance) = B::norm_by_batch(
                    x.into_primitive(),
                    gain.into_primitive(),
                    bias.into_primitive(),
                    epsilon,
                    relu,
                );
                let kept = [y.clone(), mean.clone(), variance.clone()];
                let state = (x_state, gain_state, kept, epsilon, relu);
                (prep.finish(state, y), mean, variance)
            }
            OpsKind::UnTracked(prep) => {
                let (y, mean, variance) = B::norm_by_batch(
                    x.into_primitive(),
                    gain.into_primitive(),
                    bias.into_primitive(),
                    epsilon,
                    relu,
                );
                (prep.finish(y), mean, variance)
            }
        };
        (
            y,
            Self::FloatTensorPrimitive::new(mean),
            Self::FloatTensorPrimitive::new(variance),
        )
    }

    fn convolution_x_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
        _: usize,
    ) -> FloatTensor<Self> {
        first_order_only()
    }

    fn convolution_weight_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
        _: usize,
    ) -> FloatTensor<Self> {
        first_order_only()
    }

    fn norm_by_batch_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        first_order_only()
    }
}

/// Burn's autodiff is of first order: nothing asks for the gradient of a gradient.
fn first_order_only() -> ! {
    unreachable!("the backward pass of a kernel runs below autodiff")
}
