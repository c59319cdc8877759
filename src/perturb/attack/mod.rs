//! Adversarial attacks in pixel space, with the box [0, 1], untargeted and targeted.
//!
//! Nothing here knows a tensor library: attacks ask an [`oracle::Oracle`] for logits and
//! gradients and keep their arithmetic to themselves. [`names`] is the table of those that can be
//! asked for by name, [`plan`] runs any of them.

#[cfg(test)]
mod analytic;
pub mod apgd;
pub mod autoattack;
pub mod boundary;
pub mod carlini_wagner;
pub mod deepfool;
pub mod descent;
pub mod fab;
pub mod fmn;
pub mod goal;
pub mod hop_skip_jump;
pub mod jsma;
pub mod look;
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
mod plane;
pub mod spatial;
pub mod square;
mod start;
#[cfg(test)]
mod toy;
pub mod universal;

pub use goal::{Aim, Goal, Loss};
pub use norm::{Ball, Norm, Projection};
pub use oracle::{Oracle, Pullback, Step, Stopped, Subject};
