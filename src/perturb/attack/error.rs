//! Why an attack ended early.

use super::norm::Norm;

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
    #[error("This attack needs a model of at least {least} classes; this one has {classes}.")]
    Classes { least: usize, classes: usize },
    /// A ball that is larger than the box of all images.
    #[error(
        "A radius of {eps} in {} is beyond what two images of this size can differ by, {most:.4}, with \
         pixels from 0 to 1{}.", .norm.title(), suggested(*.norm, *.eps)
    )]
    Radius { norm: Norm, eps: f32, most: f64 },
    #[error("This model has no gradient.")]
    NoGradient,
}

/// What was probably meant by a radius of whole numbers in L∞: steps of 8 bits.
fn suggested(norm: Norm, eps: f32) -> String {
    match norm == Norm::Linf && eps <= 255.0 {
        true => format!(": {eps}/255 may be meant"),
        false => String::new(),
    }
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
