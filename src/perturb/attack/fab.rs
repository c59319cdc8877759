//! The Fast Adaptive Boundary attack (Croce and Hein 2020): again and again onto the boundary of
//! the model made linear, drawn towards the original, for the smallest perturbation.

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean, to_pixel};
use super::context::{Context, pick};
use super::criterion::{Aim, Criterion, runner_up};
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::Norm;
use super::oracle::Oracle;
use super::plane::{Plane, planes};
use crate::rng::Rng;

/// Points tried between the original and the nearest success in the end.
const SEARCH: usize = 3;

/// How far beyond the point where the logits are equal the search looks, as a part of what is left
/// of the way: on a linear model that point itself is on neither side.
const BEYOND: f64 = 1e-3;

/// A minimal-norm attack with gradients.
///
/// To leave a class it considers the boundaries to all other classes, with a backward pass for each
/// at every step. With `target_classes` it takes one of them at a time instead, which is FAB-T of
/// AutoAttack. Towards a class, the boundary is the one between it and the best other class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fab {
    pub norm: Norm,
    /// The largest distance from the original at which restarts begin, in the norm of pixels in
    /// [0, 1]. Results may be further away: they are as near as they can be.
    pub eps: f32,
    /// Steps of each run, at least 1.
    pub steps: usize,
    /// Runs, at least 1: the first from the original, the others from random points.
    pub restarts: usize,
    /// Instead of all other classes at once: towards the most likely ones one after the other, so
    /// many of them, a run each. 0 for none. Unused when a class is to be reached.
    pub target_classes: usize,
    /// The most that a step is drawn towards the original, 0 to 1.
    pub alpha_max: f32,
    /// How far a step goes, as a multiple of the way to the boundary; at least 1.
    pub eta: f32,
    /// What is kept of the perturbation after a success, above 0 and at most 1.
    pub beta: f32,
}

impl Default for Fab {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            steps: 100,
            restarts: 1,
            target_classes: 0,
            alpha_max: 0.1,
            eta: 1.05,
            beta: 0.9,
        }
    }
}

/// One image on its way in one run.
struct Seeker {
    image: usize,
    /// The only class whose boundary is considered.
    target: Option<usize>,
    x: Vec<f32>,
}

impl Fab {
    pub(super) fn check(&self) -> Result<(), AttackError> {
        require(
            self.steps > 0 && self.restarts > 0,
            "FAB needs at least one step and one restart.",
        )?;
        require(
            self.eps.is_finite() && self.eps >= 0.0,
            "FAB's radius must be a number of at least 0.",
        )?;
        require(
            (0.0..=1.0).contains(&self.alpha_max),
            "FAB's pull towards the original must be from 0 to 1.",
        )?;
        require(
            self.eta.is_finite() && self.eta >= 1.0,
            "FAB must step at least as far as the boundary: its factor must be a number of at least 1.",
        )?;
        require(
            self.beta > 0.0 && self.beta <= 1.0,
            "What FAB keeps of a perturbation must be above 0 and at most 1.",
        )
    }

    /// The original; for a restart, a random point half as far from it as the nearest success, or
    /// half the radius when that is less.
    fn start(
        &self,
        best_so_far: &BestSoFar<'_>,
        image: usize,
        restart: usize,
        rng: &mut Rng,
    ) -> Vec<f32> {
        let original = best_so_far.original(image);
        if restart == 0 {
            return original.to_vec();
        }
        let distance = best_so_far.distances[image].min(f64::from(self.eps)) / 2.0;
        let offset = self.norm.random_point(original.len(), 1.0, rng);
        let size = self.norm.of(offset.iter().map(|o| f64::from(*o)));
        let scale = distance / size.max(1e-12);
        let pairs = original.iter().zip(offset);
        pairs
            .map(|(x, o)| to_pixel(f64::from(*x) + scale * f64::from(o)))
            .collect()
    }

    /// Every image through all steps; `done` of `steps` came before.
    async fn run<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        mut seekers: Vec<Seeker>,
        best_so_far: &mut BestSoFar<'_>,
        criterion: &Criterion,
        [done, steps]: [usize; 2],
    ) -> Result<(), AttackError> {
        let images: Vec<usize> = seekers.iter().map(|s| s.image).collect();
        let wanted = criterion.pick(&images);
        for step in 1..=self.steps {
            let (logits, planes) = self.boundaries(context, &seekers, criterion).await?;
            for (seeker, plane) in seekers.iter_mut().zip(&planes) {
                self.advance(&mut seeker.x, plane, best_so_far.original(seeker.image));
            }
            let x = stack(&seekers);
            let met = context.judge(&x, &wanted).await?;
            context.report_some(&images, [done + step, steps], &logits, &x);
            for (seeker, _) in seekers.iter_mut().zip(met).filter(|(_, met)| *met) {
                best_so_far.offer(seeker.image, &seeker.x);
                self.step_back(&mut seeker.x, best_so_far.original(seeker.image));
            }
        }
        Ok(())
    }

    /// The logits, and the nearest boundary of those looked at, for every image.
    async fn boundaries<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        seekers: &[Seeker],
        criterion: &Criterion,
    ) -> Result<(Vec<f32>, Vec<Plane>), AttackError> {
        let x = stack(seekers);
        let rounds = match criterion.aim {
            Aim::Untargeted if seekers.iter().all(|s| s.target.is_none()) => {
                context.oracle.classes() - 1
            }
            _ => 1,
        };
        let pair = |i: usize, row: &[f32], round: usize| {
            let seeker: &Seeker = &seekers[i];
            let class = criterion.classes[seeker.image];
            match (criterion.aim, seeker.target) {
                (Aim::Targeted, _) => (class, runner_up(row, class)),
                (Aim::Untargeted, Some(target)) => (target, class),
                // Every class but the one to leave has its turn.
                (Aim::Untargeted, None) => (round + usize::from(round >= class), class),
            }
        };
        let (logits, mut chosen) = planes(context, &x, &|i, row| pair(i, row, 0)).await?;
        for round in 1..rounds {
            let (_, others) = planes(context, &x, &|i, row| pair(i, row, round)).await?;
            for (best, other) in chosen.iter_mut().zip(others) {
                if other.distance(self.norm) < best.distance(self.norm) {
                    *best = other;
                }
            }
        }
        // The margin moves every boundary of an image by as much: the nearest stays the nearest.
        let rows = logits.chunks_exact(logits.len() / seekers.len());
        for (plane, row) in chosen.iter_mut().zip(rows) {
            plane.gap -= criterion.least_gap(row);
        }
        Ok((logits, chosen))
    }

    /// Beyond the boundary from here and from the original, weighed by how far it is from each.
    fn advance(&self, x: &mut [f32], plane: &Plane, original: &[f32]) {
        if !plane.is_finite() {
            return;
        }
        let here = plane.reach(self.norm, x, x);
        let there = plane.reach(self.norm, original, x);
        let [a, b] = [&here, &there].map(|change| self.norm.of(change.iter().copied()));
        let alpha_max = f64::from(self.alpha_max);
        let alpha = match a + b > 0.0 {
            true => (a / (a + b)).min(alpha_max),
            false => alpha_max,
        };
        let eta = f64::from(self.eta);
        let changes = here.into_iter().zip(there);
        for ((x, o), (here, there)) in x.iter_mut().zip(original).zip(changes) {
            let from_here = f64::from(*x) + eta * here;
            let from_original = f64::from(*o) + eta * there;
            *x = to_pixel((1.0 - alpha) * from_here + alpha * from_original);
        }
    }

    /// Part of the way to the original.
    fn step_back(&self, x: &mut [f32], original: &[f32]) {
        let beta = f64::from(self.beta);
        for (x, o) in x.iter_mut().zip(original) {
            *x = to_pixel((1.0 - beta) * f64::from(*o) + beta * f64::from(*x));
        }
    }

    /// On the line between each original and its nearest success: where the two logits would be
    /// equal if they changed evenly, again and again.
    async fn search<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        clean: &Clean,
        best_so_far: &mut BestSoFar<'_>,
        criterion: &Criterion,
    ) -> Result<(), AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let images: Vec<usize> = clean
            .open
            .iter()
            .copied()
            .filter(|i| best_so_far.has(*i))
            .collect();
        if images.is_empty() {
            return Ok(());
        }
        let wanted = criterion.pick(&images);
        let ends = context
            .oracle
            .logits(&pick(&best_so_far.pixels, length, &images))
            .await?;
        let mut lines: Vec<Line> = images
            .iter()
            .zip(ends.chunks_exact(classes))
            .enumerate()
            .map(|(j, (image, end))| Line {
                inner: best_so_far.original(*image).to_vec(),
                inner_gap: gap(&clean.logits[image * classes..][..classes], &wanted, j),
                outer: best_so_far.best(*image).to_vec(),
                outer_gap: gap(end, &wanted, j),
            })
            .collect();
        for _ in 0..SEARCH {
            let tried: Vec<f32> = lines
                .iter()
                .flat_map(|l| l.point(criterion.confidence))
                .collect();
            let logits = context.oracle.logits(&tried).await?;
            let found = tried.chunks_exact(length).zip(logits.chunks_exact(classes));
            for ((j, line), (x, row)) in lines.iter_mut().enumerate().zip(found) {
                let met = wanted.is_met(j, row);
                line.narrow(x, gap(row, &wanted, j), met);
                if met {
                    best_so_far.offer(images[j], x);
                }
            }
        }
        Ok(())
    }
}

impl Method for Fab {
    /// `[n, c, h, w]`, as near to `pixels` in the norm as was found, within `eps` or not; an image
    /// without a success is returned as it was.
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
        let targets = match criterion.aim {
            Aim::Untargeted => self.target_classes.min(classes - 1),
            Aim::Targeted => 0,
        };
        let rounds = targets.max(1);
        if clean.open.is_empty() {
            return Ok(best_so_far.pixels);
        }
        for run in 0..rounds * self.restarts {
            let (restart, round) = (run / rounds, run % rounds);
            let begin = |image: &usize| {
                let row = &clean.logits[image * classes..][..classes];
                let order = ranked_others(row, criterion.classes[*image]);
                let mut rng = context.stream(&format!("fab/{restart}/{round}"), *image);
                Seeker {
                    image: *image,
                    target: (targets > 0).then(|| order[round]),
                    x: self.start(&best_so_far, *image, restart, &mut rng),
                }
            };
            let seekers = clean.open.iter().map(begin).collect();
            let steps = [run * self.steps, rounds * self.restarts * self.steps];
            self.run(context, seekers, &mut best_so_far, criterion, steps)
                .await?;
            // After every run, not only after the last: so another run never makes it worse.
            self.search(context, &clean, &mut best_so_far, criterion)
                .await?;
        }
        Ok(best_so_far.pixels)
    }
}

/// A stretch of the way from an original to a success.
struct Line {
    /// Not a success.
    inner: Vec<f32>,
    inner_gap: f64,
    /// A success.
    outer: Vec<f32>,
    outer_gap: f64,
}

impl Line {
    fn point(&self, confidence: f32) -> Vec<f32> {
        // A criterion that asks for more than the largest logit has its boundary elsewhere.
        let crosses = confidence <= 0.0 && self.inner_gap > 0.0 && self.outer_gap <= 0.0;
        let part = match crosses {
            true => self.inner_gap / (self.inner_gap - self.outer_gap),
            false => 0.5,
        };
        let part = part + (1.0 - part) * BEYOND;
        let ends = self.inner.iter().zip(&self.outer);
        ends.map(|(a, b)| to_pixel(f64::from(*a) + part * (f64::from(*b) - f64::from(*a))))
            .collect()
    }

    fn narrow(&mut self, x: &[f32], gap: f64, met: bool) {
        let (end, its_gap) = match met {
            true => (&mut self.outer, &mut self.outer_gap),
            false => (&mut self.inner, &mut self.inner_gap),
        };
        end.copy_from_slice(x);
        *its_gap = gap;
    }
}

/// What the logits are from the criterion, its margin included; above 0 while it is not met.
fn gap(row: &[f32], criterion: &Criterion, index: usize) -> f64 {
    let class = criterion.classes[index];
    let ahead = f64::from(row[class]) - f64::from(row[runner_up(row, class)]);
    let short = match criterion.aim {
        Aim::Untargeted => ahead,
        Aim::Targeted => -ahead,
    };
    short + criterion.least_gap(row)
}

/// The other classes, the most likely first.
fn ranked_others(row: &[f32], class: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).filter(|c| *c != class).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order
}

fn stack(seekers: &[Seeker]) -> Vec<f32> {
    seekers.iter().flat_map(|s| s.x.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack, image};
    use super::*;
    use crate::rng::Rng;

    fn settings(norm: Norm) -> Fab {
        Fab {
            norm,
            steps: 20,
            ..Fab::default()
        }
    }

    /// On a linear model the optimum is the nearest of the boxed boundaries, exactly.
    #[test]
    fn on_a_linear_model_the_smallest_perturbation_is_found() {
        let mut rng = Rng::from_seed(5);
        for round in 0..30 {
            let norm = Norm::ALL[round % 3];
            let mut model = TestModel::linear(&mut rng, [1, 3, 4], 4);
            let x = image(&mut rng, 12);
            let class = model.class_of(&x);
            let least = |class: usize, rival: usize| {
                let plane = model.plane(&x, rival, class);
                norm.of(plane.reach(norm, &x, &x).into_iter())
            };
            let rivals: Vec<usize> = (0..4).filter(|c| *c != class).collect();
            let best = rivals.iter().map(|r| least(class, *r));
            let best = best.fold(f64::INFINITY, f64::min);
            // After one step it is the search that gives back what went beyond the boundary.
            for (target_classes, steps) in [(0, 20), (3, 20), (3, 1)] {
                let fab = Fab {
                    target_classes,
                    steps,
                    ..settings(norm)
                };
                let criterion = Criterion::untargeted(vec![class]);
                let found = attack(&mut model, &Attack::Fab(fab.clone()), &x, &criterion).unwrap();
                assert_ne!(model.class_of(&found), class, "{norm:?}");
                let distance = norm.distance(&found, &x);
                assert!(
                    distance >= best - 1e-6 && distance <= 1.01 * best + 1e-5,
                    "{norm:?} {target_classes}: {distance} against {best}"
                );
            }
        }
    }

    #[test]
    fn a_step_is_drawn_to_the_original_by_how_far_away_it_is() {
        let plane = Plane {
            gap: -0.2,
            slope: vec![1.0, 0.0],
        };
        for (alpha_max, expected) in [(0.0, 0.7), (0.1, 0.68), (1.0, 0.6)] {
            let fab = Fab {
                alpha_max,
                eta: 1.5,
                ..settings(Norm::L2)
            };
            let mut x = [0.5, 0.7];
            fab.advance(&mut x, &plane, &[0.5, 0.5]);
            assert!(
                (x[0] - 0.8).abs() < 1e-6 && (x[1] - expected).abs() < 1e-6,
                "{x:?}"
            );
            fab.step_back(&mut x, &[0.5, 0.5]);
            assert!((x[0] - 0.77).abs() < 1e-6, "{x:?}");
        }
    }

    #[test]
    fn a_class_that_can_be_reached_is_reached() {
        let mut rng = Rng::from_seed(6);
        let (mut reached, mut kept) = (0, 0);
        for round in 0..30 {
            let norm = Norm::ALL[round % 3];
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x = image(&mut rng, 48);
            let target = (model.class_of(&x) + 1 + round % 3) % 4;
            let criterion = Criterion::targeted(vec![target]);
            let fab = settings(norm);
            let found = attack(&mut model, &Attack::Fab(fab.clone()), &x, &criterion).unwrap();
            if model.class_of(&found) == target {
                reached += 1;
            } else {
                assert_eq!(found, x);
                kept += 1;
            }
        }
        assert!(reached >= 24, "{reached} reached, {kept} not");
    }

    #[test]
    fn restarts_never_do_worse_and_begin_within_the_radius() {
        let mut rng = Rng::from_seed(7);
        for round in 0..12 {
            let norm = Norm::ALL[round % 3];
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x = image(&mut rng, 48);
            let criterion = Criterion::untargeted(vec![model.class_of(&x)]);
            let fab = settings(norm);
            let mut size = |restarts: usize| {
                let fab = Fab {
                    restarts,
                    ..fab.clone()
                };
                let found = attack(&mut model, &Attack::Fab(fab.clone()), &x, &criterion).unwrap();
                norm.distance(&found, &x)
            };
            let (one, three) = (size(1), size(3));
            assert!(three <= one, "{three} {one}");
            let best_so_far = BestSoFar::new(norm, &x, 48);
            let begun = fab.start(&best_so_far, 0, 1, &mut rng);
            let distance = norm.distance(&begun, &x);
            assert!(distance > 0.0 && distance <= f64::from(fab.eps) / 2.0 + 1e-6);
            assert_eq!(fab.start(&best_so_far, 0, 0, &mut rng), x);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let wrong = |change: &dyn Fn(&mut Fab)| {
            let mut fab = Fab::default();
            change(&mut fab);
            assert!(fab.check().is_err(), "{fab:?}");
        };
        wrong(&|f| f.steps = 0);
        wrong(&|f| f.restarts = 0);
        wrong(&|f| f.eps = -1.0);
        wrong(&|f| f.eps = f32::NAN);
        wrong(&|f| f.alpha_max = 1.1);
        wrong(&|f| f.eta = 0.9);
        wrong(&|f| f.beta = 0.0);
        assert!(Fab::default().check().is_ok());
    }
}
