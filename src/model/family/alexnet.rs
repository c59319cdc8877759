//! AlexNet (Krizhevsky 2014) as torchvision lays it out, and the back-end of VOneAlexNet.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::traits::Family;
use crate::model::bounds::{Bounds, KERNEL, STRIDE, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::AlexNet;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlexNetConfig {
    pub channels_in: usize,
    pub convs: Vec<AlexConv>,
    /// Side of the adaptive average pool before the classifier.
    pub pool_to: usize,
    pub hidden: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlexConv {
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Padding of the 3x3 stride-2 max-pool behind it, if there is one.
    pub pool_padding: Option<usize>,
}

const fn alex_conv(
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    pool_padding: Option<usize>,
) -> AlexConv {
    AlexConv {
        out,
        kernel,
        stride,
        padding,
        pool_padding,
    }
}

/// Where torchvision's `classifier` has its linear layers, dropouts and ReLUs counted.
const CLASSIFIER: [&str; 3] = ["classifier.1", "classifier.4", "classifier.6"];

impl AlexNetConfig {
    /// The back-end of VOneAlexNet, with the given channel counts of its four convolutions.
    pub fn back_end(channels_in: usize, out: [usize; 4], hidden: [usize; 2]) -> Self {
        Self {
            channels_in,
            convs: vec![
                alex_conv(out[0], 5, 2, 2, Some(1)),
                alex_conv(out[1], 3, 1, 1, None),
                alex_conv(out[2], 3, 1, 1, None),
                alex_conv(out[3], 3, 1, 1, Some(1)),
            ],
            pool_to: 7,
            hidden,
        }
    }

    /// The name of each convolution in torchvision's `features` sequence, ReLUs and pools counted.
    fn feature_names(&self) -> Vec<String> {
        let mut next = 0;
        let name = |conv: &AlexConv| {
            let here = next;
            next += 2 + usize::from(conv.pool_padding.is_some());
            format!("features.{here}")
        };
        self.convs.iter().map(name).collect()
    }
}

impl Family for AlexNetConfig {
    fn name() -> &'static str {
        "AlexNet"
    }

    fn official() -> Self {
        Self {
            channels_in: 3,
            convs: vec![
                alex_conv(64, 11, 4, 2, Some(0)),
                alex_conv(192, 5, 1, 2, Some(0)),
                alex_conv(384, 3, 1, 1, None),
                alex_conv(256, 3, 1, 1, None),
                alex_conv(256, 3, 1, 1, Some(0)),
            ],
            pool_to: 6,
            hidden: [4096, 4096],
        }
    }

    fn behind_vone() -> Option<Self> {
        Some(Self::back_end(64, [192, 384, 256, 256], [4096; 2]))
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let mut config = match file.behind {
            Some(width) => Self::back_end(width, [1; 4], [1; 2]),
            None => Self::official(),
        };
        let mut last = config.channels_in;
        for (name, conv) in config.feature_names().iter().zip(&mut config.convs) {
            [_, conv.out, _] = file.conv(name)?;
            last = conv.out;
        }
        let [pooled, first] = file.linear(CLASSIFIER[0])?;
        let [_, second] = file.linear(CLASSIFIER[1])?;
        let [_, classes] = file.linear(CLASSIFIER[2])?;
        config.hidden = [first, second];
        config.pool_to = (pooled / last).isqrt();
        Ok((config, classes))
    }

    fn label(&self) -> String {
        Self::name().to_owned()
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check("channels_in", self.channels_in, WIDTH);
        bounds.check("convolutions", self.convs.len(), (1, 64));
        for conv in &self.convs {
            bounds.check("convs.out", conv.out, WIDTH);
            bounds.check("convs.kernel", conv.kernel, KERNEL);
            bounds.check("convs.stride", conv.stride, STRIDE);
            bounds.check("convs.padding", conv.padding, (0, 64));
            let pool = conv.pool_padding.unwrap_or(0);
            bounds.check("convs.pool_padding", pool, (0, 1));
        }
        bounds.check("pool_to", self.pool_to, (1, 64));
        bounds.check_all("hidden", self.hidden, WIDTH);
    }

    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let mut x = x.clone();
        for (name, plan) in self.feature_names().iter().zip(&self.convs) {
            let conv = trace.conv_with_bias(name, [x.channels, plan.out], plan.kernel);
            let conv = conv.stride(plan.stride).padding(plan.padding);
            x = trace.convolve(&conv, &x);
            x = trace.relu(&x);
            if let Some(padding) = plan.pool_padding {
                x = trace.max_pool(&x, 3, padding);
            }
        }
        x = trace.average_to(&x, self.pool_to);
        x = trace.flatten(&x);
        let [first, second] = self.hidden;
        for (name, to) in CLASSIFIER.into_iter().zip([first, second, classes]) {
            if name != CLASSIFIER[0] {
                x = trace.relu(&x);
            }
            let linear = trace.linear(name, [x.channels, to]);
            x = trace.project(&linear, &x);
        }
        x
    }

    fn taps(&self) -> Vec<TapInfo> {
        let convs = (1..=self.convs.len()).map(|i| TapInfo::area(&format!("conv{i}")));
        convs.chain(["fc1", "fc2"].map(TapInfo::area)).collect()
    }

    /// Below 63 px the third pooling of the published network has nothing to pool.
    fn sides(&self, behind_vone: bool) -> RangeInclusive<usize> {
        let least = if behind_vone { 8 } else { 63 };
        least..=usize::MAX
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::tensor::activation::relu;
    use burn::tensor::module::adaptive_avg_pool2d;
    use burn::tensor::{Device, Tensor};

    use super::{AlexConv, AlexNetConfig};
    use crate::model::family::traits::Layers;
    use crate::model::layers::{Conv, Linear, flatten, pool3};
    use crate::model::probe::{Cancelled, Probe};

    /// Dropout is the identity here: these networks are evaluated and fine-tuned, not trained anew.
    #[derive(Module, Debug)]
    pub struct AlexNet {
        pub features: Vec<Conv>,
        pub classifier: Vec<Linear>,
        #[module(skip)]
        plan: Vec<AlexConv>,
        #[module(skip)]
        pool_to: usize,
    }

    impl AlexNet {
        pub fn new(config: &AlexNetConfig, classes: usize, device: &Device) -> Self {
            let mut width = config.channels_in;
            let features = config
                .convs
                .iter()
                .map(|conv| {
                    let made = Conv::new([width, conv.out], conv.kernel, conv.stride, device)
                        .with_padding(conv.padding)
                        .with_bias(device);
                    width = conv.out;
                    made
                })
                .collect();
            let [first, second] = config.hidden;
            let flat = width * config.pool_to * config.pool_to;
            Self {
                features,
                classifier: [(flat, first), (first, second), (second, classes)]
                    .map(|(from, to)| Linear::new(from, to, device))
                    .into(),
                plan: config.convs.clone(),
                pool_to: config.pool_to,
            }
        }
    }

    impl Layers for AlexNet {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let mut x = x;
            for (i, (conv, plan)) in self.features.iter().zip(&self.plan).enumerate() {
                x = relu(conv.forward(x));
                if let Some(padding) = plan.pool_padding {
                    x = pool3(x, padding);
                }
                probe.record(&format!("conv{}", i + 1), &x)?;
            }
            let [_, _, h, w] = x.dims();
            let side = self.pool_to;
            let x = if [h, w] == [side, side] {
                x
            } else {
                adaptive_avg_pool2d(x, [side, side])
            };
            probe.record_detail("avgpool", &x)?;
            let mut x = flatten(x);
            let last = self.classifier.len() - 1;
            for (i, layer) in self.classifier.iter().enumerate() {
                x = layer.forward(x);
                if i < last {
                    x = relu(x);
                    let [n, width] = x.dims();
                    probe.record(
                        &format!("fc{}", i + 1),
                        &x.clone().reshape([n, width, 1, 1]),
                    )?;
                }
            }
            Ok(x)
        }
    }
}
