//! The user's own data to align a model with: neural responses, labels, human heat maps.
//!
//! [`read`] turns a file's bytes into [`Responses`] (`[stimuli, repetitions, neuroids]`).
//! [`interpret`] then says in plain words how the file was read, matches the stimuli with
//! the user's pictures by name, and leaves out values that cannot be used. Every length in a file is
//! checked against its bytes before it is used.
//!
//! The terms are those of Brain-Score (Schrimpf et al. 2018): a *neuroid* is a unit, channel or
//! voxel, a *presentation* one showing of a stimulus, and showings of the same stimulus are its
//! *repetitions*.

mod axes;
mod csv;
mod error;
mod format;
mod hdf5;
mod interpretation;
mod labels;
mod layout;
mod left_out;
mod maps;
mod matching;
mod names;
mod number;
mod numpy;
#[cfg(feature = "neural-parquet")]
mod parquet;
mod read;
mod recording;
mod responses;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use axes::{Axis, AxisTaken, UnknownAxis};
pub use error::NeuralError;
pub use format::{Format, MOST_VALUES, ReadOptions};
pub use interpretation::{Aligned, Interpretation, NotFinite, Region, interpret};
pub use labels::{Labels, labels_by_folder, labels_from_csv};
pub use left_out::LeftOut;
#[cfg(feature = "picture")]
pub use maps::maps_from_pictures;
pub use maps::{HeatMaps, read_maps};
pub use names::{Column, Listed, Matched, Rule};
pub use read::read;
pub use responses::{Origin, Responses};
