//! What can be wrong with a weights file, each as one sentence for the user.

use std::io;

use crate::archive::{ArchiveError, shorten};

/// Why a checkpoint could not be opened or a tensor not be read.
///
/// `Display` is one sentence for the user; the cause for the log is [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Zero bytes.
    #[error("this file is empty (0 bytes): the download probably failed, please fetch it again")]
    Empty,
    /// Something else altogether, said with what to do about it.
    #[error("this is {what}, not a file of weights: {advice}")]
    NotWeights { what: String, advice: String },
    /// The bytes end before what they promise.
    #[error(
        "the file is cut off in the middle of {what}: {expected} bytes are needed there and {found} are left, so please fetch it again"
    )]
    Truncated {
        what: String,
        expected: u64,
        found: u64,
    },
    /// The structure around the tensors makes no sense.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// The pickle asks for a function that no set of weights needs.
    #[error(
        "this file asks to run `{callable}` when it is opened, {why}; nothing was run and nothing was loaded"
    )]
    Callable { callable: String, why: &'static str },
    /// One tensor is at fault.
    #[error("the tensor `{name}` cannot be used: {problem}")]
    Tensor { name: String, problem: String },
    /// The zip archive around the tensors is at fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// More than [`crate::archive::Limits`] allow.
    #[error(
        "the file is too large to load safely: {what} is {found}, and at most {limit} is allowed"
    )]
    TooLarge {
        what: String,
        found: u64,
        limit: u64,
    },
    /// The file is sound and holds no table of named tensors.
    #[error("no table of named weights was found in this file: {0}")]
    NoTensors(String),
    /// A name that [`super::Checkpoint::tensors`] does not list.
    #[error("there is no tensor `{0}` in this file")]
    UnknownTensor(String),
    /// The disk, the browser or the network gave up.
    #[error("the file could not be read to its end")]
    Io(#[from] io::Error),
}

impl CheckpointError {
    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            name: shorten(name),
            problem: problem.into(),
        }
    }

    pub(super) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged(problem.into())
    }

    pub(super) fn not_weights(what: &str, advice: &str) -> Self {
        Self::NotWeights {
            what: what.to_owned(),
            advice: advice.to_owned(),
        }
    }
}

/// `a`, `b`, `c` and 12 more.
pub(in crate::model) fn name_some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let mut names = names.into_iter();
    let shown: Vec<String> = names
        .by_ref()
        .take(MOST)
        .map(|name| format!("`{}`", shorten(name)))
        .collect();
    match names.count() {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}
