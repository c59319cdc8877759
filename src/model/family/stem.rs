//! The first convolution of CORnet-S and ResNets.

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::reading::Reading;
use crate::model::bounds::{Bounds, KERNEL, STRIDE};
use crate::model::trace::{Conv, Map, Norm, Trace};

/// The first convolution of a body and the pooling behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StemConfig {
    pub kernel: usize,
    pub stride: usize,
    /// 3x3 max-pooling with stride 2 behind it.
    pub pool: bool,
}

impl StemConfig {
    /// 7x7, stride 2, pooled: CORnet-S and ResNet at 224 px.
    pub const OFFICIAL: Self = Self {
        kernel: 7,
        stride: 2,
        pool: true,
    };

    /// The published stem where the kernel is its, else one that keeps a small image from shrinking
    /// at once; a setting of the file comes before either, and a guess is remarked.
    #[cfg(feature = "checkpoint")]
    pub fn read(file: &mut Reading, kernel: usize) -> Self {
        let is_official = kernel == Self::OFFICIAL.kernel;
        let stride = file.size("stem_stride");
        let pool = file.truth("stem_pool");
        let stem = Self {
            kernel,
            stride: stride.unwrap_or(if is_official {
                Self::OFFICIAL.stride
            } else {
                1
            }),
            pool: pool.unwrap_or(is_official),
        };
        if !is_official && (stride.is_none() || pool.is_none()) {
            file.remarks.push(format!(
                "The file does not say how the first convolution ({kernel}x{kernel}) moves; a stride of {} {} pooling was assumed.",
                stem.stride,
                if stem.pool { "with" } else { "without" }
            ));
        }
        stem
    }

    pub fn check(&self, bounds: &mut Bounds) {
        bounds.check("stem.kernel", self.kernel, KERNEL);
        bounds.check("stem.stride", self.stride, STRIDE);
    }

    /// Convolution, norm, ReLU and the pooling, if there is one.
    pub fn trace(&self, trace: &mut Trace, (conv, norm): (&Conv, &Norm), x: &Map) -> Map {
        let conv = conv.clone().stride(self.stride);
        let x = trace.normed_relu((&conv, norm), x);
        match self.pool {
            true => trace.max_pool(&x, 3, 1),
            false => x,
        }
    }
}
