//! Adversarial attacks in pixel space, with the box [0, 1], untargeted and targeted.
//!
//! Nothing here knows a tensor library: attacks ask an [`oracle::Oracle`] for logits and
//! gradients and keep their arithmetic to themselves. [`names`] is the table of those that can be
//! asked for by name, [`plan`] runs any of them.

pub mod apgd;
pub mod carlini_wagner;
pub mod deepfool;
pub mod descent;
pub mod goal;
pub mod masking;
pub mod names;
mod nearest;
#[cfg(feature = "compute")]
pub mod network;
pub mod norm;
pub mod oracle;
pub mod plan;
pub mod square;

pub use goal::{Aim, Goal, Loss};
pub use norm::{Ball, Norm, Projection};
pub use oracle::{Oracle, Pullback, Step, Stopped, Subject};
