//! Operations a backend provides, and their gradients. Where a backend does as well with Burn's own
//! operations, these are the default.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::epilogue::Epilogue;

/// Keeps the gradient of a complex cell finite where both quadratures are zero; far below the resolution of
/// a response in f32.
pub const COMPLEX_EPSILON: f64 = 1e-12;

/// Keeps the gradient of the neuronal noise finite at zero. The published block uses the same
/// value, 1e-4.
pub const NOISE_EPSILON: f64 = 1e-4;

/// Side, stride and padding of a pooling window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Window {
    /// Positions of the result along a side of the map.
    pub fn out(&self, side: usize) -> usize {
        (side + 2 * self.padding).saturating_sub(self.kernel) / self.stride + 1
    }
}

/// The forward passes; see the functions of [`super`] for shapes.
#[backend_extension(Flex, Cube: cfg(any(feature = "worker", feature = "gpu")), Autodiff)]
pub trait Kernels: Backend {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        #[extension_type] epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self>;

    fn apply_epilogue(
        x: FloatTensor<Self>,
        #[extension_type] epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self>;

    fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;

    fn fold_batch_norm(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let deviation = Self::float_sqrt(Self::float_add_scalar(variance, epsilon.into()));
        let scale = Self::float_div(gain, deviation);
        let shift = Self::float_sub(bias, Self::float_mul(mean, scale.clone()));
        (scale, shift)
    }

    /// The result, mean and biased variance.
    fn batch_norm_training(
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

    fn simple_and_complex(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> FloatTensor<Self>;

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self>;
}

/// The backward passes, which run below autodiff. `grad` is the gradient with respect to the result `y`.
pub trait KernelGradients: Kernels {
    /// With respect to the input, `size` being its height and width.
    fn convolution_x_backward(
        size: [usize; 2],
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self>;

    /// With respect to the weights, `kernel` being their side.
    fn convolution_weight_backward(
        x: FloatTensor<Self>,
        kernel: usize,
        grad: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self>;

    /// Of [`Epilogue::ScaleShift`], with respect to `x`.
    fn scale_shift_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// Of [`Epilogue::Residual`], with respect to `x` and to the skip connection.
    fn residual_backward(
        y: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let grad = Self::relu_backward(y.clone(), grad);
        let to_x = Self::scale_shift_backward(y, scale, grad.clone(), false);
        (to_x, grad)
    }

    /// With respect to `x`: to the first of the largest values of each window.
    fn max_pool_backward(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self>;

    /// With respect to input, gain and bias; the sign of `y` says where the ReLU was open.
    fn batch_norm_training_backward(
        [x, y]: [FloatTensor<Self>; 2],
        gain: FloatTensor<Self>,
        [mean, variance]: [FloatTensor<Self>; 2],
        grad: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> [FloatTensor<Self>; 3] {
        let grad = match relu {
            true => Self::relu_backward(y, grad),
            false => grad,
        };
        let back = Self::batch_norm_train_backward(x, gain, mean, variance, epsilon, grad);
        [back.x_grad, back.gamma_grad, back.beta_grad]
    }

    /// With respect to both quadratures.
    fn simple_and_complex_backward(
        q0: FloatTensor<Self>,
        q1: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        simple: usize,
        gain: f64,
    ) -> [FloatTensor<Self>; 2];

    /// With respect to the responses; `tensors` are responses, noise and result.
    fn spiking_backward(
        tensors: [FloatTensor<Self>; 3],
        grad: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self>;
}
