//! Tests that do not run on every machine.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Says that a test, or a part of it, does not run here, and why. `cargo xtask test` lists and counts
/// these; without it they are printed.
#[track_caller]
pub fn skip(reason: impl Display) {
    let place = Location::caller();
    let thread = std::thread::current();
    let test = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = test.unwrap_or_else(|| thread.name().unwrap_or("main").to_owned());
    let line = format!("{} {test}: {reason}", place.file());
    println!("skipped: {line}");
    let Some(list) = std::env::var_os("VENTRAL_SKIPS") else {
        return;
    };
    let list = OpenOptions::new().append(true).create(true).open(list);
    // In one piece: other tests write to it at the same time.
    let written = list.and_then(|mut list| list.write_all(format!("{line}\n").as_bytes()));
    written.expect("the list of skipped tests can be written");
}
