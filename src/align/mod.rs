//! Alignment of a trained network with responses of a population: plans, losses, the aligner.
//!
//! Without Burn there is only what a form of the page knows of a plan.

pub mod fields;

#[cfg(feature = "compute")]
pub mod aligner;
#[cfg(feature = "compute")]
pub mod error;
#[cfg(feature = "compute")]
pub mod features;
#[cfg(feature = "compute")]
pub mod freezing;
#[cfg(feature = "compute")]
pub mod head;
#[cfg(feature = "compute")]
pub mod loss;
#[cfg(feature = "compute")]
pub mod plan;
#[cfg(feature = "compute")]
mod requirements;
#[cfg(feature = "compute")]
pub mod state;
#[cfg(feature = "compute")]
pub mod stimuli;
#[cfg(feature = "compute")]
pub mod target;
