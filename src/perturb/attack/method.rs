//! What every attack implements.

use super::context::Context;
use super::criterion::{Aim, Criterion};
use super::error::AttackError;
use super::norm::Norm;
use super::oracle::Oracle;

/// An attack's algorithm with its settings. [`plan::run`](super::plan::run) adds what holds for all
/// attacks.
#[allow(
    async_fn_in_trait,
    reason = "the futures stay on the thread of the model"
)]
pub trait Method {
    /// The norm and the radius the result stays in; `None` for attacks that look for the smallest
    /// perturbation.
    fn ball(&self) -> Option<(Norm, f32)> {
        None
    }

    /// Whether a targeted attack starts from other images of the batch, those among them that need
    /// no attack.
    fn borrows(&self) -> bool {
        false
    }

    /// The fewest classes that a model must have for it.
    fn least_classes(&self, _aim: Aim) -> usize {
        2
    }

    /// Attacks `pixels`, `[n, channels, height, width]` in [0, 1], and returns as many.
    ///
    /// # Errors
    /// [`AttackError`], when cancelled, when the device failed or when a setting makes no sense.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError>;
}
