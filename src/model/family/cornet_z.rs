//! CORnet-Z (Kubilius, Schrimpf et al. 2018): one convolution and one pooling an area, feed-forward.

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::cornet::read_inputs;
use super::cornet::{AREAS, READOUT, inputs};
#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::traits::Family;
use crate::model::bounds::{Bounds, KERNEL, STRIDE, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::CornetZ;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CornetZConfig {
    /// Channels of V1, V2, V4, IT.
    pub widths: [usize; 4],
    pub v1_kernel: usize,
    pub v1_stride: usize,
}

impl Family for CornetZConfig {
    fn name() -> &'static str {
        "CORnet-Z"
    }

    fn official() -> Self {
        Self {
            widths: [64, 128, 256, 512],
            v1_kernel: 7,
            v1_stride: 2,
        }
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let (widths, v1_kernel) = read_inputs(file, "conv")?;
        let [_, classes] = file.linear(READOUT)?;
        let config = Self {
            widths,
            v1_kernel,
            ..Self::official()
        };
        Ok((config, classes))
    }

    fn label(&self) -> String {
        Self::name().to_owned()
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check_all("widths", self.widths, WIDTH);
        bounds.check("v1_kernel", self.v1_kernel, KERNEL);
        bounds.check("v1_stride", self.v1_stride, STRIDE);
    }

    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let mut x = x.clone();
        let strides = [self.v1_stride, 1, 1, 1];
        for ((area, channels, kernel), stride) in
            inputs(self.widths, self.v1_kernel).into_iter().zip(strides)
        {
            let conv = trace.conv_with_bias(&format!("{area}.conv"), channels, kernel);
            x = trace.convolve(&conv.stride(stride), &x);
            x = trace.relu(&x);
            x = trace.max_pool(&x, 3, 1);
        }
        trace.read_out(READOUT, &x, classes)
    }

    fn taps(&self) -> Vec<TapInfo> {
        AREAS.map(TapInfo::area).into()
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    use super::{AREAS, CornetZConfig};
    use crate::model::family::cornet::Decoder;
    use crate::model::family::traits::Layers;
    use crate::model::layers::{Conv, pool3};
    use crate::model::probe::{Cancelled, Probe};

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
    }

    impl Layers for CornetZ {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let blocks = [&self.v1, &self.v2, &self.v4, &self.it];
            let mut x = x;
            for (name, block) in AREAS.into_iter().zip(blocks) {
                x = block.forward(x);
                probe.record(name, &x)?;
            }
            self.decoder.forward(x, probe)
        }
    }
}
