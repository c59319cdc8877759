//! The places of a network whose activations can be read, by name.

use serde::{Deserialize, Serialize};

/// A tap: an area, at one time step where the area is recurrent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TapInfo {
    pub name: String,
    /// `V1`, `V2`, `V4`, `IT`, `decoder`; for the baselines `conv1`, `layer1`, ….
    pub area: String,
    pub time_step: Option<usize>,
}

impl TapInfo {
    /// The output of an area, or of a layer within one: `V1`, `V1.conv1`.
    pub fn area(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            area: name.split('.').next().unwrap_or(name).to_owned(),
            time_step: None,
        }
    }

    /// Time step `t` of a recurrent area: `V4.t2`.
    pub fn step(area: &str, t: usize) -> Self {
        Self {
            name: format!("{area}.t{t}"),
            area: area.to_owned(),
            time_step: Some(t),
        }
    }
}
