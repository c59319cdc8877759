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
