//! Kernels of our own: convolution, batch norm with its ReLU, and max pooling.
//!
//! They enter Burn as a backend extension, so autodiff and every device go on working. On the CPU
//! they replace Burn's: a convolution keeps its sums in registers and copies nothing for each tap
//! of its kernel, and batch norm reads each channel where it lies instead of transposing the
//! batch. Elsewhere they are Burn's own operations.

mod conv;
mod norm;
mod pass;
mod pool;
mod sum;
mod weights;

#[cfg(any(target_arch = "wasm32", feature = "gpu"))]
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
use burn::tensor::{IntDType, Shape, Tensor, TensorData};

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

/// A tensor of the CPU's.
fn flex<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape)))
}

/// What a backend is asked for. The default is Burn's own operations.
#[backend_extension(Flex, Cube: cfg(any(target_arch = "wasm32", feature = "gpu")), Autodiff)]
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

fn options(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

#[cfg(any(target_arch = "wasm32", feature = "gpu"))]
impl Kernels for Cube {}

impl Kernels for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        conv::forward(x, weight, stride, padding)
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
        let [node_x, node_weight] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, stride, padding) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        if let Some(node) = node_x {
            let (x, weight, grad) = (x.clone(), weight.clone(), grad.clone());
            let grad = B::convolution_x_backward(x, weight, grad, stride, padding);
            grads.register::<B>(node.id, grad);
        }
        if let Some(node) = node_weight {
            let grad = B::convolution_weight_backward(x, weight, grad, stride, padding);
            grads.register::<B>(node.id, grad);
        }
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
