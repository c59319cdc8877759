//! Training: recipes, schedules, the trainer.

pub mod recipe;
#[cfg(feature = "cli")]
pub mod shards;
#[cfg(feature = "cli")]
pub mod trainer;
