//! Cross-entropy with the labels.

use super::{Context, Loss, computed};
use crate::train::cross_entropy::cross_entropy;

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    let smoothing = context.losses.label_smoothing;
    let logits = context.logits.clone();
    computed(cross_entropy(logits, &context.input.labels, smoothing))
}
