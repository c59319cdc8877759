//! Shared by minimal-norm and decision-based attacks: the images that are still to be attacked, the
//! nearest success of each, and evaluation in portions.

use super::context::{Context, pick};
use super::criterion::Criterion;
use super::error::{AttackError, require_input};
use super::norm::Norm;
use super::oracle::Oracle;

/// Images in one pass of an attack that tries many variants of each image.
pub(super) const PORTION: usize = 64;

/// Into [0, 1]; 0 for what is not a number.
pub(super) fn to_pixel(value: f64) -> f32 {
    match value.is_nan() {
        true => 0.0,
        false => value.clamp(0.0, 1.0) as f32,
    }
}

/// Where `flags` is false.
pub(super) fn unmet(flags: &[bool]) -> Vec<usize> {
    let places = flags.iter().enumerate();
    places.filter(|(_, met)| !**met).map(|(i, _)| i).collect()
}

/// The logits of the clean images.
pub(super) struct Clean {
    /// `[n, classes]`.
    pub logits: Vec<f32>,
    /// The images to attack: those that do not meet the criterion yet. Of a stochastic model all of
    /// them, for one pass that meets it says little about the next.
    pub open: Vec<usize>,
}

impl Clean {
    pub async fn of<O: Oracle>(
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Self, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let images = criterion.classes.len();
        require_input(
            pixels.len() == images * length && context.images.len() == images,
            "An attack needs one class for each image.",
        )?;
        require_input(
            criterion.classes.iter().all(|class| *class < classes),
            "The class an attack is about must be one of the model's.",
        )?;
        require_input(
            classes >= 2,
            "An attack needs a model of two classes or more.",
        )?;
        if images == 0 {
            return Ok(Self {
                logits: Vec::new(),
                open: Vec::new(),
            });
        }
        let logits = context.oracle.logits(pixels).await?;
        let open = match context.oracle.is_stochastic() {
            true => (0..images).collect(),
            false => unmet(&criterion.met(&logits, classes)),
        };
        Ok(Self { logits, open })
    }
}

/// The success nearest to its original, for every image; the original where there is none.
pub(super) struct BestSoFar<'a> {
    norm: Norm,
    length: usize,
    originals: &'a [f32],
    pub pixels: Vec<f32>,
    /// Infinite where there is no success yet.
    pub distances: Vec<f64>,
}

impl<'a> BestSoFar<'a> {
    /// `originals` are `[n, length]`.
    pub fn new(norm: Norm, originals: &'a [f32], length: usize) -> Self {
        Self {
            norm,
            length,
            originals,
            pixels: originals.to_vec(),
            distances: vec![f64::INFINITY; originals.len() / length.max(1)],
        }
    }

    pub fn original(&self, image: usize) -> &'a [f32] {
        &self.originals[image * self.length..][..self.length]
    }

    pub fn best(&self, image: usize) -> &[f32] {
        &self.pixels[image * self.length..][..self.length]
    }

    pub fn has(&self, image: usize) -> bool {
        self.distances[image].is_finite()
    }

    /// Takes a success over if it is nearer than the one before, and says whether it was.
    pub fn offer(&mut self, image: usize, success: &[f32]) -> bool {
        let distance = self.norm.distance(success, self.original(image));
        // Not so either when it is no number.
        let nearer = distance < self.distances[image];
        if nearer {
            self.distances[image] = distance;
            self.pixels[image * self.length..][..self.length].copy_from_slice(success);
        }
        nearer
    }
}

/// Whether each of `[tried, ...]` pixels is a success for the image it belongs to, `owners`, of
/// `criterion`. Evaluated in portions, each of which is reported.
pub(super) async fn decide<O: Oracle>(
    context: &mut Context<'_, O>,
    tried: &[f32],
    owners: &[usize],
    criterion: &Criterion,
    at: [usize; 2],
) -> Result<Vec<bool>, AttackError> {
    let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
    let mut decisions = Vec::with_capacity(owners.len());
    let portions = tried.chunks(PORTION * length).zip(owners.chunks(PORTION));
    for (tried, owners) in portions {
        let logits = context.oracle.logits(tried).await?;
        decisions.extend(criterion.pick(owners).met(&logits, classes));
        context.report_some(owners, at, &logits, tried);
    }
    Ok(decisions)
}

/// The images `which` of a batch and their criterion.
pub(super) fn narrow(
    pixels: &[f32],
    criterion: &Criterion,
    length: usize,
    which: &[usize],
) -> (Vec<f32>, Criterion) {
    (pick(pixels, length, which), criterion.pick(which))
}
