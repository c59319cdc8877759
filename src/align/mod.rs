//! Training: recipes, schedules, the trainer.

#[cfg(feature = "cli")]
pub mod adversary;
#[cfg(feature = "cli")]
pub mod average;
#[cfg(feature = "cli")]
pub mod examples;
pub mod fourier;
pub mod metrics;
pub mod mix;
#[cfg(feature = "cli")]
pub mod optimise;
pub mod plot;
pub mod recipe;
#[cfg(feature = "cli")]
pub mod shards;
#[cfg(feature = "cli")]
mod state;
#[cfg(feature = "cli")]
pub mod trainer;
