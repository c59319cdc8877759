//! What every format's reader makes: tensors as their files describe them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dtype::DType;
use super::error::CheckpointError;
use super::value::Value;
use crate::archive::{Backing, Limits};

/// The format of a checkpoint file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `torch.save` since PyTorch 1.6.
    TorchZip,
    /// `torch.save` before 1.6: the official CORnet and VOneNet files.
    TorchLegacy,
    Safetensors,
}

/// One tensor of the model, as its file describes it.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    pub shape: Vec<usize>,
    /// The type in the file; values are always handed out as f32.
    pub dtype: DType,
    pub(super) view: View,
}

/// Where a tensor's values lie within the bytes behind it, in elements.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub backing: usize,
    pub offset: u64,
    pub strides: Vec<u64>,
}

impl TensorInfo {
    /// Number of values.
    pub fn elements(&self) -> usize {
        // `open` has checked that it fits.
        self.shape.iter().product()
    }
}

/// An open file without its source, as the reader of a format makes it.
pub(super) struct Parts {
    pub format: Format,
    pub flags: BTreeMap<String, Value>,
    pub remarks: Vec<String>,
    pub tensors: BTreeMap<String, TensorInfo>,
    pub backings: Vec<Backing>,
}

impl Parts {
    /// # Errors
    /// No tensors, or more than `limits` allow.
    pub fn check(&self, limits: &Limits) -> Result<(), CheckpointError> {
        if self.tensors.is_empty() {
            let problem = "its table of weights is empty".to_owned();
            return Err(CheckpointError::NoTensors(problem));
        }
        let bytes = |info: &TensorInfo| info.elements() as u64 * size_of::<f32>() as u64;
        let total = self
            .tensors
            .values()
            .map(bytes)
            .fold(0, u64::saturating_add);
        // A deflated storage is unpacked anew for every tensor in it, up to that tensor's end.
        let unpacked = |info: &TensorInfo| {
            let deflated = self.backings[info.view.backing].deflated;
            if deflated { info.range().1 } else { 0 }
        };
        let work = self
            .tensors
            .values()
            .map(unpacked)
            .fold(0, u64::saturating_add);
        let limit = limits.max_total_bytes;
        let within = |what: &str, found: u64, limit: u64| {
            if found <= limit {
                return Ok(());
            }
            let what = what.to_owned();
            Err(CheckpointError::TooLarge { what, found, limit })
        };
        within("all tensors together in bytes", total, limit)?;
        within(
            "what has to be unpacked in bytes",
            work,
            limit.saturating_mul(4),
        )
    }
}
