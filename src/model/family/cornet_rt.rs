//! CORnet-RT and CORnet-R (Kubilius, Schrimpf et al. 2018): the same blocks and weights, unrolled
//! differently in time.

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::cornet::read_inputs;
use super::cornet::{AREAS, READOUT, inputs};
#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::traits::Family;
use crate::model::bounds::{Bounds, KERNEL, STEPS, STRIDE, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::CornetRt;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CornetRtConfig {
    /// Channels of V1, V2, V4, IT.
    pub widths: [usize; 4],
    pub v1_kernel: usize,
    pub v1_stride: usize,
    /// Time steps.
    pub times: usize,
    /// Groups of every group norm.
    pub groups: usize,
    pub unrolling: Unrolling,
}

/// How a signal travels through the areas of CORnet-RT and -R.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unrolling {
    /// RT: one area a time step, as in the brain; an area sees its input of the step before.
    Biological,
    /// R: all areas within one time step.
    Sequential,
}

impl CornetRtConfig {
    /// The published network of either kind.
    pub fn unrolled(unrolling: Unrolling) -> Self {
        Self {
            widths: [64, 128, 256, 512],
            v1_kernel: 7,
            v1_stride: 4,
            times: 5,
            groups: 32,
            unrolling,
        }
    }
}

impl Family for CornetRtConfig {
    fn name() -> &'static str {
        "CORnet-RT"
    }

    fn official() -> Self {
        Self::unrolled(Unrolling::Biological)
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let (widths, v1_kernel) = read_inputs(file, "conv_input")?;
        let [_, classes] = file.linear(READOUT)?;
        let unrolling = read_unrolling(file);
        if unrolling.is_none() {
            file.remarks.push(
                "CORnet-RT and CORnet-R have the same tensors, and the file does not say which it is; CORnet-RT was assumed.".to_owned(),
            );
        }
        let official = Self::unrolled(unrolling.unwrap_or(Unrolling::Biological));
        let config = Self {
            widths,
            v1_kernel,
            times: file.size("times").unwrap_or(official.times),
            ..official
        };
        Ok((config, classes))
    }

    fn label(&self) -> String {
        match self.unrolling {
            Unrolling::Biological => "CORnet-RT",
            Unrolling::Sequential => "CORnet-R",
        }
        .to_owned()
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check_all("widths", self.widths, WIDTH);
        bounds.check("v1_kernel", self.v1_kernel, KERNEL);
        bounds.check("v1_stride", self.v1_stride, STRIDE);
        bounds.check("times", self.times, STEPS);
        bounds.check("groups", self.groups, WIDTH);
        let rest = |width: usize| width.checked_rem(self.groups).unwrap_or(0);
        bounds.check_all("widths modulo groups", self.widths.map(rest), (0, 0));
    }

    /// Tensors and cost, area by area: in the first time step only V1 has an input. The steps' states
    /// are left out, for group norms keep this network from being a graph.
    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let strides = [self.v1_stride, 2, 2, 2];
        let areas = inputs(self.widths, self.v1_kernel).into_iter().zip(strides);
        let mut x = x.clone();
        for (i, ((area, channels, kernel), stride)) in areas.enumerate() {
            let name = |part: &str| format!("{area}.{part}");
            let to = channels[1];
            let conv_input = trace
                .conv_with_bias(&name("conv_input"), channels, kernel)
                .stride(stride);
            let norm_input = trace.group_norm(&name("norm_input"), to);
            let conv1 = trace.conv(&name("conv1"), [to, to], 3);
            let norm1 = trace.group_norm(&name("norm1"), to);
            let input = x.clone();
            for t in 0..self.times {
                let filtered = match t == 0 && i > 0 {
                    true => conv_input.output(&input),
                    false => trace.normed_relu((&conv_input, &norm_input), &input),
                };
                x = trace.normed_relu((&conv1, &norm1), &filtered);
            }
        }
        trace.read_out(READOUT, &x, classes)
    }

    fn taps(&self) -> Vec<TapInfo> {
        let step = |t| AREAS.map(|area| TapInfo::step(area, t));
        (0..self.times).flat_map(step).collect()
    }
}

/// The training script's `model` flag, else the file's name.
#[cfg(feature = "checkpoint")]
fn read_unrolling(file: &Reading) -> Option<Unrolling> {
    let by_name = || match file.name {
        name if name.contains("cornet_rt") => Some("RT"),
        name if name.contains("cornet_r") => Some("R"),
        _ => None,
    };
    match file.text("model").or_else(by_name) {
        Some("R") => Some(Unrolling::Sequential),
        Some("RT") => Some(Unrolling::Biological),
        _ => None,
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::nn::{GroupNorm, GroupNormConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    use super::{AREAS, CornetRtConfig, Unrolling};
    use crate::model::family::cornet::Decoder;
    use crate::model::family::traits::Layers;
    use crate::model::layers::Conv;
    use crate::model::probe::{Cancelled, Probe};

    /// An area of CORnet-RT and -R: its input is filtered, added to its state, filtered again.
    #[derive(Module, Debug)]
    pub struct BlockRt {
        pub conv_input: Conv,
        pub norm_input: GroupNorm,
        pub conv1: Conv,
        pub norm1: GroupNorm,
    }

    impl BlockRt {
        fn new(
            channels: [usize; 2],
            kernel: usize,
            stride: usize,
            groups: usize,
            device: &Device,
        ) -> Self {
            let [_, to] = channels;
            let norm = || GroupNormConfig::new(groups, to).init(device);
            Self {
                conv_input: Conv::new(channels, kernel, stride, device).with_bias(device),
                norm_input: norm(),
                conv1: Conv::new([to, to], 3, 1, device),
                norm1: norm(),
            }
        }

        /// Side of the output map for an input of side `side`.
        fn side(&self, side: usize) -> usize {
            let [_, _, kernel, _] = self.conv_input.weight.lazy_shape().dims::<4>();
            (side + 2 * self.conv_input.padding - kernel) / self.conv_input.stride + 1
        }

        fn channels(&self) -> usize {
            let [to, ..] = self.conv_input.weight.lazy_shape().dims::<4>();
            to
        }

        /// One time step. Without a state the area starts from zero.
        fn forward(&self, input: Tensor<4>, state: Option<Tensor<4>>) -> Tensor<4> {
            let input = relu(self.norm_input.forward(self.conv_input.forward(input)));
            self.settle(match state {
                Some(state) => input + state,
                None => input,
            })
        }

        fn settle(&self, x: Tensor<4>) -> Tensor<4> {
            relu(self.norm1.forward(self.conv1.forward(x)))
        }
    }

    /// CORnet-RT (biological unrolling) and CORnet-R (sequential unrolling).
    #[derive(Module, Debug)]
    pub struct CornetRt {
        pub v1: BlockRt,
        pub v2: BlockRt,
        pub v4: BlockRt,
        pub it: BlockRt,
        pub decoder: Decoder,
        #[module(skip)]
        times: usize,
        #[module(skip)]
        unrolling: Unrolling,
    }

    impl CornetRt {
        pub fn new(config: &CornetRtConfig, classes: usize, device: &Device) -> Self {
            let [v1, v2, v4, it] = config.widths;
            let block = |from, to| BlockRt::new([from, to], 3, 2, config.groups, device);
            Self {
                v1: BlockRt::new(
                    [3, v1],
                    config.v1_kernel,
                    config.v1_stride,
                    config.groups,
                    device,
                ),
                v2: block(v1, v2),
                v4: block(v2, v4),
                it: block(v4, it),
                decoder: Decoder::new(it, classes, device),
                times: config.times,
                unrolling: config.unrolling,
            }
        }

        /// At t = 0 only V1 has an input; the areas behind it settle from an input of zeros.
        fn first_step(&self, x: &Tensor<4>, blocks: [&BlockRt; 4]) -> [Tensor<4>; 4] {
            let [n, _, mut side, _] = x.dims();
            let mut first = true;
            blocks.map(|block| {
                side = block.side(side);
                if std::mem::take(&mut first) {
                    return block.forward(x.clone(), None);
                }
                let zeros = Tensor::zeros([n, block.channels(), side, side], &x.device());
                block.settle(zeros)
            })
        }

        fn next_step(
            &self,
            x: &Tensor<4>,
            blocks: [&BlockRt; 4],
            states: [Tensor<4>; 4],
        ) -> [Tensor<4>; 4] {
            let mut input = x.clone();
            let mut states = states.into_iter();
            blocks.map(|block| {
                let before = states.next();
                let now = block.forward(input.clone(), before.clone());
                // RT hands on the area's activations of the step before, R those of this step.
                let handed_on = match self.unrolling {
                    Unrolling::Biological => before,
                    Unrolling::Sequential => None,
                };
                input = handed_on.unwrap_or_else(|| now.clone());
                now
            })
        }
    }

    impl Layers for CornetRt {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let blocks = [&self.v1, &self.v2, &self.v4, &self.it];
            let mut states = self.first_step(&x, blocks);
            for t in 0..self.times {
                if t > 0 {
                    states = self.next_step(&x, blocks, states);
                }
                for (name, state) in AREAS.into_iter().zip(&states) {
                    probe.record_step(name, t, self.times, state)?;
                }
            }
            let [.., it] = states;
            self.decoder.forward(it, probe)
        }

        /// Only IT is read out.
        fn read_out(
            &self,
            area: &str,
            state: Tensor<4>,
            probe: &mut Probe,
        ) -> Option<Result<Tensor<2>, Cancelled>> {
            (area == "IT").then(|| self.decoder.forward(state, probe))
        }
    }
}
