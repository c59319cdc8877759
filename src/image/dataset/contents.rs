//! What a source holds of one split: pictures in files, CIFAR batches or arrays.

use super::arrays::Arrays;
use super::cifar::Cifar;
use super::error::DatasetError;
use super::layout::{self, File, Role};
use super::progress::Report;
use super::set::LabelledSet;
use super::source::{Entry, MAX_BATCH, MAX_FILE, Packing, Source};
use super::split::Split;

/// What a source holds of one split.
pub(super) enum Contents {
    /// Encoded pictures, and the files that say what they show.
    Pictures {
        files: Vec<File>,
        notes: Vec<File>,
    },
    /// CIFAR's records, at their own size.
    Batches(LabelledSet),
    Arrays(Box<Arrays>),
}

/// Files that cannot be used, and why.
pub(super) type Faults = Vec<(String, DatasetError)>;

/// The largest file of a role, in bytes; `None` for files that are skipped.
fn most(role: Role) -> Option<u64> {
    match role {
        Role::CifarBatch => Some(MAX_BATCH),
        Role::Picture | Role::Notes => Some(MAX_FILE),
        Role::Other => None,
    }
}

impl Contents {
    /// The folder of the part of the set that was read, where it has parts.
    pub fn part(&self) -> Option<String> {
        match self {
            Self::Pictures { files, .. } => layout::part(files),
            Self::Batches(_) | Self::Arrays(_) => None,
        }
    }

    /// Reads one split; files that cannot be used are listed.
    pub fn read(
        source: Source<'_>,
        split: Split,
        report: Report<'_>,
    ) -> Result<(Self, Faults), DatasetError> {
        match source.packing {
            Packing::Arrays => {
                let arrays = Arrays::read(source.reader, source.path, split, source.limit)?;
                return Ok((Self::Arrays(Box::new(arrays)), Vec::new()));
            }
            Packing::Batch => {
                let (name, bytes) = source.read_batch()?;
                let set = joined(&[File { name, bytes }])?;
                return Ok((Self::Batches(set), Vec::new()));
            }
            _ => {}
        }
        let (mut files, mut batches, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut faults, mut links) = (Vec::new(), Vec::new());
        let mut each = |name: String, entry| match (layout::role(&name, split), entry) {
            (_, Err(fault)) => faults.push((name, fault)),
            (_, Ok(Entry::LinkTo(target))) => links.push((name, target)),
            (Role::Picture, Ok(Entry::Bytes(bytes))) => files.push(File { name, bytes }),
            (Role::CifarBatch, Ok(Entry::Bytes(bytes))) => batches.push(File { name, bytes }),
            (Role::Notes, Ok(Entry::Bytes(bytes))) => notes.push(File { name, bytes }),
            (Role::Other, Ok(Entry::Bytes(_))) => {}
        };
        let mut wanted = |name: &str| most(layout::role(name, split));
        source.visit(&mut wanted, &mut each, report)?;
        for (name, target) in links {
            let is_it = |file: &&File| file.name.trim_start_matches("./") == target;
            let bytes = files.iter().find(is_it).map(|file| file.bytes.clone());
            match (layout::role(&name, split), bytes) {
                (Role::Picture, Some(bytes)) => files.push(File { name, bytes }),
                _ => faults.push((name, DatasetError::Link { target })),
            }
        }
        if batches.is_empty() {
            let files = layout::tested(files, &notes);
            return Ok((Self::Pictures { files, notes }, faults));
        }
        batches.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Self::Batches(joined(&batches)?), faults))
    }
}

/// The batches of one set, in their order.
fn joined(batches: &[File]) -> Result<LabelledSet, DatasetError> {
    let mut joined: Option<(Cifar, LabelledSet)> = None;
    for File { name, bytes } in batches {
        let found = Cifar::of_batch(name, bytes.len());
        let (before, set) = joined.get_or_insert_with(|| (found, LabelledSet::cifar(found)));
        if found != *before {
            return Err(DatasetError::MixedBatches {
                name: name.clone(),
                found,
                before: *before,
            });
        }
        set.push_cifar_batch(found, name, bytes)?;
    }
    Ok(joined.map(|(_, set)| set).unwrap_or_default())
}
