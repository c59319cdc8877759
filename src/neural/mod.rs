//! What a visitor brings to align a model with: neural responses, labels, human heat maps.
//!
//! A file's bytes and its name become [`Responses`] (`[stimuli, repetitions, neuroids]`) by
//! [`read`]; [`understand`] then says in plain words what was taken for what, matches the stimuli
//! with the visitor's pictures by name, and leaves out what no alignment can use. Nothing a file
//! claims is believed before it is checked against the bytes that are there.
//!
//! The terms are those of Brain-Score (Schrimpf et al. 2018): a *neuroid* is a unit, channel or
//! voxel, a *presentation* one showing of a stimulus, and showings of the same stimulus are its
//! *repetitions*.

mod axes;
mod csv;
mod error;
mod found;
mod hdf5;
mod labels;
mod maps;
mod names;
mod numpy;
#[cfg(feature = "neural-parquet")]
mod parquet;
mod read;
mod responses;
mod table;
#[cfg(test)]
mod tests;
mod understand;

pub use axes::{Axis, AxisTaken};
pub use error::NeuralError;
pub use labels::{Labels, labels_by_folder, labels_from_csv};
#[cfg(feature = "picture")]
pub use maps::maps_from_pictures;
pub use maps::{HeatMaps, read_maps};
pub use names::{Column, Listed, Matched, Rule};
pub use read::{Format, ReadOptions, read};
pub use responses::{Origin, Responses};
pub use understand::{Aligned, NotFinite, Region, Understood, understand};

use crate::archive::Limits;

/// The most values that one file's responses or maps may have: 1 GiB as f32.
pub const MOST_VALUES: usize = 1 << 28;

/// What an array is believed up to.
fn limits() -> Limits {
    Limits {
        max_elements_per_tensor: MOST_VALUES as u64,
        ..Limits::default()
    }
}
