//! Measures: how robust a model is, and how sure one can be of it.

#[cfg(feature = "charts")]
pub mod alignment_charts;
#[cfg(feature = "charts")]
pub(crate) mod draw;
pub mod interval;
pub mod similarity;
