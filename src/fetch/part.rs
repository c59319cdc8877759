//! The incomplete file, and the note beside it that identifies the whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wire::Head;
use super::{FetchError, file_error, with_suffix};

/// The server's description of the file, by which a later call recognises it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    total: Option<u64>,
}

/// A growing file, locked while it grows.
pub(super) struct Part {
    path: PathBuf,
    note_path: PathBuf,
    file: File,
    len: u64,
    note: Note,
}

impl Part {
    /// Opens or creates `FILE.part`. A part from another address is discarded.
    pub(super) fn open(to: &Path, url: &str) -> Result<Self, FetchError> {
        let path = with_suffix(to, ".part");
        let note_path = with_suffix(to, ".part.json");
        let fail = |cause| file_error(&path, cause);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|cause| file_error(folder, cause))?;
        }
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FetchError::Busy {
                    path: to.to_owned(),
                });
            }
            // A file system without locks: two downloads at once would only fail the hash.
            Err(TryLockError::Error(_)) => {}
        }
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let note = fs::read(&note_path).ok();
        let note = note.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let mut part = Self {
            path,
            note_path,
            file,
            len,
            note: note.unwrap_or_default(),
        };
        if part.note.url != url {
            part.restart()?;
            part.note.url = url.to_owned();
        }
        Ok(part)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for reading.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of the whole file, where the server has said.
    pub(super) fn total(&self) -> Option<u64> {
        self.note.total
    }

    /// What an `If-Range` header may hold: a strong entity tag, or else a date.
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.note.etag.as_deref();
        let strong = strong.filter(|tag| !tag.starts_with("W/"));
        strong.or(self.note.last_modified.as_deref())
    }

    /// Bytes that need not be requested again: all, where a validator or at least the final hash
    /// protects them, otherwise none.
    pub(super) fn resumable(&self, hash_known: bool) -> u64 {
        if hash_known || self.validator().is_some() {
            self.len
        } else {
            0
        }
    }

    /// Whether a response is about the same file: the fields that both have must agree.
    pub(super) fn is_of(&self, head: &Head) -> bool {
        fn agree<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        agree(&self.note.etag, &head.etag)
            && agree(&self.note.last_modified, &head.last_modified)
            && agree(&self.note.total, &head.total)
    }

    /// Writes the server's description of the file, before its bytes arrive.
    pub(super) fn describe(&mut self, head: &Head) -> Result<(), FetchError> {
        self.note = Note {
            url: self.note.url.clone(),
            etag: head.etag.clone(),
            last_modified: head.last_modified.clone(),
            total: head.total,
        };
        let text = serde_json::to_vec(&self.note).map_err(io::Error::from);
        let written = text.and_then(|text| fs::write(&self.note_path, text));
        written.map_err(|cause| self.write_error(cause))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(cause) => {
                // Some of it may have been written: the length is that of the file.
                if let Ok(len) = self.file.seek(SeekFrom::End(0)) {
                    self.len = len;
                }
                Err(self.write_error(cause))
            }
        }
    }

    fn write_error(&self, cause: io::Error) -> FetchError {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&cause.kind()) {
            return FetchError::DiskFull {
                path: self.path.clone(),
                done: self.len,
            };
        }
        file_error(&self.path, cause)
    }

    /// Discards the bytes so far.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        if self.len > 0 {
            let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
            emptied.map_err(|cause| file_error(&self.path, cause))?;
            self.len = 0;
        }
        self.note = Note {
            url: std::mem::take(&mut self.note.url),
            ..Note::default()
        };
        Ok(())
    }

    /// Renames the complete file to `to` and returns its length in bytes.
    pub(super) fn finish(self, to: &Path) -> Result<u64, FetchError> {
        let safe = self.file.sync_all();
        safe.map_err(|cause| self.write_error(cause))?;
        super::rename(&self.path, to)?;
        forget(to);
        Ok(self.len)
    }
}

/// Removes the note of `FILE.part`, when the part itself is gone.
pub(super) fn forget(to: &Path) {
    // A note without a part is harmless: the next part is empty and asks for everything.
    let _ = fs::remove_file(with_suffix(to, ".part.json"));
}
