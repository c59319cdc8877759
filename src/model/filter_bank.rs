//! First-layer filters in plain data.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// First-layer filters as pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilterBank {
    /// The layer they belong to: `V1.conv1`, `vone_block.simple_conv_q0`.
    pub layer: String,
    pub count: usize,
    pub size: usize,
    /// f32 little-endian, `[count, 3, size, size]`.
    pub weights: ByteBuf,
    /// For a Gabor bank: what each filter is.
    pub gabors: Vec<GaborInfo>,
}

/// What a Gabor filter is tuned to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaborInfo {
    /// Degrees; 0 is vertical stripes.
    pub orientation: f32,
    /// Cycles per degree of visual angle.
    pub frequency: f32,
    pub phase: f32,
    pub complex: bool,
}
