//! The kinds of examples of a batch.

use serde::{Deserialize, Serialize};

use crate::perturb::attack::descent::Descent;
use crate::perturb::attack::{Aim, Loss, Norm};
use crate::perturb::corruption::Corruption;
use crate::train::demand::Demand;

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

/// Shares of every batch, each 0 to 1, together 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamplesConfig {
    #[serde(default)]
    pub clean: f64,
    /// As `[adversarial]` says.
    #[serde(default)]
    pub adversarial: f64,
    /// As `[corrupted]` says.
    #[serde(default)]
    pub corrupted: f64,
    /// As `[stylised]` says.
    #[serde(default)]
    pub stylised: f64,
}

impl Default for ExamplesConfig {
    fn default() -> Self {
        Self {
            clean: 1.0,
            adversarial: 0.0,
            corrupted: 0.0,
            stylised: 0.0,
        }
    }
}

impl ExamplesConfig {
    pub(super) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// In the order of a batch: clean, corrupted, stylised, adversarial.
    pub fn shares(&self) -> [f64; 4] {
        [self.clean, self.corrupted, self.stylised, self.adversarial]
    }
}

/// Adversarial training (Madry et al. 2018). The default is the fast kind, one step from a random
/// point (Wong, Rice and Kolter 2020).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialConfig {
    #[serde(default)]
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1]; 8/255 is 0.03137.
    pub eps: f32,
    /// At least 1.
    #[serde(default = "one")]
    pub steps: usize,
    /// Step length as a fraction of `eps`.
    #[serde(default = "AdversarialConfig::fast_step")]
    pub rel_step: f32,
    /// Start from a random point of the ball.
    #[serde(default = "AdversarialConfig::fast_start")]
    pub random_start: bool,
    #[serde(default)]
    pub loss: Loss,
    /// The statistics of batch norms while an example is made.
    #[serde(default)]
    pub statistics: Statistics,
}

/// The statistics that batch norms use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// The statistics of the attacked images, as in training; so did Wong et al. The running ones
    /// do not move.
    #[default]
    Batch,
    /// The running ones, as in inference.
    Running,
}

impl AdversarialConfig {
    fn fast_step() -> f32 {
        1.25
    }

    fn fast_start() -> bool {
        true
    }

    /// The attack that makes the examples.
    pub fn descent(&self) -> Descent {
        Descent {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            rel_step: self.rel_step,
            random_start: self.random_start,
            momentum: 0.0,
            quantile: None,
            loss: self.loss,
        }
    }
}

/// The common corruptions (Hendrycks and Dietterich 2019), each image with one of the kinds at one
/// of the severities, all with the same chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorruptedConfig {
    /// The four outside the benchmark unless given: training on the others would spoil a
    /// measurement by them.
    pub kinds: Vec<Corruption>,
    /// Each 1 to 5; all five unless given.
    pub severities: Vec<u8>,
}

impl Default for CorruptedConfig {
    fn default() -> Self {
        let extra = Corruption::ALL.into_iter().filter(|c| c.is_extra());
        Self {
            kinds: extra.collect(),
            severities: vec![1, 2, 3, 4, 5],
        }
    }
}

/// Fourier amplitude mixing (Xu et al. 2021): the amplitude spectrum, which carries colour and
/// texture, moves towards that of another image of the set, and the phase, which carries shape,
/// stays. It needs no second set of images. It is not Stylized-ImageNet (Geirhos et al. 2019),
/// whose images are rendered by a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StylisedConfig {
    /// The most that a spectrum moves, 0 to 1; each image draws its own between 0 and this.
    #[serde(default = "whole")]
    pub strength: f64,
}

impl Default for StylisedConfig {
    fn default() -> Self {
        Self { strength: 1.0 }
    }
}

impl AdversarialConfig {
    pub(super) fn demands(&self, classes: usize) -> Vec<Demand> {
        let is_above_0 = |v: f32| v.is_finite() && v > 0.0;
        vec![
            (is_above_0(self.eps), "adversarial.eps must be above 0"),
            (self.steps > 0, "adversarial.steps must be at least 1"),
            (
                is_above_0(self.rel_step),
                "adversarial.rel_step must be above 0",
            ),
            (
                classes >= self.loss.least_classes(Aim::Untargeted),
                "adversarial.loss needs more classes than the model has",
            ),
        ]
    }
}
