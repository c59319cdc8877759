//! Formats of files of responses, and the choices a reader takes.

use serde::{Deserialize, Serialize};

use crate::archive::Limits;

use super::axes::Axis;

/// The most values that one file's responses or maps may have: 1 GiB as f32.
pub const MOST_VALUES: usize = 1 << 28;

/// Limits of an array in a file.
pub(super) fn limits() -> Limits {
    Limits {
        max_elements_per_tensor: MOST_VALUES as u64,
        ..Limits::default()
    }
}

/// The format of a file of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Npy,
    Npz,
    Csv,
    Parquet,
    /// HDF5, which NetCDF-4 and MATLAB 7.3 are too.
    Hdf5,
    /// No file: values of a program.
    Memory,
}

impl Format {
    /// As people write it: "HDF5 or NetCDF-4".
    pub fn name(self) -> &'static str {
        match self {
            Self::Npy => "a NumPy array (.npy)",
            Self::Npz => "an archive of NumPy arrays (.npz)",
            Self::Csv => "a table (CSV)",
            Self::Parquet => "a table (Parquet)",
            Self::Hdf5 => "HDF5 or NetCDF-4",
            Self::Memory => "values in memory",
        }
    }
}

/// Choices for what a file leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The axes of the array or table, first to last.
    pub axes: Option<Vec<Axis>>,
    /// The array or variable to take.
    pub array: Option<String>,
    /// The time bin to take, from 0.
    pub time_bin: Option<usize>,
    /// The array, variable or column that names the stimuli.
    pub names: Option<String>,
    /// Responses without names are in the order of the pictures, whatever else the file holds.
    pub by_order: bool,
}

/// Separators of text files by the endings of their names, in any case.
pub(super) const ENDINGS: [(&str, u8); 4] =
    [("csv", b','), ("tsv", b'\t'), ("tab", b'\t'), ("txt", b',')];

pub(super) fn ending(name: &str) -> String {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.to_ascii_lowercase()
}

/// The separator of a text file, by the end of its name.
pub(super) fn separator(name: &str) -> u8 {
    let ending = ending(name);
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known.map_or(b',', |(_, separator)| *separator)
}
