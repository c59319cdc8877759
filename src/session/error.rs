//! Why a request was not fulfilled.

use burn::tensor::ExecutionError;

use super::protocol::{Event, Failure};
use crate::align::aligner::AlignError;
use crate::align::plan::PlanError as AlignPlanError;
use crate::compute::lost::DeviceLost;
use crate::experiment::alignment::AlignmentError;
use crate::experiment::alignment::documents::DocumentError;
use crate::experiment::engine::Stopped;
use crate::experiment::journal::JournalError;
use crate::experiment::robustness::plan::PlanError;
use crate::experiment::robustness::run::RunError;
use crate::image::ImageError;
use crate::image::dataset::DatasetError;
use crate::model::classes::Unknown;
use crate::model::load::LoadError;
use crate::model::probe::Cancelled;
use crate::neural::NeuralError;
use crate::perturb::attack::AttackError;
use crate::perturb::attack::registry::RegistryError;
use crate::perturb::corruption::CorruptionError;

/// Why a request was not fulfilled. Every message is a sentence for the user. A device that was lost
/// is [`SessionError::Device`], whichever part of the program met it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("The device failed while it computed. Choose the CPU under Backend to go on.")]
    Device(#[from] DeviceLost),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Missing(&'static str),
    #[error("The model {0} was not read yet.")]
    NoModel(String),
    #[error("There is no control called {0}.")]
    NoControl(String),
    #[error(
        "{model} does not fit {set}: {unknown}. Say under Classes what they are, or leave them out."
    )]
    Classes {
        model: String,
        set: String,
        unknown: Unknown,
    },
    #[error(transparent)]
    Unknown(Unknown),
    #[error("{name}: {cause}")]
    Recorded { name: String, cause: NeuralError },
    #[error(transparent)]
    Neural(#[from] NeuralError),
    #[error(transparent)]
    Corruption(#[from] CorruptionError),
    #[error(transparent)]
    Name(#[from] RegistryError),
    #[error(transparent)]
    Attack(AttackError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Set(#[from] DatasetError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("A result has no written form: {0}")]
    Written(#[from] serde_json::Error),
    #[error("The weights could not be written: {0}")]
    Weights(std::io::Error),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{}", sentence(.0))]
    Align(AlignError),
}

impl From<ExecutionError> for SessionError {
    fn from(error: ExecutionError) -> Self {
        Self::Device(error.into())
    }
}

impl From<AttackError> for SessionError {
    fn from(stopped: AttackError) -> Self {
        match stopped {
            AttackError::Cancelled => Self::Cancelled(Cancelled),
            AttackError::Device { cause } => Self::Device(DeviceLost { cause }),
            other => Self::Attack(other),
        }
    }
}

impl From<RunError> for SessionError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            RunError::Device(lost) => Self::Device(lost),
            RunError::Attack(error) => Self::Attack(error),
            RunError::Classes(unknown) => Self::Unknown(unknown),
            RunError::Plan(error) => Self::Plan(error),
            RunError::Corruption(error) => Self::Corruption(error),
        }
    }
}

impl From<AlignError> for SessionError {
    fn from(error: AlignError) -> Self {
        AlignmentError::from(error).into()
    }
}

impl From<AlignmentError> for SessionError {
    fn from(error: AlignmentError) -> Self {
        match error {
            AlignmentError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            AlignmentError::Device(lost) => Self::Device(lost),
            AlignmentError::Align(error) => Self::Align(error),
            AlignmentError::Robustness(error) => error.into(),
            AlignmentError::Journal(error) => Self::Journal(error),
            AlignmentError::Weights(error) => Self::Weights(error),
        }
    }
}

impl From<AlignPlanError> for SessionError {
    fn from(error: AlignPlanError) -> Self {
        Self::Align(error.into())
    }
}

impl<E> From<Stopped<E>> for SessionError
where
    Self: From<E>,
{
    fn from(stopped: Stopped<E>) -> Self {
        match stopped {
            Stopped::Cancelled => Self::Cancelled(Cancelled),
            Stopped::Unit(error) => error.into(),
            Stopped::Journal(error) => Self::Journal(error),
        }
    }
}

impl SessionError {
    /// The event that ends a request.
    pub fn into_event(self) -> Event {
        match self {
            Self::Cancelled(_) => Event::Cancelled,
            Self::Load(LoadError::Cancelled) => Event::Cancelled,
            other => Event::Failed(Failure {
                sentence: other.to_string(),
                cause: causes(&other),
            }),
        }
    }
}

/// As a sentence of its own.
fn sentence(error: &AlignError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .map(|first| first.to_uppercase().collect())
        .unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut chain = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        chain.push(format!("{error:?}"));
        next = error.source();
    }
    chain.join("\n")
}
