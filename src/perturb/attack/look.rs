//! What a model makes of images, over as many passes as it takes.

use super::goal::argmax;
use super::oracle::{Oracle, Stopped};

/// What a model makes of images, over one pass or, where passes differ, several.
pub struct Look {
    classes: usize,
    /// `[n, classes]`, the mean.
    pub logits: Vec<f32>,
    /// The best class of each image, a pass each.
    votes: Vec<Vec<usize>>,
}

impl Look {
    /// Looks at `pixels`, `[n, channels, height, width]` in [0, 1]; `passes` times where the model
    /// is stochastic, once otherwise.
    ///
    /// # Errors
    /// [`Stopped`], when cancelled or when the device failed.
    pub async fn at<O: Oracle>(
        oracle: &mut O,
        pixels: &[f32],
        passes: usize,
    ) -> Result<Self, Stopped> {
        let passes = match oracle.is_stochastic() {
            true => passes.max(1),
            false => 1,
        };
        let classes = oracle.classes();
        let mut look = Self {
            classes,
            logits: Vec::new(),
            votes: Vec::new(),
        };
        for _ in 0..passes {
            let logits = oracle.logits(pixels).await?;
            look.votes.push(best(&logits, classes));
            match look.logits.is_empty() {
                true => look.logits = logits,
                false => {
                    let sums = look.logits.iter_mut().zip(&logits);
                    sums.for_each(|(sum, logit)| *sum += logit);
                }
            }
        }
        look.logits.iter_mut().for_each(|v| *v /= passes as f32);
        Ok(look)
    }

    /// Passes behind it.
    pub fn passes(&self) -> usize {
        self.votes.len()
    }

    /// The class of the largest mean logit, an image each.
    pub fn best(&self) -> Vec<usize> {
        best(&self.logits, self.classes)
    }

    /// Share of the passes that give the label, an image each.
    pub fn right_shares(&self, labels: &[usize]) -> Vec<f32> {
        let share = |(i, label): (usize, &usize)| {
            let right = self.votes.iter().filter(|vote| vote[i] == *label);
            right.count() as f32 / self.votes.len() as f32
        };
        labels.iter().enumerate().map(share).collect()
    }

    /// Whether at least half of the passes give the label.
    pub fn right(&self, labels: &[usize]) -> Vec<bool> {
        let shares = self.right_shares(labels);
        shares.into_iter().map(|share| share >= 0.5).collect()
    }
}

fn best(logits: &[f32], classes: usize) -> Vec<usize> {
    logits.chunks_exact(classes).map(argmax).collect()
}
