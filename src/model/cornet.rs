//! The CORnet family (Kubilius, Schrimpf et al. 2018, 2019): shallow networks whose areas are
//! named after the ventral stream they model.

use burn::module::Module;
use burn::nn::{BatchNorm, GroupNorm, GroupNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::config::{CornetRtConfig, CornetSConfig, CornetZConfig, StemConfig, Unrolling};
use super::layers::{
    Conv, Linear, Normed, batch_norm, flatten, global_mean, normalise_relu, pool3,
};
use super::probe::{Cancelled, Probe};

/// The areas behind V1, in the order of the signal.
const AREAS: [&str; 3] = ["V2", "V4", "IT"];

/// Average pool and a linear readout.
#[derive(Module, Debug)]
pub struct Decoder {
    pub linear: Linear,
}

impl Decoder {
    fn new(width: usize, classes: usize, device: &Device) -> Self {
        Self {
            linear: Linear::new(width, classes, device),
        }
    }

    /// `[n, c, h, w]` to logits `[n, classes]`.
    fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let mean = global_mean(x);
        probe.see_detail("decoder.avgpool", &mean)?;
        Ok(self.linear.forward(flatten(mean)))
    }
}

/// V1 of CORnet-S: two convolutions with a pooling between them.
#[derive(Module, Debug)]
pub struct StemS {
    pub conv1: Conv,
    pub norm1: BatchNorm,
    pub conv2: Conv,
    pub norm2: BatchNorm,
    #[module(skip)]
    pool: bool,
}

impl StemS {
    fn new(stem: StemConfig, width: usize, device: &Device) -> Self {
        Self {
            conv1: Conv::new([3, width], stem.kernel, stem.stride, device),
            norm1: batch_norm(width, device),
            conv2: Conv::new([width, width], 3, 1, device),
            norm2: batch_norm(width, device),
            pool: stem.pool,
        }
    }

    fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<4>, Cancelled> {
        let x = self.conv1.forward(x);
        probe.see("V1.conv1", &x)?;
        let x = normalise_relu(&self.norm1, x);
        let x = if self.pool { pool3(x, 1) } else { x };
        probe.see_detail("V1.pool", &x)?;
        let x = Normed::new(&self.conv2, &self.norm2).relu(x);
        probe.see("V1", &x)?;
        Ok(x)
    }
}

/// A recurrent area of CORnet-S: one bottleneck block, applied `times` times to its own output
/// with the same convolutions and batch norms of each step's own.
#[derive(Module, Debug)]
pub struct BlockS {
    pub conv_input: Conv,
    pub skip: Conv,
    pub norm_skip: BatchNorm,
    pub conv1: Conv,
    pub conv2: Conv,
    pub conv3: Conv,
    pub norm1: Vec<BatchNorm>,
    pub norm2: Vec<BatchNorm>,
    pub norm3: Vec<BatchNorm>,
}

impl BlockS {
    fn new(channels: [usize; 2], times: usize, scale: usize, device: &Device) -> Self {
        let [from, to] = channels;
        let wide = to * scale;
        let norms = |width| (0..times).map(|_| batch_norm(width, device)).collect();
        Self {
            conv_input: Conv::new([from, to], 1, 1, device),
            skip: Conv::new([to, to], 1, 2, device),
            norm_skip: batch_norm(to, device),
            conv1: Conv::new([to, wide], 1, 1, device),
            conv2: Conv::new([wide, wide], 3, 2, device),
            conv3: Conv::new([wide, to], 1, 1, device),
            norm1: norms(wide),
            norm2: norms(wide),
            norm3: norms(to),
        }
    }

    fn forward(&self, area: &str, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<4>, Cancelled> {
        let times = self.norm1.len();
        let mut x = self.conv_input.forward(x);
        for t in 0..times {
            x = self.step(x, t);
            probe.see_step(area, t, times, &x)?;
        }
        Ok(x)
    }

    /// The first step halves the map and has a learnt skip; the later ones skip by identity.
    fn step(&self, x: Tensor<4>, t: usize) -> Tensor<4> {
        let (skip, stride) = match t {
            0 => {
                let skip = Normed::new(&self.skip, &self.norm_skip).forward(x.clone());
                (skip, 2)
            }
            _ => (x.clone(), 1),
        };
        let first = Normed::new(&self.conv1, &self.norm1[t]);
        let second = Normed::new(&self.conv2, &self.norm2[t]).strided(stride);
        let third = Normed::new(&self.conv3, &self.norm3[t]);
        third.add_relu(second.relu(first.relu(x)), skip)
    }
}

/// CORnet-S, or what stands behind a VOneBlock when `v1` is absent.
#[derive(Module, Debug)]
pub struct CornetS {
    pub v1: Option<StemS>,
    pub v2: BlockS,
    pub v4: BlockS,
    pub it: BlockS,
    pub decoder: Decoder,
}

impl CornetS {
    pub fn new(config: &CornetSConfig, classes: usize, device: &Device) -> Self {
        let [v1, v2, v4, it] = config.widths;
        let [t2, t4, ti] = config.times;
        let block = |from, to, times| BlockS::new([from, to], times, config.scale, device);
        Self {
            v1: config.stem.map(|stem| StemS::new(stem, v1, device)),
            v2: block(v1, v2, t2),
            v4: block(v2, v4, t4),
            it: block(v4, it, ti),
            decoder: Decoder::new(it, classes, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let x = match &self.v1 {
            Some(v1) => v1.forward(x, probe)?,
            None => x,
        };
        self.forward_from(0, x, probe)
    }

    /// Runs the areas from `AREAS[first]` on; `x` is the output of the area before.
    fn forward_from(
        &self,
        first: usize,
        mut x: Tensor<4>,
        probe: &mut Probe,
    ) -> Result<Tensor<2>, Cancelled> {
        let blocks = [&self.v2, &self.v4, &self.it];
        for (area, block) in AREAS.into_iter().zip(blocks).skip(first) {
            x = block.forward(area, x, probe)?;
        }
        self.decoder.forward(x, probe)
    }

    /// The logits when `area` hands on `x`, what it held at some time step, instead of its last
    /// state: later areas run in full. `None` for an area that is not recurrent.
    pub fn read_out(
        &self,
        area: &str,
        x: Tensor<4>,
        probe: &mut Probe,
    ) -> Option<Result<Tensor<2>, Cancelled>> {
        let index = AREAS.iter().position(|a| *a == area)?;
        Some(self.forward_from(index + 1, x, probe))
    }
}

/// An area of CORnet-Z: convolution, ReLU, pooling.
#[derive(Module, Debug)]
pub struct BlockZ {
    pub conv: Conv,
}

impl BlockZ {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv: Conv::new(channels, kernel, stride, device).with_bias(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        pool3(relu(self.conv.forward(x)), 1)
    }
}

/// CORnet-Z.
#[derive(Module, Debug)]
pub struct CornetZ {
    pub v1: BlockZ,
    pub v2: BlockZ,
    pub v4: BlockZ,
    pub it: BlockZ,
    pub decoder: Decoder,
}

impl CornetZ {
    pub fn new(config: &CornetZConfig, classes: usize, device: &Device) -> Self {
        let [v1, v2, v4, it] = config.widths;
        Self {
            v1: BlockZ::new([3, v1], config.v1_kernel, config.v1_stride, device),
            v2: BlockZ::new([v1, v2], 3, 1, device),
            v4: BlockZ::new([v2, v4], 3, 1, device),
            it: BlockZ::new([v4, it], 3, 1, device),
            decoder: Decoder::new(it, classes, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let areas = [
            ("V1", &self.v1),
            ("V2", &self.v2),
            ("V4", &self.v4),
            ("IT", &self.it),
        ];
        let mut x = x;
        for (name, area) in areas {
            x = area.forward(x);
            probe.see(name, &x)?;
        }
        self.decoder.forward(x, probe)
    }
}

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

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        const NAMES: [&str; 4] = ["V1", "V2", "V4", "IT"];
        let blocks = [&self.v1, &self.v2, &self.v4, &self.it];
        let mut states = self.first_step(&x, blocks);
        for t in 0..self.times {
            if t > 0 {
                states = self.next_step(&x, blocks, states);
            }
            for (name, state) in NAMES.into_iter().zip(&states) {
                probe.see_step(name, t, self.times, state)?;
            }
        }
        let [.., it] = states;
        self.decoder.forward(it, probe)
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
            // RT hands on what the area held a step ago, R what it holds now.
            let handed_on = match self.unrolling {
                Unrolling::Biological => before,
                Unrolling::Sequential => None,
            };
            input = handed_on.unwrap_or_else(|| now.clone());
            now
        })
    }

    /// Logits of what IT held at some time step; `None` for the other areas.
    pub fn read_out(
        &self,
        area: &str,
        x: Tensor<4>,
        probe: &mut Probe,
    ) -> Option<Result<Tensor<2>, Cancelled>> {
        (area == "IT").then(|| self.decoder.forward(x, probe))
    }
}
