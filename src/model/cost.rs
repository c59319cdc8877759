//! What a pass costs, from the configuration alone: no network is built for it.

use super::config::{
    AlexNetConfig, BodyConfig, CornetRtConfig, CornetSConfig, CornetZConfig, ModelConfig, ResBlock,
    ResNetConfig, SmallCnnConfig, StemConfig, VOneConfig,
};

/// Multiply-adds of a forward pass over one image of `side` x `side` px: those of convolutions and
/// linear layers. Norms, pools, additions and a front-end's noise are not counted, as in the
/// numbers the papers give.
pub fn multiply_adds(config: &ModelConfig, side: usize) -> u64 {
    let mut count = Count {
        side,
        channels: 3,
        total: 0,
    };
    if let Some(front) = &config.front {
        count.vone(front);
    }
    count.body(&config.body, config.classes);
    count.total
}

/// A map on its way through a network, and what it has cost so far.
struct Count {
    side: usize,
    channels: usize,
    total: u64,
}

/// Side of a convolution's or a pool's result, 0 where the input is smaller than the kernel.
fn out(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding)
        .checked_sub(kernel)
        .map_or(0, |rest| rest / stride + 1)
}

impl Count {
    fn conv(&mut self, to: usize, kernel: usize, stride: usize) {
        self.conv_padded(to, kernel, stride, kernel / 2);
    }

    fn conv_padded(&mut self, to: usize, kernel: usize, stride: usize, padding: usize) {
        self.side = out(self.side, kernel, stride, padding);
        self.total += (kernel * kernel * self.channels * to * self.side * self.side) as u64;
        self.channels = to;
    }

    /// A convolution on a path of its own: it costs, and the map stays where it was.
    fn conv_aside(&mut self, to: usize, kernel: usize, stride: usize) {
        let (side, channels) = (self.side, self.channels);
        self.conv(to, kernel, stride);
        (self.side, self.channels) = (side, channels);
    }

    fn pool3(&mut self, padding: usize) {
        self.side = out(self.side, 3, 2, padding);
    }

    fn linear(&mut self, from: usize, to: usize) {
        self.total += (from * to) as u64;
    }

    /// Both quadratures: all channels of the first, the complex ones of the second.
    fn vone(&mut self, front: &VOneConfig) {
        self.conv_aside(front.complex_channels, front.kernel, front.stride);
        self.conv(front.channels(), front.kernel, front.stride);
        self.conv(front.bottleneck, 1, 1);
    }

    fn body(&mut self, body: &BodyConfig, classes: usize) {
        match body {
            BodyConfig::CornetS(c) => self.cornet_s(c, classes),
            BodyConfig::CornetZ(c) => self.cornet_z(c, classes),
            BodyConfig::CornetRt(c) => self.cornet_rt(c, classes),
            BodyConfig::ResNet(c) => self.resnet(c, classes),
            BodyConfig::AlexNet(c) => self.alexnet(c, classes),
            BodyConfig::SmallCnn(c) => self.small_cnn(c, classes),
        }
    }

    fn stem(&mut self, stem: &StemConfig, width: usize) {
        self.conv(width, stem.kernel, stem.stride);
        if stem.pool {
            self.pool3(1);
        }
    }

    fn cornet_s(&mut self, c: &CornetSConfig, classes: usize) {
        let [v1, areas @ ..] = c.widths;
        if let Some(stem) = &c.stem {
            self.stem(stem, v1);
            self.conv(v1, 3, 1);
        }
        for (width, times) in areas.into_iter().zip(c.times) {
            self.conv(width, 1, 1);
            for step in 0..times {
                let stride = if step == 0 { 2 } else { 1 };
                if step == 0 {
                    self.conv_aside(width, 1, stride);
                }
                self.conv(width * c.scale, 1, 1);
                self.conv(width * c.scale, 3, stride);
                self.conv(width, 1, 1);
            }
        }
        self.linear(self.channels, classes);
    }

    fn cornet_z(&mut self, c: &CornetZConfig, classes: usize) {
        let firsts = [(c.v1_kernel, c.v1_stride), (3, 1), (3, 1), (3, 1)];
        for (width, (kernel, stride)) in c.widths.into_iter().zip(firsts) {
            self.conv(width, kernel, stride);
            self.pool3(1);
        }
        self.linear(self.channels, classes);
    }

    /// In the first time step only V1 has an input.
    fn cornet_rt(&mut self, c: &CornetRtConfig, classes: usize) {
        let firsts = [(c.v1_kernel, c.v1_stride), (3, 2), (3, 2), (3, 2)];
        for (area, (width, (kernel, stride))) in c.widths.into_iter().zip(firsts).enumerate() {
            let before = self.total;
            self.conv(width, kernel, stride);
            let input = self.total - before;
            let inputs = if area == 0 { c.times } else { c.times - 1 };
            self.total = before + input * inputs as u64;
            let before = self.total;
            self.conv(width, 3, 1);
            self.total = before + (self.total - before) * c.times as u64;
        }
        self.linear(self.channels, classes);
    }

    fn resnet(&mut self, c: &ResNetConfig, classes: usize) {
        if let Some(stem) = &c.stem {
            self.stem(stem, c.width);
        }
        for (stage, (planes, blocks)) in c.planes.into_iter().zip(c.layers).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                self.residual(c.block, planes, stride);
            }
        }
        self.linear(self.channels, classes);
    }

    fn residual(&mut self, kind: ResBlock, planes: usize, stride: usize) {
        let to = planes * kind.expansion();
        if stride != 1 || self.channels != to {
            self.conv_aside(to, 1, stride);
        }
        let convs: &[(usize, usize, usize)] = match kind {
            ResBlock::Basic => &[(planes, 3, stride), (planes, 3, 1)],
            ResBlock::Bottleneck => &[(planes, 1, 1), (planes, 3, stride), (to, 1, 1)],
        };
        for (to, kernel, stride) in convs {
            self.conv(*to, *kernel, *stride);
        }
    }

    fn alexnet(&mut self, c: &AlexNetConfig, classes: usize) {
        for conv in &c.convs {
            self.conv_padded(conv.out, conv.kernel, conv.stride, conv.padding);
            if let Some(padding) = conv.pool_padding {
                self.pool3(padding);
            }
        }
        let mut width = self.channels * c.pool_to * c.pool_to;
        for to in [c.hidden[0], c.hidden[1], classes] {
            self.linear(width, to);
            width = to;
        }
    }

    fn small_cnn(&mut self, c: &SmallCnnConfig, classes: usize) {
        for width in c.widths {
            self.conv(width, 3, 1);
            self.side /= 2;
        }
        self.linear(self.channels * self.side * self.side, classes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Unrolling, imagenet_preprocessing};
    use super::*;

    fn at_224(body: BodyConfig, front: Option<VOneConfig>) -> f64 {
        let config = ModelConfig {
            body,
            front,
            classes: 1000,
            preprocessing: imagenet_preprocessing(),
        };
        multiply_adds(&config, 224) as f64 / 1e9
    }

    /// The published counts, in billions; of CORnet-S only the whole number is known.
    #[test]
    fn the_published_networks_cost_what_is_published() {
        let table = [
            (BodyConfig::ResNet(ResNetConfig::resnet18()), 1.814, 0.01),
            (BodyConfig::ResNet(ResNetConfig::resnet50()), 4.089, 0.01),
            (BodyConfig::AlexNet(AlexNetConfig::official()), 0.714, 0.01),
            (BodyConfig::CornetS(CornetSConfig::official()), 16.0, 0.5),
        ];
        for (body, published, tolerance) in table {
            let ours = at_224(body.clone(), None);
            assert!((ours - published).abs() < tolerance, "{body:?}: {ours}");
        }
    }

    /// By hand: 56² · 3 · 25² · (512 + 256) for the filters, 56² · 512 · 64 for the bottleneck.
    #[test]
    fn a_front_end_costs_both_quadratures() {
        let body = || {
            BodyConfig::ResNet(ResNetConfig {
                stem: None,
                ..ResNetConfig::resnet18()
            })
        };
        let front = VOneConfig::official();
        let small = ModelConfig {
            body: body(),
            front: None,
            classes: 1000,
            preprocessing: imagenet_preprocessing(),
        };
        let mut count = Count {
            side: 56,
            channels: 64,
            total: 0,
        };
        count.body(&small.body, 1000);
        let by_hand = 56 * 56 * (3 * 625 * (512 + 256) + 512 * 64);
        let ours = at_224(body(), Some(front)) * 1e9;
        assert_eq!(ours as u64, by_hand + count.total);
    }

    /// By hand at 16 px: a 3x3 convolution from 3 to 2 channels at stride 1 and one from 2 to 2,
    /// three times; only what V1 gives reaches V2 in two of the three steps, and so on.
    #[test]
    fn recurrent_areas_cost_every_step() {
        let body = BodyConfig::CornetRt(CornetRtConfig {
            widths: [2; 4],
            v1_kernel: 3,
            v1_stride: 1,
            times: 3,
            groups: 1,
            unrolling: Unrolling::Biological,
        });
        let config = ModelConfig {
            body,
            front: None,
            classes: 5,
            preprocessing: imagenet_preprocessing(),
        };
        let area = |side: u64, input: u64, inputs: u64| side * side * (inputs * input + 3 * 36);
        let by_hand = area(16, 54, 3) + area(8, 36, 2) + area(4, 36, 2) + area(2, 36, 2) + 10;
        assert_eq!(multiply_adds(&config, 16), by_hand);
    }
}
