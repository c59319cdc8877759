//! The names of axes and columns in the field, and what they mean.

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

    /// The axis of this name, in any case.
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

/// A text that names no axis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no axis; there are stimulus, repetition, neuroid, time_bin")]
pub struct UnknownAxis(String);

impl FromStr for Axis {
    type Err = UnknownAxis;

    fn from_str(text: &str) -> Result<Self, UnknownAxis> {
        Self::named(text.trim()).ok_or_else(|| UnknownAxis(text.to_owned()))
    }
}

/// The names that recordings in the field give their axes.
#[rustfmt::skip]
const AXES: [(Axis, &[&str]); 4] = [
    (Axis::Stimulus, &[
        "presentation", "presentations", "stimulus", "stimuli", "image", "images", "image_id",
        "stimulus_id", "picture", "pictures", "condition", "conditions",
    ]),
    (Axis::Repetition, &[
        "repetition", "repetitions", "rep", "reps", "repeat", "repeats", "trial", "trials",
    ]),
    (Axis::Neuroid, &[
        "neuroid", "neuroids", "neuroid_id", "neuron", "neurons", "unit", "units", "channel",
        "channels", "electrode", "electrodes", "site", "sites", "voxel", "voxels", "cell", "cells",
    ]),
    (Axis::TimeBin, &[
        "time_bin", "time_bins", "time bin", "time", "times", "timebin", "bin", "bins",
    ]),
];

/// The meaning of a coordinate or a column of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The name of a stimulus.
    Name,
    /// The number of a presentation among those of its stimulus.
    Repetition,
    /// The class of the stimulus.
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

#[rustfmt::skip]
const ROLES: [(Role, &[&str]); 8] = [
    (Role::Name, &[
        "image_id", "stimulus_id", "image_ids", "stimulus_ids", "image_name", "image_names",
        "stimulus_name", "stimulus_names", "names", "name", "stimuli", "stimulus", "image",
        "filenames", "filename", "file_name", "file", "files", "image_file_name", "image_filename",
        "image_file", "image_path", "path", "presentation", "picture",
    ]),
    (Role::Repetition, &[
        "repetition", "repetition_id", "repetitions", "rep", "repeat", "trial", "trial_id",
    ]),
    (Role::Object, &[
        "object_name", "category_name", "category", "class", "class_name", "label", "object",
    ]),
    (Role::Neuroid, &[
        "neuroid_id", "neuroid_ids", "neuroid", "neuroids", "neuron_id", "neuron", "unit", "units",
        "unit_id", "channel", "channels", "electrode", "site",
    ]),
    (Role::Region, &["region", "regions", "area", "areas"]),
    (Role::BinStart, &["time_bin_start", "time_bin", "time"]),
    (Role::BinEnd, &["time_bin_end"]),
    (Role::Other, &["background_id", "variation", "animal"]),
];

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// An axis of a file, how it was interpreted, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisTaken {
    /// Its name in the file, or `axis 0`.
    pub name: String,
    pub size: usize,
    pub axis: Axis,
    /// A clause: "it is called `presentation`".
    pub why: String,
    /// Taken by the usual order of axes, for neither the file nor the user names it.
    #[serde(default)]
    pub usual: bool,
}

/// Axes called `axis 0`, `axis 1`, … of these meanings.
pub(super) fn numbered(shape: &[usize], axes: &[Axis], why: &str) -> Vec<AxisTaken> {
    let all = shape.iter().zip(axes).enumerate();
    all.map(|(i, (&size, &axis))| AxisTaken {
        name: format!("axis {i}"),
        size,
        axis,
        why: why.to_owned(),
        usual: false,
    })
    .collect()
}
