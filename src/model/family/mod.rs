//! Families of networks: one file and one row each.
//!
//! A family's file holds its configuration, what follows from it without a tensor library
//! ([`Family`]: names and shapes of its tensors, taps, cost, graph, how it is read from a file), and
//! its layers ([`traits::Layers`]).

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
pub mod traits;
pub mod vone;

#[cfg(feature = "compute")]
use burn::module::Module;
#[cfg(feature = "compute")]
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use self::reading::{Gap, Reading};
use self::traits::Family;
#[cfg(feature = "compute")]
use self::traits::Layers;

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
