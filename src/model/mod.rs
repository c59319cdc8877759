//! Networks: architectures, weights, taps.

pub mod catalog;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod classes;
pub mod config;
pub mod cost;

#[cfg(feature = "compute")]
pub mod alexnet;
#[cfg(feature = "compute")]
pub mod cornet;
#[cfg(feature = "compute")]
pub mod filters;
#[cfg(feature = "compute")]
pub mod gabor;
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
pub mod probe;
#[cfg(feature = "compute")]
pub mod resnet;
#[cfg(feature = "compute")]
pub mod save;
#[cfg(feature = "compute")]
pub mod vone_block;
