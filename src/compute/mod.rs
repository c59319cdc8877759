//! Choosing a device and checking that it computes what the CPU computes.

pub mod description;
#[cfg(feature = "compute")]
pub mod device;
#[cfg(feature = "compute")]
pub mod kernel;
#[cfg(feature = "compute")]
pub mod lost;
#[cfg(feature = "compute")]
pub mod self_check;
