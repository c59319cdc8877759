//! The cache: a decoded set in one file, so that the next start does not decode.
//!
//! Layout, little-endian: the magic, the length of a JSON header, the header, N labels of two
//! bytes, N·3·S·S bytes of pictures. The file name holds a hash of where the set came from, of its
//! length and date: another source, or a changed one, is another file.

use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{DatasetError, read_error};
use super::layout::Classes;
use super::set::LabelledSet;
use super::source::files_below;
use super::split::Split;

/// Changes with the layout and with anything that changes the pixels a decoder gives.
const MAGIC: [u8; 8] = *b"VNTRSET2";

/// The longest JSON header that is read, in bytes.
const MAX_HEADER: u64 = 16_000_000;

#[derive(Serialize, Deserialize)]
struct Header {
    classes: Vec<String>,
    pictures: usize,
    size: usize,
}

/// The cache file of one split of one set.
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    /// Names the cache file after the source's length and date, or those of every file of a folder.
    pub(super) fn new(
        folder: &Path,
        source: &Path,
        split: Split,
        size: usize,
        wanted: &Classes,
    ) -> Result<Self, DatasetError> {
        let stem = source.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default().to_owned();
        let hash = fingerprint(source, wanted)?;
        let name = format!("{stem}-{}-{size}-{hash}.set", split.name());
        Ok(Self {
            path: folder.join(name),
        })
    }

    /// The cached set; `None` where there is none or it is damaged, which is no error: the source
    /// is read instead.
    pub(super) fn read(&self) -> Option<LabelledSet> {
        let file = fs::File::open(&self.path).ok()?;
        let len = file.metadata().ok()?.len();
        read(BufReader::new(file), len).ok().flatten()
    }

    /// Writes `set`, and renames the file when it is complete.
    pub(super) fn write(&self, set: &LabelledSet) -> Result<(), DatasetError> {
        let fail = |cause| DatasetError::Write {
            path: self.path.clone(),
            cause,
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(fail)?;
        }
        // Two runs may write at once: each has a file of its own until the rename.
        let part = self
            .path
            .with_extension(format!("{}.part", std::process::id()));
        let written = write(&part, set).and_then(|()| fs::rename(&part, &self.path));
        written.map_err(|cause| {
            // Nothing is lost when this fails too: the name is never read back.
            let _ = fs::remove_file(&part);
            fail(cause)
        })
    }
}

fn write(path: &Path, set: &LabelledSet) -> io::Result<()> {
    let header = serde_json::to_vec(&Header {
        classes: set.classes.clone(),
        pictures: set.len(),
        size: set.size,
    })?;
    let mut file = BufWriter::new(fs::File::create(path)?);
    file.write_all(&MAGIC)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let labels: Vec<u8> = set.labels.iter().flat_map(|l| l.to_le_bytes()).collect();
    file.write_all(&labels)?;
    file.write_all(&set.images)?;
    file.into_inner()?.sync_all()
}

fn read(mut file: impl Read, len: u64) -> io::Result<Option<LabelledSet>> {
    let (mut magic, mut header_len) = ([0; 8], [0; 8]);
    file.read_exact(&mut magic)?;
    file.read_exact(&mut header_len)?;
    let header_len = u64::from_le_bytes(header_len);
    if magic != MAGIC || header_len > MAX_HEADER {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.by_ref().take(header_len).read_to_end(&mut header)?;
    let header: Header = serde_json::from_slice(&header)?;
    let body = len.saturating_sub(16 + header_len);
    let stride = header.size.checked_pow(2).and_then(|n| n.checked_mul(3));
    let wanted = stride.and_then(|n| {
        (n as u64)
            .checked_add(2)?
            .checked_mul(header.pictures as u64)
    });
    if wanted != Some(body) {
        return Ok(None);
    }
    // The file is as long as its header says, so these lengths are real.
    let mut labels = vec![0; 2 * header.pictures];
    file.read_exact(&mut labels)?;
    let mut images = Vec::with_capacity(body as usize - labels.len());
    file.read_to_end(&mut images)?;
    let labels: Vec<u16> = labels
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&b| u16::from_le_bytes(b))
        .collect();
    let known = header.classes.len();
    if labels.iter().any(|&label| usize::from(label) >= known) {
        return Ok(None);
    }
    Ok(Some(LabelledSet {
        classes: header.classes,
        images,
        labels,
        size: header.size,
    }))
}

/// Sixteen hex digits over path, length and date of the source, and over the choice of classes.
fn fingerprint(source: &Path, wanted: &Classes) -> Result<String, DatasetError> {
    let fail = read_error(source);
    let source = fs::canonicalize(source).map_err(&fail)?;
    let meta = fs::metadata(&source).map_err(&fail)?;
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(source.as_os_str().as_encoded_bytes());
    if meta.is_dir() {
        for (name, path) in files_below(&source)? {
            hash.update(name.as_bytes());
            stamp(&mut hash, &fs::metadata(path).map_err(&fail)?);
        }
    } else {
        stamp(&mut hash, &meta);
    }
    // All classes: the name that older versions gave the file.
    if !wanted.is_all() {
        for (list, names) in [("only", &wanted.only), ("without", &wanted.without)] {
            hash.update(list);
            names
                .iter()
                .for_each(|name| hash.update(format!("\0{name}")));
        }
    }
    let digest = hash.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn stamp(hash: &mut Sha256, meta: &fs::Metadata) {
    hash.update(meta.len().to_le_bytes());
    let date = meta.modified().ok();
    let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    hash.update(date.unwrap_or_default().as_nanos().to_le_bytes());
}
