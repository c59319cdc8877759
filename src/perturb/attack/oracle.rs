//! What attacks ask of a model: logits, and gradients with respect to pixels.
//!
//! Attacks keep images and do their arithmetic on the host; only the passes run on a device. So
//! an attack is the same on every backend, projects exactly, and can be tested without one.

use super::error::AttackError;

/// Logits of a batch, and a gradient with respect to its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Pullback {
    /// `[n, classes]`; for a stochastic model the mean over the samples.
    pub logits: Vec<f32>,
    /// `[n, channels, height, width]`.
    pub gradient: Vec<f32>,
}

/// A model as an attack sees it: pixels in [0, 1], `[n, channels, height, width]`, row-major.
#[allow(
    async_fn_in_trait,
    reason = "the futures stay on the thread of the model"
)]
pub trait Oracle {
    /// Channels, height and width of an image.
    fn shape(&self) -> [usize; 3];

    fn classes(&self) -> usize;

    /// Whether two passes over the same image differ.
    fn is_stochastic(&self) -> bool;

    /// `[n, classes]`. A stochastic model draws its noise anew.
    ///
    /// # Errors
    /// [`AttackError`], when the user cancelled or the device failed.
    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError>;

    /// A forward pass and a backward one from `cotangent(logits)`, `[n, classes]`: what the loss
    /// changes by with each logit. A stochastic model averages over its samples (expectation over
    /// transformation, Athalye et al. 2018).
    ///
    /// # Errors
    /// [`AttackError`], when the user cancelled or the device failed.
    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError>;

    /// Floats of an image.
    fn image_len(&self) -> usize {
        self.shape().iter().product()
    }
}
