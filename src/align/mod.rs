//! Training: recipes, schedules, the trainer; and aligning a trained network with a population's
//! responses: plans, losses, the aligner.

pub mod accuracy;
#[cfg(feature = "cli")]
pub mod adversary;
pub mod aligner;
#[cfg(feature = "cli")]
pub mod average;
pub mod descent;
#[cfg(feature = "cli")]
pub mod examples;
pub mod fields;
pub mod fourier;
pub mod head;
pub mod loss;
pub mod metrics;
pub mod mix;
pub mod optimise;
pub mod plan;
pub mod recipe;
#[cfg(feature = "cli")]
pub mod shards;
pub mod stages;
#[cfg(feature = "cli")]
mod state;
pub mod stimuli;
pub mod target;
#[cfg(feature = "cli")]
pub mod trainer;
