//! Zip archives and NumPy arrays, from sources that are not trusted.
//!
//! Checkpoints, image sets and recordings share these readers. Every length in a file is checked
//! against the file's size and against [`Limits`] before it is used.

pub mod npy;
pub(crate) mod zip;

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use serde::{Deserialize, Serialize};

/// Limits beyond which a file is refused. The defaults exceed every supported network several
/// times over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tensors of the model.
    pub max_tensors: usize,
    /// Values of one tensor.
    pub max_elements_per_tensor: u64,
    /// All tensors together, as f32.
    pub max_total_bytes: u64,
    /// The table of contents: a pickle, a zip directory, a JSON header.
    pub max_pickle_bytes: u64,
    /// Values in a pickle; each takes some 50 bytes of memory.
    pub max_values: usize,
    /// How deep settings may be nested; what is deeper is left out.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tensors: 20_000,
            max_elements_per_tensor: 1 << 28,
            max_total_bytes: 2 << 30,
            max_pickle_bytes: 32 << 20,
            max_values: 1 << 20,
            max_depth: 32,
        }
    }
}

/// Why an archive or an array could not be read.
///
/// `Display` is one sentence for the user; the cause for the log is [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Zero bytes.
    #[error("this file is empty (0 bytes): the download probably failed, please fetch it again")]
    Empty,
    /// The file is shorter than its headers say.
    #[error(
        "the file is cut off in the middle of {what}: {expected} bytes are needed there and {found} are left, so please fetch it again"
    )]
    Truncated {
        what: String,
        expected: u64,
        found: u64,
    },
    /// Its structure is invalid.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// One array of a NumPy file is at fault.
    #[error("{name} cannot be read: {problem}")]
    Array { name: String, problem: String },
    /// More than [`Limits`] allow.
    #[error(
        "the file is too large to load safely: {what} is {found}, and at most {limit} is allowed"
    )]
    TooLarge {
        what: String,
        found: u64,
        limit: u64,
    },
    /// The disk, the browser or the network failed.
    #[error("the file could not be read to its end")]
    Io(#[from] io::Error),
}

/// A name from an untrusted file for a message: no control characters, 120 characters at most.
pub(crate) fn shorten(name: &str) -> String {
    const MOST: usize = 120;
    let mut short: String = name
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// Byte order of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

/// Appends `f` of every `N` bytes, which are converted to little-endian order first.
pub(crate) fn append<const N: usize, T>(
    bytes: &[u8],
    endian: Endian,
    out: &mut Vec<T>,
    f: impl Fn([u8; N]) -> T,
) {
    let values = bytes.as_chunks::<N>().0.iter().copied();
    match endian {
        Endian::Little => out.extend(values.map(f)),
        Endian::Big => out.extend(values.map(|mut value| {
            value.reverse();
            f(value)
        })),
    }
}

/// A stretch of the file that tensors are views of.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    /// Where it begins in the file.
    pub start: u64,
    /// Bytes it takes there.
    pub packed: u64,
    /// Bytes it holds, unpacked.
    pub length: u64,
    pub deflated: bool,
    /// CRC-32 of the unpacked bytes, where the file keeps one.
    pub crc: Option<u32>,
    #[cfg_attr(
        not(feature = "checkpoint"),
        allow(dead_code, reason = "checkpoints alone read it")
    )]
    pub endian: Endian,
}

/// Largest factor by which DEFLATE can shrink anything (RFC 1951: 258 bytes in 2 bits).
pub(crate) const DEFLATE_RATIO: u64 = 1032;

/// A shape of more elements than [`Limits`] allow.
#[derive(Debug, thiserror::Error)]
#[error("its shape {shape:?} is larger than the {most} values allowed")]
pub(crate) struct ShapeTooLarge {
    shape: Vec<u64>,
    most: u64,
}

/// The shape in `usize` and its number of elements.
pub(crate) fn check_shape(
    shape: &[u64],
    limits: &Limits,
) -> Result<(Vec<usize>, u64), ShapeTooLarge> {
    let most = limits.max_elements_per_tensor;
    // Every dimension by itself, for one of them may be 0.
    let fits = |d: &u64| usize::try_from(*d).ok().filter(|_| *d <= most);
    let dimensions: Option<Vec<usize>> = shape.iter().map(fits).collect();
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    match (dimensions, elements) {
        (Some(dimensions), Some(elements)) if elements <= most => Ok((dimensions, elements)),
        _ => Err(ShapeTooLarge {
            shape: shape.to_vec(),
            most,
        }),
    }
}

/// Whether a decompressor reports invalid input.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput};
    matches!(error.kind(), InvalidInput | InvalidData)
}

pub(crate) enum Unpacked<'a, S> {
    Plain(&'a mut S),
    Deflated(Box<DeflateDecoder<BufReader<io::Take<&'a mut S>>>>),
}

impl<'a, S: Read + Seek> Unpacked<'a, S> {
    /// A reader of `backing`, positioned at its byte `start`.
    pub fn at(source: &'a mut S, backing: &Backing, start: u64) -> io::Result<Self> {
        if !backing.deflated {
            source.seek(SeekFrom::Start(backing.start + start))?;
            return Ok(Self::Plain(source));
        }
        source.seek(SeekFrom::Start(backing.start))?;
        let packed = BufReader::new(source.take(backing.packed));
        let mut decoder = DeflateDecoder::new(packed);
        io::copy(&mut decoder.by_ref().take(start), &mut io::sink())?;
        Ok(Self::Deflated(Box::new(decoder)))
    }
}

impl<S: Read> Read for Unpacked<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Deflated(decoder) => decoder.read(buffer),
        }
    }
}

/// All bytes of a small backing, `limit` at most.
#[cfg(feature = "checkpoint")]
pub(crate) fn read_all<S: Read + Seek>(
    source: &mut S,
    backing: &Backing,
    limit: u64,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = backing.length.min(limit);
    Unpacked::at(source, backing, 0)?
        .take(most)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A buffered reader of a backing from its beginning.
pub(crate) fn reader<'a, S: Read + Seek>(
    source: &'a mut S,
    backing: &Backing,
) -> io::Result<impl Read + use<'a, S>> {
    let unpacked = Unpacked::at(source, backing, 0)?;
    Ok(BufReader::new(unpacked.take(backing.length)))
}

/// A reader of a whole backing that computes its length and checksum.
pub(crate) struct Checked<R> {
    inner: R,
    crc: Crc,
    count: u64,
}

impl<R: Read> Checked<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            crc: Crc::new(),
            count: 0,
        }
    }

    /// Reads the rest and checks length and checksum.
    pub fn fits(mut self, backing: &Backing) -> io::Result<bool> {
        io::copy(&mut self, &mut io::sink())?;
        let expected = backing.crc.unwrap_or(self.crc.sum());
        Ok(self.count == backing.length && self.crc.sum() == expected)
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.crc.update(&buffer[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

/// Puts a strided view into row-major order. `values` begins at the view's first element.
pub(crate) fn gather<T: Copy>(
    values: &[T],
    shape: &[usize],
    strides: &[u64],
    elements: usize,
) -> Vec<T> {
    let mut gathered = Vec::with_capacity(elements);
    let mut index = vec![0usize; shape.len()];
    let mut at = 0u64;
    for _ in 0..elements {
        // `at` stays below the view's span, which is the length of `values`.
        gathered.push(values[at as usize]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d] as u64;
            index[d] = 0;
        }
    }
    gathered
}

/// All bytes of an entry, checked against its checksum.
///
/// # Errors
/// More than `limit` bytes, damage, and whatever `source` reports.
#[cfg(feature = "dataset")]
pub(crate) fn read_checked<S: Read + Seek>(
    source: &mut S,
    name: &str,
    backing: &Backing,
    limit: u64,
) -> Result<Vec<u8>, ArchiveError> {
    if backing.length > limit {
        return Err(ArchiveError::TooLarge {
            what: format!("`{}` in bytes", shorten(name)),
            found: backing.length,
            limit,
        });
    }
    let damaged = || {
        ArchiveError::Damaged(format!(
            "the bytes of `{}` are not what they were",
            shorten(name)
        ))
    };
    let mut checked = Checked::new(reader(source, backing)?);
    let mut bytes = Vec::new();
    let read = checked.read_to_end(&mut bytes);
    match read.and_then(|_| checked.fits(backing)) {
        Ok(true) => Ok(bytes),
        Ok(false) => Err(damaged()),
        Err(error) if is_damage(&error) => Err(damaged()),
        Err(error) => Err(error.into()),
    }
}
