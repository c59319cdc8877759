//! The layers the networks are made of.
//!
//! Convolution and linear layers keep their weights as the published checkpoints do (`[out, in,
//! k, k]` and `[out, in]`), so that loading is copying and a kernel of our own has one place to
//! go. Norms are Burn's.

use burn::module::{Initializer, Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};

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
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    conv2d(x, weight, bias, options)
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

/// 3x3 max-pooling with stride 2 and the given padding.
pub fn pool3(x: Tensor<4>, padding: usize) -> Tensor<4> {
    max_pool(x, 3, padding)
}

/// Max-pooling with stride 2.
pub fn max_pool(x: Tensor<4>, kernel: usize, padding: usize) -> Tensor<4> {
    let options = MaxPoolOptions::new([kernel; 2])
        .with_stride([2; 2])
        .with_padding([padding; 2]);
    max_pool2d(x, options)
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
