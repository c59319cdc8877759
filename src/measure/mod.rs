//! Measures of a model: its robustness, its similarity to responses, and how certain they are.

pub mod chart;
#[cfg(feature = "charts")]
pub(crate) mod draw;
pub mod interval;
pub mod similarity;
