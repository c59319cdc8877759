//! The page: a small Leptos program that paints at once and leaves all computing to the worker.
//!
//! ```text
//! main -> view -> state -> {bridge, catalog, files}     drawing: paint, export
//! ```
//!
//! `state` is the only room that asks the worker for anything; `view` reads signals and calls
//! `state`; `bridge` knows how the two threads talk and nothing about models.

mod bridge;
mod catalog;
mod dom;
mod export;
mod files;
mod json;
mod numbers;
mod paint;
mod state;
mod view;

fn main() {
    console_error_panic_hook::set_once();
    let app = state::App::new();
    view::mount(app);
    app.start();
}
