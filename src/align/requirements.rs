//! The data that a plan needs.

use super::error::AlignError;
use super::plan::Plan;
use super::stimuli::{Split, Stimuli};

/// Fewer held-out stimuli than these have no interval.
const LEAST_HELD_OUT: usize = 5;

/// # Errors
/// [`AlignError::Data`]: too few stimuli or neuroids, or data that a term of the loss needs.
pub(super) fn check(plan: &Plan, stimuli: &Stimuli, split: &Split) -> Result<(), AlignError> {
    let data = |sentence: String| Err(AlignError::Data(sentence));
    let images = stimuli.images.len();
    if stimuli.neuroids * images != stimuli.responses.len() {
        return data(format!(
            "there are {images} images and responses to {}; both must be of the same stimuli",
            stimuli.responses.len() / stimuli.neuroids.max(1)
        ));
    }
    if split.held_out.len() < LEAST_HELD_OUT {
        return data(format!(
            "{} of {images} stimuli are held out, and {LEAST_HELD_OUT} are needed to measure a similarity; \
             add images or hold out a larger share",
            split.held_out.len()
        ));
    }
    if split.training.len() < plan.batch {
        return data(format!(
            "{} stimuli are left to train on, fewer than a batch of {}; add images, hold out \
             fewer or take a smaller batch",
            split.training.len(),
            plan.batch
        ));
    }
    if plan.losses.aligns() && split.neuroids.is_empty() {
        return data("no neuroid is left to train on".to_owned());
    }
    let l = &plan.losses;
    if l.harmonizer > 0.0 && stimuli.heat_maps.is_empty() {
        return data(
            "the harmonizer has a weight and there are no heat maps; add some, or set it to 0"
                .to_owned(),
        );
    }
    if l.harmonizer > 0.0 && !stimuli.labelled {
        return data(
            "the harmonizer needs the class of each image, and the stimuli have no classes of the \
             model; label them, or set it to 0"
                .to_owned(),
        );
    }
    let others = [l.cka, l.similarity, l.distillation];
    if !stimuli.labelled && others.iter().all(|weight| *weight == 0.0) {
        return data(
            "the stimuli have no classes of the model, so cross-entropy alone trains nothing; give \
             another term a weight"
                .to_owned(),
        );
    }
    Ok(())
}
