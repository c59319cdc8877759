//! The dedicated Web Worker: owns the device and the session, so the page never freezes.
//!
//! Messages in: `{ envelope, files }`, `{ cancel: id }`, `{ cancel_flag: SharedArrayBuffer }`.
//! Messages out: `{ hello: true }` once, then `{ envelope }`.

#[cfg(target_arch = "wasm32")]
mod blob;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod journal;
#[cfg(all(target_arch = "wasm32", feature = "worker-threads"))]
mod pool;
#[cfg(target_arch = "wasm32")]
mod queue;
#[cfg(target_arch = "wasm32")]
mod weights;

#[cfg(target_arch = "wasm32")]
unsafe extern "C" {
    /// The linker's: runs what is to run before `main`. Where no code calls it, the linker takes this
    /// program for one that is started anew for each call, and runs it all before every message,
    /// every timer and every promise: the GPU compiler's registrations alone take milliseconds.
    fn __wasm_call_ctors();
}

/// Starts to listen: the loader says so when the pool stands.
#[cfg(all(target_arch = "wasm32", feature = "worker-threads"))]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn listen() {
    queue::listen();
}

#[cfg(target_arch = "wasm32")]
fn main() {
    use std::sync::atomic::{AtomicBool, Ordering};

    // A thread of the pool comes here as well when it is started, in the memory of the first.
    static IS_STARTED: AtomicBool = AtomicBool::new(false);
    if IS_STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    // SAFETY: once, before anything else.
    unsafe { __wasm_call_ctors() };
    // The loader takes this program only where the browser knows these instructions.
    #[cfg(feature = "worker-threads")]
    ventral::compute::kernel::fuse_multiply_adds();
    console_error_panic_hook::set_once();
    #[cfg(not(feature = "worker-threads"))]
    queue::listen();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("the worker runs in a browser; `cargo xtask serve` builds the page it belongs to");
    std::process::exit(1);
}
