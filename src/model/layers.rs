//! The layers the networks are made of.
//!
//! Convolution and linear layers keep their weights as the published checkpoints do (`[out, in,
//! k, k]` and `[out, in]`), so that loading is copying and a kernel of our own has one place to
//! go. Norms are Burn's.

use burn::module::{Initializer, Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::compute::kernel::{self, Epilogue};

/// A 2-d convolution with square kernel, stride and padding.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, k, k]`.
    pub weight: Param<Tensor<4>>,
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub stride: usize,
    #[module(skip)]
    pub padding: usize,
}

impl Conv {
    /// Zero weights: real ones come from a checkpoint or from [`super::init`].
    pub fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        let [channels_in, channels_out] = channels;
        let shape = [channels_out, channels_in, kernel, kernel];
        Self {
            // Lazy: nothing is allocated for a weight that a checkpoint is about to replace.
            weight: Initializer::Zeros.init(shape, device),
            bias: None,
            stride,
            padding: kernel / 2,
        }
    }

    pub fn with_bias(mut self, device: &Device) -> Self {
        let [out, ..] = self.weight.lazy_shape().dims::<4>();
        self.bias = Some(Initializer::Zeros.init([out], device));
        self
    }

    pub fn with_padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// `[n, in, h, w]` to `[n, out, h / stride, w / stride]` (for the usual padding).
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_strided(x, self.stride)
    }

    /// The same weights at another stride, as CORnet-S uses them from its second time step on.
    pub fn forward_strided(&self, x: Tensor<4>, stride: usize) -> Tensor<4> {
        convolve(
            x,
            self.weight.val(),
            self.bias.as_ref().map(Param::val),
            stride,
            self.padding,
        )
    }
}

/// Cross-correlation with zero padding, as every framework calls convolution.
pub fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: usize,
) -> Tensor<4> {
    let y = kernel::convolution(x, weight, stride, padding);
    match bias {
        Some(bias) => {
            let channels = bias.dims()[0];
            y + bias.reshape([1, channels, 1, 1])
        }
        None => y,
    }
}

/// `x · Wᵀ + b` with `W` as `[out, in]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    pub fn new(features_in: usize, features_out: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([features_out, features_in], device),
            bias: Initializer::Zeros.init([features_out], device),
        }
    }

    /// `[n, in]` to `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }
}

/// Batch norm with PyTorch's defaults (ε 1e-5, momentum 0.1).
pub fn batch_norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

/// Batch norm. In training it uses the batch's statistics and updates the running ones.
pub fn normalise(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    match is_training(norm, &x) {
        true => by_batch(norm, x, false),
        false => match by_running(norm) {
            Some(scale_shift) => {
                kernel::apply_epilogue(x, Epilogue::scale_shift(scale_shift, false))
            }
            None => norm.forward(x),
        },
    }
}

/// [`normalise`], then ReLU.
pub fn normalise_relu(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    match is_training(norm, &x) {
        true => by_batch(norm, x, true),
        false => match by_running(norm) {
            Some(scale_shift) => {
                kernel::apply_epilogue(x, Epilogue::scale_shift(scale_shift, true))
            }
            None => relu(norm.forward(x)),
        },
    }
}

/// A convolution and the norm of its result: one pass where the norm uses its running statistics.
#[derive(Clone, Copy)]
pub struct Normed<'a> {
    conv: &'a Conv,
    norm: &'a BatchNorm,
    stride: usize,
}

impl<'a> Normed<'a> {
    pub fn new(conv: &'a Conv, norm: &'a BatchNorm) -> Self {
        let stride = conv.stride;
        Self { conv, norm, stride }
    }

    /// The same at another stride.
    pub fn strided(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// `[n, in, h, w]` to `[n, out, h / stride, w / stride]` (for the usual padding).
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self.scale_shift(&x) {
            Some(scale_shift) => self.in_one(x, Epilogue::scale_shift(scale_shift, false)),
            None => normalise(self.norm, self.convolved(x)),
        }
    }

    /// [`Self::forward`], then ReLU.
    pub fn relu(self, x: Tensor<4>) -> Tensor<4> {
        match self.scale_shift(&x) {
            Some(scale_shift) => self.in_one(x, Epilogue::scale_shift(scale_shift, true)),
            None => normalise_relu(self.norm, self.convolved(x)),
        }
    }

    /// [`Self::forward`], then a skip connection and ReLU.
    pub fn add_relu(self, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        match self.scale_shift(&x) {
            Some(scale_shift) => self.in_one(x, Epilogue::residual(scale_shift, skip)),
            None => relu(normalise(self.norm, self.convolved(x)) + skip),
        }
    }

    fn convolved(self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward_strided(x, self.stride)
    }

    fn in_one(self, x: Tensor<4>, epilogue: Epilogue) -> Tensor<4> {
        let sizes = [self.stride, self.conv.padding];
        kernel::convolution_epilogue(x, self.conv.weight.val(), sizes, epilogue)
    }

    /// The norm's scale and shift, where the convolution can apply them.
    fn scale_shift(self, x: &Tensor<4>) -> Option<[Tensor<1>; 2]> {
        match self.conv.bias.is_some() || is_training(self.norm, x) {
            true => None,
            false => by_running(self.norm),
        }
    }
}

/// The running statistics as a scale and a shift for each channel; `None` where gradients of the
/// norm's parameters are wanted.
fn by_running(norm: &BatchNorm) -> Option<[Tensor<1>; 2]> {
    let (gain, bias) = (norm.gamma.val(), norm.beta.val());
    if gain.is_require_grad() || bias.is_require_grad() {
        return None;
    }
    let device = gain.device();
    let mean = norm.running_mean.value().to_device(&device);
    let variance = norm.running_var.value().to_device(&device);
    let numbers = [gain, bias, mean, variance];
    Some(kernel::fold_batch_norm(numbers, norm.epsilon))
}

/// As Burn has it: a frozen layer on a training device uses its running statistics.
fn is_training(norm: &BatchNorm, x: &Tensor<4>) -> bool {
    x.device().is_autodiff() && norm.training.is_enabled()
}

fn by_batch(norm: &BatchNorm, x: Tensor<4>, relu: bool) -> Tensor<4> {
    let (gain, bias) = (norm.gamma.val(), norm.beta.val());
    let (y, mean, variance) = kernel::batch_norm_training(x, gain, bias, norm.epsilon, relu);
    for (running, now) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        let kept = running.value_sync() * (1.0 - norm.momentum);
        running.update((kept + now.detach() * norm.momentum).detach());
    }
    y
}

/// 3x3 max-pooling with stride 2 and the given padding.
pub fn pool3(x: Tensor<4>, padding: usize) -> Tensor<4> {
    max_pool(x, 3, padding)
}

/// Max-pooling with stride 2.
pub fn max_pool(x: Tensor<4>, kernel: usize, padding: usize) -> Tensor<4> {
    kernel::max_pool(x, kernel, 2, padding)
}

/// Mean over height and width: `[n, c, h, w]` to `[n, c, 1, 1]`.
pub fn global_mean(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1])
}

/// All axes behind the first as one: `[n, c, h, w]` to `[n, c · h · w]`.
pub fn flatten(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c * h * w])
}
