//! Adversarial attacks in pixel space, with the box [0, 1], untargeted and targeted.
//!
//! Nothing here but [`network`] knows a tensor library: attacks ask an [`oracle::Oracle`] for
//! logits and gradients and do their arithmetic on the host. [`registry`] is the table of those
//! that can be asked for by name, [`plan`] runs any of them.

pub mod apgd;
mod apgd_sparse;
pub mod autoattack;
mod best_so_far;
pub mod boundary;
pub mod carlini_wagner;
pub mod context;
pub mod criterion;
pub mod deepfool;
pub mod descent;
pub mod error;
pub mod fab;
pub mod fmn;
pub mod hop_skip_jump;
pub mod jsma;
pub mod loss;
pub mod masking;
pub mod method;
#[cfg(feature = "compute")]
pub mod network;
pub mod noise_search;
pub mod norm;
pub mod one_pixel;
pub mod oracle;
pub mod plan;
mod plane;
pub mod predictions;
pub mod registry;
pub mod settings;
pub mod spatial;
pub mod square;
mod start;
#[cfg(test)]
mod test_formula;
#[cfg(test)]
mod test_model;
#[cfg(test)]
mod test_noise;
pub mod universal;

pub use context::{Context, Step};
pub use criterion::{Aim, Criterion};
pub use error::AttackError;
pub use loss::Loss;
pub use method::Method;
pub use norm::{Ball, Norm, Projection};
pub use oracle::{Oracle, Pullback};
pub use predictions::Predictions;
pub use settings::{Setting, Settings};
