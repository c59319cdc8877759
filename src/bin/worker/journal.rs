//! The journal of a test, in the browser's private file system, which outlives the tab.
//!
//! Where a browser gives no such place (some do not in a private window) a test runs all the same
//! and begins anew after a reload.

use std::cell::RefCell;

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

/// The open journal and where its next line goes.
struct Open {
    file: FileSystemSyncAccessHandle,
    end: usize,
}

thread_local! {
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

/// Opens a journal and returns what is in it.
pub async fn open(name: &str) -> Vec<u8> {
    close();
    match patiently(name).await {
        Ok(file) => {
            let bytes = read(&file).unwrap_or_default();
            let end = bytes.len();
            OPEN.set(Some(Open { file, end }));
            bytes
        }
        Err(cause) => {
            web_sys::console::warn_2(&"tests are not kept in this browser".into(), &cause);
            Vec::new()
        }
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

async fn handle(name: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
    let root = JsFuture::from(scope().navigator().storage().get_directory()).await?;
    let root: FileSystemDirectoryHandle = root.dyn_into()?;
    let create = FileSystemGetDirectoryOptions::new();
    create.set_create(true);
    let folder = root.get_directory_handle_with_options(FOLDER, &create);
    let folder: FileSystemDirectoryHandle = JsFuture::from(folder).await?.dyn_into()?;
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

/// Cuts the open journal to this length.
pub fn cut(length: usize) {
    OPEN.with_borrow_mut(|open| {
        if let Some(open) = open {
            // A file that cannot be cut keeps lines that the next reader does not take for sound.
            let _ = open.file.truncate_with_f64(length as f64);
            open.end = length;
        }
    });
}

/// Adds to the end of the open journal.
pub fn append(bytes: &[u8]) {
    OPEN.with_borrow_mut(|open| {
        let Some(known) = open else { return };
        let options = FileSystemReadWriteOptions::new();
        options.set_at(known.end as f64);
        let written = known.file.write_with_u8_array_and_options(bytes, &options);
        let flushed = known.file.flush();
        match written.and(flushed) {
            Ok(()) => known.end += bytes.len(),
            Err(cause) => {
                web_sys::console::warn_2(&"a test is not kept any longer".into(), &cause);
                known.file.close();
                *open = None;
            }
        }
    });
}

/// Lets go of the open journal.
pub fn close() {
    if let Some(open) = OPEN.take() {
        open.file.close();
    }
}
