//! Adversarial attacks in pixel space, with the box [0, 1].

pub mod descent;
pub mod objective;
