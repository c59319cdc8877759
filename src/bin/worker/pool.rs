//! The threads that compute, the worker's own among them.
//!
//! All of them share each pass over a layer. Were the worker's thread not one of theirs it would wake
//! another for every pass and be woken after it, for nothing.

use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;

/// What the threads that have come are to run.
static TO_RUN: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static IS_MORE_TO_RUN: Condvar = Condvar::new();

/// What another thread starts this program with: its code and the memory they share.
#[wasm_bindgen]
pub fn shared_program() -> Vec<JsValue> {
    vec![wasm_bindgen::module(), wasm_bindgen::memory()]
}

/// Makes the pool, of this thread and of others that are to call [`join_pool`]. Whatever asks for the
/// pool earlier gets one of a single thread.
///
/// Waits for the others: they have to be there, since a browser starts none while this thread is busy.
///
/// # Errors
/// Where there is a pool already.
#[wasm_bindgen]
pub fn start_pool(threads: usize) -> Result<(), JsError> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .use_current_thread();
    let pool = pool.spawn_handler(|thread| {
        // A list stays a list, wherever another thread has panicked.
        let mut to_run = TO_RUN.lock().unwrap_or_else(PoisonError::into_inner);
        to_run.push(thread);
        IS_MORE_TO_RUN.notify_one();
        Ok(())
    });
    Ok(pool.build_global()?)
}

/// Makes the calling thread one of the pool, and never returns.
#[wasm_bindgen]
pub fn join_pool() {
    let mut to_run = TO_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = loop {
        match to_run.pop() {
            Some(thread) => break thread,
            None => {
                to_run = IS_MORE_TO_RUN
                    .wait(to_run)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    };
    drop(to_run);
    thread.run();
}
