//! A model's predictions for images, over one pass or, where passes differ, several.

use super::criterion::{Criterion, argmax, softmax};
use super::error::AttackError;
use super::oracle::Oracle;

/// A model's predictions for images, over one pass or, where passes differ, several.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    classes: usize,
    /// `[n, classes]`, the mean over the passes.
    pub logits: Vec<f32>,
    /// `[passes][n]`.
    votes: Vec<Vec<Vote>>,
}

/// One pass's answer for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Vote {
    class: usize,
    probability: f64,
}

impl Predictions {
    /// Of `pixels`, `[n, channels, height, width]` in [0, 1]: over `passes` where the model is
    /// stochastic, over one otherwise.
    ///
    /// # Errors
    /// [`AttackError`], when cancelled or when the device failed.
    pub async fn of<O: Oracle>(
        oracle: &mut O,
        pixels: &[f32],
        passes: usize,
    ) -> Result<Self, AttackError> {
        let passes = match oracle.is_stochastic() {
            true => passes.max(1),
            false => 1,
        };
        let mut all = Self::of_pass(oracle.logits(pixels).await?, oracle.classes());
        for _ in 1..passes {
            let pass = Self::of_pass(oracle.logits(pixels).await?, oracle.classes());
            let sums = all.logits.iter_mut().zip(&pass.logits);
            sums.for_each(|(sum, logit)| *sum += logit);
            all.votes.extend(pass.votes);
        }
        all.logits.iter_mut().for_each(|v| *v /= passes as f32);
        Ok(all)
    }

    /// Of one pass's logits, `[n, classes]`.
    pub fn of_pass(logits: Vec<f32>, classes: usize) -> Self {
        let vote = |row: &[f32]| {
            let class = argmax(row);
            Vote {
                class,
                probability: softmax(row)[class],
            }
        };
        Self {
            classes,
            votes: vec![logits.chunks_exact(classes).map(vote).collect()],
            logits,
        }
    }

    /// Number of passes.
    pub fn passes(&self) -> usize {
        self.votes.len()
    }

    /// The class of the largest mean logit, an image each.
    pub fn best(&self) -> Vec<usize> {
        self.logits.chunks_exact(self.classes).map(argmax).collect()
    }

    /// Share of the passes that meet the criterion, an image each.
    pub fn shares_met(&self, criterion: &Criterion) -> Vec<f32> {
        let images = 0..criterion.classes.len();
        let met = |i: usize, vote: &Vote| criterion.is_met_by(i, vote.class, || vote.probability);
        images.map(|i| self.share(i, |vote| met(i, vote))).collect()
    }

    /// Share of the passes that give the label, an image each.
    pub fn right_shares(&self, labels: &[usize]) -> Vec<f32> {
        let share = |(i, label): (usize, &usize)| self.share(i, |vote| vote.class == *label);
        labels.iter().enumerate().map(share).collect()
    }

    fn share(&self, image: usize, counts: impl Fn(&Vote) -> bool) -> f32 {
        let count = self
            .votes
            .iter()
            .filter(|pass| counts(&pass[image]))
            .count();
        count as f32 / self.votes.len() as f32
    }

    /// Whether at least half of the passes give the label.
    pub fn right(&self, labels: &[usize]) -> Vec<bool> {
        let shares = self.right_shares(labels);
        shares.into_iter().map(|share| share >= 0.5).collect()
    }
}
