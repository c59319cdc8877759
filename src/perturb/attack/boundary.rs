//! The Boundary attack (Brendel et al. 2018): from a far success a walk along the boundary,
//! towards the original, that only sees decisions.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean, to_pixel};
use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::Norm;
use super::oracle::Oracle;
use super::start::{self, Bracket, Questions};
use crate::rng::Rng;

/// Every so many steps, the step along the sphere is asked about by itself.
const CHECK_EVERY: usize = 5;

/// Results behind a success rate.
const WINDOW: usize = 20;

/// Rates of success between which a step's size stays: along the sphere, and with the step towards
/// the original.
const SPHERICAL_BAND: [f64; 2] = [0.2, 0.5];
const SOURCE_BAND: [f64; 2] = [0.1, 0.25];

/// Distance from the boundary at which the start is good enough, as a fraction of its way.
const START_TOLERANCE: f64 = 1e-2;

/// Keeps a division by a length finite.
const TINY: f64 = 1e-12;

/// A minimal-norm attack in L2 that needs decisions only.
///
/// A [`Step`](super::Step) has the passes an image has been through as its number and, from the
/// first success on, the nearest one as its pixels: together they are the distance against the
/// queries.
///
/// The start is blended noise; for a class to reach, an image of the batch that is of it, if there
/// is one. Success rates are counted over shorter spans than in the authors' program, which adapts
/// its steps every few hundred: there is time for few of those in the default budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Boundary {
    /// Passes an image may take, the start included; at least 1. The authors take 25,000 steps and
    /// more; the default is a fifth of that, which one can wait for.
    pub queries: usize,
    /// First step along the sphere about the original, above 0, as a part of the distance.
    pub spherical_step: f32,
    /// First step towards the original, above 0 and below 1, as a part of the distance.
    pub source_step: f32,
    /// What steps grow and shrink by, above 1.
    pub step_adaptation: f32,
    /// An image is done when its step towards the original is smaller; at least 0.
    pub convergence: f32,
}

impl Default for Boundary {
    fn default() -> Self {
        Self {
            queries: 5000,
            spherical_step: 0.01,
            source_step: 0.01,
            step_adaptation: 1.5,
            convergence: 1e-7,
        }
    }
}

/// One image on its way.
struct Walker {
    image: usize,
    x: Vec<f32>,
    logits: Vec<f32>,
    spherical_step: f64,
    source_step: f64,
    spherical: Rate,
    source: Rate,
}

/// How often the last tries succeeded.
#[derive(Default)]
struct Rate(VecDeque<bool>);

impl Rate {
    fn note(&mut self, success: bool) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(success);
    }

    /// What to multiply a step by, to bring the rate between `low` and `high`. Starts counting
    /// afresh after a change.
    fn factor(&mut self, [low, high]: [f64; 2], adaptation: f64) -> f64 {
        if self.0.len() < WINDOW {
            return 1.0;
        }
        let rate = self.0.iter().filter(|success| **success).count() as f64 / WINDOW as f64;
        let factor = match (rate < low, rate > high) {
            (true, _) => adaptation.recip(),
            (_, true) => adaptation,
            _ => return 1.0,
        };
        self.0.clear();
        factor
    }
}

/// Where a step leads: along the sphere, and from there towards the original.
struct Proposal {
    aside: Vec<f32>,
    closer: Vec<f32>,
}

impl Boundary {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.queries > 0,
            "The Boundary attack needs at least one query.",
        )?;
        let above = |v: f32| v.is_finite() && v > 0.0;
        require(
            above(self.spherical_step) && above(self.source_step) && self.source_step < 1.0,
            "The steps of the Boundary attack must be above 0, and the one towards the original below 1.",
        )?;
        require(
            self.step_adaptation.is_finite() && self.step_adaptation > 1.0,
            "The Boundary attack's step adaptation must be a number above 1.",
        )?;
        require(
            self.convergence.is_finite() && self.convergence >= 0.0,
            "The Boundary attack's convergence must be a number of at least 0.",
        )
    }

    fn walker(&self, start: Bracket) -> Walker {
        Walker {
            image: start.image,
            x: start.pixels,
            logits: start.logits,
            spherical_step: f64::from(self.spherical_step),
            source_step: f64::from(self.source_step),
            spherical: Rate::default(),
            source: Rate::default(),
        }
    }

    fn goes_on(&self, walker: &Walker, best_so_far: &BestSoFar<'_>) -> bool {
        walker.source_step > f64::from(self.convergence)
            && best_so_far.distances[walker.image] > 0.0
    }

    /// Moves every walker for which the step is a success and nearer. With `check`, asks about the
    /// first half of the step, too.
    async fn step<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        walkers: &mut [Walker],
        best_so_far: &mut BestSoFar<'_>,
        check: bool,
    ) -> Result<(), AttackError> {
        let classes = context.oracle.classes();
        let images: Vec<usize> = walkers.iter().map(|w| w.image).collect();
        let before: Vec<f32> = walkers.iter().flat_map(|w| w.logits.clone()).collect();
        let proposals: Vec<Proposal> = walkers
            .iter()
            .map(|w| w.propose(best_so_far.original(w.image), &mut context.rng))
            .collect();
        let closer: Vec<f32> = proposals.iter().flat_map(|p| p.closer.clone()).collect();
        let answers = questions.ask(context, &closer, &images, 1).await?;
        if check {
            let aside: Vec<f32> = proposals.iter().flat_map(|p| p.aside.clone()).collect();
            let sphere = questions.ask(context, &aside, &images, 1).await?;
            let met = walkers.iter_mut().zip(sphere.met);
            met.for_each(|(walker, met)| walker.spherical.note(met));
        }
        for (j, (walker, proposal)) in walkers.iter_mut().zip(proposals).enumerate() {
            walker.source.note(answers.met[j]);
            if answers.met[j] && best_so_far.offer(walker.image, &proposal.closer) {
                walker.x = proposal.closer;
                walker.logits = answers.logits[j * classes..][..classes].to_vec();
            }
            walker.adapt(f64::from(self.step_adaptation));
        }
        let pixels: Vec<f32> = walkers.iter().flat_map(|w| w.x.clone()).collect();
        context.report_some(&images, questions.at(), &before, &pixels);
        Ok(())
    }
}

impl Method for Boundary {
    fn borrows(&self) -> bool {
        true
    }

    /// `[n, c, h, w]`; an image without a start is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut best_so_far = BestSoFar::new(Norm::L2, pixels, context.oracle.image_len());
        let mut questions = Questions {
            criterion,
            asked: 1,
            most: self.queries,
        };
        let mut starts = start::find(context, &mut questions, pixels, &clean).await?;
        starts
            .iter_mut()
            .for_each(|b| b.tolerance = START_TOLERANCE);
        let way =
            |b: &Bracket, amount: f64| start::blend(best_so_far.original(b.image), &b.far, amount);
        start::bisect(context, &mut questions, &mut starts, &way).await?;
        for start in &starts {
            best_so_far.offer(start.image, &start.pixels);
        }
        let mut walkers: Vec<Walker> = starts.into_iter().map(|b| self.walker(b)).collect();
        for step in 0.. {
            let together = step % CHECK_EVERY == 0;
            if walkers.is_empty() || questions.left() < 1 + usize::from(together) {
                break;
            }
            self.step(
                context,
                &mut questions,
                &mut walkers,
                &mut best_so_far,
                together,
            )
            .await?;
            walkers.retain(|w| self.goes_on(w, &best_so_far));
        }
        Ok(best_so_far.pixels)
    }
}

impl Walker {
    fn adapt(&mut self, adaptation: f64) {
        let factor = self.spherical.factor(SPHERICAL_BAND, adaptation);
        self.spherical_step *= factor;
        // Further along the sphere the boundary bends more: the other step goes with it.
        self.source_step *= factor * self.source.factor(SOURCE_BAND, adaptation);
        self.source_step = self.source_step.min(1.0);
    }

    fn propose(&self, original: &[f32], rng: &mut Rng) -> Proposal {
        let towards = difference(original, &self.x);
        let distance = length(&towards).max(TINY);
        let mut aside: Vec<f64> = towards.iter().map(|_| rng.normal_f64()).collect();
        let along = dot(&aside, &towards) / (distance * distance);
        aside
            .iter_mut()
            .zip(&towards)
            .for_each(|(a, t)| *a -= along * t);
        let scale = self.spherical_step * distance / length(&aside).max(TINY);
        // Projects the end of the orthogonal step back onto the sphere.
        let shrink = (1.0 + self.spherical_step * self.spherical_step)
            .sqrt()
            .recip();
        let moves = aside.iter().zip(&towards).zip(original);
        let aside: Vec<f32> = moves
            .map(|((a, t), o)| to_pixel(f64::from(*o) + shrink * (scale * a - t)))
            .collect();
        let back = difference(original, &aside);
        let reach = length(&back).max(TINY);
        // The box may have moved the point off the sphere.
        let stride = (self.source_step * distance + reach - distance).max(0.0) / reach;
        let moves = aside.iter().zip(&back);
        let closer = moves
            .map(|(a, b)| to_pixel(f64::from(*a) + stride * b))
            .collect();
        Proposal { aside, closer }
    }
}

/// `a − b`.
fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(values: &[f64]) -> f64 {
    Norm::L2.of(values.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_formula::{Linear, follows_the_rules};
    use super::*;

    fn small() -> Boundary {
        Boundary {
            queries: 300,
            ..Boundary::default()
        }
    }

    #[test]
    fn it_follows_the_rules() {
        follows_the_rules(&Attack::Boundary(small()), &Linear::default().rules());
    }

    #[test]
    fn it_comes_near_the_smallest_perturbation_of_a_linear_model() {
        let linear = Linear::default();
        let attack = Attack::Boundary(Boundary {
            queries: 2500,
            ..Boundary::default()
        });
        let found = linear.distances(&attack, Norm::L2);
        for (distance, queries) in found {
            assert!((1.0 - 1e-3..1.15).contains(&distance), "{distance}");
            assert!(queries <= 2500, "{queries}");
        }
    }

    #[test]
    fn the_distance_against_queries_is_told() {
        let linear = Linear::default();
        let record = linear.record(&Attack::Boundary(small()), Norm::L2);
        assert!(record.windows(2).all(|w| w[0].step < w[1].step));
        let successes: Vec<f64> = record
            .iter()
            .filter(|r| r.met)
            .map(|r| r.distance)
            .collect();
        assert!(successes.len() > 100, "{}", successes.len());
        assert!(successes.windows(2).all(|w| w[1] <= w[0]));
        assert!(successes[successes.len() - 1] < 0.9 * successes[0]);
        let first = record.iter().position(|r| r.met).unwrap();
        assert!(
            record[first..].iter().all(|r| r.met),
            "nothing but successes after the first"
        );
    }

    #[test]
    fn it_stops_when_it_has_converged() {
        let linear = Linear::default();
        let attack = Attack::Boundary(Boundary {
            convergence: 2e-3,
            queries: 100_000,
            ..Boundary::default()
        });
        for (_, queries) in linear.distances(&attack, Norm::L2) {
            assert!(queries < 20_000, "{queries}");
        }
    }

    #[test]
    fn steps_shrink_when_they_fail_and_grow_when_they_succeed() {
        for (success, expected) in [(true, 1.5), (false, 1.0 / 1.5)] {
            let mut rate = Rate::default();
            (1..WINDOW).for_each(|_| rate.note(success));
            assert_eq!(rate.factor([0.2, 0.5], 1.5), 1.0, "too few to judge");
            rate.note(success);
            assert_eq!(rate.factor([0.2, 0.5], 1.5), expected);
            assert_eq!(rate.factor([0.2, 0.5], 1.5), 1.0, "counts afresh");
        }
    }

    fn walker(x: Vec<f32>) -> Walker {
        Boundary::default().walker(Bracket {
            image: 0,
            far: Vec::new(),
            low: 0.0,
            high: 1.0,
            pixels: x,
            logits: Vec::new(),
            tolerance: 0.0,
        })
    }

    #[test]
    fn both_steps_follow_the_rate_along_the_sphere() {
        let mut walker = walker(vec![0.5]);
        (0..WINDOW).for_each(|_| walker.spherical.note(true));
        walker.adapt(2.0);
        let first = f64::from(0.01_f32);
        assert_eq!(
            [walker.spherical_step, walker.source_step],
            [2.0 * first; 2]
        );
        (0..WINDOW).for_each(|_| walker.source.note(false));
        walker.adapt(2.0);
        assert_eq!(
            [walker.spherical_step, walker.source_step],
            [2.0 * first, first]
        );
    }

    #[test]
    fn a_step_along_the_sphere_keeps_the_distance() {
        let original = vec![0.5_f32; 300];
        let mut rng = Rng::from_seed(1);
        let x: Vec<f32> = (0..300).map(|_| 0.4 + 0.2 * rng.uniform_f32()).collect();
        let before = Norm::L2.distance(&x, &original);
        let walker = walker(x);
        let proposal = walker.propose(&original, &mut rng);
        let [aside, closer] =
            [&proposal.aside, &proposal.closer].map(|x| Norm::L2.distance(x, &original) / before);
        assert!((aside - 1.0).abs() < 1e-5, "{aside}");
        assert!((closer - 0.99).abs() < 1e-5, "{closer}");
        let moved = Norm::L2.distance(&proposal.aside, &walker.x) / before;
        assert!((moved - 0.01).abs() < 1e-4, "{moved}");
    }

    #[test]
    fn bad_settings_are_refused() {
        let fine = Boundary::default();
        assert_eq!(fine.check(), Ok(()));
        for bad in [
            Boundary {
                queries: 0,
                ..fine.clone()
            },
            Boundary {
                spherical_step: 0.0,
                ..fine.clone()
            },
            Boundary {
                source_step: 1.0,
                ..fine.clone()
            },
            Boundary {
                step_adaptation: 1.0,
                ..fine.clone()
            },
            Boundary {
                convergence: f32::NAN,
                ..fine
            },
        ] {
            assert!(
                matches!(bad.check(), Err(AttackError::Setting(_))),
                "{bad:?}"
            );
        }
    }
}
