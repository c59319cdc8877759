//! A whole network as data: the official one and the compact one are the same code with other
//! numbers.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::bounds::{Bounds, ConfigError};
use super::family::BodyConfig;
use super::family::vone::{BODY_PREFIX, VOneConfig};
use super::taps::TapInfo;
use super::trace::{TensorSpec, Trace};

/// A whole network: an optional simulated V1 in front, a body, a number of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    pub body: BodyConfig,
    /// The VOneBlock of a VOneNet (Dapello, Marques et al. 2020).
    #[serde(default)]
    pub front: Option<VOneConfig>,
    pub classes: usize,
    pub preprocessing: Preprocessing,
}

/// What happens to a picture before the first layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The short side is brought to this many pixels (bilinear, as PIL does) …
    pub resize: usize,
    /// … and the centre square of this side is kept.
    pub crop: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Preprocessing {
    /// As torchvision before an ImageNet model: short side to 256, the centre 224 px.
    pub fn imagenet() -> Self {
        Self {
            resize: 256,
            crop: 224,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// The same geometry with the VOneNets' mean and standard deviation of 0.5.
    pub fn vonenet() -> Self {
        Self {
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Self::imagenet()
        }
    }
}

/// The sizes; mean and standard deviation are applied by the network.
#[cfg(feature = "picture")]
impl From<&Preprocessing> for crate::image::Preprocessing {
    fn from(of_model: &Preprocessing) -> Self {
        Self {
            resize: of_model.resize,
            crop: of_model.crop,
        }
    }
}

impl ModelConfig {
    /// As a user knows the network: "CORnet-S", "VOneResNet-50".
    pub fn label(&self) -> String {
        let vone = if self.front.is_some() { "VOne" } else { "" };
        format!("{vone}{}", self.body.family().label())
    }

    /// Checks every number before anything is allocated by it.
    ///
    /// # Errors
    /// The first that no network can be built with.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut bounds = Bounds::default();
        let p = &self.preprocessing;
        bounds.check("classes", self.classes, (1, 65_536));
        bounds.check("preprocessing.resize", p.resize, (8, 4096));
        bounds.check("preprocessing.crop", p.crop, (8, 2048));
        // A deviation of 0 would make every pixel infinite.
        let is_positive = p.std.iter().all(|s| *s > 0.0);
        bounds.check("preprocessing.std > 0", usize::from(is_positive), (1, 1));
        self.body.family().check(&mut bounds);
        if let Some(front) = &self.front {
            front.check(&mut bounds);
        }
        bounds.result()
    }

    /// A pass over one image of `side` x `side` px.
    pub fn trace(&self, side: usize) -> Trace {
        let mut trace = Trace::default();
        let p = &self.preprocessing;
        let mean = trace.constant("mean", &[1, 3, 1, 1], &p.mean);
        let std = trace.constant("std", &[1, 3, 1, 1], &p.std);
        let x = trace.elementwise("Sub", &Trace::input(side), &mean);
        let mut x = trace.elementwise("Div", &x, &std);
        if let Some(front) = &self.front {
            x = front.trace(&mut trace, &x);
            trace.prefix = BODY_PREFIX;
        }
        self.body.family().trace(&mut trace, &x, self.classes);
        trace
    }

    /// The published name and shape of every parameter and buffer, in the order of the network's
    /// modules. `num_batches_tracked` is not among them: older files lack it, and it is of no use.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.trace(self.preprocessing.crop).tensors
    }

    /// Every tap of the network, in the order of the signal.
    pub fn taps(&self) -> Vec<TapInfo> {
        let mut taps = self
            .front
            .as_ref()
            .map(VOneConfig::taps)
            .unwrap_or_default();
        taps.extend(self.body.family().taps());
        taps
    }

    /// The sides of an image that the network takes, px.
    pub fn sides(&self) -> RangeInclusive<usize> {
        self.body.family().sides(self.front.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::cornet_s::CornetSConfig;
    use super::super::family::traits::Family;
    use super::*;

    fn official() -> ModelConfig {
        ModelConfig {
            body: BodyConfig::CornetS(CornetSConfig::official()),
            front: Some(VOneConfig::official()),
            classes: 1000,
            preprocessing: Preprocessing::vonenet(),
        }
    }

    #[test]
    fn the_published_networks_are_possible() {
        assert_eq!(official().check(), Ok(()));
    }

    #[test]
    fn impossible_numbers_are_named() {
        let mut config = official();
        if let BodyConfig::CornetS(c) = &mut config.body {
            c.widths[2] = usize::MAX;
        }
        let error = config.check().expect_err("no network is that wide");
        assert!(error.to_string().contains("widths"), "{error}");

        let mut config = official();
        config.preprocessing.std[1] = 0.0;
        assert!(config.check().is_err());

        let mut config = official();
        if let Some(front) = &mut config.front {
            front.kernel = 24;
        }
        assert!(config.check().is_err());
    }
}
