//! PyTorch's zip format (`torch.save` since 1.6): `NAME/data.pkl`, and a storage an entry in
//! `NAME/data/KEY`.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::bytes;
use super::error::{CheckpointError, TensorProblem};
use super::graph::Pickled;

use super::reader::ByteReader;
use super::tensor::{Format, Parts};
use super::{pickle, state_dict};
use crate::archive::zip::Directory;
use crate::archive::{self, Backing, Checked, Endian, Limits, shorten};

pub(super) fn open<S: Read + Seek>(
    source: &mut S,
    size: u64,
    limits: &Limits,
) -> Result<Parts, CheckpointError> {
    let directory = Directory::read(source, size, limits.max_pickle_bytes)?;
    let prefix = find_pickle(&directory)?;
    let locate =
        |source: &mut S, name: &str| directory.locate(source, size, &format!("{prefix}{name}"));
    let endian = match locate(source, "byteorder")? {
        Some(entry) => endian(&archive::read_all(source, &entry, 16)?)?,
        None => Endian::Little,
    };
    let table = locate(source, "data.pkl")?
        .ok_or_else(|| CheckpointError::damaged("its `data.pkl` is missing"))?;
    let (pickled, intact) = read_pickle(source, &table, limits)?;
    let harvest = state_dict::harvest(&pickled, limits)?;

    let mut backings: Vec<Backing> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, raw) in &harvest.tensors {
        let key = raw.storage.key;
        let at = match known.get(key) {
            Some(at) => *at,
            None => {
                let entry = locate(source, &format!("data/{key}"))?.ok_or_else(|| {
                    let absent = format!("bytes `data/{}` are", shorten(key));
                    CheckpointError::tensor(name, TensorProblem::Absent(absent))
                })?;
                backings.push(Backing { endian, ..entry });
                known.insert(key, backings.len() - 1);
                backings.len() - 1
            }
        };
        let info = bytes::place(name, raw, at, backings[at].length, limits)?;
        tensors.insert(name.clone(), info);
    }
    // Only now, for what is wrong with a tensor says more than that something is.
    if !intact {
        return Err(CheckpointError::damaged(
            "its table of contents (data.pkl) does not fit its checksum, so please fetch it again",
        ));
    }
    Ok(Parts {
        format: Format::TorchZip,
        flags: harvest.flags,
        remarks: harvest.remarks,
        tensors,
        backings,
    })
}

/// The table of contents, and whether its checksum fits.
fn read_pickle<S: Read + Seek>(
    source: &mut S,
    table: &Backing,
    limits: &Limits,
) -> Result<(Pickled, bool), CheckpointError> {
    let inner = Checked::new(archive::reader(source, table)?);
    let what = "its table of contents (data.pkl)";
    let mut reader = ByteReader::new(inner, table.length, limits.max_pickle_bytes, what);
    let pickled = pickle::read(&mut reader, limits)?;
    // A complaint of the decompressor about what follows is one about the checksum too.
    let intact = reader.into_inner().fits(table).unwrap_or(false);
    Ok((pickled, intact))
}

/// What stands before `data.pkl` in its entry's name.
fn find_pickle(directory: &Directory) -> Result<String, CheckpointError> {
    let prefixes = directory.entries.keys().filter_map(|name| {
        let prefix = name.strip_suffix("data.pkl")?;
        (prefix.is_empty() || prefix.ends_with('/')).then_some(prefix)
    });
    let Some(prefix) = prefixes.min_by_key(|prefix| prefix.len()) else {
        return Err(other_archive(directory));
    };
    if directory
        .entries
        .contains_key(&format!("{prefix}constants.pkl"))
    {
        return Err(CheckpointError::not_weights(
            "a TorchScript program",
            "in Python, please save the model's `state_dict()` instead",
        ));
    }
    Ok(prefix.to_owned())
}

fn other_archive(directory: &Directory) -> CheckpointError {
    let mut names = directory.entries.keys();
    if names.len() > 0 && names.all(|name| name.ends_with(".npy")) {
        return CheckpointError::not_weights(
            "an .npz archive of arrays",
            "please choose a .pth, .pth.tar or .safetensors file",
        );
    }
    CheckpointError::not_weights(
        "a zip archive that PyTorch did not write",
        "please unpack it and open what is inside",
    )
}

fn endian(text: &[u8]) -> Result<Endian, CheckpointError> {
    match text.trim_ascii() {
        b"little" => Ok(Endian::Little),
        b"big" => Ok(Endian::Big),
        other => Err(CheckpointError::damaged(format!(
            "its byte order should be `little` or `big` and is `{}`",
            shorten(&String::from_utf8_lossy(other))
        ))),
    }
}
