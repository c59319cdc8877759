//! PyTorch's format before 1.6, in which the official CORnet and VOneNet weights are published.
//!
//! Five pickles in a row (a magic number, the protocol's version, facts about the machine, the
//! object, the list of storage keys), then the storages in the order of that list, each with its
//! number of elements (u64) before it. PyTorch writes the values little-endian on every machine.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::bytes;
use super::error::{CheckpointError, TensorProblem};
use super::graph::{Id, Node, Pickled};
use crate::archive::{Backing, Endian, Limits, shorten};

use super::reader::ByteReader;
use super::tensor::{Format, Parts};
use super::{pickle, sniff, state_dict};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = *b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const PROTOCOL: i64 = 1001;

pub(super) fn open<S: Read + Seek>(
    source: &mut S,
    size: u64,
    limits: &Limits,
) -> Result<Parts, CheckpointError> {
    source.seek(SeekFrom::Start(0))?;
    let what = "its table of contents (a pickle)";
    let mut reader = ByteReader::new(
        BufReader::new(&mut *source),
        size,
        limits.max_pickle_bytes,
        what,
    );
    check_magic(&mut reader, limits)?;
    check_protocol(&pickle::read(&mut reader, limits)?)?;
    let machine = pickle::read(&mut reader, limits)?;
    let object = pickle::read(&mut reader, limits)?;
    let keys = pickle::read(&mut reader, limits)?;
    let data = reader.position();

    let harvest = state_dict::harvest(&object, limits)?;
    let walk = Walk::along(source, size, data, &object, &keys)?;
    let mut tensors = BTreeMap::new();
    for (name, raw) in &harvest.tensors {
        let at = walk.find(name, raw.storage.key)?;
        let held = walk.backings[at].length;
        tensors.insert(name.clone(), bytes::place(name, raw, at, held, limits)?);
    }
    let mut remarks = harvest.remarks;
    remarks.extend(walk.remark);
    remarks.extend(big_endian_remark(&machine));
    Ok(Parts {
        format: Format::TorchLegacy,
        flags: harvest.flags,
        remarks,
        tensors,
        backings: walk.backings,
    })
}

/// What begins like a textual pickle may be one that attacks, which is said, or anything else.
pub(super) fn refuse_old<S: Read + Seek>(
    source: &mut S,
    size: u64,
    limits: &Limits,
) -> Result<Parts, CheckpointError> {
    source.seek(SeekFrom::Start(0))?;
    let inner = BufReader::new(source);
    let mut reader = ByteReader::new(inner, size, limits.max_pickle_bytes, "a pickle");
    match check_magic(&mut reader, limits) {
        Err(e @ (CheckpointError::Callable { .. } | CheckpointError::NotWeights { .. })) => Err(e),
        _ => Err(sniff::unknown(size)),
    }
}

/// The first of the five pickles tells PyTorch's files from all others.
fn check_magic<R: Read>(
    reader: &mut ByteReader<R>,
    limits: &Limits,
) -> Result<(), CheckpointError> {
    let first = pickle::read(reader, limits)?;
    match first.node(first.root) {
        Node::Big(bytes) if **bytes == MAGIC => Ok(()),
        _ => Err(CheckpointError::not_weights(
            "a Python pickle that PyTorch did not write",
            "please save the weights with `torch.save(model.state_dict(), …)`",
        )),
    }
}

fn check_protocol(pickled: &Pickled) -> Result<(), CheckpointError> {
    match pickled.node(pickled.root) {
        Node::Int(PROTOCOL) => Ok(()),
        Node::Int(other) => Err(CheckpointError::damaged(format!(
            "its protocol is {other} and {PROTOCOL} was expected"
        ))),
        _ => Err(CheckpointError::damaged("its protocol is not a number")),
    }
}

fn big_endian_remark(machine: &Pickled) -> Option<String> {
    let little = machine.get(machine.root, "little_endian")?;
    matches!(machine.node(little), Node::Bool(false)).then(|| {
        "The file was written on a big-endian machine; its values are little-endian, as PyTorch writes them everywhere.".to_owned()
    })
}

/// Where each storage lies, found by going from one to the next.
struct Walk<'a> {
    backings: Vec<Backing>,
    by_key: HashMap<&'a str, usize>,
    /// Where the file ends too early: the bytes needed there and the bytes there are.
    cut: Option<(u64, u64)>,
    remark: Option<String>,
}

impl<'a> Walk<'a> {
    fn along<S: Read + Seek>(
        source: &mut S,
        size: u64,
        data: u64,
        object: &Pickled,
        keys: &'a Pickled,
    ) -> Result<Self, CheckpointError> {
        let kinds = storage_kinds(object)?;
        let listed = keys
            .sequence(keys.root)
            .ok_or_else(|| CheckpointError::damaged("its list of storages is not a list"))?;
        let mut walk = Self {
            backings: Vec::new(),
            by_key: HashMap::new(),
            cut: None,
            remark: None,
        };
        let mut at = data;
        for id in listed {
            let key = key_text(keys, *id)?;
            let kind = kinds.get(key).copied().ok_or_else(|| {
                let key = shorten(key);
                CheckpointError::damaged(format!("nothing says how to read its storage `{key}`"))
            })?;
            match walk.step(source, size, at, key, kind)? {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(walk)
    }

    /// Notes the storage at `at`; where the next one begins, or nothing where the file ends.
    fn step<S: Read + Seek>(
        &mut self,
        source: &mut S,
        size: u64,
        at: u64,
        key: &'a str,
        kind: Kind,
    ) -> Result<Option<u64>, CheckpointError> {
        const COUNT: u64 = 8;
        let left = size.saturating_sub(at);
        if left < COUNT {
            return Ok(self.cut_off(COUNT, left));
        }
        source.seek(SeekFrom::Start(at))?;
        let mut count = [0; 8];
        source.read_exact(&mut count)?;
        let count = u64::from_le_bytes(count);
        if count != kind.count {
            let (key, expected) = (shorten(key), kind.count);
            return Err(CheckpointError::damaged(format!(
                "its storage `{key}` should hold {expected} values and claims {count}"
            )));
        }
        let length = count.checked_mul(kind.size).ok_or_else(|| {
            let key = shorten(key);
            CheckpointError::damaged(format!("its storage `{key}` claims {count} values"))
        })?;
        if length > left - COUNT {
            return Ok(self.cut_off(length, left - COUNT));
        }
        if self.by_key.insert(key, self.backings.len()).is_some() {
            let key = shorten(key);
            return Err(CheckpointError::damaged(format!(
                "it lists the storage `{key}` twice"
            )));
        }
        self.backings.push(Backing {
            start: at + COUNT,
            packed: length,
            length,
            deflated: false,
            crc: None,
            endian: Endian::Little,
        });
        Ok(Some(at + COUNT + length))
    }

    fn cut_off(&mut self, expected: u64, found: u64) -> Option<u64> {
        self.cut = Some((expected, found));
        self.remark =
            Some("The file is cut off, but only behind the weights: they are complete.".to_owned());
        None
    }

    fn find(&self, name: &str, key: &str) -> Result<usize, CheckpointError> {
        match (self.by_key.get(key), self.cut) {
            (Some(at), _) => Ok(*at),
            (None, Some((expected, found))) => Err(CheckpointError::Truncated {
                what: format!("the weights, before all of `{}` is there", shorten(name)),
                expected,
                found,
            }),
            (None, None) => {
                let absent = format!("storage `{}` is", shorten(key));
                Err(CheckpointError::tensor(name, TensorProblem::Absent(absent)))
            }
        }
    }
}

fn key_text(keys: &Pickled, id: Id) -> Result<&str, CheckpointError> {
    keys.text(id)
        .ok_or_else(|| CheckpointError::damaged("its list of storages holds something else"))
}

/// What the object says of a storage.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// Bytes of a value.
    size: u64,
    /// Values in it.
    count: u64,
}

/// Every storage that is mentioned, the optimizer's too: all have to be stepped over.
fn storage_kinds(object: &Pickled) -> Result<HashMap<&str, Kind>, CheckpointError> {
    let mut kinds = HashMap::new();
    for storage in object.storages() {
        let size = match (storage.dtype, &*storage.class.name) {
            (Some(dtype), _) => dtype.size() as u64,
            // It counts bytes.
            (None, "UntypedStorage") => 1,
            (None, _) => continue,
        };
        let count = storage.length;
        let kind = Kind { size, count };
        if kinds
            .insert(storage.key, kind)
            .is_some_and(|before| before != kind)
        {
            let key = shorten(storage.key);
            return Err(CheckpointError::damaged(format!(
                "its storage `{key}` is described in two ways"
            )));
        }
    }
    Ok(kinds)
}
