//! How far reading a set is, and cancelling it.

use std::ops::ControlFlow;

use super::error::DatasetError;

/// Progress of reading a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// "reading" or "decoding".
    pub stage: &'static str,
    /// Bytes of an archive or files of a folder while reading, pictures while decoding.
    pub done: u64,
    /// 0 when unknown.
    pub total: u64,
}

/// A progress callback that does nothing.
pub fn quiet(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Called now and then; [`ControlFlow::Break`] cancels.
pub(super) type Report<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

pub(super) fn tell(report: Report<'_>, progress: Progress) -> Result<(), DatasetError> {
    match report(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DatasetError::Cancelled),
    }
}
