//! ResNet (He et al. 2016) as torchvision lays it out: the baseline, and the back-end of
//! VOneResNet.

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};

use super::config::{ResBlock, ResNetConfig};
use super::layers::{Conv, Linear, Normed, batch_norm, flatten, global_mean, pool3};
use super::probe::{Cancelled, Probe};

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

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let mut x = self.stem(x, probe)?;
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (stage, name) in stages
            .into_iter()
            .zip(["layer1", "layer2", "layer3", "layer4"])
        {
            if stage.is_empty() {
                continue;
            }
            for block in stage {
                x = block.forward(x);
            }
            probe.see(name, &x)?;
        }
        let mean = global_mean(x);
        probe.see_detail("avgpool", &mean)?;
        Ok(self.fc.forward(flatten(mean)))
    }

    fn stem(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<4>, Cancelled> {
        let (Some(conv), Some(norm)) = (&self.conv1, &self.bn1) else {
            return Ok(x);
        };
        let x = Normed::new(conv, norm).relu(x);
        let x = if self.pool { pool3(x, 1) } else { x };
        probe.see("conv1", &x)?;
        Ok(x)
    }
}
