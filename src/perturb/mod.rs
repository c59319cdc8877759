//! Perturbations, in pixel space [0, 1].

pub mod attack;
pub mod corruption;
pub mod noise;
pub mod spectrum;
