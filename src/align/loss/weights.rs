//! The `[losses]` of a plan.

use serde::{Deserialize, Serialize};

use crate::align::fields;

/// The terms of the loss. A term without a weight is not computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Losses {
    /// Fraction of the run over which the weights of all terms but cross-entropy and distillation
    /// rise from 0, 0 to 1.
    pub warm_up: f64,
    /// Of the labels.
    pub cross_entropy: f64,
    /// Probability mass given to the other classes, 0 to 1.
    pub label_smoothing: f64,
    /// CKA of the tap with the target.
    pub cka: f64,
    pub form: Form,
    /// Similarity of pairs of images for the tap and for the target.
    pub similarity: f64,
    /// Saliency maps with heat maps, where there are any.
    pub harmonizer: f64,
    /// The starting model's logits.
    pub distillation: f64,
    /// The divisor of the logits in distillation, above 0.
    pub temperature: f64,
    /// L2-SP: half the squared distance (L2) of the weights from the starting ones.
    #[serde(rename = "stay", alias = "l2_sp")]
    pub l2_sp: f64,
}

impl Default for Losses {
    /// The published ones (Dapello et al. 2023): cross-entropy and log(1 − CKA), 1 each.
    fn default() -> Self {
        Self {
            warm_up: fields::default("losses.warm_up"),
            cross_entropy: fields::default("losses.cross_entropy"),
            label_smoothing: fields::default("losses.label_smoothing"),
            cka: fields::default("losses.cka"),
            form: Form::LogDistance,
            similarity: fields::default("losses.similarity"),
            harmonizer: fields::default("losses.harmonizer"),
            distillation: fields::default("losses.distillation"),
            temperature: fields::default("losses.temperature"),
            l2_sp: fields::default("losses.stay"),
        }
    }
}

impl Losses {
    /// Whether any term depends on the target.
    pub fn aligns(&self) -> bool {
        self.cka > 0.0 || self.similarity > 0.0
    }

    /// The factor of a term's weight during the warm-up, at `progress` in [0, 1] of the run.
    pub fn warm_up_factor(&self, progress: f64) -> f64 {
        match self.warm_up > 0.0 {
            true => (progress / self.warm_up).min(1.0),
            false => 1.0,
        }
    }
}

/// The loss as a function of CKA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `log(1 − CKA)`, the published one: steeper the more alike.
    #[default]
    LogDistance,
    /// `1 − CKA`.
    Distance,
    /// `−log CKA`: steeper the less alike.
    NegativeLog,
}
