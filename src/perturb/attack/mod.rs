//! Adversarial attacks in pixel space, with the box [0, 1], untargeted and targeted.
//!
//! Nothing here knows a tensor library: attacks ask an [`oracle::Oracle`] for logits and
//! gradients and keep their arithmetic to themselves.

pub mod apgd;
pub mod autoattack;
pub mod carlini_wagner;
pub mod deepfool;
pub mod descent;
pub mod fab;
pub mod fmn;
pub mod goal;
pub mod jsma;
pub mod masking;
mod nearest;
#[cfg(feature = "compute")]
pub mod network;
pub mod norm;
pub mod oracle;
pub mod plan;
mod plane;
pub mod square;
#[cfg(test)]
mod toy;
pub mod universal;

pub use goal::{Aim, Goal, Loss};
pub use norm::{Ball, Norm, Projection};
pub use oracle::{Oracle, Pullback, Step, Stopped, Subject};
