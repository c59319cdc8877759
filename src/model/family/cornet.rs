//! What the CORnets (Kubilius, Schrimpf et al. 2018, 2019) have in common: shallow networks whose
//! areas are named after the ventral stream they model.

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
#[cfg(feature = "compute")]
pub use decoder::Decoder;

/// In the order of the signal.
pub const AREAS: [&str; 4] = ["V1", "V2", "V4", "IT"];

/// The published name of the readout.
pub const READOUT: &str = "decoder.linear";

/// `(area, channels in and out, kernel)` of each area's first convolution in CORnet-Z and -RT.
pub fn inputs(widths: [usize; 4], v1_kernel: usize) -> [(&'static str, [usize; 2], usize); 4] {
    let [v1, v2, v4, it] = widths;
    [
        ("V1", [3, v1], v1_kernel),
        ("V2", [v1, v2], 3),
        ("V4", [v2, v4], 3),
        ("IT", [v4, it], 3),
    ]
}

/// Channels of the four areas and the kernel of V1, by the name of their first convolution.
#[cfg(feature = "checkpoint")]
pub fn read_inputs(file: &Reading, conv: &str) -> Result<([usize; 4], usize), Gap> {
    let mut widths = [0; 4];
    for (width, area) in widths.iter_mut().zip(AREAS) {
        [_, *width, _] = file.conv(&format!("{area}.{conv}"))?;
    }
    let [.., kernel] = file.conv(&format!("V1.{conv}"))?;
    Ok((widths, kernel))
}

#[cfg(feature = "compute")]
mod decoder {
    use burn::module::Module;
    use burn::tensor::{Device, Tensor};

    use crate::model::layers::{Linear, flatten, global_mean};
    use crate::model::probe::{Cancelled, Probe};

    /// Average pool and a linear readout.
    #[derive(Module, Debug)]
    pub struct Decoder {
        pub linear: Linear,
    }

    impl Decoder {
        pub fn new(width: usize, classes: usize, device: &Device) -> Self {
            Self {
                linear: Linear::new(width, classes, device),
            }
        }

        /// `[n, c, h, w]` to logits `[n, classes]`.
        pub fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let mean = global_mean(x);
            probe.record_detail("decoder.avgpool", &mean)?;
            Ok(self.linear.forward(flatten(mean)))
        }
    }
}
