//! Labelled sets from archives, folders and binary batches, and their cache.
#![cfg(feature = "dataset")]

mod cifar;
mod files;
mod memory;
mod shipped;
mod support;
