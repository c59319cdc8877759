//! Robustness as a plan: which models, which perturbations, how strong, on how many images.
//!
//! A [`plan::Plan`] is a document. Its units are [`plan::Batch`]es, each a model, a seed, a condition
//! and a few images. [`run::Robustness`] runs them, [`report::Report`] makes tables of the rows.

#[cfg(feature = "compute")]
pub mod charts;
#[cfg(feature = "compute")]
mod corruption_error;
pub mod fields;
#[cfg(feature = "compute")]
pub mod html;
#[cfg(feature = "compute")]
pub mod outcomes;
#[cfg(feature = "compute")]
pub mod plan;
#[cfg(feature = "compute")]
pub mod presets;
#[cfg(feature = "compute")]
pub mod report;
#[cfg(feature = "compute")]
pub mod run;
pub mod summary;

use serde::{Deserialize, Serialize};

use crate::perturb::attack::autoattack::Part;

/// The prediction of one model for one image in one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// By its name in the plan.
    pub model: String,
    pub seed: u64,
    /// As [`plan::Condition::name`] writes it.
    pub condition: String,
    /// The number of the image in the set.
    pub image: u32,
    pub label: u16,
    /// The class of the largest logit, summed over the passes.
    pub prediction: u16,
    /// Share of the passes that give the label, 0 to 1.
    pub right: f32,
    /// Passes behind it: 1 for a model that repeats itself.
    pub passes: u16,
    /// Size of the perturbation, in pixels of [0, 1].
    pub l1: f32,
    pub l2: f32,
    pub linf: f32,
    /// How far each area's activations are from those of the clean image, ‖f(x′) − f(x)‖₂ / ‖f(x)‖₂ at
    /// its last time step, in the order of the signal; of a run's first images only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<(String, f32)>,
    /// Which part of AutoAttack brought the image down; `None` for one that it left standing or did
    /// not attack, and in other conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}
