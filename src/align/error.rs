//! Why an alignment ends early.

use burn::tensor::ExecutionError;

use super::freezing::UnknownStage;
use super::plan::PlanError;
use crate::measure::similarity::SimilarityError;
use crate::model::probe::Cancelled;
use crate::train::accuracy::AccuracyError;

#[derive(Debug, thiserror::Error)]
pub enum AlignError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Stage(#[from] UnknownStage),
    #[error("{0}")]
    Model(String),
    #[error("{0}")]
    Data(String),
    #[error(transparent)]
    Similarity(#[from] SimilarityError),
    #[error(
        "the loss was {loss} at step {step}: the run diverged; a lower schedule.peak helps, and the \
         weights before it are kept"
    )]
    Diverged { step: usize, loss: f32 },
    #[error("the device failed while it computed: {0:?}")]
    Device(ExecutionError),
    #[error(
        "the saved state of the run does not fit: {0}; start the alignment again from its beginning"
    )]
    State(&'static str),
}

impl From<Cancelled> for AlignError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<AccuracyError> for AlignError {
    fn from(error: AccuracyError) -> Self {
        match error {
            AccuracyError::Cancelled(_) => Self::Cancelled,
            AccuracyError::Device(cause) => Self::Device(cause),
        }
    }
}

impl From<ExecutionError> for AlignError {
    fn from(error: ExecutionError) -> Self {
        Self::Device(error)
    }
}
