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
    Tensor {
        name: String,
        problem: TensorProblem,
    },
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
    pub(super) fn tensor(name: &str, problem: TensorProblem) -> Self {
        Self::Tensor {
            name: shorten(name),
            problem,
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

/// What is wrong with a tensor: half a sentence, with "it" for the tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    #[error("its description is incomplete")]
    Incomplete,
    #[error("its description names no storage")]
    NoStorage,
    #[error("its type is missing")]
    NoType,
    /// The type's name in a pickle.
    #[error("its values are kept as `{0}`, a type that this program does not read")]
    Storage(String),
    /// The type's name in a safetensors file.
    #[error("its values are `{0}`, a type that this program does not read")]
    Type(String),
    /// The function that rebuilds it.
    #[error("it is made by `{0}`, a kind of tensor that this program does not read")]
    Kind(String),
    #[error("its {0} is negative: {1}")]
    Negative(&'static str, i64),
    #[error("its {0} is not a number")]
    NotNumber(&'static str),
    #[error("its {0} is not a list of numbers")]
    NotNumbers(&'static str),
    #[error("it claims {0} dimensions")]
    Dimensions(usize),
    /// Of an archive's check.
    #[error("{0}")]
    Shape(String),
    #[error("it has {dimensions} dimensions and {strides} strides")]
    Strides { dimensions: usize, strides: usize },
    #[error("its storage claims {0} values")]
    StorageLength(u64),
    #[error("its {0} too large")]
    TooLarge(&'static str),
    #[error("its shape {shape:?} needs {needed} values and its storage holds {held}")]
    Values {
        shape: Vec<usize>,
        needed: u64,
        held: u64,
    },
    #[error("its {elements} values overlap each other in {places} places of its storage")]
    Overlap { elements: u64, places: u64 },
    #[error("its strides spread it over {0} values of its storage")]
    Spread(u64),
    #[error("its bytes end ({end}) before they begin ({begin})")]
    Order { begin: u64, end: u64 },
    #[error("its shape {shape:?} of {dtype} needs {needed} bytes and it has {given}")]
    Bytes {
        shape: Vec<usize>,
        dtype: &'static str,
        needed: u64,
        given: u64,
    },
    #[error(
        "its bytes end at {end} and the file has {held} of them; it is cut off, please fetch it again"
    )]
    CutOff { end: u64, held: u64 },
    #[error("its bytes overlap those of `{0}`")]
    OverlapsTensor(String),
    #[error("two tensors have this name")]
    Twice,
    #[error("its {0} missing")]
    Absent(String),
    #[error("there is no memory for {0} values")]
    Memory(usize),
    #[error("its bytes do not fit their checksum, so the file is damaged; please fetch it again")]
    Checksum,
    #[error("its compressed bytes are damaged; please fetch the file again")]
    Compressed,
    #[error("the file ends within the last {0} bytes of it; please fetch it again")]
    Short(u64),
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
