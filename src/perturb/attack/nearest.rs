//! What minimal-norm and decision-based attacks share: which images are still to be attacked, the
//! nearest success of each, and questions in portions.

use super::goal::Goal;
use super::norm::Norm;
use super::oracle::{Oracle, Stopped, Subject, pick};

/// Images in one question of an attack that makes up many for each image.
pub(super) const PORTION: usize = 64;

/// A refusal with a sentence for the user.
pub(super) fn failed<T>(sentence: &str) -> Result<T, Stopped> {
    Err(Stopped::Failed(sentence.to_owned()))
}

/// `Err` with the sentence, unless `fine`.
pub(super) fn require(fine: bool, sentence: &str) -> Result<(), Stopped> {
    if fine { Ok(()) } else { failed(sentence) }
}

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

/// What one pass over the images says before anything is done.
pub(super) struct Clean {
    /// `[n, classes]`.
    pub logits: Vec<f32>,
    /// The images that do not meet the goal yet.
    pub open: Vec<usize>,
}

impl Clean {
    pub async fn of<O: Oracle>(
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Self, Stopped> {
        let (length, classes) = (subject.oracle.image_len(), subject.oracle.classes());
        let images = goal.classes.len();
        require(
            pixels.len() == images * length && subject.images.len() == images,
            "An attack needs one class for each image.",
        )?;
        require(
            goal.classes.iter().all(|class| *class < classes),
            "The class an attack is about must be one of the model's.",
        )?;
        require(
            classes >= 2,
            "An attack needs a model of two classes or more.",
        )?;
        if images == 0 {
            return Ok(Self {
                logits: Vec::new(),
                open: Vec::new(),
            });
        }
        let logits = subject.oracle.logits(pixels).await?;
        let open = unmet(&goal.met(&logits, classes));
        Ok(Self { logits, open })
    }
}

/// The success nearest to its original, for every image; the original where there is none.
pub(super) struct Nearest<'a> {
    norm: Norm,
    length: usize,
    originals: &'a [f32],
    pub pixels: Vec<f32>,
    /// Infinite where there is no success yet.
    pub distances: Vec<f64>,
}

impl<'a> Nearest<'a> {
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
/// `goal`. Asked in portions; told of each one.
pub(super) async fn decide<O: Oracle>(
    subject: &mut Subject<'_, O>,
    tried: &[f32],
    owners: &[usize],
    goal: &Goal,
    at: [usize; 2],
) -> Result<Vec<bool>, Stopped> {
    let (length, classes) = (subject.oracle.image_len(), subject.oracle.classes());
    let mut decisions = Vec::with_capacity(owners.len());
    let portions = tried.chunks(PORTION * length).zip(owners.chunks(PORTION));
    for (tried, owners) in portions {
        let logits = subject.oracle.logits(tried).await?;
        decisions.extend(goal.pick(owners).met(&logits, classes));
        subject.tell_some(owners, at, &logits, tried);
    }
    Ok(decisions)
}

/// The images `which` of a batch and their goal.
pub(super) fn narrow(
    pixels: &[f32],
    goal: &Goal,
    length: usize,
    which: &[usize],
) -> (Vec<f32>, Goal) {
    (pick(pixels, length, which), goal.pick(which))
}
