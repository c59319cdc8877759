//! From a file's bytes to [`Responses`].

use super::error::NeuralError;
use super::format::{ENDINGS, ReadOptions, ending};
use super::recording::Recording;
use super::responses::Responses;
use super::{csv, hdf5, numpy, text};

/// Formats by the first bytes of a file.
const MAGIC: [(&[u8], Kind); 6] = [
    (b"\x93NUMPY", Kind::Npy),
    (b"PK\x03\x04", Kind::Npz),
    (b"PK\x05\x06", Kind::Npz),
    (b"PAR1", Kind::Parquet),
    (b"CDF\x01", Kind::NetCdf3),
    (b"CDF\x02", Kind::NetCdf3),
];

/// Endings of formats that are recognised by their first bytes: without these the file is cut off
/// or damaged.
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

/// Reads responses from a file's bytes, in the format of its first bytes, or of its name's ending
/// where it is text.
///
/// # Errors
/// Another format, damage, an array whose axes or labels do not fit: a sentence that says what to
/// change. No bytes make it panic or allocate more than they can hold.
///
/// # Examples
/// ```
/// use ventral::neural::{ReadOptions, read};
///
/// let table = "image,n1,n2\ncat.png,1,2\ndog.png,3,5\n";
/// let responses = read("it.csv", table.into(), &ReadOptions::default())?;
/// assert_eq!(responses.shape(), [2, 1, 2]);
/// assert_eq!(responses.mean(), [1.0, 2.0, 3.0, 5.0]);
/// # Ok::<(), ventral::neural::NeuralError>(())
/// ```
pub fn read(name: &str, bytes: Vec<u8>, options: &ReadOptions) -> Result<Responses, NeuralError> {
    let found = match kind(name, &bytes)? {
        Kind::Npy => numpy::npy(&bytes, options),
        Kind::Npz if is_workbook(&bytes) => Err(NeuralError::Excel),
        Kind::Npz => numpy::npz(&bytes, options),
        Kind::Text(separator) => csv::responses(&bytes, separator, options),
        Kind::Hdf5 => hdf5::responses(bytes, options),
        Kind::Parquet => parquet(bytes, options),
        Kind::NetCdf3 => Err(NeuralError::NetCdf3),
    };
    found?.into_responses()
}

#[cfg(feature = "neural-parquet")]
fn parquet(bytes: Vec<u8>, options: &ReadOptions) -> Result<Recording, NeuralError> {
    super::parquet::responses(bytes, options)
}

#[cfg(not(feature = "neural-parquet"))]
fn parquet(_: Vec<u8>, _: &ReadOptions) -> Result<Recording, NeuralError> {
    Err(NeuralError::NotBuilt("Parquet"))
}

/// Whether a zip archive is Excel's, by its table of contents at the end.
fn is_workbook(bytes: &[u8]) -> bool {
    const SHEETS: &[u8] = b"xl/workbook.xml";
    const TAIL: usize = 1 << 16;
    let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
    tail.windows(SHEETS.len()).any(|window| window == SHEETS)
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
    if bytes.starts_with(b"MATLAB 5.0 MAT-file") || ending == "mat" {
        return Err(NeuralError::Matlab5);
    }
    let is_binary = bytes.contains(&0) && !text::is_utf16(bytes);
    if BINARY.contains(&ending.as_str()) || is_binary {
        return Err(NeuralError::UnknownFormat);
    }
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known.map_or(Err(NeuralError::UnknownFormat), |(_, separator)| {
        Ok(Kind::Text(*separator))
    })
}
