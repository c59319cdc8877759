//! Choosing a device and checking that it computes what the CPU computes.

pub mod device;
pub mod kernel;
pub mod lost;
pub mod self_check;
