//! A GPU compiles its kernels when they are first asked for. That is made to happen while nobody waits.

use burn::module::Module;
use burn::tensor::Tensor;

use super::engine::{LoadedModel, Session, read};
use super::error::SessionError;
use super::run::summed_cross_entropy;
use crate::compute::description::BackendChoice;
use crate::compute::device::Active;
use crate::rng::Rng;

/// What the device's kernels have still to be made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cold {
    #[default]
    Nothing,
    Passes,
    Gradients,
}

impl Cold {
    /// After a model has come to this device.
    pub fn of(active: &Active) -> Self {
        match active.info.kind {
            BackendChoice::WebGpu => Self::Passes,
            _ => Self::Nothing,
        }
    }
}

impl Session {
    /// Runs the model on a blank image, forward at the first call after it was loaded to a GPU and back
    /// to the image at the second. Whether it did: there may be more to do.
    pub async fn warm_up(&mut self) -> bool {
        let (Some(model), Some(active)) = (&self.model, &self.active) else {
            return false;
        };
        let (next, done) = match self.cold {
            Cold::Nothing => return false,
            Cold::Passes => (Cold::Gradients, pass(model, active).await),
            Cold::Gradients => (Cold::Nothing, gradient(model, active).await),
        };
        // What fails here fails again for whoever asks for it, and is told then.
        self.cold = if done.is_ok() { next } else { Cold::Nothing };
        done.is_ok()
    }
}

async fn pass(model: &LoadedModel, active: &Active) -> Result<(), SessionError> {
    let network = model.network.valid();
    let side = network.config().preprocessing.crop;
    let noise = network.draw_noise(1, side, &mut Rng::from_seed(0), &active.device);
    let blank = Tensor::zeros([1, 3, side, side], &active.device);
    read(network.forward(blank, noise)).await.map(drop)
}

async fn gradient(model: &LoadedModel, active: &Active) -> Result<(), SessionError> {
    let device = active.device.clone().autodiff();
    let network = &model.network;
    let side = network.config().preprocessing.crop;
    let noise = network.draw_noise(1, side, &mut Rng::from_seed(0), &device);
    let blank = Tensor::<4>::zeros([1, 3, side, side], &device).require_grad();
    let loss = summed_cross_entropy(network.forward(blank.clone(), noise), &[0]);
    let gradients = loss.backward();
    match blank.grad(&gradients) {
        Some(gradient) => read(gradient).await.map(drop),
        None => Ok(()),
    }
}
