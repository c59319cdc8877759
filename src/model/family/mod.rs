//! Families of networks: one file and one row each.
//!
//! A family's file holds its configuration, what follows from it without a tensor library
//! ([`Family`]: names and shapes of its tensors, taps, cost, graph, how it is read from a file), and
//! its layers ([`Layers`]).

pub mod alexnet;
pub mod cornet;
pub mod cornet_rt;
pub mod cornet_s;
pub mod cornet_z;
#[cfg(feature = "checkpoint")]
pub mod reading;
pub mod resnet;
pub mod small_cnn;
pub mod stem;
pub mod vone;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use self::reading::{Reading, Gap};
use super::bounds::Bounds;
#[cfg(feature = "compute")]
use super::probe::{Cancelled, Probe};
use super::taps::TapInfo;
use super::trace::{Map, Trace};
#[cfg(feature = "compute")]
use burn::module::Module;
#[cfg(feature = "compute")]
use burn::tensor::{Device, Tensor};

/// What a family says of a configuration.
pub trait Family {
    /// As a user knows the family.
    fn name() -> &'static str
    where
        Self: Sized;

    /// The published network.
    fn official() -> Self
    where
        Self: Sized;

    /// The published network behind a VOneBlock of 64 channels, where there is one.
    fn behind_vone() -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// The configuration of a file's network, and its number of classes.
    ///
    /// # Errors
    /// A tensor that is missing or has an impossible shape.
    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap>
    where
        Self: Sized;

    /// As a user knows the network, the depth of a ResNet included.
    fn label(&self) -> String;

    /// Checks all sizes.
    fn check(&self, bounds: &mut Bounds);

    /// Declares the layers in the order of the fields of [`Layers`], and applies them to `x`, up to
    /// the logits.
    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map;

    /// All taps, in the order of the signal.
    fn taps(&self) -> Vec<TapInfo>;

    /// The sides of an image that the network takes, px; a single one is also its preprocessing's.
    fn sides(&self, _behind_vone: bool) -> RangeInclusive<usize> {
        8..=usize::MAX
    }
}

/// The layers of a network.
#[cfg(feature = "compute")]
pub trait Layers {
    /// Normalised images or the output of a front-end, `[n, channels, h, w]`, to logits
    /// `[n, classes]`.
    ///
    /// # Errors
    /// A pass that its user cancelled.
    fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled>;

    /// The logits when `area` hands on `state`, its activations at some time step, instead of its
    /// last ones; `None` for an area that is not recurrent.
    fn read_out(
        &self,
        _area: &str,
        _state: Tensor<4>,
        _probe: &mut Probe,
    ) -> Option<Result<Tensor<2>, Cancelled>> {
        None
    }
}

/// A family without its configurations.
pub struct Row {
    pub name: fn() -> &'static str,
    pub official: fn() -> BodyConfig,
    pub behind_vone: fn() -> Option<BodyConfig>,
    #[cfg(feature = "checkpoint")]
    pub read: fn(&mut Reading) -> Result<(BodyConfig, usize), Gap>,
}

macro_rules! families {
    ($($variant:ident => $module:ident::{$config:ident, $layers:ident},)*) => {
        /// The configuration of a body. The kebab case of a variant is its name in files.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum BodyConfig {
            $($variant($module::$config),)*
        }

        impl BodyConfig {
            pub fn family(&self) -> &dyn Family {
                match self {
                    $(Self::$variant(config) => config,)*
                }
            }
        }

        /// All families. Of two that fit a file equally well, the first is taken.
        pub const FAMILIES: &[Row] = &[
            $(Row {
                name: $module::$config::name,
                official: || BodyConfig::$variant($module::$config::official()),
                behind_vone: || $module::$config::behind_vone().map(BodyConfig::$variant),
                #[cfg(feature = "checkpoint")]
                read: |file| {
                    let (config, classes) = $module::$config::read(file)?;
                    Ok((BodyConfig::$variant(config), classes))
                },
            },)*
        ];

        /// The networks that can stand behind a normalised image or a VOneBlock.
        #[cfg(feature = "compute")]
        #[derive(Module, Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "there is one of these a model, and a boxed module is no module"
        )]
        pub enum Body {
            $($variant($module::$layers),)*
        }

        #[cfg(feature = "compute")]
        impl Body {
            /// Zero weights.
            pub fn new(config: &BodyConfig, classes: usize, device: &Device) -> Self {
                match config {
                    $(BodyConfig::$variant(config) => {
                        Self::$variant($module::$layers::new(config, classes, device))
                    })*
                }
            }

            pub fn layers(&self) -> &dyn Layers {
                match self {
                    $(Self::$variant(layers) => layers,)*
                }
            }
        }
    };
}

families! {
    CornetZ => cornet_z::{CornetZConfig, CornetZ},
    CornetS => cornet_s::{CornetSConfig, CornetS},
    CornetRt => cornet_rt::{CornetRtConfig, CornetRt},
    ResNet => resnet::{ResNetConfig, ResNet},
    AlexNet => alexnet::{AlexNetConfig, AlexNet},
    SmallCnn => small_cnn::{SmallCnnConfig, SmallCnn},
}
