//! The kernels' nodes in the graph of autodiff.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};

use super::epilogue::Epilogue;
use super::ops::{KernelGradients, Kernels, Window};

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// Registers the gradient where it is asked for.
fn register<B: Backend>(grads: &mut Gradients, node: Option<NodeId>, grad: FloatTensor<B>) {
    if let Some(node) = node {
        grads.register::<B>(node, grad);
    }
}

/// The node's gradient, and which of its parents ask for one.
fn begin<B: Backend, S, const N: usize>(
    ops: Ops<S, N>,
    grads: &mut Gradients,
) -> (FloatTensor<B>, [Option<NodeId>; N], S) {
    let nodes = ops.parents.map(|node| node.map(|node| node.id));
    (grads.consume::<B>(&ops.node), nodes, ops.state)
}

/// What the gradient of an epilogue is computed from: its result, whose sign says where the ReLU was open, and
/// its scale.
#[derive(Clone, Debug)]
struct Applied<B: Backend> {
    y: FloatTensor<B>,
    scale: FloatTensor<B>,
    relu: bool,
}

impl<B: KernelGradients> Applied<B> {
    /// `run` of the epilogue, and what its gradient is computed from; `None` where that is `grad` itself.
    fn run(
        epilogue: Epilogue<B>,
        run: impl FnOnce(Epilogue<B>) -> FloatTensor<B>,
    ) -> (FloatTensor<B>, Option<Self>) {
        let (scale, relu) = (epilogue.scale().cloned(), epilogue.has_relu());
        let y = run(epilogue);
        let applied = scale.map(|scale| Self {
            y: y.clone(),
            scale,
            relu,
        });
        (y, applied)
    }

    /// Gradients with respect to the epilogue's input, and to its skip connection where it has one.
    fn backward(
        self,
        grad: FloatTensor<B>,
        has_skip: bool,
    ) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
        let Self { y, scale, relu } = self;
        if has_skip {
            let (x, skip) = B::residual_backward(y, scale, grad);
            return (x, Some(skip));
        }
        (B::scale_shift_backward(y, scale, grad, relu), None)
    }
}

/// Parents are input, weights and, where there is one, the skip connection.
#[derive(Debug)]
struct ConvolutionBackward;

#[derive(Clone, Debug)]
struct Convolved<B: Backend> {
    x: NodeId,
    weight: NodeId,
    stride: usize,
    padding: usize,
    epilogue: Option<Applied<B>>,
}

impl<B: KernelGradients, const N: usize> Backward<B, N> for ConvolutionBackward {
    type State = Convolved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (mut grad, nodes, state) = begin::<B, _, N>(ops, grads);
        if let Some(applied) = state.epilogue {
            let (to_convolution, to_skip) = applied.backward(grad, N > 2);
            grad = to_convolution;
            if let Some((node, to_skip)) = nodes.get(2).zip(to_skip) {
                register::<B>(grads, *node, to_skip);
            }
        }
        let Convolved {
            stride, padding, ..
        } = state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.weight);
        let [_, _, height, width] = x.shape().dims();
        let [_, _, kernel, _] = weight.shape().dims();
        if let Some(node) = nodes[0] {
            let size = [height, width];
            let grad = B::convolution_x_backward(size, weight, grad.clone(), stride, padding);
            grads.register::<B>(node, grad);
        }
        if let Some(node) = nodes[1] {
            let grad = B::convolution_weight_backward(x, kernel, grad, stride, padding);
            grads.register::<B>(node, grad);
        }
    }
}

fn convolution<B: KernelGradients, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    [x, weight]: [Tracked<B, C>; 2],
    [stride, padding]: [usize; 2],
    epilogue: Epilogue<B>,
) -> Tracked<B, C> {
    match ConvolutionBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(mut prep) => {
            let kept = [prep.checkpoint(&x), prep.checkpoint(&weight)];
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let run = |epilogue| B::convolution(x, weight, stride, padding, epilogue);
            let (y, epilogue) = Applied::run(epilogue, run);
            let [x, weight] = kept;
            let state = Convolved {
                x,
                weight,
                stride,
                padding,
                epilogue,
            };
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => {
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            prep.finish(B::convolution(x, weight, stride, padding, epilogue))
        }
    }
}

/// Parents are the input and, where there is one, the skip connection.
#[derive(Debug)]
struct EpilogueBackward;

impl<B: KernelGradients, const N: usize> Backward<B, N> for EpilogueBackward {
    type State = Option<Applied<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, nodes, state) = begin::<B, _, N>(ops, grads);
        let (to_x, to_skip) = match state {
            Some(applied) => applied.backward(grad, N > 1),
            None => (grad, None),
        };
        register::<B>(grads, nodes[0], to_x);
        if let Some((node, to_skip)) = nodes.get(1).zip(to_skip) {
            register::<B>(grads, *node, to_skip);
        }
    }
}

fn apply_epilogue<B: KernelGradients, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<B>,
    epilogue: Epilogue<B>,
) -> Tracked<B, C> {
    match EpilogueBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let (y, state) = Applied::run(epilogue, |epilogue| B::apply_epilogue(x, epilogue));
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::apply_epilogue(x, epilogue)),
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: KernelGradients> Backward<B, 1> for PoolBackward {
    type State = (NodeId, FloatTensor<B>, Window);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (grad, [node], (x, y, window)) = begin::<B, _, 1>(ops, grads);
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        register::<B>(grads, node, B::max_pool_backward(x, y, grad, window));
    }
}

#[derive(Debug)]
struct CellsBackward;

impl<B: KernelGradients> Backward<B, 2> for CellsBackward {
    type State = ([FloatTensor<B>; 2], usize, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, nodes, ([q0, q1], simple, gain)) = begin::<B, _, 2>(ops, grads);
        let both = B::simple_and_complex_backward(q0, q1, grad, simple, gain);
        for (node, grad) in nodes.into_iter().zip(both) {
            register::<B>(grads, node, grad);
        }
    }
}

#[derive(Debug)]
struct SpikingBackward;

impl<B: KernelGradients> Backward<B, 1> for SpikingBackward {
    /// Responses, noise and result.
    type State = ([FloatTensor<B>; 3], f64, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, [node], (tensors, scale, level)) = begin::<B, _, 1>(ops, grads);
        let grad = B::spiking_backward(tensors, grad, scale, level);
        register::<B>(grads, node, grad);
    }
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: KernelGradients> Backward<B, 3> for BatchNormBackward {
    /// Input and gain; result, mean and variance.
    type State = ([NodeId; 2], [FloatTensor<B>; 3], f64, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (grad, nodes, state) = begin::<B, _, 3>(ops, grads);
        let (kept, [y, mean, variance], epsilon, relu) = state;
        let [x, gain] = kept.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let statistics = [mean, variance];
        let all = B::batch_norm_training_backward([x, y], gain, statistics, grad, epsilon, relu);
        for (node, grad) in nodes.into_iter().zip(all) {
            register::<B>(grads, node, grad);
        }
    }
}

impl<B: KernelGradients, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        epilogue: Epilogue<Self>,
    ) -> FloatTensor<Self> {
        let sizes = [stride, padding];
        let skip = match &epilogue {
            Epilogue::Residual { skip, .. } => Some(skip.node()),
            _ => None,
        };
        let epilogue = epilogue.map(|tensor| tensor.into_primitive());
        let [of_x, of_weight] = [x.node(), weight.node()];
        match skip {
            Some(skip) => {
                convolution::<B, C, 3>([of_x, of_weight, skip], [x, weight], sizes, epilogue)
            }
            None => convolution::<B, C, 2>([of_x, of_weight], [x, weight], sizes, epilogue),
        }
    }

    fn apply_epilogue(x: FloatTensor<Self>, epilogue: Epilogue<Self>) -> FloatTensor<Self> {
        let skip = match &epilogue {
            Epilogue::Residual { skip, .. } => Some(skip.node()),
            _ => None,
        };
        let epilogue = epilogue.map(|tensor| tensor.into_primitive());
        let node = x.node();
        match skip {
            Some(skip) => apply_epilogue::<B, C, 2>([node, skip], x.into_primitive(), epilogue),
            None => apply_epilogue::<B, C, 1>([node], x.into_primitive(), epilogue),
        }
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        match PoolBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let kept = prep.checkpoint(&x);
                let y = B::max_pool(x.into_primitive(), window);
                prep.finish((kept, y.clone(), window), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::max_pool(x.into_primitive(), window)),
        }
    }

    fn fold_batch_norm(
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [gain, bias, mean, variance] =
            [gain, bias, mean, variance].map(|tensor| tensor.into_primitive());
        let (scale, shift) = B::fold_batch_norm(gain, bias, mean, variance, epsilon);
        (
            Self::FloatTensorPrimitive::new(scale),
            Self::FloatTensorPrimitive::new(shift),
        )
    }

    fn batch_norm_training(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = BatchNormBackward
            .prepare::<C>([x.node(), gain.node(), bias.node()])
            .compute_bound()
            .stateful();
        let run = |x: Tracked<B, C>, gain: Tracked<B, C>| {
            let (x, gain) = (x.into_primitive(), gain.into_primitive());
            B::batch_norm_training(x, gain, bias.into_primitive(), epsilon, relu)
        };
        let (y, mean, variance) = match prepared {
            OpsKind::Tracked(mut prep) => {
                let kept = [prep.checkpoint(&x), prep.checkpoint(&gain)];
                let (y, mean, variance) = run(x, gain);
                let made = [y.clone(), mean.clone(), variance.clone()];
                (prep.finish((kept, made, epsilon, relu), y), mean, variance)
            }
            OpsKind::UnTracked(prep) => {
                let (y, mean, variance) = run(x, gain);
                (prep.finish(y), mean, variance)
            }
        };
        (
            y,
            Self::FloatTensorPrimitive::new(mean),
            Self::FloatTensorPrimitive::new(variance),
        )
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

    fn spiking(
        x: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        scale: f64,
        level: f64,
    ) -> FloatTensor<Self> {
        let prepared = SpikingBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful();
        let (x, noise) = (x.into_primitive(), noise.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::spiking(x.clone(), noise.clone(), scale, level);
                prep.finish(([x, noise, y.clone()], scale, level), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::spiking(x, noise, scale, level)),
        }
    }
}
