//! Long work of any kind: a plan comes apart into units, a unit gives rows, rows make a report.
//!
//! An [`Experiment`] says what its units are and how to run one. Everything else is here, once:
//! [`engine`] runs the units, one at a time in a tab or several at a time on threads, with progress
//! and a way to cancel; [`journal`] keeps finished units, and the state inside of one, so that a run
//! goes on where it was interrupted; [`shard`] divides a run among machines.
//!
//! Everything random in a unit follows from its place in the plan, so that units give the same rows
//! in any order, on any number of machines.

#[cfg(feature = "compute")]
pub mod alignment;
#[cfg(feature = "compute")]
pub mod engine;
#[cfg(feature = "cli")]
pub mod files;
#[cfg(feature = "compute")]
pub mod journal;
#[cfg(feature = "compute")]
pub mod meter;
pub mod robustness;
#[cfg(feature = "compute")]
pub mod shard;
#[cfg(feature = "compute")]
pub mod table;
