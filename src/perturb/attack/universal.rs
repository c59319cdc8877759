//! One perturbation for many images (Moosavi-Dezfooli et al. 2017), found by gradient ascent on
//! batches with a loss that is cut off (Shafahi et al. 2020).

use serde::{Deserialize, Serialize};

use super::best_so_far::{Clean, narrow};
use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm, Projection};
use super::oracle::Oracle;

/// A universal perturbation. Every image of the batch gets the same, but for what the box [0, 1]
/// cuts off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Universal {
    /// L∞ or L2.
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1].
    pub eps: f32,
    /// Most times that every image is seen, at least 1.
    pub epochs: usize,
    /// The share of images that must meet the criterion for the search to end, above 0 and at most 1.
    pub fooling_rate: f32,
    /// Step length as a fraction of `eps`, above 0.
    pub rel_step: f32,
    /// Images in a step, at least 1.
    pub batch: usize,
    /// The cross-entropy, above 0, from which on an image counts no more: else a few images far
    /// beyond the boundary would outweigh the others.
    pub cutoff: f32,
}

impl Default for Universal {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 10.0 / 255.0,
            epochs: 20,
            fooling_rate: 0.8,
            rel_step: 0.1,
            batch: 64,
            cutoff: 9.0,
        }
    }
}

/// The best perturbation so far.
struct Best {
    perturbation: Vec<f32>,
    met: usize,
}

impl Universal {
    pub(super) fn check(&self) -> Result<(), AttackError> {
        require(
            self.norm != Norm::L1,
            "A universal perturbation is sought in L∞ and L2.",
        )?;
        require(
            self.eps.is_finite() && self.eps >= 0.0,
            "The radius of a universal perturbation must be a number of at least 0.",
        )?;
        require(
            self.epochs > 0 && self.batch > 0,
            "A universal perturbation needs at least one epoch and one image in a step.",
        )?;
        require(
            self.fooling_rate > 0.0 && self.fooling_rate <= 1.0,
            "The share of images to fool must be above 0 and at most 1.",
        )?;
        let above = |v: f32| v.is_finite() && v > 0.0;
        require(
            above(self.rel_step) && above(self.cutoff),
            "The step and the cut-off of a universal perturbation must be numbers above 0.",
        )
    }

    /// `[c, h, w]`, within `eps` of 0: the one with which the most images met the criterion after an
    /// epoch. Images that meet it without take no part.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub async fn perturbation<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let mut order = Clean::of(context, pixels, criterion).await?.open;
        let (seen, wanted) = narrow(pixels, criterion, length, &order);
        let needed = (f64::from(self.fooling_rate) * order.len() as f64).ceil() as usize;
        let mut perturbation = vec![0.0; length];
        let mut best = Best {
            perturbation: perturbation.clone(),
            met: 0,
        };
        let batches = order.len().div_ceil(self.batch);
        for epoch in 0..self.epochs {
            if best.met >= needed {
                break;
            }
            context.rng.shuffle(&mut order);
            for (i, members) in order.chunks(self.batch).enumerate() {
                let at = [epoch * batches + i + 1, self.epochs * batches];
                self.step(context, pixels, criterion, members, &mut perturbation, at)
                    .await?;
            }
            let met = context
                .judge(&self.lay(&seen, &perturbation), &wanted)
                .await?;
            let met = met.into_iter().filter(|m| *m).count();
            // The later of equals: it has seen more.
            if met >= best.met {
                best = Best {
                    perturbation: perturbation.clone(),
                    met,
                };
            }
        }
        Ok(best.perturbation)
    }

    /// A step up the slope of the mean loss over the images `members`.
    async fn step<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
        members: &[usize],
        perturbation: &mut [f32],
        at: [usize; 2],
    ) -> Result<(), AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let (centres, wanted) = narrow(pixels, criterion, length, members);
        let slope = |logits: &[f32]| {
            let mut evaluated = Loss::CrossEntropy.evaluate(logits, classes, &wanted, &[]);
            let rows = evaluated.cotangent.chunks_exact_mut(classes);
            for (row, value) in rows.zip(&evaluated.values) {
                if *value >= f64::from(self.cutoff) {
                    row.fill(0.0);
                }
            }
            evaluated.cotangent
        };
        let x = self.lay(&centres, perturbation);
        let found = context.oracle.gradient(&x, &slope).await?;
        let mut sum = vec![0.0_f64; length];
        let images = found.gradient.chunks_exact(length);
        for (gradient, centre) in images.zip(centres.chunks_exact(length)) {
            let pixels = sum.iter_mut().zip(gradient).zip(centre);
            for (((sum, g), c), p) in pixels.zip(perturbation.iter()) {
                // Beyond the box the image does not follow the perturbation.
                if g.is_finite() && (0.0..=1.0).contains(&(c + p)) {
                    *sum += f64::from(*g);
                }
            }
        }
        let sum: Vec<f32> = sum.into_iter().map(|s| s as f32).collect();
        let stride = self.rel_step * self.eps;
        let direction = self.norm.direction(&sum);
        let moves = perturbation.iter_mut().zip(direction);
        moves.for_each(|(p, d)| *p += stride * d);
        self.shrink(perturbation);
        context.report_some(
            members,
            at,
            &found.logits,
            &self.lay(&centres, perturbation),
        );
        Ok(())
    }

    /// Into the ball about 0.
    fn shrink(&self, perturbation: &mut [f32]) {
        let eps = f64::from(self.eps);
        match self.norm {
            Norm::Linf => {
                let into = |p: &mut f32| *p = p.clamp(-self.eps, self.eps);
                perturbation.iter_mut().for_each(into);
            }
            _ => {
                let size = self.norm.of(perturbation.iter().map(|p| f64::from(*p)));
                let scale = (eps / size.max(1e-12)).min(1.0) as f32;
                perturbation.iter_mut().for_each(|p| *p *= scale);
            }
        }
    }

    /// Every image plus the perturbation, in the box and in the image's ball.
    fn lay(&self, pixels: &[f32], perturbation: &[f32]) -> Vec<f32> {
        let mut laid = pixels.to_vec();
        let length = perturbation.len();
        for (x, centre) in laid
            .chunks_exact_mut(length)
            .zip(pixels.chunks_exact(length))
        {
            x.iter_mut().zip(perturbation).for_each(|(x, p)| *x += p);
            let (norm, eps) = (self.norm, self.eps);
            Ball { norm, eps, centre }.project(x, Projection::Scale);
        }
        laid
    }
}

impl Method for Universal {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    /// `[n, c, h, w]`: `pixels` plus the [`perturbation`](Self::perturbation), in [0, 1] and
    /// within `eps` each.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        let perturbation = self.perturbation(context, pixels, criterion).await?;
        Ok(self.lay(pixels, &perturbation))
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::Step;
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack, image};
    use super::*;
    use crate::rng::Rng;

    fn seek(
        universal: &Universal,
        model: &mut TestModel,
        x: &[f32],
        criterion: &Criterion,
    ) -> Vec<f32> {
        let mut watch = |_: Step<'_>| {};
        let images = (0..criterion.classes.len()).collect();
        let mut context = Context::new(model, 1, &mut watch, images);
        pollster::block_on(universal.perturbation(&mut context, x, criterion)).unwrap()
    }

    /// On a linear model of two classes the best direction is the same for all images and known:
    /// that of the weights' difference.
    #[test]
    fn on_a_linear_model_the_best_direction_is_found() {
        let weights = [0.5, -1.0, 0.25, 0.0, 2.0, -0.125];
        let opposite = weights.map(|w: f64| -w);
        let mut model = TestModel::of([1, 2, 3], &[&weights, &opposite]);
        let mut rng = Rng::from_seed(2);
        // Away from the edges of the box, and of class 0.
        let x: Vec<f32> = std::iter::repeat_with(|| {
            (0..6)
                .map(|_| 0.4 + 0.2 * rng.uniform_f32())
                .collect::<Vec<_>>()
        })
        .filter(|x| model.class_of(x) == 0)
        .take(20)
        .flatten()
        .collect();
        let criterion = Criterion::untargeted(vec![0; 20]);
        for norm in [Norm::Linf, Norm::L2] {
            let universal = Universal {
                norm,
                // Not enough for all images: every epoch is run.
                eps: 0.02,
                epochs: 30,
                batch: 7,
                fooling_rate: 1.0,
                ..Universal::default()
            };
            let found = seek(&universal, &mut model, &x, &criterion);
            let falls: f64 = weights
                .iter()
                .zip(&found)
                .map(|(w, p)| -w * f64::from(*p))
                .sum();
            let steepest = match norm {
                Norm::Linf => Norm::L1,
                other => other,
            };
            let size = norm.of(found.iter().map(|p| f64::from(*p)));
            assert!(size <= 0.02 * (1.0 + 1e-6), "{norm:?}: {size}");
            let most = 0.02 * steepest.of(weights.into_iter());
            assert!(falls > 0.99 * most, "{norm:?}: {falls} of {most}");
        }
    }

    #[test]
    fn one_perturbation_is_in_every_result_and_the_search_ends_when_enough_fall() {
        let mut rng = Rng::from_seed(5);
        for round in 0..10 {
            let norm = [Norm::Linf, Norm::L2][round % 2];
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x: Vec<f32> = (0..12).flat_map(|_| image(&mut rng, 48)).collect();
            let classes: Vec<usize> = x.chunks(48).map(|x| model.class_of(x)).collect();
            let criterion = Criterion::untargeted(classes.clone());
            let universal = Universal {
                norm,
                eps: [0.4, 2.5][round % 2],
                batch: 5,
                fooling_rate: 0.5,
                ..Universal::default()
            };
            let perturbation = seek(&universal, &mut model, &x, &criterion);
            let size = norm.of(perturbation.iter().map(|p| f64::from(*p)));
            assert!(size <= f64::from(universal.eps) * (1.0 + 1e-6));
            let whole = Attack::Universal(universal.clone());
            let found = attack(&mut model, &whole, &x, &criterion).unwrap();
            for (x, clean) in found.chunks(48).zip(x.chunks(48)) {
                let same = x.iter().zip(clean).zip(&perturbation);
                for ((x, c), p) in same {
                    assert!((x - (c + p).clamp(0.0, 1.0)).abs() < 1e-6);
                }
            }
            let fell = found.chunks(48).zip(&classes);
            let fell = fell
                .filter(|(x, class)| model.class_of(x) != **class)
                .count();
            assert!(fell >= 6, "{fell}");
            // One epoch is enough for a single image to fall: fewer passes than for half of them.
            let count = |rate: f32, model: &mut TestModel| {
                let before = model.forwards;
                let universal = Universal {
                    fooling_rate: rate,
                    ..universal.clone()
                };
                seek(&universal, model, &x, &criterion);
                model.forwards - before
            };
            assert!(count(0.01, &mut model) <= count(1.0, &mut model));
        }
    }

    #[test]
    fn later_epochs_never_lose_what_earlier_ones_had() {
        let mut rng = Rng::from_seed(9);
        let mut grew = 0;
        for _ in 0..10 {
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x: Vec<f32> = (0..12).flat_map(|_| image(&mut rng, 48)).collect();
            let classes: Vec<usize> = x.chunks(48).map(|x| model.class_of(x)).collect();
            let criterion = Criterion::untargeted(classes.clone());
            let mut before = 0;
            for epochs in 1..8 {
                let attack_ = Attack::Universal(Universal {
                    eps: 0.2,
                    epochs,
                    fooling_rate: 1.0,
                    // So far that it swings from end to end.
                    rel_step: 2.0,
                    batch: 3,
                    ..Universal::default()
                });
                let found = attack(&mut model, &attack_, &x, &criterion).unwrap();
                let fell = found.chunks(48).zip(&classes);
                let fell = fell
                    .filter(|(x, class)| model.class_of(x) != **class)
                    .count();
                assert!(fell >= before, "{fell} after {before}");
                grew += fell - before;
                before = fell;
            }
        }
        assert!(grew > 10, "{grew}");
    }

    /// Where every image counts no more, there is nothing to climb.
    #[test]
    fn an_image_beyond_the_cutoff_pulls_no_more() {
        let mut rng = Rng::from_seed(6);
        let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
        let x = image(&mut rng, 48);
        let criterion = Criterion::untargeted(vec![model.class_of(&x)]);
        let moved = |cutoff: f32, model: &mut TestModel| {
            let universal = Universal {
                cutoff,
                ..Universal::default()
            };
            seek(&universal, model, &x, &criterion)
                .iter()
                .any(|p| *p != 0.0)
        };
        assert!(moved(9.0, &mut model));
        assert!(!moved(1e-9, &mut model));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let wrong = |change: &dyn Fn(&mut Universal)| {
            let mut universal = Universal::default();
            change(&mut universal);
            assert!(universal.check().is_err(), "{universal:?}");
        };
        wrong(&|u| u.norm = Norm::L1);
        wrong(&|u| u.eps = f32::NAN);
        wrong(&|u| u.epochs = 0);
        wrong(&|u| u.batch = 0);
        wrong(&|u| u.fooling_rate = 0.0);
        wrong(&|u| u.fooling_rate = 1.5);
        wrong(&|u| u.rel_step = 0.0);
        wrong(&|u| u.cutoff = -1.0);
        assert!(Universal::default().check().is_ok());
    }
}
