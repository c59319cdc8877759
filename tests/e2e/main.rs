//! The page as a person uses it, in Chromium.

mod align;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod page;
mod perturb;
mod robustness;
mod see;
