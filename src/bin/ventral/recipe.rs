//! What a run leaves beside its output, so that it can be repeated: a JSON document.

use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;

use serde::Serialize;
use ventral::model::checkpoint::sha256;

use crate::Failure;
use crate::output::write_file;

/// What every recipe begins with.
#[derive(Serialize)]
pub struct Head {
    pub program: &'static str,
    pub version: &'static str,
    /// The whole command line: run in the same folder, it repeats the output.
    pub command: Vec<String>,
}

impl Head {
    pub fn of_this_run() -> Self {
        let program = env!("CARGO_BIN_NAME");
        let arguments = std::env::args_os().skip(1);
        let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
        Self {
            program,
            version: env!("CARGO_PKG_VERSION"),
            command: std::iter::once(program.to_owned())
                .chain(arguments)
                .collect(),
        }
    }
}

/// A file that went into the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hashed {
    /// With `/`, below the folder that was given; the file's own name where a file was given.
    pub name: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

impl Hashed {
    /// Of bytes at hand.
    pub fn bytes(name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        Ok(Self {
            name: name.to_owned(),
            sha256: sha256(&mut Cursor::new(bytes), |_| {})?,
        })
    }

    /// Of a file.
    pub fn file(path: &Path) -> Result<Self, Failure> {
        let said = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = File::open(path).map_err(said)?;
        Ok(Self {
            name: file_name(path),
            sha256: sha256(&mut file, |_| {}).map_err(said)?,
        })
    }
}

/// The last part of a path.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Writes a recipe.
pub fn write(path: &Path, recipe: &impl Serialize) -> Result<(), Failure> {
    write_file(path, |out| {
        serde_json::to_writer_pretty(&mut *out, recipe)?;
        Ok(writeln!(out)?)
    })
}
