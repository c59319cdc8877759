//! What the tests share: the reference's files, a session without a browser, the command line as a
//! user runs it, Chromium, and writers of other programs' formats.
#![allow(dead_code, reason = "every binary uses a part of it")]

#[cfg(feature = "archive")]
pub mod arrays;
#[cfg(feature = "serve")]
pub mod browser;
#[cfg(feature = "cli")]
pub mod command;
#[cfg(feature = "serve")]
pub mod host;
#[cfg(feature = "compute")]
pub mod native;
#[cfg(feature = "compute")]
pub mod parity;
#[cfg(feature = "compute")]
pub mod roundtrip;
pub mod skip;
pub mod spoil;
pub mod torch;

pub use skip::skip;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The part of the reference set that every checkout has.
const REFERENCE: &str = "tests/fixtures/reference";

/// The root of this checkout.
pub fn root() -> PathBuf {
    // Asked for at run time first: two checkouts may share a target folder.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
        .into()
}

/// A file or folder of `../shared`, where it lies beside this checkout; [`skip`]s where it does not.
#[track_caller]
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = shared_quietly(name);
    if path.is_none() {
        skip(format!("../shared/{name} is not beside this checkout"));
    }
    path
}

/// [`shared`] without a word.
pub fn shared_quietly(name: &str) -> Option<PathBuf> {
    let path = root().parent()?.join("shared").join(name);
    path.exists().then_some(path)
}

/// Names of the reference files of this repository.
pub fn references() -> Vec<String> {
    let folder =
        fs::read_dir(root().join(REFERENCE)).expect("the reference set is part of a checkout");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("a file of it").file_name();
        let name = name.to_string_lossy().into_owned();
        name.strip_suffix(".xz").map(str::to_owned).unwrap_or(name)
    };
    let mut names: Vec<String> = folder.map(name).collect();
    names.sort();
    names
}

/// A reference file of this repository, unpacked where it is compressed.
#[track_caller]
pub fn reference(name: &str) -> PathBuf {
    let path = root().join(REFERENCE).join(name);
    if path.is_file() {
        return path;
    }
    let packed = path.with_file_name(format!("{name}.xz"));
    let packed = fs::read(&packed).unwrap_or_else(|e| panic!("{}: {e}", packed.display()));
    let hash: String = Sha256::digest(&packed)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(hash);
    let path = folder.join(name);
    if !path.is_file() {
        unpack(&packed, &folder, &path);
    }
    path
}

fn unpack(packed: &[u8], folder: &Path, path: &Path) {
    fs::create_dir_all(folder).expect("the target folder can be written");
    // Renamed when it is whole: other tests unpack the same file at the same time.
    let part = folder.join(format!(
        "part-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut content = Vec::new();
    let mut reader = lzma_rust2::XzReader::new(packed, true);
    reader.read_to_end(&mut content).expect("a sound xz file");
    let mut file = File::create(&part).expect("the target folder can be written");
    file.write_all(&content)
        .expect("the target folder has room");
    fs::rename(part, path).expect("a file can be renamed within its folder");
}
