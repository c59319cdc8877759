//! Training: recipes, augmentation, the trainer, and the optimiser and schedule that alignment uses
//! too.

pub mod accuracy;
#[cfg(feature = "cli")]
pub mod adversary;
pub mod augmentation;
#[cfg(feature = "cli")]
pub mod average;
pub mod clip;
pub mod cross_entropy;
pub mod demand;
#[cfg(feature = "cli")]
pub mod error;
#[cfg(feature = "cli")]
pub mod examples;
pub mod fourier;
pub mod metrics;
pub mod mixup;
pub mod optimiser;
pub mod recipe;
pub mod schedule;
#[cfg(feature = "cli")]
mod state;
#[cfg(feature = "cli")]
pub mod trainer;
#[cfg(feature = "cli")]
pub mod worker_pool;
