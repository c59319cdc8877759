//! One state machine that answers [`protocol::Request`]s, the same in the Worker and natively.

pub mod protocol;

#[cfg(feature = "compute")]
mod aligning;
#[cfg(feature = "compute")]
mod checking;
#[cfg(feature = "compute")]
mod engine;
#[cfg(feature = "compute")]
mod error;
#[cfg(feature = "compute")]
mod perturbing;
#[cfg(feature = "compute")]
mod plans;
#[cfg(feature = "compute")]
mod recordings;
#[cfg(feature = "compute")]
mod running;
#[cfg(feature = "compute")]
mod seeing;
#[cfg(feature = "compute")]
mod testing;
#[cfg(all(test, feature = "compute"))]
mod tests;
#[cfg(feature = "compute")]
mod warming;

#[cfg(feature = "compute")]
pub use engine::{Host, Session};
#[cfg(feature = "compute")]
pub use error::SessionError;
