//! Reading a set from an archive in memory, as a page has it, and only as much as is wanted.

use std::collections::VecDeque;
use std::path::Path;

use crate::archive::shorten;

use super::contents::Contents;
use super::decode::{check_room, decode_planar, picture_error};
use super::error::{DatasetError, MAX_SIZE, no_pictures};
use super::layout::{self, Classes, File};
use super::progress::{Progress, Report, quiet, tell};
use super::set::{LabelledSet, Opened, turns};
use super::source::{MOST_IN_MEMORY, Source};
use super::split::Split;

/// How much of an archive in memory is read, and how.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Side of the pictures, in pixels.
    pub size: usize,
    /// The most pictures, the classes taking turns.
    pub images: usize,
    /// Classes that are left out, by name.
    pub without: Vec<String>,
    /// Pictures in no folder are of a class called [`NO_FOLDER`], and no error.
    pub flat: bool,
    /// All pictures in the order of their names or numbers, rather than the classes taking turns.
    pub in_order: bool,
}

/// The class of pictures that lie in no folder.
pub const NO_FOLDER: &str = "(no folder)";

/// Reads the test split of a set from an archive in memory, whose format is given by the ending of
/// `name`. Files that cannot be used are listed and left out, and no more pictures are decoded than
/// asked for. The classes are those of the whole set.
///
/// # Errors
/// As [`load`](super::load()); [`DatasetError::NoPictures`] also where no picture can be decoded.
///
/// # Examples
/// ```
/// use ventral::image::dataset::{OpenOptions, open, quiet};
///
/// let bytes = std::fs::read("static/testset/cifar10-1000.tar.gz")?;
/// let options = OpenOptions {
///     size: 32,
///     images: 20,
///     without: Vec::new(),
///     flat: false,
///     in_order: false,
/// };
/// let opened = open(&bytes, "cifar10-1000.tar.gz", &options, &mut quiet)?;
/// assert_eq!(opened.set.counts(), [2; 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(
    bytes: &[u8],
    name: &str,
    options: &OpenOptions,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    if !(1..=MAX_SIZE).contains(&options.size) {
        return Err(DatasetError::Size(options.size));
    }
    let (path, split) = (Path::new(name), Split::Test);
    let source = Source::in_memory(path, bytes)?;
    let (contents, skipped) = Contents::read(source, split, report)?;
    let mut opened = Opened {
        skipped,
        part: contents.part(),
        ..Opened::default()
    };
    match contents {
        Contents::Batches(set) => {
            let order = options.first(&set.labels, &set.classes)?;
            opened.set = set.picked(order).resized(options.size)?;
        }
        Contents::Arrays(arrays) => {
            let order = options.first(&arrays.labels, &arrays.classes)?;
            opened.set = arrays.to_set(&order, options.size, report)?;
        }
        Contents::Pictures { files, .. } if files.is_empty() => {
            return Err(no_pictures(path, split));
        }
        Contents::Pictures { files, notes } => {
            let flat = options.flat.then_some(NO_FOLDER);
            let labelled = layout::label(files, &notes, &Classes::default(), flat)?;
            decode_in_turns(labelled, options, &mut opened, report)?;
        }
    }
    for (name, _) in &mut opened.skipped {
        *name = shorten(name);
    }
    match opened.set.is_empty() {
        true => Err(no_pictures(path, split)),
        false => Ok(opened),
    }
}

/// The encoded pictures of an archive in memory, by name: of heat maps, for example, which have no
/// classes.
///
/// # Errors
/// As [`open`].
pub fn encoded(bytes: &[u8], name: &str) -> Result<Vec<(String, Vec<u8>)>, DatasetError> {
    let path = Path::new(name);
    let source = Source::in_memory(path, bytes)?;
    match Contents::read(source, Split::Test, &mut quiet)? {
        (Contents::Pictures { files, .. }, _) if !files.is_empty() => {
            Ok(files.into_iter().map(|f| (f.name, f.bytes)).collect())
        }
        _ => Err(no_pictures(path, Split::Test)),
    }
}

impl OpenOptions {
    fn takes(&self, class: &str) -> bool {
        !self.without.iter().any(|name| name == class)
    }

    /// Indices of the pictures, the classes taking turns; those left out take none.
    fn order(&self, labels: &[u16], classes: &[String]) -> Vec<usize> {
        let taken: Vec<bool> = classes.iter().map(|class| self.takes(class)).collect();
        let is_taken = |index: &usize| taken.get(usize::from(labels[*index])) == Some(&true);
        let mut order = match self.in_order {
            true => (0..labels.len()).collect(),
            false => turns(labels, classes.len()),
        };
        order.retain(is_taken);
        order
    }

    /// The first `images` of [`Self::order`], which fit into memory.
    fn first(&self, labels: &[u16], classes: &[String]) -> Result<Vec<usize>, DatasetError> {
        let mut order = self.order(labels, classes);
        order.truncate(self.images);
        self.check_room(order.len())?;
        Ok(order)
    }

    fn check_room(&self, count: usize) -> Result<(), DatasetError> {
        check_room(Path::new("the set"), count, self.size, MOST_IN_MEMORY)
    }
}

/// Decodes `options.images` pictures. A class takes its turn with its next picture where one cannot
/// be decoded.
fn decode_in_turns(
    labelled: layout::Labelled,
    options: &OpenOptions,
    opened: &mut Opened,
    report: Report<'_>,
) -> Result<(), DatasetError> {
    let labels: Vec<u16> = labelled.files.iter().map(|(_, label)| *label).collect();
    let order = options.order(&labels, &labelled.classes);
    options.check_room(order.len().min(options.images))?;
    // A queue for each class, or one for all in the order of their names.
    let (count, queue_of): (usize, fn(u16) -> usize) = match options.in_order {
        true => (1, |_| 0),
        false => (labelled.classes.len(), usize::from),
    };
    let mut queues = vec![VecDeque::new(); count];
    for index in order {
        queues[queue_of(labels[index])].push_back(index);
    }
    let total = options.images.min(labels.len()) as u64;
    opened.set = LabelledSet {
        classes: labelled.classes,
        size: options.size,
        ..LabelledSet::default()
    };
    while queues.iter().any(|queue| !queue.is_empty()) {
        for queue in &mut queues {
            if opened.set.len() >= options.images {
                return Ok(());
            }
            let (stage, done) = ("decoding", opened.set.len() as u64);
            tell(report, Progress { stage, done, total })?;
            take_turn(queue, &labelled.files, opened);
        }
    }
    Ok(())
}

/// Adds the next picture of a class that can be decoded.
fn take_turn(queue: &mut VecDeque<usize>, files: &[(File, u16)], opened: &mut Opened) {
    while let Some(index) = queue.pop_front() {
        let (file, label) = &files[index];
        match decode_planar(&file.bytes, opened.set.size) {
            Ok(planes) => {
                opened.set.images.extend(planes);
                opened.set.labels.push(*label);
                opened.names.push(file.name.clone());
                return;
            }
            Err(cause) => opened
                .skipped
                .push((file.name.clone(), picture_error(file, cause))),
        }
    }
}
