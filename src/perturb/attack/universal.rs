//! One perturbation for many images (Moosavi-Dezfooli et al. 2017), found by gradient ascent on
//! batches with a loss that is cut off (Shafahi et al. 2020).

use serde::{Deserialize, Serialize};

use super::goal::{Goal, Loss};
use super::nearest::{Clean, narrow, require};
use super::norm::{Ball, Norm, Projection};
use super::oracle::{Oracle, Stopped, Subject};

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
    /// The share of images that must meet the goal for the search to end, above 0 and at most 1.
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
    pub(super) fn check(&self) -> Result<(), Stopped> {
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

    /// `[n, c, h, w]`: `pixels` plus the [`perturbation`](Self::perturbation), in [0, 1] and
    /// within `eps` each.
    ///
    /// # Errors
    /// [`Stopped`], when cancelled, when the device failed or when a setting makes no sense.
    pub async fn attack<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        let perturbation = self.perturbation(subject, pixels, goal).await?;
        Ok(self.lay(pixels, &perturbation))
    }

    /// `[c, h, w]`, within `eps` of 0: the one with which the most images met the goal after an
    /// epoch. Images that meet it without take no part.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub async fn perturbation<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        self.check()?;
        let length = subject.oracle.image_len();
        let mut order = Clean::of(subject, pixels, goal).await?.open;
        let (seen, wanted) = narrow(pixels, goal, length, &order);
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
            subject.rng.shuffle(&mut order);
            for (i, members) in order.chunks(self.batch).enumerate() {
                let at = [epoch * batches + i + 1, self.epochs * batches];
                self.step(subject, pixels, goal, members, &mut perturbation, at)
                    .await?;
            }
            let met = subject
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
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
        members: &[usize],
        perturbation: &mut [f32],
        at: [usize; 2],
    ) -> Result<(), Stopped> {
        let (length, classes) = (subject.oracle.image_len(), subject.oracle.classes());
        let (centres, wanted) = narrow(pixels, goal, length, members);
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
        let found = subject.oracle.gradient(&x, &slope).await?;
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
        subject.tell_some(
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

#[cfg(test)]
mod tests {
    use super::super::oracle::Step;
    use super::super::plan::Attack;
    use super::super::toy::{Toy, attack, image};
    use super::*;
    use crate::rng::Rng;

    fn seek(universal: &Universal, toy: &mut Toy, x: &[f32], goal: &Goal) -> Vec<f32> {
        let mut watch = |_: Step<'_>| {};
        let images = (0..goal.classes.len()).collect();
        let mut subject = Subject::new(toy, 1, &mut watch, images);
        pollster::block_on(universal.perturbation(&mut subject, x, goal)).unwrap()
    }

    /// On a linear model of two classes the best direction is the same for all images and known:
    /// that of the weights' difference.
    #[test]
    fn on_a_linear_model_the_best_direction_is_found() {
        let weights = [0.5, -1.0, 0.25, 0.0, 2.0, -0.125];
        let opposite = weights.map(|w: f64| -w);
        let mut toy = Toy::of([1, 2, 3], &[&weights, &opposite]);
        let mut rng = Rng::from_seed(2);
        // Away from the edges of the box, and of class 0.
        let x: Vec<f32> = std::iter::repeat_with(|| {
            (0..6)
                .map(|_| 0.4 + 0.2 * rng.uniform_f32())
                .collect::<Vec<_>>()
        })
        .filter(|x| toy.class_of(x) == 0)
        .take(20)
        .flatten()
        .collect();
        let goal = Goal::leave(vec![0; 20]);
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
            let found = seek(&universal, &mut toy, &x, &goal);
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
            let mut toy = Toy::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x: Vec<f32> = (0..12).flat_map(|_| image(&mut rng, 48)).collect();
            let classes: Vec<usize> = x.chunks(48).map(|x| toy.class_of(x)).collect();
            let goal = Goal::leave(classes.clone());
            let universal = Universal {
                norm,
                eps: [0.4, 2.5][round % 2],
                batch: 5,
                fooling_rate: 0.5,
                ..Universal::default()
            };
            let perturbation = seek(&universal, &mut toy, &x, &goal);
            let size = norm.of(perturbation.iter().map(|p| f64::from(*p)));
            assert!(size <= f64::from(universal.eps) * (1.0 + 1e-6));
            let whole = Attack::Universal(universal.clone());
            let found = attack(&mut toy, &whole, &x, &goal).unwrap();
            for (x, clean) in found.chunks(48).zip(x.chunks(48)) {
                let same = x.iter().zip(clean).zip(&perturbation);
                for ((x, c), p) in same {
                    assert!((x - (c + p).clamp(0.0, 1.0)).abs() < 1e-6);
                }
            }
            let fell = found.chunks(48).zip(&classes);
            let fell = fell.filter(|(x, class)| toy.class_of(x) != **class).count();
            assert!(fell >= 6, "{fell}");
            // One epoch is enough for a single image to fall: fewer passes than for half of them.
            let count = |rate: f32, toy: &mut Toy| {
                let before = toy.forwards;
                let universal = Universal {
                    fooling_rate: rate,
                    ..universal.clone()
                };
                seek(&universal, toy, &x, &goal);
                toy.forwards - before
            };
            assert!(count(0.01, &mut toy) <= count(1.0, &mut toy));
        }
    }

    #[test]
    fn later_epochs_never_lose_what_earlier_ones_had() {
        let mut rng = Rng::from_seed(9);
        let mut grew = 0;
        for _ in 0..10 {
            let mut toy = Toy::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x: Vec<f32> = (0..12).flat_map(|_| image(&mut rng, 48)).collect();
            let classes: Vec<usize> = x.chunks(48).map(|x| toy.class_of(x)).collect();
            let goal = Goal::leave(classes.clone());
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
                let found = attack(&mut toy, &attack_, &x, &goal).unwrap();
                let fell = found.chunks(48).zip(&classes);
                let fell = fell.filter(|(x, class)| toy.class_of(x) != **class).count();
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
        let mut toy = Toy::two_layer(&mut rng, [3, 4, 4], 8, 4);
        let x = image(&mut rng, 48);
        let goal = Goal::leave(vec![toy.class_of(&x)]);
        let moved = |cutoff: f32, toy: &mut Toy| {
            let universal = Universal {
                cutoff,
                ..Universal::default()
            };
            seek(&universal, toy, &x, &goal).iter().any(|p| *p != 0.0)
        };
        assert!(moved(9.0, &mut toy));
        assert!(!moved(1e-9, &mut toy));
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
