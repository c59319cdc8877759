//! What an attack works with besides its settings, and what it reports.

use super::autoattack::Part;
use super::criterion::Criterion;
use super::error::AttackError;
use super::oracle::Oracle;
use crate::rng::Rng;

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
pub struct Context<'a, O> {
    pub oracle: &'a mut O,
    /// Behind every [`stream`](Self::stream).
    pub seed: u64,
    /// For draws that concern the batch as a whole; an image's own come from its
    /// [`stream`](Self::stream).
    pub rng: Rng,
    /// Reported of every step.
    pub watch: &'a mut dyn FnMut(Step<'_>),
    /// Numbers of the attacked images in the user's batch.
    pub images: Vec<usize>,
    /// Whether results are rounded to 8 bits a channel before they are judged.
    pub eight_bit: bool,
    /// Which part of a suite brought each image down, once it has run; empty for other attacks.
    pub parts: Vec<Option<Part>>,
}

impl<'a, O: Oracle> Context<'a, O> {
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
            parts: Vec::new(),
        }
    }
}

impl<O: Oracle> Context<'_, O> {
    /// The randomness of the attack `name` for one of this context's images. It depends on nothing
    /// but the seed, the name and the image's number in the user's batch: which other images are
    /// attacked beside it, and what was attacked before, changes nothing.
    pub fn stream(&self, name: &str, image: usize) -> Rng {
        Rng::stream(self.seed, &format!("{name}/{}", self.images[image]))
    }

    /// Reports a step over all images.
    pub fn report(&mut self, step: usize, steps: usize, logits: &[f32], pixels: &[f32]) {
        (self.watch)(Step {
            step,
            steps,
            images: &self.images,
            logits,
            pixels,
        });
    }

    /// Reports a step over the images `active`, numbered as in this context.
    pub fn report_some(
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

    /// Which images meet the criterion, by one pass.
    ///
    /// # Errors
    /// [`AttackError`], when the user cancelled or the device failed.
    pub async fn judge(
        &mut self,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<bool>, AttackError> {
        let logits = self.oracle.logits(pixels).await?;
        Ok(criterion.met(&logits, self.oracle.classes()))
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
