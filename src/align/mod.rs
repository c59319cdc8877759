//! Alignment of a trained network with responses of a population: plans, losses, the aligner.

pub mod aligner;
pub mod error;
pub mod features;
pub mod freezing;
pub mod head;
pub mod loss;
pub mod plan;
mod requirements;
pub mod state;
pub mod stimuli;
pub mod target;
