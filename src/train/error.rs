//! Why a training run ends early.

use std::path::PathBuf;

use crate::perturb::attack::AttackError;
use crate::perturb::corruption::CorruptionError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(
        "training diverged: the loss was {loss} at step {step} of epoch {epoch}; a lower schedule.peak helps"
    )]
    Diverged {
        epoch: usize,
        step: usize,
        loss: f32,
    },
    #[error("the recipe in {0} is not the one being trained; choose another --output folder")]
    OtherRecipe(PathBuf),
    #[error("cannot use the training state in {path}: {cause}")]
    State { path: PathBuf, cause: String },
    #[error(
        "{path} does not fit this run: {cause}. It was written by another version of Ventral or for \
         another model; choose another --output folder, or go back with --from-epoch 0"
    )]
    OtherState { path: PathBuf, cause: String },
    #[error(
        "the run cannot go on from epoch {epoch}: what it takes is kept for {kept:?}; keep = \"all\" \
         in a recipe keeps every epoch"
    )]
    NotKept { epoch: usize, kept: Vec<usize> },
    #[error("the set has {set} classes and the recipe's model has {model}; they must be as many")]
    Classes { set: usize, model: usize },
    #[error("the set has {images} images, fewer than one batch of {batch}")]
    TooFew { images: usize, batch: usize },
    #[error("no corrupted examples can be made: {0}")]
    Corruption(#[from] CorruptionError),
    #[error("no adversarial examples could be made: {0}")]
    Attack(#[from] AttackError),
}
