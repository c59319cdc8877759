//! Safetensors: a JSON table of names, types, shapes and byte ranges, then the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use half::f16;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::dtype::DType;
use super::error::{CheckpointError, TensorProblem};
use super::state_dict::unwrapped;
use super::tensor::{Format, Parts, TensorInfo, View};
use super::value::Value;
use crate::archive::{Backing, Endian, Limits, check_shape, shorten};

/// Bytes before the table: its length.
const PREFIX: u64 = 8;

pub(super) fn open<S: Read + Seek>(
    source: &mut S,
    size: u64,
    limits: &Limits,
) -> Result<Parts, CheckpointError> {
    let table = read_table(source, size, limits)?;
    let start = PREFIX + table.bytes;
    let held = size - start;
    if table.header.tensors.len() > limits.max_tensors {
        return Err(CheckpointError::TooLarge {
            what: "the number of tensors".to_owned(),
            found: table.header.tensors.len() as u64,
            limit: limits.max_tensors as u64,
        });
    }
    check_overlaps(&table.header)?;
    let mut tensors = BTreeMap::new();
    let mut backings = Vec::new();
    for (name, entry) in &table.header.tensors {
        let name = unwrapped(name);
        let info = entry
            .place(backings.len(), held, limits)
            .map_err(|problem| CheckpointError::tensor(name, problem))?;
        backings.push(entry.backing(start));
        if tensors.insert(name.to_owned(), info).is_some() {
            return Err(CheckpointError::tensor(name, TensorProblem::Twice));
        }
    }
    let metadata = table.header.metadata.into_iter();
    Ok(Parts {
        format: Format::Safetensors,
        flags: metadata.map(|(k, v)| (k, Value::Text(v))).collect(),
        remarks: Vec::new(),
        tensors,
        backings,
    })
}

struct Table {
    header: Header,
    bytes: u64,
}

fn read_table<S: Read + Seek>(
    source: &mut S,
    size: u64,
    limits: &Limits,
) -> Result<Table, CheckpointError> {
    source.seek(SeekFrom::Start(0))?;
    let mut prefix = [0; PREFIX as usize];
    source.read_exact(&mut prefix)?;
    let bytes = u64::from_le_bytes(prefix);
    if bytes > limits.max_pickle_bytes {
        return Err(CheckpointError::TooLarge {
            what: "its table of contents in bytes".to_owned(),
            found: bytes,
            limit: limits.max_pickle_bytes,
        });
    }
    let left = size.saturating_sub(PREFIX);
    if bytes > left {
        return Err(CheckpointError::Truncated {
            what: "its table of contents".to_owned(),
            expected: bytes,
            found: left,
        });
    }
    let mut json = Vec::new();
    source.take(bytes).read_to_end(&mut json)?;
    let header = serde_json::from_slice(&json).map_err(|e| {
        CheckpointError::damaged(format!(
            "its table of contents is not as safetensors prescribes ({})",
            shorten(&e.to_string())
        ))
    })?;
    Ok(Table { header, bytes })
}

/// The table. A map would forget that a name occurred twice.
#[derive(Default)]
struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// At most 32 dimensions, for a table may claim millions of them.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a table of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a shape")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        const MOST: usize = 32;
        let mut shape = Vec::new();
        while let Some(d) = members.next_element()? {
            if shape.len() == MOST {
                return Err(A::Error::custom("a shape of more than 32 dimensions"));
            }
            shape.push(d);
        }
        Ok(Shape(shape))
    }
}

impl Entry {
    fn place(
        &self,
        backing: usize,
        held: u64,
        limits: &Limits,
    ) -> Result<TensorInfo, TensorProblem> {
        let dtype = DType::of_safetensors(&self.dtype)
            .ok_or_else(|| TensorProblem::Type(shorten(&self.dtype)))?;
        let (shape, elements) = check_shape(&self.shape.0, limits)
            .map_err(|problem| TensorProblem::Shape(problem.to_string()))?;
        let [begin, end] = self.data_offsets;
        let given = end
            .checked_sub(begin)
            .ok_or(TensorProblem::Order { begin, end })?;
        let needed = elements * dtype.size() as u64;
        if given != needed {
            let dtype = dtype.name();
            return Err(TensorProblem::Bytes {
                shape,
                dtype,
                needed,
                given,
            });
        }
        if end > held {
            return Err(TensorProblem::CutOff { end, held });
        }
        let strides = row_major(&self.shape.0);
        Ok(TensorInfo {
            shape,
            dtype,
            view: View {
                backing,
                offset: 0,
                strides,
            },
        })
    }

    fn backing(&self, start: u64) -> Backing {
        let [begin, end] = self.data_offsets;
        Backing {
            start: start + begin,
            packed: end - begin,
            length: end - begin,
            deflated: false,
            crc: None,
            endian: Endian::Little,
        }
    }
}

/// Saturates for shapes with a 0, which have no elements to stride over.
fn row_major(shape: &[u64]) -> Vec<u64> {
    let mut strides: Vec<u64> = shape
        .iter()
        .rev()
        .scan(1u64, |stride, d| {
            let this = *stride;
            *stride = stride.saturating_mul(*d);
            Some(this)
        })
        .collect();
    strides.reverse();
    strides
}

fn check_overlaps(header: &Header) -> Result<(), CheckpointError> {
    let mut ranges: Vec<_> = header
        .tensors
        .iter()
        .map(|(name, entry)| (entry.data_offsets, name))
        .filter(|([begin, end], _)| begin < end)
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [([_, end], first), ([begin, _], second)] = pair
            && begin < end
        {
            let problem = TensorProblem::OverlapsTensor(shorten(first));
            return Err(CheckpointError::tensor(second, problem));
        }
    }
    Ok(())
}

/// Writes tensors as safetensors, in the order given, the same bytes every time.
///
/// `tensors` are `(name, shape, values)`, row-major; `metadata` is read back as
/// [`super::Checkpoint::flags`]. With `as_f16` values are rounded to half precision: relative
/// error 2⁻¹¹, largest magnitude 65504.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a shape that does not fit its values, a name twice, or a
/// value that is finite and not so as f16; whatever `out` reports.
pub fn write_safetensors<'a>(
    mut out: impl Write,
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    as_f16: bool,
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let header = written_header(&tensors, as_f16, metadata)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for (name, _, values) in &tensors {
        for piece in values.chunks(1 << 14) {
            out.write_all(&encode(name, piece, as_f16)?)?;
        }
    }
    out.flush()
}

type Written<'a> = (&'a str, &'a [usize], &'a [f32]);

fn written_header(
    tensors: &[Written],
    as_f16: bool,
    metadata: &BTreeMap<String, String>,
) -> io::Result<String> {
    let (dtype, size) = if as_f16 { ("F16", 2) } else { ("F32", 4) };
    let mut names = BTreeSet::new();
    let mut fields = Vec::new();
    if !metadata.is_empty() {
        fields.push(format!(
            "\"__metadata__\":{}",
            serde_json::to_string(metadata)?
        ));
    }
    let mut begin = 0u64;
    for (name, shape, values) in tensors {
        if shape.iter().product::<usize>() != values.len() {
            return Err(invalid(format!(
                "the tensor `{name}` of shape {shape:?} was given {} values",
                values.len()
            )));
        }
        if *name == "__metadata__" || !names.insert(*name) {
            return Err(invalid(format!("the tensor name `{name}` is taken")));
        }
        let end = begin + values.len() as u64 * size;
        fields.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":{},\"data_offsets\":[{begin},{end}]}}",
            serde_json::to_string(name)?,
            serde_json::to_string(shape)?,
        ));
        begin = end;
    }
    let mut header = format!("{{{}}}", fields.join(","));
    // The bytes begin at a multiple of 8.
    let padded = header.len().next_multiple_of(8);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    Ok(header)
}

fn encode(name: &str, values: &[f32], as_f16: bool) -> io::Result<Vec<u8>> {
    if !as_f16 {
        return Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect());
    }
    let mut bytes = Vec::with_capacity(values.len() * 2);
    for x in values {
        let half = f16::from_f32(*x);
        if x.is_finite() && !half.is_finite() {
            return Err(invalid(format!(
                "the tensor `{name}` holds {x}, which is too large for half precision"
            )));
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok(bytes)
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}
