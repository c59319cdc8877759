//! A whole network: preprocessing, optional simulated V1, body.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::alexnet::{AlexNet, SmallCnn};
use super::config::{BodyConfig, ModelConfig};
use super::cornet::{CornetRt, CornetS, CornetZ};
use super::layers::Conv;
use super::probe::{CancelToken, Cancelled, Probe, Taps};
use super::resnet::ResNet;
use super::vone_block::VOneBlock;
use crate::model::taps::TapInfo;
use crate::rng::Rng;

/// The networks that can stand behind a normalised image or a VOneBlock.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of these a model, and a boxed module is no module"
)]
pub enum Body {
    CornetS(CornetS),
    CornetZ(CornetZ),
    CornetRt(CornetRt),
    ResNet(ResNet),
    AlexNet(AlexNet),
    SmallCnn(SmallCnn),
}

impl Body {
    fn new(config: &BodyConfig, classes: usize, device: &Device) -> Self {
        match config {
            BodyConfig::CornetS(c) => Self::CornetS(CornetS::new(c, classes, device)),
            BodyConfig::CornetZ(c) => Self::CornetZ(CornetZ::new(c, classes, device)),
            BodyConfig::CornetRt(c) => Self::CornetRt(CornetRt::new(c, classes, device)),
            BodyConfig::ResNet(c) => Self::ResNet(ResNet::new(c, classes, device)),
            BodyConfig::AlexNet(c) => Self::AlexNet(AlexNet::new(c, classes, device)),
            BodyConfig::SmallCnn(c) => Self::SmallCnn(SmallCnn::new(c, classes, device)),
        }
    }

    fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        match self {
            Self::CornetS(net) => net.forward(x, probe),
            Self::CornetZ(net) => net.forward(x, probe),
            Self::CornetRt(net) => net.forward(x, probe),
            Self::ResNet(net) => net.forward(x, probe),
            Self::AlexNet(net) => net.forward(x, probe),
            Self::SmallCnn(net) => net.forward(x, probe),
        }
    }
}

/// The simulated V1 of a VOneNet and the 1x1 convolution that narrows it for the body.
#[derive(Module, Debug)]
pub struct FrontEnd {
    pub vone_block: VOneBlock,
    pub bottleneck: Conv,
}

/// A network with its preprocessing.
#[derive(Module, Debug)]
pub struct Network {
    pub front: Option<FrontEnd>,
    pub body: Body,
    #[module(skip)]
    config: ModelConfig,
}

/// The outcome of a pass that kept taps.
pub struct Pass {
    /// `[n, classes]`.
    pub logits: Tensor<2>,
    /// By tap name, in the order of the signal.
    pub taps: Vec<(String, Tensor<4>)>,
}

impl Network {
    /// The architecture with zero weights; see [`super::init`] and [`super::load`].
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let front = config.front.as_ref().map(|vone| FrontEnd {
            vone_block: VOneBlock::new(vone, device),
            bottleneck: Conv::new([vone.channels(), vone.bottleneck], 1, 1, device),
        });
        Self {
            front,
            body: Body::new(&config.body, config.classes, device),
            config: config.clone(),
        }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// Does the front-end draw noise?
    pub fn is_stochastic(&self) -> bool {
        self.front
            .as_ref()
            .is_some_and(|front| front.vone_block.is_stochastic())
    }

    /// Standard normal draws for the front-end's response to `n` images of side `side`; `None`
    /// for a deterministic network. Drawn on the CPU, so every backend sees the same noise.
    pub fn draw_noise(
        &self,
        n: usize,
        side: usize,
        rng: &mut Rng,
        device: &Device,
    ) -> Option<Tensor<4>> {
        let block = &self.front.as_ref()?.vone_block;
        if !block.is_stochastic() {
            return None;
        }
        let shape = block.response_shape(n, side);
        let mut draws = vec![0.0_f32; shape.iter().product()];
        rng.fill_normal(&mut draws);
        Some(Tensor::from_data(TensorData::new(draws, shape), device))
    }

    /// `(x − mean) / std` a channel.
    pub fn normalise(&self, pixels: Tensor<4>) -> Tensor<4> {
        let device = pixels.device();
        let per_channel = |values: [f32; 3]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &device)
        };
        let p = &self.config.preprocessing;
        (pixels - per_channel(p.mean)) / per_channel(p.std)
    }

    /// Logits `[n, classes]` of pixels `[n, 3, h, w]` in [0, 1].
    pub fn forward(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<2> {
        // A blind probe has nobody to cancel it.
        self.forward_probed(pixels, noise, &mut Probe::blind())
            .expect("a pass without a cancel token cannot be cancelled")
    }

    pub fn forward_probed(
        &self,
        pixels: Tensor<4>,
        noise: Option<Tensor<4>>,
        probe: &mut Probe,
    ) -> Result<Tensor<2>, Cancelled> {
        let x = self.normalise(pixels);
        self.forward_normalised(x, noise, probe)
    }

    /// The same on an input that is normalised already.
    pub fn forward_normalised(
        &self,
        x: Tensor<4>,
        noise: Option<Tensor<4>>,
        probe: &mut Probe,
    ) -> Result<Tensor<2>, Cancelled> {
        let x = match &self.front {
            Some(front) => {
                let v1 = front.vone_block.forward(x, noise);
                probe.see("V1", &v1)?;
                let x = front.bottleneck.forward(v1);
                probe.see("bottleneck", &x)?;
                x
            }
            None => x,
        };
        self.body.forward(x, probe)
    }

    /// A pass that keeps `taps`.
    pub fn pass(
        &self,
        pixels: Tensor<4>,
        noise: Option<Tensor<4>>,
        taps: Taps,
        cancel: &CancelToken,
    ) -> Result<Pass, Cancelled> {
        let mut probe = Probe::new(taps, cancel.clone());
        let logits = self.forward_probed(pixels, noise, &mut probe)?;
        Ok(Pass {
            logits,
            taps: probe.into_seen(),
        })
    }

    /// Logits when the network is read out at time step `tap` (`V4.t1`) of a recurrent area;
    /// `None` where the network has no such readout.
    pub fn read_out(
        &self,
        tap: &TapInfo,
        state: Tensor<4>,
        cancel: &CancelToken,
    ) -> Option<Result<Tensor<2>, Cancelled>> {
        tap.time_step?;
        let mut probe = Probe::new(Taps::None, cancel.clone());
        match &self.body {
            Body::CornetS(net) => net.read_out(&tap.area, state, &mut probe),
            Body::CornetRt(net) => net.read_out(&tap.area, state, &mut probe),
            _ => None,
        }
    }

    /// The areas of the network, in the order of the signal.
    pub fn areas(&self) -> Vec<String> {
        let mut areas: Vec<String> = self.taps().into_iter().map(|tap| tap.area).collect();
        areas.dedup();
        areas
    }

    /// Every tap of the network, in the order of the signal, without running it.
    pub fn taps(&self) -> Vec<TapInfo> {
        let mut taps = Vec::new();
        if self.front.is_some() {
            taps.extend([plain_tap("V1"), plain_tap("bottleneck")]);
        }
        match &self.config.body {
            BodyConfig::CornetS(c) => {
                if c.stem.is_some() {
                    taps.extend([plain_tap("V1.conv1"), plain_tap("V1")]);
                }
                for (area, times) in ["V2", "V4", "IT"].into_iter().zip(c.times) {
                    taps.extend((0..times).map(|t| step_tap(area, t)));
                }
            }
            BodyConfig::CornetZ(_) => taps.extend(["V1", "V2", "V4", "IT"].map(plain_tap)),
            BodyConfig::CornetRt(c) => {
                for t in 0..c.times {
                    taps.extend(["V1", "V2", "V4", "IT"].map(|area| step_tap(area, t)));
                }
            }
            BodyConfig::ResNet(c) => {
                taps.extend(c.stem.map(|_| plain_tap("conv1")));
                let stages = ["layer1", "layer2", "layer3", "layer4"];
                let present = stages.into_iter().zip(c.layers).filter(|(_, n)| *n > 0);
                taps.extend(present.map(|(name, _)| plain_tap(name)));
            }
            BodyConfig::AlexNet(c) => {
                taps.extend((1..=c.convs.len()).map(|i| plain_tap(&format!("conv{i}"))));
                taps.extend(["fc1", "fc2"].map(plain_tap));
            }
            BodyConfig::SmallCnn(_) => taps.extend(["conv1", "conv2"].map(plain_tap)),
        }
        taps
    }
}

fn plain_tap(name: &str) -> TapInfo {
    TapInfo {
        name: name.to_owned(),
        area: name.split('.').next().unwrap_or(name).to_owned(),
        time_step: None,
    }
}

fn step_tap(area: &str, t: usize) -> TapInfo {
    TapInfo {
        name: format!("{area}.t{t}"),
        area: area.to_owned(),
        time_step: Some(t),
    }
}
