//! Journals on a disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::ready;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::journal::{JournalError, JournalStore, Later};

/// Keeps files in a folder.
pub struct FileStore {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, File>>,
}

impl FileStore {
    /// In `folder`, which is made where there is none.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new(folder: &Path) -> Result<Self, JournalError> {
        let store = Self {
            folder: folder.to_owned(),
            open: Mutex::default(),
        };
        match fs::create_dir_all(folder) {
            Ok(()) => Ok(store),
            Err(cause) => Err(failed(folder, &cause)),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn with<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut File) -> std::io::Result<T>,
    ) -> Result<T, JournalError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match open.get_mut(name) {
            Some(file) => work(file),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        done.map_err(|cause| failed(&self.path(name), &cause))
    }
}

fn failed(path: &Path, cause: &std::io::Error) -> JournalError {
    JournalError::Store {
        name: path.display().to_string(),
        cause: cause.to_string(),
    }
}

impl JournalStore for FileStore {
    fn open<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        let path = self.path(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let opened = file.and_then(|file| Ok((file, fs::read(&path)?)));
        Box::pin(ready(match opened {
            Ok((file, bytes)) => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.insert(name.to_owned(), file);
                Ok(bytes)
            }
            Err(cause) => Err(failed(&path, &cause)),
        }))
    }

    fn truncate(&self, name: &str, length: usize) -> Result<(), JournalError> {
        self.with(name, |file| file.set_len(length as u64))
    }

    /// In one call: a line is whole or is the last.
    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        self.with(name, |file| {
            file.seek(SeekFrom::End(0))?;
            file.write_all(bytes)?;
            file.flush()
        })
    }

    fn close(&self, name: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(name);
    }

    fn remove<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        self.close(name);
        // What cannot be deleted is harmless, and so is what was never there.
        let _ = fs::remove_file(self.path(name));
        Box::pin(ready(()))
    }

    /// Beside its place first: a crash leaves the old file or the new one whole.
    fn write<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> Later<'a, Result<(), JournalError>> {
        let path = self.path(name);
        let part = self.path(&format!("{name}.part"));
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path));
        Box::pin(ready(written.map_err(|cause| failed(&path, &cause))))
    }

    fn read<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        let path = self.path(name);
        Box::pin(ready(match fs::read(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|cause| failed(&path, &cause)),
        }))
    }
}
