//! One state machine that answers [`protocol::Request`]s, the same in the Worker and natively.

pub mod protocol;

#[cfg(feature = "compute")]
mod align;
#[cfg(feature = "compute")]
mod check;
#[cfg(feature = "compute")]
mod engine;
#[cfg(feature = "compute")]
mod error;
#[cfg(feature = "compute")]
mod perturb;
#[cfg(feature = "compute")]
mod plans;
#[cfg(feature = "compute")]
mod recordings;
#[cfg(feature = "compute")]
mod run;
#[cfg(feature = "compute")]
mod see;
#[cfg(feature = "compute")]
mod test;
#[cfg(all(test, feature = "compute"))]
mod tests;
#[cfg(feature = "compute")]
mod warm_up;

#[cfg(feature = "compute")]
pub use engine::{Host, Session};
#[cfg(feature = "compute")]
pub use error::SessionError;
