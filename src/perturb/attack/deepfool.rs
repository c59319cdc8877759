//! DeepFool (Moosavi-Dezfooli et al. 2016): again and again to the nearest boundary of the model
//! made linear.

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean, to_pixel};
use super::context::{Context, pick};
use super::criterion::{Aim, Criterion, runner_up};
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::{Norm, sign};
use super::oracle::Oracle;
use super::plane::{Plane, TINY, planes};

/// Added to the way to the boundary, so that a point on it is left.
const BEYOND: f64 = 1e-4;

/// A minimal-norm attack with gradients. Towards a class, the boundary is the one between it and
/// the best other class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepFool {
    /// L2 or L∞.
    pub norm: Norm,
    /// Most steps, at least 1.
    pub steps: usize,
    /// Classes whose boundaries are considered, the given one among them: the largest logits of the
    /// clean image. At least 2.
    pub candidates: usize,
    /// How much further than the boundaries to go, as a part of the way; at least 0.
    pub overshoot: f32,
}

impl Default for DeepFool {
    fn default() -> Self {
        Self {
            norm: Norm::L2,
            steps: 50,
            candidates: 10,
            overshoot: 0.02,
        }
    }
}

/// One image on its way.
struct Walker {
    image: usize,
    /// Classes to walk to, the most likely first. Unused when a class is to be reached.
    rivals: Vec<usize>,
    /// The sum of all steps, without the overshoot.
    total: Vec<f64>,
    x: Vec<f32>,
}

impl DeepFool {
    pub(super) fn check(&self) -> Result<(), AttackError> {
        require(self.norm != Norm::L1, "DeepFool works in L2 and L∞.")?;
        require(self.steps > 0, "DeepFool needs at least one step.")?;
        require(
            self.candidates >= 2,
            "DeepFool needs at least two candidate classes.",
        )?;
        require(
            self.overshoot.is_finite() && self.overshoot >= 0.0,
            "DeepFool's overshoot must be a number of at least 0.",
        )
    }

    /// The largest other logits, largest first.
    fn rivals(&self, row: &[f32], class: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..row.len()).filter(|c| *c != class).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order.truncate(self.candidates - 1);
        order
    }

    /// Lets those go that have arrived and moves the others.
    async fn step<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        walkers: &mut Vec<Walker>,
        best_so_far: &mut BestSoFar<'_>,
        criterion: &Criterion,
        step: usize,
    ) -> Result<(), AttackError> {
        let classes = context.oracle.classes();
        let (logits, first) = self.boundaries(context, walkers, criterion, 0).await?;
        let met: Vec<bool> = walkers
            .iter()
            .zip(logits.chunks_exact(classes))
            .map(|(walker, row)| criterion.pick(&[walker.image]).is_met(0, row))
            .collect();
        for (walker, _) in walkers.iter().zip(&met).filter(|(_, met)| **met) {
            best_so_far.offer(walker.image, &walker.x);
        }
        let mut flags = met.iter();
        walkers.retain(|_| !flags.next().is_some_and(|met| *met));
        let left = |(plane, met): (Plane, &bool)| (!met).then_some(plane);
        let mut chosen: Vec<Plane> = first.into_iter().zip(&met).filter_map(left).collect();
        if walkers.is_empty() {
            return Ok(());
        }
        let rounds = match criterion.aim {
            Aim::Untargeted => walkers[0].rivals.len(),
            Aim::Targeted => 1,
        };
        for rival in 1..rounds {
            let (_, others) = self.boundaries(context, walkers, criterion, rival).await?;
            for (best, other) in chosen.iter_mut().zip(others) {
                if other.distance(self.norm) < best.distance(self.norm) {
                    *best = other;
                }
            }
        }
        for (walker, plane) in walkers.iter_mut().zip(&chosen) {
            self.advance(walker, plane, best_so_far.original(walker.image));
        }
        let images: Vec<usize> = walkers.iter().map(|w| w.image).collect();
        let kept: Vec<usize> = super::best_so_far::unmet(&met);
        let logits = pick(&logits, classes, &kept);
        context.report_some(&images, [step, self.steps], &logits, &stack(walkers));
        Ok(())
    }

    /// The boundary to the `rival`th class of every walker, and the logits here.
    async fn boundaries<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        walkers: &[Walker],
        criterion: &Criterion,
        rival: usize,
    ) -> Result<(Vec<f32>, Vec<Plane>), AttackError> {
        // The class to raise and the one to lower.
        let pair = |i: usize, row: &[f32]| {
            let walker: &Walker = &walkers[i];
            let class = criterion.classes[walker.image];
            match criterion.aim {
                Aim::Untargeted => (walker.rivals[rival], class),
                Aim::Targeted => (class, runner_up(row, class)),
            }
        };
        planes(context, &stack(walkers), &pair).await
    }

    fn advance(&self, walker: &mut Walker, plane: &Plane, original: &[f32]) {
        let distance = plane.distance(self.norm);
        let size = plane.steepness(self.norm) + TINY;
        if !(distance.is_finite() && size.is_finite()) {
            return;
        }
        let way = distance + BEYOND;
        let reach = 1.0 + f64::from(self.overshoot);
        let slopes = walker.total.iter_mut().zip(&plane.slope);
        for (((total, g), x), original) in slopes.zip(&mut walker.x).zip(original) {
            let direction = match self.norm {
                Norm::Linf => f64::from(sign(*g)),
                _ => f64::from(*g) / size,
            };
            *total += way * direction;
            *x = to_pixel(f64::from(*original) + reach * *total);
        }
    }
}

impl Method for DeepFool {
    /// `[n, c, h, w]`; an image that did not get there is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut best_so_far = BestSoFar::new(self.norm, pixels, length);
        let start = |image: &usize| {
            let row = &clean.logits[image * classes..][..classes];
            Walker {
                image: *image,
                rivals: self.rivals(row, criterion.classes[*image]),
                total: vec![0.0; length],
                x: pick(pixels, length, &[*image]),
            }
        };
        let mut walkers: Vec<Walker> = clean.open.iter().map(start).collect();
        for step in 1..=self.steps {
            if walkers.is_empty() {
                break;
            }
            self.step(context, &mut walkers, &mut best_so_far, criterion, step)
                .await?;
        }
        if !walkers.is_empty() {
            let images: Vec<usize> = walkers.iter().map(|w| w.image).collect();
            let met = context
                .judge(&stack(&walkers), &criterion.pick(&images))
                .await?;
            let arrived = walkers.iter().zip(met).filter(|(_, met)| *met);
            arrived.for_each(|(walker, _)| _ = best_so_far.offer(walker.image, &walker.x));
        }
        Ok(best_so_far.pixels)
    }
}

fn stack(walkers: &[Walker]) -> Vec<f32> {
    walkers.iter().flat_map(|w| w.x.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack};
    use super::*;

    /// One step to the only boundary, as far beyond it as it was told to go.
    #[test]
    fn on_a_linear_model_the_way_is_known() {
        let weights = [1.0, -0.5, 0.25, 0.0];
        let mut model = TestModel::of([1, 2, 2], &[&weights, &weights.map(|w| -w)]);
        let x = [0.6, 0.4, 0.5, 0.5];
        let steepness = [(Norm::Linf, 3.5), (Norm::L2, 2.0 * 1.3125_f64.sqrt())];
        for (norm, steepness) in steepness {
            for overshoot in [0.0, 0.02, 0.3] {
                let deepfool = Attack::DeepFool(DeepFool {
                    norm,
                    overshoot,
                    ..DeepFool::default()
                });
                let found =
                    attack(&mut model, &deepfool, &x, &Criterion::untargeted(vec![0])).unwrap();
                let way = 2.0 * 0.525 / steepness + BEYOND;
                let expected = (1.0 + f64::from(overshoot)) * way;
                let distance = norm.distance(&found, &x);
                assert!((distance - expected).abs() < 1e-5, "{distance} {expected}");
            }
        }
    }
}
