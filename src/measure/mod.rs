//! Measures: how robust a model is, and how sure one can be of it.

pub mod interval;
pub mod robustness;
pub mod similarity;
