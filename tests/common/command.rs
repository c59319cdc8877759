//! The command `ventral` as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

/// The command in a folder, with no models but those that come with the program.
pub fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ventral"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("VENTRAL_MODELS", folder.join("models"));
    command
}

pub fn run(arguments: &[&str], folder: &Path) -> Output {
    let output = command(arguments, folder).output();
    output.expect("the binary of this test starts")
}

#[track_caller]
pub fn succeeds(arguments: &[&str], folder: &Path) -> String {
    let output = run(arguments, folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub fn fails(arguments: &[&str], folder: &Path) -> String {
    let output = run(arguments, folder);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
