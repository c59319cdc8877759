//! Journals in the browser's private file system, which outlives the tab.
//!
//! Where a browser gives no such place (some do not in a private window) a run goes on all the same
//! and begins anew after a reload.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ventral::experiment::journal::{JournalError, JournalStore, Later};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    DomException, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

use crate::host::{scope, sleep};

const FOLDER: &str = "tests";

/// How often a journal that another worker holds is asked for again, and after how long, ms: a
/// browser gives a worker about two seconds to end.
const TRIES: usize = 20;
const BETWEEN_TRIES: i32 = 250;

/// An open file and where its next line goes.
struct Open {
    file: FileSystemSyncAccessHandle,
    end: usize,
}

thread_local! {
    static OPEN: RefCell<BTreeMap<String, Open>> = const { RefCell::new(BTreeMap::new()) };
}

/// Files of the browser's.
pub struct BrowserStore;

impl JournalStore for BrowserStore {
    fn open<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        Box::pin(async move {
            self.close(name);
            let opened = patiently(name).await.and_then(|file| {
                let bytes = read(&file)?;
                Ok((file, bytes))
            });
            let (file, bytes) = opened.map_err(|cause| failed(name, &cause))?;
            let end = bytes.len();
            OPEN.with_borrow_mut(|open| open.insert(name.to_owned(), Open { file, end }));
            Ok(bytes)
        })
    }

    fn truncate(&self, name: &str, length: usize) -> Result<(), JournalError> {
        with(name, |open| {
            open.file.truncate_with_f64(length as f64)?;
            open.end = length;
            Ok(())
        })
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        with(name, |open| {
            let options = FileSystemReadWriteOptions::new();
            options.set_at(open.end as f64);
            open.file.write_with_u8_array_and_options(bytes, &options)?;
            open.file.flush()?;
            open.end += bytes.len();
            Ok(())
        })
    }

    fn close(&self, name: &str) {
        if let Some(open) = OPEN.with_borrow_mut(|open| open.remove(name)) {
            open.file.close();
        }
    }

    fn remove<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        self.close(name);
        Box::pin(async move {
            // What cannot be deleted is harmless, and so is what was never there.
            if let Ok(folder) = folder().await {
                let _ = JsFuture::from(folder.remove_entry(name)).await;
            }
        })
    }
}

fn with(
    name: &str,
    work: impl FnOnce(&mut Open) -> Result<(), JsValue>,
) -> Result<(), JournalError> {
    OPEN.with_borrow_mut(|open| {
        let done = match open.get_mut(name) {
            Some(open) => work(open),
            None => Err("it is not open".into()),
        };
        done.map_err(|cause| failed(name, &cause))
    })
}

fn failed(name: &str, cause: &JsValue) -> JournalError {
    let exception = cause.dyn_ref::<DomException>().map(DomException::message);
    let text = exception.or_else(|| cause.as_string());
    JournalError::Store {
        name: name.to_owned(),
        cause: text.unwrap_or_else(|| format!("{cause:?}")),
    }
}

/// A reloaded tab may come before the browser has ended the old tab's worker, which holds the file.
async fn patiently(name: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
    for _ in 0..TRIES {
        match handle(name).await {
            Err(cause) if is_locked(&cause) => sleep(BETWEEN_TRIES).await,
            ended => return ended,
        }
    }
    handle(name).await
}

fn is_locked(cause: &JsValue) -> bool {
    let exception = cause.dyn_ref::<DomException>();
    exception.is_some_and(|e| e.name() == "NoModificationAllowedError")
}

async fn folder() -> Result<FileSystemDirectoryHandle, JsValue> {
    let root = JsFuture::from(scope().navigator().storage().get_directory()).await?;
    let root: FileSystemDirectoryHandle = root.dyn_into()?;
    let create = FileSystemGetDirectoryOptions::new();
    create.set_create(true);
    let folder = root.get_directory_handle_with_options(FOLDER, &create);
    JsFuture::from(folder).await?.dyn_into()
}

async fn handle(name: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
    let folder = folder().await?;
    let create = FileSystemGetFileOptions::new();
    create.set_create(true);
    let file = JsFuture::from(folder.get_file_handle_with_options(name, &create)).await?;
    let file: FileSystemFileHandle = file.dyn_into()?;
    let handle = JsFuture::from(file.create_sync_access_handle()).await?;
    handle.dyn_into()
}

fn read(file: &FileSystemSyncAccessHandle) -> Result<Vec<u8>, JsValue> {
    let mut bytes = vec![0; file.get_size()? as usize];
    let options = FileSystemReadWriteOptions::new();
    options.set_at(0.0);
    let length = file.read_with_u8_array_and_options(&mut bytes, &options)?;
    bytes.truncate(length as usize);
    Ok(bytes)
}
