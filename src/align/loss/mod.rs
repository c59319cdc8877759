//! What an alignment descends, term by term.
//!
//! Each term is a function of tensors, differentiable once, that any device computes. Their weights
//! and warm-up are the plan's ([`super::plan::Losses`]).

pub mod cka;
pub mod cross_entropy;
pub mod distil;
pub mod harmonizer;
pub mod similarity;
