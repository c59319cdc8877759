//! Two convolutions and a linear layer: the small network attacks are checked on.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::traits::Family;
use crate::model::bounds::{Bounds, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::SmallCnn;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmallCnnConfig {
    pub widths: [usize; 2],
    /// Side of the square input, px.
    pub input: usize,
}

impl Family for SmallCnnConfig {
    fn name() -> &'static str {
        "the small test network"
    }

    fn official() -> Self {
        Self {
            widths: [8, 16],
            input: 32,
        }
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let [_, first, _] = file.conv("conv1")?;
        let [_, second, _] = file.conv("conv2")?;
        let [flat, classes] = file.linear("fc")?;
        let config = Self {
            widths: [first, second],
            input: (flat / second).isqrt().saturating_mul(4),
        };
        Ok((config, classes))
    }

    fn label(&self) -> String {
        "small CNN".to_owned()
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check_all("widths", self.widths, WIDTH);
        bounds.check("input", self.input, (8, 1024));
    }

    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let [first, second] = self.widths;
        let conv1 = trace.conv_with_bias("conv1", [3, first], 3);
        let conv2 = trace.conv_with_bias("conv2", [first, second], 3);
        // The linear layer has the size of the configuration's input, whatever the side of `x`.
        let side = self.input / 4;
        let features = side.saturating_mul(side).saturating_mul(second);
        let fc = trace.linear("fc", [features, classes]);
        let mut x = x.clone();
        for conv in [&conv1, &conv2] {
            x = trace.convolve(conv, &x);
            x = trace.relu(&x);
            x = trace.max_pool(&x, 2, 0);
        }
        x = trace.flatten(&x);
        trace.project(&fc, &x)
    }

    fn taps(&self) -> Vec<TapInfo> {
        ["conv1", "conv2"].map(TapInfo::area).into()
    }

    fn sides(&self, _behind_vone: bool) -> RangeInclusive<usize> {
        self.input..=self.input
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    use super::SmallCnnConfig;
    use crate::model::family::traits::Layers;
    use crate::model::layers::{Conv, Linear, flatten, max_pool};
    use crate::model::probe::{Cancelled, Probe};

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
    }

    impl Layers for SmallCnn {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let x = relu(self.conv1.forward(x));
            probe.record("conv1", &x)?;
            let x = relu(self.conv2.forward(max_pool(x, 2, 0)));
            probe.record("conv2", &x)?;
            let x = max_pool(x, 2, 0);
            Ok(self.fc.forward(flatten(x)))
        }
    }
}
