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
#[cfg(target_arch = "wasm32")]
mod queue;
#[cfg(target_arch = "wasm32")]
mod weights;

#[cfg(target_arch = "wasm32")]
fn main() {
    console_error_panic_hook::set_once();
    queue::listen();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("the worker runs in a browser; `cargo xtask serve` builds the page it belongs to");
    std::process::exit(1);
}
