//! Ventral: brain-inspired vision models on the visitor's own GPU.
//!
//! One library without a user interface, three thin programs (`app`, `worker`, `ventral`). A room
//! imports only rooms of the lines below its own; `tests/architecture.rs` holds it:
//!
//! ```text
//! session
//! experiment
//! align
//! train
//! measure
//! neural  perturb
//! model
//! compute
//! image
//! appended  archive  clock  fetch  pack  rng  serve
//! ```
//!
//! Pixels are f32 NCHW RGB in [0, 1] at every public boundary; a model owns its preprocessing.

pub mod align;
pub mod appended;
#[cfg(feature = "archive")]
pub mod archive;
pub mod clock;
pub mod compute;
pub mod experiment;
#[cfg(feature = "fetch")]
pub mod fetch;
#[cfg(feature = "picture")]
pub mod image;
pub mod measure;
pub mod model;
#[cfg(feature = "neural")]
pub mod neural;
pub mod pack;
pub mod perturb;
pub mod rng;
#[cfg(feature = "serve")]
pub mod serve;
pub mod session;
#[cfg(feature = "compute")]
pub mod train;
