//! Labelled image sets: CIFAR-10 and CIFAR-100, Tiny ImageNet, folders of class folders, arrays.
//!
//! A set is held decoded, 8 bits a channel, in memory: 154 MB for the 50,000 training pictures of
//! CIFAR-10, so that an epoch costs no decoding. [`load()`] reads archives and folders from the disk
//! and caches the decoded set in a file, [`open()`] reads archives in memory.

mod arrays;
mod cache;
mod cifar;
mod contents;
mod decode;
mod error;
mod layout;
mod load;
mod open;
mod progress;
mod set;
mod source;
mod split;

pub use cifar::{CIFAR_SIZE, CIFAR10_CLASSES, CIFAR100_CLASSES, Cifar};
pub use decode::decode_planar;
pub use error::{ArraysError, DatasetError, MAX_SIZE};
pub use layout::Classes;
pub use load::{
    LoadOptions, TINY_IMAGENET_EXTRAS, load, load_cifar10, load_classes, load_readable,
    load_tiny_imagenet,
};
pub use open::{NO_FOLDER, OpenOptions, encoded, open};
pub use progress::{Progress, quiet};
pub use set::{LabelledSet, Opened};
pub use source::{PicturesBelow, picture_names, pictures_below};
pub use split::Split;
