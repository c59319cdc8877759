//! What the axes of an array and the columns of a table are called, and what they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An axis of recorded responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Stimuli, or presentations of them.
    Stimulus,
    Repetition,
    Neuroid,
    TimeBin,
}

impl Axis {
    /// `stimulus`, `repetition`, `neuroid`, `time bin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stimulus => "stimulus",
            Self::Repetition => "repetition",
            Self::Neuroid => "neuroid",
            Self::TimeBin => "time bin",
        }
    }

    /// `stimuli`, `repetitions`, `neuroids`, `time bins`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Stimulus => "stimuli",
            Self::Repetition => "repetitions",
            Self::Neuroid => "neuroids",
            Self::TimeBin => "time bins",
        }
    }

    /// What an axis of this name is, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = AXES.iter().find(|(_, names)| is_one_of(name, names));
        found.map(|(axis, _)| *axis)
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("`{text}` is no axis; there are stimulus, repetition, neuroid, time_bin");
        Self::named(text.trim()).ok_or_else(unknown)
    }
}

/// The names that recordings in the field give their axes.
const AXES: [(Axis, &[&str]); 4] = [
    (
        Axis::Stimulus,
        &[
            "presentation",
            "presentations",
            "stimulus",
            "stimuli",
            "image",
            "images",
            "image_id",
            "stimulus_id",
            "picture",
            "pictures",
            "condition",
            "conditions",
        ],
    ),
    (
        Axis::Repetition,
        &[
            "repetition",
            "repetitions",
            "rep",
            "reps",
            "repeat",
            "repeats",
            "trial",
            "trials",
        ],
    ),
    (
        Axis::Neuroid,
        &[
            "neuroid",
            "neuroids",
            "neuroid_id",
            "neuron",
            "neurons",
            "unit",
            "units",
            "channel",
            "channels",
            "electrode",
            "electrodes",
            "site",
            "sites",
            "voxel",
            "voxels",
            "cell",
            "cells",
        ],
    ),
    (
        Axis::TimeBin,
        &[
            "time_bin",
            "time_bins",
            "time bin",
            "time",
            "times",
            "timebin",
            "bin",
            "bins",
        ],
    ),
];

/// What a coordinate or a column of labels says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The name of a stimulus, the more to be trusted the further up.
    Name,
    /// Which showing of its stimulus a presentation is.
    Repetition,
    /// What the stimulus shows: its class.
    Object,
    Neuroid,
    Region,
    /// When a time bin begins.
    BinStart,
    BinEnd,
    /// A label of no use here.
    Other,
}

impl Role {
    pub fn named(name: &str) -> Option<Self> {
        let found = ROLES.iter().find(|(_, names)| is_one_of(name, names));
        found.map(|(role, _)| *role)
    }

    /// Names of a role, the most trusted first.
    pub fn names(self) -> &'static [&'static str] {
        let found = ROLES.iter().find(|(role, _)| *role == self);
        found.map_or(&[], |(_, names)| names)
    }
}

const ROLES: [(Role, &[&str]); 8] = [
    (
        Role::Name,
        &[
            "image_id",
            "stimulus_id",
            "image_ids",
            "stimulus_ids",
            "image_name",
            "image_names",
            "stimulus_name",
            "stimulus_names",
            "names",
            "name",
            "stimuli",
            "stimulus",
            "image",
            "filenames",
            "filename",
            "file_name",
            "file",
            "files",
            "image_file_name",
            "image_filename",
            "image_file",
            "image_path",
            "path",
            "presentation",
            "picture",
        ],
    ),
    (
        Role::Repetition,
        &[
            "repetition",
            "repetition_id",
            "repetitions",
            "rep",
            "repeat",
            "trial",
            "trial_id",
        ],
    ),
    (
        Role::Object,
        &[
            "object_name",
            "category_name",
            "category",
            "class",
            "class_name",
            "label",
            "object",
        ],
    ),
    (
        Role::Neuroid,
        &[
            "neuroid_id",
            "neuroid_ids",
            "neuroid",
            "neuroids",
            "neuron_id",
            "neuron",
            "unit",
            "units",
            "unit_id",
            "channel",
            "channels",
            "electrode",
            "site",
        ],
    ),
    (Role::Region, &["region", "regions", "area", "areas"]),
    (Role::BinStart, &["time_bin_start", "time_bin", "time"]),
    (Role::BinEnd, &["time_bin_end"]),
    (Role::Other, &["background_id", "variation", "animal"]),
];

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What an axis of a file was taken to be, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisTaken {
    /// What the file calls it, or `axis 0`.
    pub name: String,
    pub size: usize,
    pub axis: Axis,
    /// A clause: "it is called `presentation`".
    pub why: String,
}

/// The axes of an array that names none, first to last: as they were told, or as they usually lie.
pub(super) fn unnamed(
    shape: &[usize],
    told: Option<&[Axis]>,
) -> Result<Vec<AxisTaken>, super::NeuralError> {
    use Axis::{Neuroid, Repetition, Stimulus};
    if let Some(told) = told {
        return as_told(shape, told);
    }
    let usual: &[Axis] = match shape.len() {
        1 => &[Stimulus],
        2 => &[Stimulus, Neuroid],
        3 => &[Stimulus, Repetition, Neuroid],
        _ => {
            return Err(super::NeuralError::Axes {
                shape: shape.to_vec(),
            });
        }
    };
    let why = match shape.len() {
        1 => "an array of one axis has a value a stimulus",
        2 => "an array of two axes is stimuli x neuroids",
        _ => "an array of three axes is stimuli x repetitions x neuroids",
    };
    Ok(taken(shape, usual, why))
}

pub(super) fn as_told(
    shape: &[usize],
    told: &[Axis],
) -> Result<Vec<AxisTaken>, super::NeuralError> {
    match told.len() == shape.len() {
        true => Ok(taken(shape, told, "you named it so")),
        false => Err(super::NeuralError::AxesCount {
            given: told.len(),
            found: shape.len(),
            shape: shape.to_vec(),
        }),
    }
}

fn taken(shape: &[usize], axes: &[Axis], why: &str) -> Vec<AxisTaken> {
    let all = shape.iter().zip(axes).enumerate();
    all.map(|(i, (&size, &axis))| AxisTaken {
        name: format!("axis {i}"),
        size,
        axis,
        why: why.to_owned(),
    })
    .collect()
}
