//! What the tests share: the reference's files, a session without a browser, the command line as a
//! user runs it, Chromium, and writers of other programs' formats.
#![allow(dead_code, reason = "every binary uses a part of it")]

#[cfg(feature = "archive")]
pub mod arrays;
#[cfg(feature = "serve")]
pub mod browser;
#[cfg(feature = "cli")]
pub mod command;
#[cfg(feature = "compute")]
pub mod native;
#[cfg(feature = "compute")]
pub mod parity;
#[cfg(feature = "compute")]
pub mod roundtrip;
pub mod torch;

use std::path::PathBuf;

/// `../shared/NAME`, where this checkout has it beside it; says so where it has not.
pub fn shared(name: &str) -> Option<PathBuf> {
    // Asked for at run time first: two checkouts may share a target folder.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = PathBuf::from(root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    let path = root.parent()?.join("shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: there is no {}", path.display());
    None
}
