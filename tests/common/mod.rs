//! What several test binaries share.
#![allow(dead_code, reason = "every binary uses a part of it")]

#[cfg(feature = "cli")]
pub mod command;
#[cfg(feature = "compute")]
pub mod native;
pub mod parity;
#[cfg(feature = "compute")]
pub mod roundtrip;

use std::path::PathBuf;

/// `../shared/NAME`, where this checkout has it beside it.
pub fn shared(name: &str) -> Option<PathBuf> {
    // Asked for at run time first: two checkouts may share a target folder.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = PathBuf::from(root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    let path = root.parent()?.join("shared").join(name);
    path.exists().then_some(path)
}
