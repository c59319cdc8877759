//! NumPy's `.npy` arrays and `.npz` archives of them (NumPy enhancement proposal 1).
//!
//! All number types are read, and kept in one of five; `f32`, `f64`, `i64`, `u8` and `bool` are
//! written. Archives are written uncompressed, as `numpy.savez` does, and read either way.

use std::io::{self, Read, Seek, SeekFrom, Write};

use half::f16;

use super::zip::{Directory, Writer};
use super::{
    ArchiveError, Backing, Checked, Endian, Limits, ShapeTooLarge, append, check_shape, gather,
    is_damage, reader, shorten,
};

const MAGIC: &[u8] = b"\x93NUMPY";

/// An array with its shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The values of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `float32` and `float16`.
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// All integers but `uint8`. Values of a `uint64` above `i64::MAX` become that.
    I64(Vec<i64>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

impl Data {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As f32; wider types are rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(v) => v.clone(),
            Self::F64(v) => v.iter().map(|x| *x as f32).collect(),
            Self::I64(v) => v.iter().map(|x| *x as f32).collect(),
            Self::U8(v) => v.iter().map(|x| f32::from(*x)).collect(),
            Self::Bool(v) => v.iter().map(|x| f32::from(u8::from(*x))).collect(),
        }
    }

    /// As f64; integers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::F64(v) => v.clone(),
            Self::I64(v) => v.iter().map(|x| *x as f64).collect(),
            Self::U8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
        }
    }

    /// Integers and booleans; `None` for fractions.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Self::F32(_) | Self::F64(_) => None,
            Self::I64(v) => Some(v.clone()),
            Self::U8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
            Self::Bool(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
        }
    }

    fn descr(&self) -> &'static str {
        match self {
            Self::F32(_) => "<f4",
            Self::F64(_) => "<f8",
            Self::I64(_) => "<i8",
            Self::U8(_) => "|u1",
            Self::Bool(_) => "|b1",
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::U8(v) => v.clone(),
            Self::Bool(v) => v.iter().map(|x| u8::from(*x)).collect(),
        }
    }
}

impl Array {
    /// # Errors
    /// A shape that does not fit the number of values.
    pub fn new(shape: Vec<usize>, data: Data) -> io::Result<Self> {
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements == Some(data.len()) {
            return Ok(Self { shape, data });
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "an array of shape {shape:?} was given {} values",
                data.len()
            ),
        ))
    }
}

// Reading.

/// Reads a `.npy` file.
///
/// # Errors
/// Another format, an array of something other than numbers, one that is cut off or exceeds
/// `limits` (elements and total bytes).
pub fn read_npy(mut source: impl Read + Seek, limits: &Limits) -> Result<Array, ArchiveError> {
    let size = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(0))?;
    read_array(&mut source, size, limits).map_err(|problem| problem.named("the array"))
}

/// What is wrong with an array that has no name yet.
enum Problem {
    Array(String),
    Io(io::Error),
}

impl Problem {
    fn named(self, name: &str) -> ArchiveError {
        match self {
            Self::Array(problem) => ArchiveError::Array {
                name: name.to_owned(),
                problem,
            },
            Self::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Array("it is cut off".to_owned()).named(name)
            }
            Self::Io(e) if is_damage(&e) => {
                Self::Array("its compressed bytes are damaged".to_owned()).named(name)
            }
            Self::Io(e) => e.into(),
        }
    }
}

impl From<ShapeTooLarge> for Problem {
    fn from(e: ShapeTooLarge) -> Self {
        Self::Array(e.to_string())
    }
}

impl From<io::Error> for Problem {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

fn wrong<T>(problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Array(problem.into()))
}

/// Reads an array from a reader that claims to hold `size` bytes.
fn read_array(
    source: &mut (impl Read + ?Sized),
    size: u64,
    limits: &Limits,
) -> Result<Array, Problem> {
    let (text, before) = read_header(source)?;
    let header = Header::parse(&text)?;
    read_values(source, size.saturating_sub(before), &header, limits)
}

/// The text of the dictionary before an array's values, and the number of bytes up to its end.
fn read_header(source: &mut (impl Read + ?Sized)) -> Result<(String, u64), Problem> {
    let mut prefix = [0; 8];
    source.read_exact(&mut prefix)?;
    if !prefix.starts_with(MAGIC) {
        return wrong("it is not in NumPy's format");
    }
    let [.., major, _minor] = prefix;
    let (length, width) = header_length(source, major)?;
    const MOST_HEADER: u32 = 1 << 16;
    if length > MOST_HEADER {
        return wrong(format!("its header claims {length} bytes"));
    }
    let mut header = vec![0; length as usize];
    source.read_exact(&mut header)?;
    let before = prefix.len() as u64 + width + u64::from(length);
    Ok((String::from_utf8_lossy(&header).into_owned(), before))
}

/// Reads the strings of an array of type `<U…` (four bytes a character) or `|S…` (one).
fn read_strings(
    source: &mut (impl Read + ?Sized),
    limits: &Limits,
) -> Result<Vec<String>, Problem> {
    let (text, _) = read_header(source)?;
    let Some(descr) = quoted_after(&text, "descr") else {
        return wrong("it is a table of records, and only arrays of names are read");
    };
    let (big, kind) = match descr.strip_prefix('>') {
        Some(kind) => (true, kind),
        None => (false, descr.trim_start_matches(['<', '|', '='])),
    };
    let width = |prefix| {
        kind.strip_prefix(prefix)
            .and_then(|n| n.parse::<u64>().ok())
    };
    let (bytes_each, size) = match (width('U'), width('S')) {
        (Some(n), _) => (4, n.saturating_mul(4)),
        (_, Some(n)) => (1, n),
        _ => {
            return wrong(format!(
                "its values are of type `{}`, and only strings are names",
                shorten(descr)
            ));
        }
    };
    let shape =
        after(&text, "shape").map_or_else(|| wrong("its header is malformed"), parse_shape)?;
    let (_, count) = check_shape(&shape, limits)?;
    let needed = count.saturating_mul(size);
    if needed > limits.max_pickle_bytes {
        return wrong(format!(
            "it takes {needed} bytes, and {} are allowed",
            limits.max_pickle_bytes
        ));
    }
    let mut bytes = Vec::new();
    source.take(needed).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < needed {
        return wrong("it is cut off");
    }
    // Strings without a character take no bytes at all.
    let chunks = bytes.chunks_exact(usize::try_from(size.max(1)).unwrap_or(usize::MAX));
    let read = |chunk: &[u8]| match bytes_each {
        4 => from_utf32(chunk, big),
        _ => String::from_utf8_lossy(chunk).into_owned(),
    };
    let names = chunks.map(|chunk| read(chunk).trim_end_matches('\0').to_owned());
    Ok(names.collect())
}

fn from_utf32(bytes: &[u8], big: bool) -> String {
    let endian = if big { Endian::Big } else { Endian::Little };
    let mut text = Vec::new();
    append(bytes, endian, &mut text, |b| {
        char::from_u32(u32::from_le_bytes(b)).unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    text.into_iter().collect()
}

/// The length of the header, and the bytes it is written in: version 1 has 2 of them, 2 and 3
/// have 4.
fn header_length(source: &mut (impl Read + ?Sized), major: u8) -> Result<(u32, u64), Problem> {
    match major {
        1 => {
            let mut length = [0; 2];
            source.read_exact(&mut length)?;
            Ok((u16::from_le_bytes(length).into(), 2))
        }
        2 | 3 => {
            let mut length = [0; 4];
            source.read_exact(&mut length)?;
            Ok((u32::from_le_bytes(length), 4))
        }
        _ => wrong(format!("its format has version {major}, which is unknown")),
    }
}

fn read_values(
    source: &mut (impl Read + ?Sized),
    held: u64,
    header: &Header,
    limits: &Limits,
) -> Result<Array, Problem> {
    let (shape, elements) = check_shape(&header.shape, limits)?;
    let needed = elements * header.kind.size;
    if needed > limits.max_total_bytes {
        return wrong(format!(
            "it takes {needed} bytes, and {} are allowed",
            limits.max_total_bytes
        ));
    }
    if needed > held {
        return wrong(format!(
            "it is cut off: {needed} bytes are needed and {held} are left"
        ));
    }
    let mut bytes = Vec::new();
    source.take(needed).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < needed {
        return wrong(format!(
            "it is cut off: {needed} bytes are needed and {} are left",
            bytes.len()
        ));
    }
    let data = header.kind.decode(&bytes);
    Ok(match header.fortran_order {
        true => Array {
            data: reorder(data, &shape),
            shape,
        },
        false => Array { shape, data },
    })
}

/// The dictionary before an array's values.
struct Header {
    kind: Kind,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// A type of number: its letter in NumPy's notation, its size, its byte order.
#[derive(Clone, Copy)]
struct Kind {
    letter: u8,
    size: u64,
    endian: Endian,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`. The three keys are
    /// looked for, for no value NumPy writes contains one of them.
    fn parse(text: &str) -> Result<Self, Problem> {
        let (Some(descr), Some(order), Some(shape)) = (
            after(text, "descr"),
            after(text, "fortran_order"),
            after(text, "shape"),
        ) else {
            return wrong("its header is malformed");
        };
        let fortran_order = match order {
            o if o.starts_with("True") => true,
            o if o.starts_with("False") => false,
            _ => return wrong("its header is malformed"),
        };
        Ok(Self {
            kind: Kind::parse(descr)?,
            fortran_order,
            shape: parse_shape(shape)?,
        })
    }
}

/// The text after a key.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    let rest = rest.trim_start_matches(['\'', '"']).trim_start();
    rest.strip_prefix(':').map(str::trim_start)
}

fn quoted_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = after(text, key)?.strip_prefix(['\'', '"'])?;
    rest.split_once(['\'', '"']).map(|(descr, _)| descr)
}

fn parse_shape(text: &str) -> Result<Vec<u64>, Problem> {
    const MOST: usize = 32;
    let inner = text
        .strip_prefix('(')
        .and_then(|t| t.split_once(')'))
        .map(|(inner, _)| inner);
    let Some(inner) = inner else {
        return wrong("its shape is malformed");
    };
    let numbers = inner.split(',').map(str::trim).filter(|t| !t.is_empty());
    // Python 2 wrote `3L`.
    let shape: Result<Vec<u64>, _> = numbers
        .take(MOST + 1)
        .map(|t| t.trim_end_matches('L').parse())
        .collect();
    match shape {
        Ok(shape) if shape.len() <= MOST => Ok(shape),
        Ok(_) => wrong("it claims more than 32 dimensions"),
        Err(_) => wrong("its shape is malformed"),
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, Problem> {
        let quoted = text
            .strip_prefix(['\'', '"'])
            .and_then(|t| t.split_once(['\'', '"']))
            .map(|(descr, _)| descr);
        let Some(descr) = quoted else {
            return wrong("it is a table of records, and only arrays of numbers are read");
        };
        let (endian, rest) = match descr.as_bytes() {
            [b'>', rest @ ..] => (Endian::Big, rest),
            [b'<' | b'|' | b'=', rest @ ..] => (Endian::Little, rest),
            rest => (Endian::Little, rest),
        };
        let (letter, size) = match rest {
            [
                letter @ (b'f' | b'i' | b'u' | b'b'),
                size @ (b'1' | b'2' | b'4' | b'8'),
            ] => (*letter, u64::from(size - b'0')),
            [b'?'] => (b'b', 1),
            _ => (0, 0),
        };
        match (letter, size) {
            (b'f', 2 | 4 | 8) | (b'i' | b'u', _) | (b'b', 1) => Ok(Self {
                letter,
                size,
                endian,
            }),
            _ => wrong(format!(
                "its values are of type `{}`, and only numbers are read",
                shorten(descr)
            )),
        }
    }

    fn decode(self, bytes: &[u8]) -> Data {
        match (self.letter, self.size) {
            (b'f', 2) => Data::F32(self.all(bytes, |b| f16::from_le_bytes(b).to_f32())),
            (b'f', 4) => Data::F32(self.all(bytes, f32::from_le_bytes)),
            (b'f', _) => Data::F64(self.all(bytes, f64::from_le_bytes)),
            (b'u', 1) => Data::U8(bytes.to_vec()),
            (b'b', _) => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
            (b'i', 1) => Data::I64(self.all(bytes, |b| i8::from_le_bytes(b).into())),
            (b'i', 2) => Data::I64(self.all(bytes, |b| i16::from_le_bytes(b).into())),
            (b'i', 4) => Data::I64(self.all(bytes, |b| i32::from_le_bytes(b).into())),
            (b'i', _) => Data::I64(self.all(bytes, i64::from_le_bytes)),
            (_, 2) => Data::I64(self.all(bytes, |b| u16::from_le_bytes(b).into())),
            (_, 4) => Data::I64(self.all(bytes, |b| u32::from_le_bytes(b).into())),
            (_, _) => Data::I64(self.all(bytes, |b| {
                i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)
            })),
        }
    }

    fn all<const N: usize, T>(self, bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        let mut values = Vec::with_capacity(bytes.len() / N);
        append(bytes, self.endian, &mut values, f);
        values
    }
}

/// From column-major to row-major.
fn reorder(data: Data, shape: &[usize]) -> Data {
    match data {
        Data::F32(v) => Data::F32(row_major(&v, shape)),
        Data::F64(v) => Data::F64(row_major(&v, shape)),
        Data::I64(v) => Data::I64(row_major(&v, shape)),
        Data::U8(v) => Data::U8(row_major(&v, shape)),
        Data::Bool(v) => Data::Bool(row_major(&v, shape)),
    }
}

fn row_major<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let stride = |stride: &mut u64, d: &usize| {
        let this = *stride;
        *stride *= *d as u64;
        Some(this)
    };
    // No dimension is 0 where there are values, so nothing overflows.
    let strides: Vec<u64> = match values.is_empty() {
        true => return Vec::new(),
        false => shape.iter().scan(1, stride).collect(),
    };
    gather(values, shape, &strides, values.len())
}

/// An open `.npz` archive.
#[derive(Debug)]
pub struct Npz<S> {
    source: S,
    size: u64,
    directory: Directory,
    limits: Limits,
}

impl<S: Read + Seek> Npz<S> {
    /// Reads the archive's directory.
    ///
    /// # Errors
    /// No zip archive, or a damaged one.
    pub fn open(mut source: S, limits: &Limits) -> Result<Self, ArchiveError> {
        let size = source.seek(SeekFrom::End(0))?;
        if size == 0 {
            return Err(ArchiveError::Empty);
        }
        let directory = Directory::read(&mut source, size, limits.max_pickle_bytes)?;
        Ok(Self {
            source,
            size,
            directory,
            limits: *limits,
        })
    }

    /// The names of the arrays, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.directory.entries.keys();
        names.filter_map(|name| name.strip_suffix(".npy"))
    }

    /// Reads one array.
    ///
    /// # Errors
    /// A name that is not there, and as [`read_npy`].
    pub fn read(&mut self, name: &str) -> Result<Array, ArchiveError> {
        let (backing, limits) = (self.locate(name)?, self.limits);
        read_entry(&mut self.source, &backing, |reader| {
            read_array(reader, backing.length, &limits)
        })
        .map_err(|p| p.named(&label(name)))
    }

    /// Reads one array of strings, in row-major order.
    ///
    /// # Errors
    /// A name that is not there, an array of something else, one that is cut off or larger than
    /// the limits allow a table of contents to be.
    pub fn read_strings(&mut self, name: &str) -> Result<Vec<String>, ArchiveError> {
        let (backing, limits) = (self.locate(name)?, self.limits);
        read_entry(&mut self.source, &backing, |reader| {
            read_strings(reader, &limits)
        })
        .map_err(|p| p.named(&label(name)))
    }

    fn locate(&mut self, name: &str) -> Result<Backing, ArchiveError> {
        let entry = format!("{name}.npy");
        self.directory
            .locate(&mut self.source, self.size, &entry)?
            .ok_or_else(|| ArchiveError::Array {
                name: label(name),
                problem: "there is no array of this name in the archive".to_owned(),
            })
    }
}

fn label(name: &str) -> String {
    format!("the array `{}`", shorten(name))
}

fn read_entry<S: Read + Seek, T>(
    source: &mut S,
    backing: &Backing,
    read: impl FnOnce(&mut dyn Read) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut reader = Checked::new(self::reader(source, backing)?);
    let found = read(&mut reader)?;
    if !reader.fits(backing)? {
        return wrong("its bytes do not fit their checksum");
    }
    Ok(found)
}

// Writing.

/// Writes a `.npy` file.
///
/// # Errors
/// Whatever `out` reports.
pub fn write_npy(mut out: impl Write, array: &Array) -> io::Result<()> {
    out.write_all(&header_bytes(array)?)?;
    out.write_all(&array.data.to_bytes())?;
    out.flush()
}

/// The header as NumPy writes it: version 1.0, padded so that the values begin at a multiple
/// of 64.
fn header_bytes(array: &Array) -> io::Result<Vec<u8>> {
    const BEFORE: usize = 10;
    let shape = match array.shape[..] {
        [one] => format!("({one},)"),
        ref all => {
            let all: Vec<String> = all.iter().map(usize::to_string).collect();
            format!("({})", all.join(", "))
        }
    };
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}",
        array.data.descr()
    );
    // One byte for the newline.
    let padded = (BEFORE + text.len() + 1).next_multiple_of(64) - BEFORE;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    let length = u16::try_from(text.len()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "an array of too many dimensions",
        )
    })?;
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
    Ok(bytes)
}

/// Writes an `.npz` archive array by array.
pub struct NpzWriter<W: Write>(Writer<W>);

impl<W: Write> NpzWriter<W> {
    pub fn new(out: W) -> Self {
        Self(Writer::new(out))
    }

    /// Adds an array under a name (without `.npy`).
    ///
    /// # Errors
    /// Whatever `out` reports; an archive that would exceed 4 GiB.
    pub fn add(&mut self, name: &str, array: &Array) -> io::Result<()> {
        let header = header_bytes(array)?;
        let values = array.data.to_bytes();
        self.0.add(&format!("{name}.npy"), &[&header, &values])
    }

    /// Writes the directory, without which the archive cannot be read, and returns the output.
    ///
    /// # Errors
    /// Whatever `out` reports.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}
