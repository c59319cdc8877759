//! The bytes behind tensors: where they lie, and how a tensor's values are fetched from them.

use std::io::{self, Read, Seek};

use flate2::Crc;

use super::error::{CheckpointError, TensorProblem};
use super::graph::RawTensor;
use super::tensor::{TensorInfo, View};
use crate::archive::{Backing, Limits, Unpacked, check_shape, gather, is_damage};

/// Checks a pickle's tensor against the bytes behind it.
///
/// # Errors
/// What is wrong, naming the tensor.
pub(super) fn place(
    name: &str,
    raw: &RawTensor,
    backing: usize,
    held: u64,
    limits: &Limits,
) -> Result<TensorInfo, CheckpointError> {
    place_in(raw, backing, held, limits).map_err(|problem| CheckpointError::tensor(name, problem))
}

fn place_in(
    raw: &RawTensor,
    backing: usize,
    held: u64,
    limits: &Limits,
) -> Result<TensorInfo, TensorProblem> {
    let (shape, elements) = check_shape(&raw.shape, limits)
        .map_err(|problem| TensorProblem::Shape(problem.to_string()))?;
    if raw.strides.len() != shape.len() {
        return Err(TensorProblem::Strides {
            dimensions: shape.len(),
            strides: raw.strides.len(),
        });
    }
    let storage = &raw.storage;
    let size = raw.dtype.size() as u64;
    let claimed = storage
        .length
        .checked_mul(storage.dtype.map_or(1, |d| d.size() as u64))
        .ok_or(TensorProblem::StorageLength(storage.length))?;
    // A view of a legacy file's root storage.
    let (skipped, viewed) = storage.view.unwrap_or((0, claimed / size));
    let available = (claimed.min(held) / size)
        .saturating_sub(skipped)
        .min(viewed);
    let span = span(&raw.shape, &raw.strides).ok_or(TensorProblem::TooLarge("strides are"))?;
    let needed = span
        .checked_add(raw.offset)
        .ok_or(TensorProblem::TooLarge("offset is"))?;
    if needed > available {
        return Err(TensorProblem::Values {
            shape,
            needed,
            held: available,
        });
    }
    // An axis of stride 0 repeats what is there (`expand`): nothing overlaps by mistake.
    let axes = raw.shape.iter().zip(&raw.strides);
    let own = axes.filter(|(_, stride)| **stride != 0);
    let own = own.fold(1, |count: u64, (size, _)| count.saturating_mul(*size));
    if elements > 0 && own > span {
        return Err(TensorProblem::Overlap {
            elements,
            places: span,
        });
    }
    if span > limits.max_elements_per_tensor {
        return Err(TensorProblem::Spread(span));
    }
    Ok(TensorInfo {
        shape,
        dtype: raw.dtype,
        view: View {
            backing,
            offset: skipped + raw.offset,
            strides: raw.strides.clone(),
        },
    })
}

/// Elements from a view's first to its last, both included; 0 for an empty one.
fn span(shape: &[u64], strides: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let reach = |d: &u64, s: &u64| (d - 1).checked_mul(*s);
    let mut last = 0u64;
    for (d, s) in shape.iter().zip(strides) {
        last = last.checked_add(reach(d, s)?)?;
    }
    last.checked_add(1)
}

impl TensorInfo {
    fn shape64(&self) -> Vec<u64> {
        self.shape.iter().map(|d| *d as u64).collect()
    }

    fn span(&self) -> u64 {
        // `place` has computed it before without overflow.
        span(&self.shape64(), &self.view.strides).unwrap_or(0)
    }

    /// The bytes of its backing that it needs.
    pub(super) fn range(&self) -> (u64, u64) {
        let size = self.dtype.size() as u64;
        let start = self.view.offset * size;
        (start, start + self.span() * size)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (d, s) in self.shape64().iter().zip(&self.view.strides).rev() {
            if *d != 1 && *s != expected {
                return false;
            }
            expected *= d;
        }
        true
    }
}

/// Reads a tensor's values, row-major.
pub(super) fn read_f32<S: Read + Seek>(
    source: &mut S,
    name: &str,
    info: &TensorInfo,
    backing: &Backing,
) -> Result<Vec<f32>, CheckpointError> {
    let elements = info.elements();
    if elements == 0 {
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    if !backing.deflated {
        // These bytes are known to be in the file; deflated ones are only claimed.
        let count = usize::try_from(info.span()).unwrap_or(usize::MAX);
        values
            .try_reserve_exact(count)
            .map_err(|_| CheckpointError::tensor(name, TensorProblem::Memory(count)))?;
    }
    fetch(source, name, backing, info.range(), |chunk| {
        info.dtype.append_f32(chunk, backing.endian, &mut values);
    })?;
    if info.is_contiguous() {
        return Ok(values);
    }
    Ok(gather(&values, &info.shape, &info.view.strides, elements))
}

/// Hands over the bytes `start..end` of a backing in pieces whose length is a multiple of 8
/// (the last one's is what remains), and checks the sum where all of them pass by.
fn fetch<S: Read + Seek>(
    source: &mut S,
    name: &str,
    backing: &Backing,
    (start, end): (u64, u64),
    mut take: impl FnMut(&[u8]),
) -> Result<(), CheckpointError> {
    const PIECE: usize = 1 << 16;
    let mut reader = Unpacked::at(source, backing, start)?;
    let mut crc = Crc::new();
    let mut buffer = vec![0; PIECE.min(usize::try_from(end - start).unwrap_or(PIECE))];
    let mut left = end - start;
    while left > 0 {
        let n = buffer.len().min(usize::try_from(left).unwrap_or(PIECE));
        // `n` is at most the buffer's length.
        let piece = &mut buffer[..n];
        reader.read_exact(piece).map_err(|e| short(e, name, left))?;
        crc.update(piece);
        take(piece);
        left -= n as u64;
    }
    let all = start == 0 && end == backing.length;
    match backing.crc {
        Some(expected) if all && crc.sum() != expected => {
            Err(CheckpointError::tensor(name, TensorProblem::Checksum))
        }
        _ => Ok(()),
    }
}

fn short(error: io::Error, name: &str, expected: u64) -> CheckpointError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            CheckpointError::tensor(name, TensorProblem::Short(expected))
        }
        _ if is_damage(&error) => CheckpointError::tensor(name, TensorProblem::Compressed),
        _ => error.into(),
    }
}
