//! Reading a set from an archive or a folder on the disk, with a cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::image::error::ImageError;

use super::cache::Place;
use super::cifar::{CIFAR_SIZE, CIFAR10_CLASSES};
use super::contents::{Contents, Faults};
use super::decode::{check_room, decode_all, picture_error};
use super::error::{DatasetError, MAX_SIZE, no_pictures};
use super::layout::{self, Classes, File};
use super::progress::Report;
use super::set::{LabelledSet, Opened};
use super::source::{MOST_UNPACKED, Source};
use super::split::Split;

/// Classes that some copies of Tiny ImageNet hold beside the two hundred of the original: a
/// gorilla and a groom, with pictures and places in `wnids.txt` and in the annotations of the
/// held-out part, but without the bounding boxes that every original class has.
pub const TINY_IMAGENET_EXTRAS: [&str; 2] = ["n02480855", "n10148035"];

/// The size of the pictures and the cache.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Pictures of another size are resized and cropped to this side, in pixels.
    pub size: usize,
    /// The folder of the cache, `.ventral/cache` by convention; `None` decodes every time.
    pub cache: Option<PathBuf>,
}

/// Reads one split of a labelled set.
///
/// `path` is a `.zip`, `.tar`, `.tar.gz` or `.tar.xz` archive or a folder. Inside lie `train/CLASS/…`
/// and `test/CLASS/…` (or `val`), as in Tiny ImageNet with its annotation file too; or class folders
/// alone, which are then both splits; or the binary batches of CIFAR-10 or CIFAR-100 as published.
/// Classes are in the order of their sorted folder names, pictures in the order of their paths.
///
/// Or it is one such batch (`.bin`), or an `.npz` file with an array of pictures, `[N, height,
/// width, channels]` or `[N, channels, height, width]` in bytes or from 0 to 1, one of labels
/// `[N]`, and perhaps one of class names.
///
/// With a cache, the decoded set is kept in one file and read back while the source is unchanged.
///
/// # Errors
/// A [`DatasetError`] naming the file at fault; [`DatasetError::Cancelled`] when `report` breaks.
pub fn load(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    load_classes(path, split, options, &Classes::default(), report)
}

/// [`load`], but only the classes that are `wanted`; labels count these alone. The others are not
/// decoded, and the chosen ones get their own cache file.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoClass`] and [`DatasetError::ManyClasses`] for a choice that
/// cannot be followed.
pub fn load_classes(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    wanted: &Classes,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let opened = read(path, split, options, wanted, report)?;
    match opened.skipped.into_iter().next() {
        Some((_, fault)) => Err(fault),
        None => Ok(opened.set),
    }
}

/// [`load`], but files that cannot be used are listed and left out.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoPictures`] also where no picture at all can be decoded.
pub fn load_readable(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    let opened = read(path, split, options, &Classes::default(), report)?;
    match opened.set.is_empty() {
        true => Err(no_pictures(path, split)),
        false => Ok(opened),
    }
}

fn read(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    wanted: &Classes,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    if !(1..=MAX_SIZE).contains(&options.size) {
        return Err(DatasetError::Size(options.size));
    }
    let place = match &options.cache {
        Some(folder) => Some(Place::new(folder, path, split, options.size, wanted)?),
        None => None,
    };
    let kept = place.as_ref().and_then(Place::read);
    if let Some(set) = kept.filter(|set| set.size == options.size) {
        return Ok(Opened {
            set,
            ..Opened::default()
        });
    }
    let (contents, mut skipped) = Contents::read(Source::on_disk(path)?, split, report)?;
    let part = contents.part();
    let (set, undecodable) = assemble(contents, path, (split, options.size, wanted), report)?;
    skipped.extend(undecodable);
    // A skipped file may be readable the next time: only a whole set is cached.
    if let Some(place) = place.filter(|_| skipped.is_empty()) {
        place.write(&set)?;
    }
    Ok(Opened {
        set,
        skipped,
        part,
        ..Opened::default()
    })
}

/// CIFAR-10 at 32 pixels from any form [`load`] reads, checked to be CIFAR-10.
///
/// # Errors
/// As [`load`], and [`DatasetError::NotCifar10`] when the classes are others.
pub fn load_cifar10(
    path: &Path,
    split: Split,
    cache: Option<&Path>,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let options = LoadOptions {
        size: CIFAR_SIZE,
        cache: cache.map(Path::to_owned),
    };
    let set = load(path, split, &options, report)?;
    if set.classes != CIFAR10_CLASSES {
        return Err(DatasetError::NotCifar10 {
            path: path.to_owned(),
            classes: set.classes.join(", "),
        });
    }
    Ok(set)
}

/// Tiny ImageNet (Le and Yang 2015), all of its two hundred classes or those in `only`, by WordNet
/// id or name. The held-out part is `val`. [`TINY_IMAGENET_EXTRAS`] are left out unless they are
/// asked for, so that a copy which holds them gives the published set.
///
/// # Errors
/// As [`load_classes`].
pub fn load_tiny_imagenet(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    only: &[String],
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let wanted = Classes {
        only: only.to_vec(),
        without: TINY_IMAGENET_EXTRAS.map(str::to_owned).to_vec(),
    };
    load_classes(path, split, options, &wanted, report)
}

fn assemble(
    contents: Contents,
    path: &Path,
    (split, size, wanted): (Split, usize, &Classes),
    report: Report<'_>,
) -> Result<(LabelledSet, Faults), DatasetError> {
    let room = |count| check_room(path, count, size, MOST_UNPACKED);
    let (files, notes) = match contents {
        Contents::Batches(set) => {
            room(set.len())?;
            return Ok((chosen(set.resized(size)?, wanted)?, Vec::new()));
        }
        Contents::Arrays(arrays) => {
            room(arrays.labels.len())?;
            let all: Vec<usize> = (0..arrays.labels.len()).collect();
            let set = arrays.to_set(&all, size, report)?;
            return Ok((chosen(set, wanted)?, Vec::new()));
        }
        Contents::Pictures { files, notes } => (files, notes),
    };
    if files.is_empty() {
        return Err(no_pictures(path, split));
    }
    let labelled = layout::label(files, &notes, wanted, None)?;
    room(labelled.files.len())?;
    let (files, labels): (Vec<File>, Vec<u16>) = labelled.files.into_iter().unzip();
    let (images, faults) = decode_all(&files, size, report)?;
    let whole = LabelledSet {
        classes: labelled.classes,
        images,
        labels,
        size,
    };
    if faults.is_empty() {
        return Ok((whole, Vec::new()));
    }
    let bad: BTreeSet<usize> = faults.iter().map(|(index, _)| *index).collect();
    let sound = whole.picked((0..files.len()).filter(|index| !bad.contains(index)));
    let named = |(index, cause): (usize, ImageError)| {
        let file = &files[index];
        (file.name.clone(), picture_error(file, cause))
    };
    Ok((sound, faults.into_iter().map(named).collect()))
}

fn chosen(set: LabelledSet, wanted: &Classes) -> Result<LabelledSet, DatasetError> {
    match wanted.is_all() {
        true => Ok(set),
        false => set.only(wanted),
    }
}
