//! ResNet (He et al. 2016) as torchvision lays it out: the baseline, and the back-end of VOneResNet.

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::stem::StemConfig;
use super::traits::Family;
use crate::model::bounds::{Bounds, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::ResNet;

const STAGES: [&str; 4] = ["layer1", "layer2", "layer3", "layer4"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// `None` behind a VOneBlock.
    pub stem: Option<StemConfig>,
    /// Channels that enter `layer1`.
    pub width: usize,
    pub block: ResBlock,
    /// Planes of the four stages; a bottleneck's output is four times that.
    pub planes: [usize; 4],
    /// Blocks in the four stages; a stage of 0 is left out (with all behind it).
    pub layers: [usize; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResBlock {
    /// Two 3x3 convolutions: ResNet-18, -34.
    Basic,
    /// 1x1, 3x3, 1x1: ResNet-50, -101, -152.
    Bottleneck,
}

impl ResBlock {
    /// Output channels over planes.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl ResNetConfig {
    pub fn resnet18() -> Self {
        Self {
            stem: Some(StemConfig::OFFICIAL),
            width: 64,
            block: ResBlock::Basic,
            planes: [64, 128, 256, 512],
            layers: [2, 2, 2, 2],
        }
    }

    pub fn resnet50() -> Self {
        Self {
            block: ResBlock::Bottleneck,
            layers: [3, 4, 6, 3],
            ..Self::resnet18()
        }
    }
}

impl Family for ResNetConfig {
    fn name() -> &'static str {
        "ResNet"
    }

    fn official() -> Self {
        Self::resnet50()
    }

    fn behind_vone() -> Option<Self> {
        Some(Self {
            stem: None,
            ..Self::resnet50()
        })
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let (stem, width) = match file.behind {
            Some(width) => (None, width),
            None => {
                let [_, width, kernel] = file.conv("conv1")?;
                (Some(StemConfig::read(file, kernel)), width)
            }
        };
        let block = match file.shape("layer1.0.conv3.weight") {
            Some(_) => ResBlock::Bottleneck,
            None => ResBlock::Basic,
        };
        let [_, mut width_of_stage, _] = file.conv("layer1.0.conv1")?;
        let (mut planes, mut layers) = ([0; 4], [0; 4]);
        for (i, stage) in STAGES.into_iter().enumerate() {
            layers[i] = file.count(&format!("{stage}."));
            width_of_stage = match layers[i] {
                // As it would go on, though there is nothing of it.
                0 => width_of_stage.saturating_mul(2),
                _ => file.conv(&format!("{stage}.0.conv1"))?[1],
            };
            planes[i] = width_of_stage;
        }
        let [_, classes] = file.linear("fc")?;
        let config = Self {
            stem,
            width,
            block,
            planes,
            layers,
        };
        Ok((config, classes))
    }

    /// Named after its layers with weights: the stem, those of the blocks, the last.
    fn label(&self) -> String {
        let blocks: usize = self.layers.iter().sum();
        let depth = match self.block {
            ResBlock::Basic => 2,
            ResBlock::Bottleneck => 3,
        };
        format!("ResNet-{}", blocks * depth + 2)
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check("width", self.width, WIDTH);
        bounds.check_all("planes", self.planes, WIDTH);
        bounds.check_all("layers", self.layers, (0, 256));
        if let Some(stem) = &self.stem {
            stem.check(bounds);
        }
    }

    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let mut x = x.clone();
        if let Some(stem) = &self.stem {
            let conv1 = trace.conv("conv1", [3, self.width], stem.kernel);
            let bn1 = trace.batch_norm("bn1", self.width);
            x = stem.trace(trace, (&conv1, &bn1), &x);
        }
        for (i, stage) in STAGES.into_iter().enumerate() {
            for block in 0..self.layers[i] {
                let stride = if block == 0 && i > 0 { 2 } else { 1 };
                let name = format!("{stage}.{block}");
                x = self.trace_block(trace, &name, self.planes[i], stride, &x);
            }
        }
        trace.read_out("fc", &x, classes)
    }

    fn taps(&self) -> Vec<TapInfo> {
        let stem = self.stem.map(|_| TapInfo::area("conv1"));
        let stages = STAGES.into_iter().zip(self.layers);
        let present = stages.filter(|(_, blocks)| *blocks > 0);
        stem.into_iter()
            .chain(present.map(|(name, _)| TapInfo::area(name)))
            .collect()
    }
}

impl ResNetConfig {
    fn trace_block(
        &self,
        trace: &mut Trace,
        name: &str,
        planes: usize,
        stride: usize,
        x: &Map,
    ) -> Map {
        let (from, to) = (x.channels, planes.saturating_mul(self.block.expansion()));
        // Channels, kernels and strides of the convolutions one after the other.
        let layers: &[([usize; 2], usize, usize)] = match self.block {
            ResBlock::Basic => &[([from, planes], 3, stride), ([planes, planes], 3, 1)],
            ResBlock::Bottleneck => &[
                ([from, planes], 1, 1),
                ([planes, planes], 3, stride),
                ([planes, to], 1, 1),
            ],
        };
        let mut declared = Vec::with_capacity(layers.len());
        for (i, (channels, kernel, stride)) in layers.iter().enumerate() {
            let conv = trace.conv(&format!("{name}.conv{}", i + 1), *channels, *kernel);
            let norm = trace.batch_norm(&format!("{name}.bn{}", i + 1), channels[1]);
            declared.push((conv.stride(*stride), norm));
        }
        let skip = match stride != 1 || from != to {
            true => {
                let conv = trace.conv(&format!("{name}.downsample.0"), [from, to], 1);
                let norm = trace.batch_norm(&format!("{name}.downsample.1"), to);
                trace.normed((&conv.stride(stride), &norm), x)
            }
            false => x.clone(),
        };
        let mut x = x.clone();
        for (i, (conv, norm)) in declared.iter().enumerate() {
            x = trace.normed((conv, norm), &x);
            if i + 1 < declared.len() {
                x = trace.relu(&x);
            }
        }
        trace.add_relu(&x, &skip)
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::nn::BatchNorm;
    use burn::tensor::{Device, Tensor};

    use super::{ResBlock, ResNetConfig, STAGES};
    use crate::model::family::traits::Layers;
    use crate::model::layers::{Conv, Linear, Normed, batch_norm, flatten, global_mean, pool3};
    use crate::model::probe::{Cancelled, Probe};

    /// 1x1 convolution and norm on the skip path.
    #[derive(Module, Debug)]
    pub struct Downsample {
        pub conv: Conv,
        pub norm: BatchNorm,
    }

    /// A basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block; the latter has a third layer.
    #[derive(Module, Debug)]
    pub struct Block {
        pub conv1: Conv,
        pub bn1: BatchNorm,
        pub conv2: Conv,
        pub bn2: BatchNorm,
        pub conv3: Option<Conv>,
        pub bn3: Option<BatchNorm>,
        pub downsample: Option<Downsample>,
    }

    impl Block {
        fn new(kind: ResBlock, from: usize, planes: usize, stride: usize, device: &Device) -> Self {
            let to = planes * kind.expansion();
            let (first, second) = match kind {
                ResBlock::Basic => ((3, stride), (3, 1)),
                ResBlock::Bottleneck => ((1, 1), (3, stride)),
            };
            let third = (kind == ResBlock::Bottleneck).then_some(());
            let skip = (stride != 1 || from != to).then_some(());
            Self {
                conv1: Conv::new([from, planes], first.0, first.1, device),
                bn1: batch_norm(planes, device),
                conv2: Conv::new([planes, planes], second.0, second.1, device),
                bn2: batch_norm(planes, device),
                conv3: third.map(|()| Conv::new([planes, to], 1, 1, device)),
                bn3: third.map(|()| batch_norm(to, device)),
                downsample: skip.map(|()| Downsample {
                    conv: Conv::new([from, to], 1, stride, device),
                    norm: batch_norm(to, device),
                }),
            }
        }

        fn forward(&self, x: Tensor<4>) -> Tensor<4> {
            let skip = match &self.downsample {
                Some(down) => Normed::new(&down.conv, &down.norm).forward(x.clone()),
                None => x.clone(),
            };
            let x = Normed::new(&self.conv1, &self.bn1).relu(x);
            let second = Normed::new(&self.conv2, &self.bn2);
            match (&self.conv3, &self.bn3) {
                (Some(conv), Some(norm)) => Normed::new(conv, norm).add_relu(second.relu(x), skip),
                _ => second.add_relu(x, skip),
            }
        }
    }

    #[derive(Module, Debug)]
    pub struct ResNet {
        pub conv1: Option<Conv>,
        pub bn1: Option<BatchNorm>,
        pub layer1: Vec<Block>,
        pub layer2: Vec<Block>,
        pub layer3: Vec<Block>,
        pub layer4: Vec<Block>,
        pub fc: Linear,
        #[module(skip)]
        pool: bool,
    }

    impl ResNet {
        pub fn new(config: &ResNetConfig, classes: usize, device: &Device) -> Self {
            let mut width = config.width;
            let mut stages = [0, 1, 2, 3].map(|stage| {
                let planes = config.planes[stage];
                let first_stride = if stage == 0 { 1 } else { 2 };
                (0..config.layers[stage])
                    .map(|block| {
                        let stride = if block == 0 { first_stride } else { 1 };
                        let made = Block::new(config.block, width, planes, stride, device);
                        width = planes * config.block.expansion();
                        made
                    })
                    .collect::<Vec<_>>()
            });
            let stem = config.stem;
            Self {
                conv1: stem.map(|s| Conv::new([3, config.width], s.kernel, s.stride, device)),
                bn1: stem.map(|_| batch_norm(config.width, device)),
                layer1: std::mem::take(&mut stages[0]),
                layer2: std::mem::take(&mut stages[1]),
                layer3: std::mem::take(&mut stages[2]),
                layer4: std::mem::take(&mut stages[3]),
                fc: Linear::new(width, classes, device),
                pool: stem.is_some_and(|s| s.pool),
            }
        }

        fn stem(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<4>, Cancelled> {
            let (Some(conv), Some(norm)) = (&self.conv1, &self.bn1) else {
                return Ok(x);
            };
            let x = Normed::new(conv, norm).relu(x);
            let x = if self.pool { pool3(x, 1) } else { x };
            probe.record("conv1", &x)?;
            Ok(x)
        }
    }

    impl Layers for ResNet {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let mut x = self.stem(x, probe)?;
            let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
            for (name, stage) in STAGES.into_iter().zip(stages) {
                if stage.is_empty() {
                    continue;
                }
                for block in stage {
                    x = block.forward(x);
                }
                probe.record(name, &x)?;
            }
            let mean = global_mean(x);
            probe.record_detail("avgpool", &mean)?;
            Ok(self.fc.forward(flatten(mean)))
        }
    }
}
