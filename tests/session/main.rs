//! The session that the page's worker runs, natively on the CPU: requests in, events out.
#![cfg(feature = "compute")]

mod alignment;
#[path = "../common/mod.rs"]
mod common;
mod parity;
mod picture;
mod robustness;
mod roundtrip;
