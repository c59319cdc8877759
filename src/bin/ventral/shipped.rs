//! Where that lies which comes with the program: models, test sets and the page.
//!
//! In a checkout it is `static/` and, once built, `dist/`. The program of `cargo xtask dist` carries
//! it and unpacks it into the user's cache the first time it is asked for.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use ventral::appended;

/// Folders in which shipped files may lie, the first to look in first.
pub fn folders() -> Vec<PathBuf> {
    match carried() {
        Some(folder) => vec![folder.to_owned()],
        None => {
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
            vec!["static".into(), "dist".into(), here]
        }
    }
}

/// The folder of the page: the one that this program carries, else the one built here.
pub fn page() -> PathBuf {
    carried().map_or_else(|| "dist".into(), Path::to_owned)
}

/// The user's cache folder of this program.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache.or_else(home).unwrap_or_else(|| PathBuf::from("."));
    folder.join("ventral")
}

/// The folder of what this program carries, unpacked.
fn carried() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOLDER.get_or_init(|| {
        unpacked().unwrap_or_else(|error| {
            eprintln!("note: what this program carries cannot be unpacked: {error}");
            None
        })
    });
    found.as_deref()
}

/// Unpacks what this program carries, unless that has been done.
fn unpacked() -> io::Result<Option<PathBuf>> {
    let program = BufReader::new(File::open(std::env::current_exe()?)?);
    let Some(found) = appended::find(program)? else {
        return Ok(None);
    };
    let number = found.hash.iter().take(8);
    let name: String = number.map(|byte| format!("{byte:02x}")).collect();
    let name = format!("shipped-{name}");
    let places = [cache().join(&name), std::env::temp_dir().join(&name)];
    if let Some(folder) = places.iter().find(|folder| folder.is_dir()) {
        return Ok(Some(folder.clone()));
    }
    let mut archive = Vec::new();
    let mut bytes = found.bytes;
    bytes.read_to_end(&mut archive)?;
    if *Sha256::digest(&archive) != found.hash {
        let why = "its bytes are not those that were put there; copy the program again";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let [first, second] = places;
    // A cache that cannot be written is no reason to do without.
    match unpack(&archive, &first) {
        Ok(()) => Ok(Some(first)),
        Err(_) => unpack(&archive, &second).map(|()| Some(second)),
    }
}

/// Unpacks into a folder beside `to` and renames it: `to` is there only when it is whole.
fn unpack(archive: &[u8], to: &Path) -> io::Result<()> {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let part = tempfile::tempdir_in(parent)?;
    tar::Archive::new(GzDecoder::new(archive)).unpack(part.path())?;
    let part = part.keep();
    match fs::rename(&part, to) {
        // Another process was quicker.
        Err(_) if to.is_dir() => fs::remove_dir_all(part),
        ended => ended,
    }
}
