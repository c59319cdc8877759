//! Why an attack ended early.

/// Why an attack ended early. Every message is a sentence for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttackError {
    #[error("cancelled")]
    Cancelled,
    /// The device failed; nothing is wrong with the request.
    #[error("The device failed while it computed. Choose the CPU under Backend to go on.")]
    Device {
        /// As the backend reports it.
        cause: String,
    },
    /// A setting of the attack that makes no sense.
    #[error("{0}")]
    Setting(&'static str),
    /// Images, labels or a target that do not fit the model or each other.
    #[error("{0}")]
    Input(&'static str),
    #[error(
        "The difference of logits ratio needs a model of at least {least} classes; this one has \
         {classes}."
    )]
    Classes { least: usize, classes: usize },
    #[error("This model has no gradient.")]
    NoGradient,
}

/// [`AttackError::Setting`] with the sentence, unless `fine`.
pub(super) fn require(fine: bool, sentence: &'static str) -> Result<(), AttackError> {
    match fine {
        true => Ok(()),
        false => Err(AttackError::Setting(sentence)),
    }
}

/// [`AttackError::Input`] with the sentence, unless `fine`.
pub(super) fn require_input(fine: bool, sentence: &'static str) -> Result<(), AttackError> {
    match fine {
        true => Ok(()),
        false => Err(AttackError::Input(sentence)),
    }
}
