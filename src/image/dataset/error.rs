//! Why a labelled set could not be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::ArchiveError;
use crate::image::error::ImageError;

use super::cifar::Cifar;
use super::split::Split;

/// The largest side of the pictures of a set; a set of many larger ones does not fit into memory.
pub const MAX_SIZE: usize = 1024;

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
    #[error("{}: {cause}", .path.display())]
    Archive { path: PathBuf, cause: ArchiveError },
    #[error("{} {problem}", .path.display())]
    Arrays { path: PathBuf, problem: ArraysError },
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
    #[error("it is a link to {target}, which is no picture of this part of the set")]
    Link { target: String },
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

/// Why an archive of arrays is not a set: clauses whose subject is the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArraysError {
    #[error(
        "holds no arrays `images` and `labels` (nor `x` and `y`, `{split}_images` and \
         `{split}_labels`, …) but {names}", split = .split.name()
    )]
    NoPair { split: Split, names: String },
    #[error(
        "has pictures of shape {0:?}; [N, height, width, channels], [N, channels, height, width] \
         and [N, height, width] are read, with 1 or 3 channels"
    )]
    Shape(Vec<usize>),
    #[error("has {pictures} pictures and {labels} labels")]
    Count { pictures: usize, labels: usize },
    #[error(
        "has the pixel value {0}; bytes and numbers from 0 to 1 are read, before any normalisation"
    )]
    Pixel(f64),
    #[error("has labels of shape {0:?} that are not one whole number a picture")]
    LabelShape(Vec<usize>),
    #[error("has the label {0}; 0 to 65,534 are read")]
    Label(i64),
    #[error("names {classes} classes and has the label {label}")]
    Classes { classes: usize, label: usize },
}

pub(super) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> DatasetError {
    move |cause| DatasetError::Read {
        path: path.to_owned(),
        cause,
    }
}

pub(super) fn archive_error(path: &Path) -> impl Fn(ArchiveError) -> DatasetError {
    move |cause| DatasetError::Archive {
        path: path.to_owned(),
        cause,
    }
}

pub(super) fn no_pictures(path: &Path, split: Split) -> DatasetError {
    DatasetError::NoPictures {
        path: path.to_owned(),
        split,
    }
}
