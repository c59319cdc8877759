//! Adversarial attacks in pixel space, with the box [0, 1], untargeted and targeted.
//!
//! Nothing here knows a tensor library: attacks ask an [`oracle::Oracle`] for logits and
//! gradients and keep their arithmetic to themselves.

#[cfg(test)]
mod analytic;
pub mod apgd;
pub mod boundary;
pub mod carlini_wagner;
pub mod deepfool;
pub mod descent;
pub mod goal;
pub mod hop_skip_jump;
pub mod masking;
pub mod names;
mod nearest;
#[cfg(feature = "compute")]
pub mod network;
pub mod noise_search;
pub mod norm;
pub mod one_pixel;
pub mod oracle;
pub mod plan;
pub mod spatial;
pub mod square;
mod start;

pub use goal::{Aim, Goal, Loss};
pub use norm::{Ball, Norm, Projection};
pub use oracle::{Oracle, Pullback, Step, Stopped, Subject};
