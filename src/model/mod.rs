//! Networks: architectures, weights, taps.

pub mod bounds;
pub mod catalog;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod classes;
pub mod config;
pub mod cost;
pub mod family;
pub mod filter_bank;
#[cfg(feature = "checkpoint")]
pub mod recognise;
pub mod taps;
pub mod trace;

#[cfg(feature = "compute")]
pub mod filters;
#[cfg(feature = "compute")]
pub mod gabor;
#[cfg(feature = "compute")]
pub mod graph;
#[cfg(feature = "compute")]
pub mod init;
#[cfg(feature = "compute")]
pub mod layers;
#[cfg(feature = "compute")]
pub mod load;
#[cfg(feature = "compute")]
pub mod names;
#[cfg(feature = "compute")]
pub mod network;
#[cfg(feature = "compute")]
pub mod onnx;
#[cfg(feature = "compute")]
pub mod probe;
#[cfg(feature = "compute")]
pub mod save;
