//! Published weight files, read without a tensor library and without running anything in them.
//!
//! PyTorch's `.pth` and `.pth.tar`, in the zip format (since 1.6) and the older one, and
//! `.safetensors`. [`Checkpoint::open`] reads the table of contents only; [`Checkpoint::read_f32`]
//! fetches one tensor. The source is anything that reads and seeks: a file, a `Blob` in the
//! browser, bytes in memory. Which network the names and shapes make up is no matter of this room.
//! [`npy`] reads and writes NumPy's files.
//!
//! A file may come from anywhere. No pickle code is ever run (see the `pickle` module), no length
//! in it is believed before it is checked against the bytes that are there, and what is wrong is
//! said in one sentence that names the tensor.

mod bytes;
mod callables;
mod constructors;
mod dtype;
mod error;
mod graph;
mod hash;
mod pickle;
mod reader;
mod safetensors;
mod sniff;
mod state_dict;
mod tensor;
mod torch_legacy;
mod torch_zip;
mod value;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

pub use crate::archive::{Limits, npy};
pub use dtype::DType;
pub use error::CheckpointError;
pub(super) use error::name_some;
pub use hash::{published_prefix, sha256};
pub use safetensors::write_safetensors;
pub use tensor::{Format, TensorInfo};
pub use value::Value;

use crate::archive::Backing;

/// Where a checkpoint's bytes come from.
pub trait Source: Read + Seek {}

impl<T: Read + Seek + ?Sized> Source for T {}

/// An open file of weights.
#[derive(Debug)]
pub struct Checkpoint<S> {
    pub format: Format,
    /// What the file says beside its tensors: the entries of its settings (VOneNet's `flags`,
    /// `args`, …) and of its top level (`epoch`, `arch`, …), the metadata of a safetensors file.
    pub flags: BTreeMap<String, Value>,
    /// Sentences for the user: what was left out, and why.
    pub remarks: Vec<String>,
    tensors: BTreeMap<String, TensorInfo>,
    backings: Vec<Backing>,
    source: S,
}

impl<S: Source> Checkpoint<S> {
    /// Reads the table of contents; no tensor's values.
    ///
    /// # Errors
    /// A file that is no checkpoint, is damaged or cut off, exceeds `limits`, asks to run a
    /// dangerous function, or cannot be read.
    pub fn open(mut source: S, limits: &Limits) -> Result<Self, CheckpointError> {
        let size = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut head = Vec::new();
        source
            .by_ref()
            .take(sniff::HEAD as u64)
            .read_to_end(&mut head)?;
        let open = match sniff::sniff(&head, size)? {
            sniff::Kind::Zip => torch_zip::open,
            sniff::Kind::Pickle => torch_legacy::open,
            sniff::Kind::OldPickle => torch_legacy::refuse_old,
            sniff::Kind::Safetensors => safetensors::open,
        };
        let parts = open(&mut source, size, limits)?;
        parts.check(limits)?;
        Ok(Self {
            format: parts.format,
            flags: parts.flags,
            remarks: parts.remarks,
            tensors: parts.tensors,
            backings: parts.backings,
            source,
        })
    }

    /// The model's tensors by name, without the `module.` that `DataParallel` puts before it.
    /// What belongs to an optimizer is not among them.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Names and shapes, as [`crate::model::recognise`] takes them.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let shape = |(name, info): (&String, &TensorInfo)| (name.clone(), info.shape.clone());
        self.tensors.iter().map(shape).collect()
    }

    /// The values of a tensor, row-major, whatever its strides and type in the file.
    ///
    /// # Errors
    /// An unknown name, bytes that are missing, damaged (zip archives keep checksums) or cannot
    /// be read.
    pub fn read_f32(&mut self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let unknown = || CheckpointError::UnknownTensor(crate::archive::shorten(name));
        let info = self.tensors.get(name).ok_or_else(unknown)?;
        let backing = &self.backings[info.view.backing];
        bytes::read_f32(&mut self.source, name, info, backing)
    }

    /// The source, for instance to hash it: see [`sha256`].
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }
}
