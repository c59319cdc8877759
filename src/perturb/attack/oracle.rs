//! What attacks ask of a model: logits, and gradients with respect to pixels.
//!
//! Attacks keep images and do their arithmetic on the host; only the passes run on a device. So
//! an attack is the same on every backend, projects exactly, and can be tested without one.

use super::goal::Goal;
use crate::rng::Rng;

/// Why an attack ended early.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Stopped {
    #[error("cancelled")]
    Cancelled,
    /// The device failed; nothing is wrong with the request.
    #[error("The device failed while it computed. Choose the CPU under Backend to go on.")]
    Device {
        /// As the backend reports it.
        cause: String,
    },
    /// A sentence for the user.
    #[error("{0}")]
    Failed(String),
}

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
    /// [`Stopped`], when the user cancelled or the device failed.
    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, Stopped>;

    /// A forward pass and a backward one from `cotangent(logits)`, `[n, classes]`: what the loss
    /// changes by with each logit. A stochastic model averages over its samples (expectation over
    /// transformation, Athalye et al. 2018).
    ///
    /// # Errors
    /// [`Stopped`], when the user cancelled or the device failed.
    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, Stopped>;

    /// Floats of an image.
    fn image_len(&self) -> usize {
        self.shape().iter().product()
    }
}

/// A finished step of an attack on a batch.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// 1-based.
    pub step: usize,
    /// How many there will be at most; 0 when that is not known.
    pub steps: usize,
    /// Which images of the whole batch are still being attacked.
    pub images: &'a [usize],
    /// `[images, classes]`, of the images the step started from.
    pub logits: &'a [f32],
    /// `[images, channels, height, width]` after the step.
    pub pixels: &'a [f32],
}

/// What an attack works with.
pub struct Subject<'a, O> {
    pub oracle: &'a mut O,
    /// Behind every [`stream`](Self::stream).
    pub seed: u64,
    /// For draws that concern the batch as a whole; an image's own come from its
    /// [`stream`](Self::stream).
    pub rng: Rng,
    /// Told of every step.
    pub watch: &'a mut dyn FnMut(Step<'_>),
    /// Numbers of the attacked images in the user's batch.
    pub images: Vec<usize>,
    /// Whether results are rounded to 8 bits a channel before they are judged.
    pub eight_bit: bool,
}

impl<'a, O: Oracle> Subject<'a, O> {
    /// All of it from one seed; results are judged as they are.
    pub fn new(
        oracle: &'a mut O,
        seed: u64,
        watch: &'a mut dyn FnMut(Step<'_>),
        images: Vec<usize>,
    ) -> Self {
        Self {
            oracle,
            seed,
            rng: Rng::stream(seed, "attack"),
            watch,
            images,
            eight_bit: false,
        }
    }
}

impl<O: Oracle> Subject<'_, O> {
    /// The randomness of the attack `name` for one of this subject's images. It depends on nothing
    /// but the seed, the name and the image's number in the user's batch: which other images are
    /// attacked beside it, and what was attacked before, changes nothing.
    pub fn stream(&self, name: &str, image: usize) -> Rng {
        Rng::stream(self.seed, &format!("{name}/{}", self.images[image]))
    }

    /// Tells of a step over all images.
    pub fn tell(&mut self, step: usize, steps: usize, logits: &[f32], pixels: &[f32]) {
        (self.watch)(Step {
            step,
            steps,
            images: &self.images,
            logits,
            pixels,
        });
    }

    /// Tells of a step over the images `active`, which number this subject's own.
    pub fn tell_some(
        &mut self,
        active: &[usize],
        [step, steps]: [usize; 2],
        logits: &[f32],
        pixels: &[f32],
    ) {
        let images: Vec<usize> = active.iter().map(|i| self.images[*i]).collect();
        (self.watch)(Step {
            step,
            steps,
            images: &images,
            logits,
            pixels,
        });
    }

    /// Which images do what the goal asks, judged by one pass.
    ///
    /// # Errors
    /// [`Stopped`], when the user cancelled or the device failed.
    pub async fn judge(&mut self, pixels: &[f32], goal: &Goal) -> Result<Vec<bool>, Stopped> {
        let logits = self.oracle.logits(pixels).await?;
        Ok(goal.met(&logits, self.oracle.classes()))
    }
}

/// The images `which` of a batch, one after the other.
pub fn pick(values: &[f32], length: usize, which: &[usize]) -> Vec<f32> {
    let mut picked = Vec::with_capacity(which.len() * length);
    for i in which {
        picked.extend_from_slice(&values[i * length..][..length]);
    }
    picked
}
