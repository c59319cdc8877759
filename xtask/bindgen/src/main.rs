//! Makes of a compiled program what a browser loads, as the command `wasm-bindgen` does.
//!
//! That command comes with a server and a client for tests in browsers, most of what there is to
//! compile of it, and `cargo xtask serve` waits for this. It takes the same options, as far as they
//! are used here.

use std::path::PathBuf;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

/// The version of `wasm-bindgen` that it fits, as Cargo.toml asks for it.
const VERSION: &str = "0.2.130";

/// What is asked for.
#[derive(Default)]
struct Task {
    /// `web` or `no-modules`.
    target: String,
    name: String,
    folder: PathBuf,
    program: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--version"] {
        println!("ventral-bindgen {VERSION}");
        return ExitCode::SUCCESS;
    }
    match parse(&words).and_then(|task| perform(&task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: &[String]) -> Result<Task, String> {
    let mut task = Task::default();
    while let Some((word, rest)) = words.split_first() {
        let value = rest.first().cloned().unwrap_or_default();
        let taken = match word.as_str() {
            "--target" => {
                task.target = value;
                1
            }
            "--out-name" => {
                task.name = value;
                1
            }
            "--out-dir" => {
                task.folder = value.into();
                1
            }
            "--no-typescript" => 0,
            option if option.starts_with('-') => return Err(format!("no option `{option}`")),
            program => {
                task.program = program.into();
                0
            }
        };
        words = rest.get(taken..).unwrap_or_default();
    }
    Ok(task)
}

fn perform(task: &Task) -> Result<(), String> {
    let mut bindgen = Bindgen::new();
    let chosen = match task.target.as_str() {
        "web" => bindgen.web(true),
        "no-modules" => bindgen.no_modules(true),
        other => return Err(format!("no target `{other}`: `web` or `no-modules`")),
    };
    let made = chosen.and_then(|bindgen| {
        bindgen
            .input_path(&task.program)
            .out_name(&task.name)
            .typescript(false)
            // As the command does it: the script finds the program beside itself.
            .omit_default_module_path(false)
            .generate(&task.folder)
    });
    made.map_err(|error| format!("{}: {error:#}", task.program.display()))
}
