//! From a file's bytes to [`Responses`].

use serde::{Deserialize, Serialize};

use super::axes::Axis;
use super::found::Found;
use super::{NeuralError, Responses, csv, hdf5, numpy};

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
    /// No file: made by a program.
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

/// What a reader is told where a file does not say it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The axes of the array or table, first to last.
    pub axes: Option<Vec<Axis>>,
    /// The array or variable to take.
    pub array: Option<String>,
    /// The time bin to take, from 0.
    pub time_bin: Option<usize>,
}

/// What a file is by its first bytes.
const MAGIC: [(&[u8], Kind); 6] = [
    (b"\x93NUMPY", Kind::Npy),
    (b"PK\x03\x04", Kind::Npz),
    (b"PK\x05\x06", Kind::Npz),
    (b"PAR1", Kind::Parquet),
    (b"CDF\x01", Kind::NetCdf3),
    (b"CDF\x02", Kind::NetCdf3),
];

/// What text is by the end of its name, in any case.
const ENDINGS: [(&str, u8); 4] = [("csv", b','), ("tsv", b'\t'), ("tab", b'\t'), ("txt", b',')];

/// Endings of what was to be known by its first bytes: such a file is cut off or damaged.
const BINARY: [&str; 10] = [
    "npy", "npz", "h5", "hdf5", "hdf", "nc", "nc4", "netcdf", "mat", "parquet",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Npy,
    Npz,
    Parquet,
    Hdf5,
    NetCdf3,
    /// Text with its separator.
    Text(u8),
}

/// Reads responses from a file's bytes. Its first bytes tell the format, and the end of its name
/// where it is text.
///
/// # Errors
/// Another format, damage, an array whose axes or labels do not fit: a sentence that says what to
/// change. No bytes make it panic, or take more memory than they can hold.
pub fn read(name: &str, bytes: Vec<u8>, options: &ReadOptions) -> Result<Responses, NeuralError> {
    let found = match kind(name, &bytes)? {
        Kind::Npy => numpy::npy(&bytes, options),
        Kind::Npz => numpy::npz(&bytes, options),
        Kind::Text(separator) => csv::responses(&bytes, separator, options),
        Kind::Hdf5 => hdf5::responses(bytes, options),
        Kind::Parquet => parquet(bytes, options),
        Kind::NetCdf3 => Err(NeuralError::NetCdf3),
    };
    found?.into_responses()
}

#[cfg(feature = "neural-parquet")]
fn parquet(bytes: Vec<u8>, options: &ReadOptions) -> Result<Found, NeuralError> {
    super::parquet::responses(bytes, options)
}

#[cfg(not(feature = "neural-parquet"))]
fn parquet(_: Vec<u8>, _: &ReadOptions) -> Result<Found, NeuralError> {
    Err(NeuralError::NotBuilt("Parquet"))
}

fn kind(name: &str, bytes: &[u8]) -> Result<Kind, NeuralError> {
    if bytes.is_empty() {
        return Err(NeuralError::Empty);
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(*kind);
    }
    if hdf5::is_it(bytes) {
        return Ok(Kind::Hdf5);
    }
    let ending = ending(name);
    if BINARY.contains(&ending.as_str()) || bytes.contains(&0) {
        return Err(NeuralError::UnknownFormat);
    }
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known.map_or(Err(NeuralError::UnknownFormat), |(_, separator)| {
        Ok(Kind::Text(*separator))
    })
}

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
