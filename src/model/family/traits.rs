//! What a family of networks provides.

use std::ops::RangeInclusive;

#[cfg(feature = "compute")]
use burn::tensor::Tensor;

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use crate::model::bounds::Bounds;
#[cfg(feature = "compute")]
use crate::model::probe::{Cancelled, Probe};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};

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
