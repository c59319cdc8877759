//! Labelled image sets: CIFAR-10 and CIFAR-100, Tiny ImageNet, folders of class folders, arrays.
//!
//! A set is held decoded, 8 bits a channel, in memory: 154 MB for the 50,000 training pictures of
//! CIFAR-10, so that an epoch costs no decoding. [`load`] (feature `dataset`, native) reads
//! archives and folders and keeps the decoded set in a cache file.

#[cfg(feature = "dataset")]
mod arrays;
#[cfg(feature = "dataset")]
mod cache;
mod cifar;
#[cfg(feature = "dataset")]
mod layout;
#[cfg(feature = "dataset")]
mod load;

#[cfg(feature = "dataset")]
pub use layout::Classes;
#[cfg(feature = "dataset")]
pub use load::{
    LoadOptions, NO_FOLDER, OpenOptions, Opened, PicturesBelow, Progress, encoded, load,
    load_cifar10, load_classes, load_readable, load_tiny_imagenet, open, picture_names,
    pictures_below, quiet,
};

pub use cifar::{CIFAR10_CLASSES, CIFAR100_CLASSES, Cifar};

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::{ImageError, Picture, Preprocessing, decode, resize_and_crop};

/// Classes that some copies of Tiny ImageNet hold beside the two hundred of the original: a
/// gorilla and a groom, with pictures and places in `wnids.txt` and in the annotations of the
/// held-out part, but without the bounding boxes that every original class has.
pub const TINY_IMAGENET_EXTRAS: [&str; 2] = ["n02480855", "n10148035"];

/// Side of a CIFAR picture in pixels.
pub const CIFAR_SIZE: usize = 32;

/// The largest side of the pictures of a set; a set of many larger ones does not fit into memory.
pub const MAX_SIZE: usize = 1024;

/// The part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    Train,
    /// The held-out part: `test`, or `val` where the test labels are not published.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Why a set could not be read. Every message is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{} cannot be read", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{} cannot be written", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error(
        "{} is not a folder, a .zip, .tar, .tar.gz or .tar.xz archive, an .npz file or a binary \
         batch of CIFAR-10 or CIFAR-100 (.bin)", .path.display()
    )]
    NotASet { path: PathBuf },
    #[cfg(feature = "dataset")]
    #[error("{}: {cause}", .path.display())]
    Archive {
        path: PathBuf,
        cause: crate::archive::ArchiveError,
    },
    #[error("{} {problem}", .path.display())]
    Arrays { path: PathBuf, problem: String },
    #[error(
        "{} takes more than {} MB once it is unpacked, which is more than is read",
        .path.display(), .limit / 1_000_000
    )]
    TooMuch { path: PathBuf, limit: u64 },
    #[error("{name} has a path that leads out of the set")]
    Path { name: String },
    #[error(
        "{} holds no labelled {split} pictures; folders named {split}/CLASS/, class folders or CIFAR \
         binary batches are read", .path.display(), split = .split.name()
    )]
    NoPictures { path: PathBuf, split: Split },
    #[error("{name} of the set cannot be used")]
    Picture {
        name: String,
        #[source]
        cause: Arc<ImageError>,
    },
    #[error("the set has no class “{name}”; give a WordNet id, a folder or a class name of it")]
    NoClass { name: String },
    #[error("the set has several classes called “{name}”; give the WordNet id or folder of one")]
    ManyClasses { name: String },
    #[error("{name} has no class in the annotations of the set")]
    NoLabel { name: String },
    #[error("{name} is larger than the {} MB that one file of a set may have", .limit / 1_000_000)]
    TooLarge { name: String, limit: u64 },
    #[error(
        "{name} is {len} bytes long, which is not a whole number of {} records of {} bytes; it may \
         be cut off", .set.name(), .set.record()
    )]
    CutBatch {
        name: String,
        len: usize,
        set: Cifar,
    },
    #[error("{name} holds the label {label}; {} ends at {}", .set.name(), .set.classes().len() - 1)]
    Label { name: String, label: u8, set: Cifar },
    #[error("{name} is of {}, and a batch before it of {}", .found.name(), .before.name())]
    MixedBatches {
        name: String,
        found: Cifar,
        before: Cifar,
    },
    #[error("a set can have at most 65,535 classes, this one has {0}")]
    TooManyClasses(usize),
    #[error(
        "{} is not CIFAR-10: its classes are {classes}", .path.display()
    )]
    NotCifar10 { path: PathBuf, classes: String },
    #[error("pictures of {0} pixels a side cannot be kept; 1 to {MAX_SIZE} can")]
    Size(usize),
    #[error("reading the set was cancelled")]
    Cancelled,
}

impl DatasetError {
    /// What is wrong, for a list that names the file already.
    pub fn reason(&self) -> String {
        match self {
            Self::Picture { cause, .. } => cause.to_string(),
            other => other.to_string(),
        }
    }
}

/// Pictures of one size with a class each, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledSet {
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// `[N, 3, size, size]`, RGB planes, 8 bits.
    pub images: Vec<u8>,
    /// `[N]`, each below `classes.len()`.
    pub labels: Vec<u16>,
    /// Side in pixels.
    pub size: usize,
}

impl LabelledSet {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// No pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one picture, `3 · size²`.
    pub fn stride(&self) -> usize {
        3 * self.size * self.size
    }

    /// Picture `index` as planes `[3, size, size]`; `None` beyond the end.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_mul(self.stride())?;
        self.images.get(start..start + self.stride())
    }

    /// Picture `index` as f32 `[3, size, size]` in [0, 1] appended to `batch`, and its label.
    /// `None`, with `batch` untouched, beyond the end.
    pub fn push_input(&self, index: usize, batch: &mut Vec<f32>) -> Option<u16> {
        let label = *self.labels.get(index)?;
        batch.extend(self.image(index)?.iter().map(|&byte| super::unit(byte)));
        Some(label)
    }

    /// These pictures as f32 `[n, 3, size, size]` in [0, 1], and their labels `[n]`; numbers beyond
    /// the end are left out.
    pub fn inputs(&self, indices: &[usize]) -> (Vec<f32>, Vec<u16>) {
        let mut pixels = Vec::with_capacity(indices.len() * self.stride());
        let labels = indices
            .iter()
            .filter_map(|index| self.push_input(*index, &mut pixels))
            .collect();
        (pixels, labels)
    }

    /// How many pictures each class has, in class order.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }

    /// The pictures `range` as a set of their own, for a hold-out; cut to the length of the set.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let bytes = start * self.stride()..end * self.stride();
        Self {
            classes: self.classes.clone(),
            images: self.images[bytes].to_vec(),
            labels: self.labels[start..end].to_vec(),
            size: self.size,
        }
    }

    /// At most `count` pictures, evenly spread over the set: of all its classes, although they lie
    /// in the order of their classes.
    pub fn thinned(&self, count: usize) -> Self {
        let count = count.min(self.len());
        let mut set = Self {
            classes: self.classes.clone(),
            size: self.size,
            ..Self::default()
        };
        for i in 0..count {
            let index = i * self.len() / count;
            set.labels.extend(self.labels.get(index));
            set.images.extend(self.image(index).into_iter().flatten());
        }
        set
    }

    /// At most `count` pictures, the classes taking turns: the first of each, then the second of
    /// each. However few are looked at, no class is missing or ahead by more than one.
    pub fn in_turns(&self, count: usize) -> Self {
        let mut order = turns(&self.labels, self.classes.len());
        order.truncate(count);
        self.picked(order)
    }

    /// Indices of all pictures, the classes taking turns.
    pub fn turns(&self) -> Vec<usize> {
        turns(&self.labels, self.classes.len())
    }

    /// The pictures of the classes that `keeps` takes, by number. The list of classes, and with it
    /// every label, stays as it is.
    pub fn keeping(&self, keeps: impl Fn(usize) -> bool) -> Self {
        let kept = (0..self.len()).filter(|i| keeps(usize::from(self.labels[*i])));
        self.picked(kept)
    }

    /// The pictures at `indices`, in that order; those beyond the set are left out.
    pub fn picked(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self {
            classes: self.classes.clone(),
            size: self.size,
            ..Self::default()
        };
        for index in indices {
            set.labels.extend(self.labels.get(index));
            set.images.extend(self.image(index).into_iter().flatten());
        }
        set
    }

    /// The pictures of the classes that `wanted` takes, by their names; labels are counted anew.
    ///
    /// # Errors
    /// [`DatasetError::NoClass`], [`DatasetError::ManyClasses`].
    #[cfg(feature = "dataset")]
    pub fn only(&self, wanted: &Classes) -> Result<Self, DatasetError> {
        let named = self.classes.iter().map(|name| ("", name.as_str()));
        let taken = wanted.choose(named)?;
        let label: Vec<Option<u16>> = taken
            .iter()
            .scan(0, |next, taken| {
                let label = taken.then_some(*next);
                *next += u16::from(*taken);
                Some(label)
            })
            .collect();
        let classes = self.classes.iter().zip(&taken);
        let mut set = Self {
            classes: classes
                .filter(|(_, t)| **t)
                .map(|(c, _)| c.clone())
                .collect(),
            size: self.size,
            ..Self::default()
        };
        let pictures = self.images.chunks_exact(self.stride().max(1));
        for (picture, old) in pictures.zip(&self.labels) {
            if let Some(label) = label.get(usize::from(*old)).copied().flatten() {
                set.labels.push(label);
                set.images.extend_from_slice(picture);
            }
        }
        Ok(set)
    }
}

/// The order in which classes take turns: the first picture of each, then the second of each.
fn turns(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut seen = vec![0_usize; classes];
    let mut order: Vec<(usize, u16, usize)> = Vec::with_capacity(labels.len());
    for (index, &label) in labels.iter().enumerate() {
        if let Some(turn) = seen.get_mut(usize::from(label)) {
            order.push((*turn, label, index));
            *turn += 1;
        }
    }
    order.sort_unstable();
    order.into_iter().map(|(.., index)| index).collect()
}

/// An encoded picture as planes `[3, size, size]`: as it is where it has that size, otherwise its
/// short side resized (bilinear, as PIL does) and its centre cut out.
///
/// # Errors
/// As [`decode`].
pub fn decode_planar(bytes: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    fit_planar(&decode(bytes)?.picture, size)
}

/// The same of a picture that is decoded.
fn fit_planar(picture: &Picture, size: usize) -> Result<Vec<u8>, ImageError> {
    let how = Preprocessing {
        resize: size,
        crop: size,
    };
    Ok(resize_and_crop(picture, how)?.planar())
}
