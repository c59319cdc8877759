//! AlexNet (Krizhevsky 2014) as torchvision lays it out, the back-end of VOneAlexNet, and the
//! small network that attacks are checked on.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};

use super::config::{AlexConv, AlexNetConfig, SmallCnnConfig};
use super::layers::{Conv, Linear, flatten, max_pool, pool3};
use super::probe::{Cancelled, Probe};

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

    /// Where each convolution stands in torchvision's `features` sequence, ReLUs and pools
    /// counted.
    pub fn feature_indices(plan: &[AlexConv]) -> Vec<usize> {
        let mut next = 0;
        plan.iter()
            .map(|conv| {
                let here = next;
                next += 2 + usize::from(conv.pool_padding.is_some());
                here
            })
            .collect()
    }

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let mut x = x;
        for (i, (conv, plan)) in self.features.iter().zip(&self.plan).enumerate() {
            x = relu(conv.forward(x));
            if let Some(padding) = plan.pool_padding {
                x = pool3(x, padding);
            }
            probe.see(&format!("conv{}", i + 1), &x)?;
        }
        let [_, _, h, w] = x.dims();
        let side = self.pool_to;
        let x = if [h, w] == [side, side] {
            x
        } else {
            adaptive_avg_pool2d(x, [side, side])
        };
        probe.see_detail("avgpool", &x)?;
        let mut x = flatten(x);
        let last = self.classifier.len() - 1;
        for (i, layer) in self.classifier.iter().enumerate() {
            x = layer.forward(x);
            if i < last {
                x = relu(x);
                let [n, width] = x.dims();
                probe.see(
                    &format!("fc{}", i + 1),
                    &x.clone().reshape([n, width, 1, 1]),
                )?;
            }
        }
        Ok(x)
    }
}

/// conv-pool-conv-pool-linear on a fixed input side.
#[derive(Module, Debug)]
pub struct SmallCnn {
    pub conv1: Conv,
    pub conv2: Conv,
    pub fc: Linear,
}

impl SmallCnn {
    pub fn new(config: &SmallCnnConfig, classes: usize, device: &Device) -> Self {
        let [first, second] = config.widths;
        let side = config.input / 4;
        Self {
            conv1: Conv::new([3, first], 3, 1, device).with_bias(device),
            conv2: Conv::new([first, second], 3, 1, device).with_bias(device),
            fc: Linear::new(second * side * side, classes, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
        let x = relu(self.conv1.forward(x));
        probe.see("conv1", &x)?;
        let x = relu(self.conv2.forward(max_pool(x, 2, 0)));
        probe.see("conv2", &x)?;
        let x = max_pool(x, 2, 0);
        Ok(self.fc.forward(flatten(x)))
    }
}
