//! The Fast Minimum-Norm attack (Pintor et al. 2021): gradient steps in a ball whose radius shrinks
//! after a success and grows otherwise.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean, to_pixel};
use super::context::{Context, pick};
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm, Projection};
use super::oracle::Oracle;
use super::plane::{Plane, TINY};

/// A minimal-norm attack with gradients: one backward pass a step, whatever the number of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fmn {
    pub norm: Norm,
    /// At least 1.
    pub steps: usize,
    /// Length in L2 of the first and of the last step, above 0 and falling in between.
    pub step: [f32; 2],
    /// What the radius changes by with the first and the last step, as a part of it, above 0 and
    /// below 1.
    pub shrink: [f32; 2],
}

impl Default for Fmn {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            steps: 1000,
            step: [1.0, 1e-5],
            shrink: [0.05, 1e-4],
        }
    }
}

/// One image on its way.
struct Walker {
    image: usize,
    x: Vec<f32>,
    radius: f64,
}

impl Fmn {
    pub(super) fn check(&self) -> Result<(), AttackError> {
        require(
            self.steps > 0,
            "The fast minimum-norm attack needs at least one step.",
        )?;
        let above = |v: &f32| v.is_finite() && *v > 0.0;
        require(
            self.step.iter().all(above),
            "The steps of the fast minimum-norm attack must be numbers above 0.",
        )?;
        require(
            self.shrink.iter().all(|v| above(v) && *v < 1.0),
            "The fast minimum-norm attack must change its radius by more than 0 and less than all of it.",
        )
    }

    /// Moves every image; the logits before.
    async fn step<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        walkers: &mut [Walker],
        best_so_far: &mut BestSoFar<'_>,
        wanted: &Criterion,
        step: usize,
    ) -> Result<Vec<f32>, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let margin = |logits: &[f32]| Loss::Margin.evaluate(logits, classes, wanted, &[]);
        let slope = |logits: &[f32]| margin(logits).cotangent;
        let found = context.oracle.gradient(&stack(walkers), &slope).await?;
        let gaps = margin(&found.logits).values.into_iter();
        let planes = gaps.zip(found.gradient.chunks_exact(length));
        let planes = planes.map(|(gap, slope)| Plane {
            gap,
            slope: slope.to_vec(),
        });
        let met = wanted.met(&found.logits, classes);
        for ((walker, plane), met) in walkers.iter_mut().zip(planes).zip(met) {
            if met {
                best_so_far.offer(walker.image, &walker.x);
            }
            walker.radius = self.radius(walker, &plane, best_so_far, met, step);
            self.advance(walker, &plane, best_so_far.original(walker.image), step);
        }
        Ok(found.logits)
    }

    fn radius(
        &self,
        walker: &Walker,
        plane: &Plane,
        best_so_far: &BestSoFar<'_>,
        met: bool,
        step: usize,
    ) -> f64 {
        let change = self.anneal(self.shrink, step);
        let best = best_so_far.distances[walker.image];
        match (met, best_so_far.has(walker.image)) {
            (true, _) => (walker.radius * (1.0 - change)).min(best),
            (false, true) => walker.radius * (1.0 + change),
            // As far as the boundary of the model made linear here, and, unlike the paper, beyond
            // it: a point on the boundary is no success and has no distance left to go.
            (false, false) => {
                let gone = self
                    .norm
                    .distance(&walker.x, best_so_far.original(walker.image));
                (gone + plane.distance(self.norm)) * (1.0 + change)
            }
        }
    }

    fn advance(&self, walker: &mut Walker, plane: &Plane, original: &[f32], step: usize) {
        if !plane.is_finite() {
            return;
        }
        let stride = self.anneal(self.step, step) / (plane.steepness(Norm::L2) + TINY);
        for (x, s) in walker.x.iter_mut().zip(&plane.slope) {
            *x += (stride * f64::from(*s)) as f32;
        }
        let ball = Ball {
            norm: self.norm,
            eps: walker.radius as f32,
            centre: original,
        };
        ball.project(&mut walker.x, Projection::Nearest);
        walker
            .x
            .iter_mut()
            .for_each(|x| *x = to_pixel(f64::from(*x)));
    }

    /// From the first value to the last along half a period of the cosine.
    fn anneal(&self, [first, last]: [f32; 2], step: usize) -> f64 {
        let [first, last] = [f64::from(first), f64::from(last)];
        let part = step as f64 / self.steps as f64;
        last + (first - last) * (1.0 + libm::cos(PI * part)) / 2.0
    }
}

impl Method for Fmn {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let images = Clean::of(context, pixels, criterion).await?.open;
        let mut best_so_far = BestSoFar::new(self.norm, pixels, length);
        if images.is_empty() {
            return Ok(best_so_far.pixels);
        }
        let wanted = criterion.pick(&images);
        let begin = |image: &usize| Walker {
            image: *image,
            x: pick(pixels, length, &[*image]),
            radius: f64::INFINITY,
        };
        let mut walkers: Vec<Walker> = images.iter().map(begin).collect();
        for step in 1..=self.steps {
            let logits = self
                .step(context, &mut walkers, &mut best_so_far, &wanted, step)
                .await?;
            context.report_some(&images, [step, self.steps], &logits, &stack(&walkers));
        }
        let met = context.judge(&stack(&walkers), &wanted).await?;
        for (walker, _) in walkers.iter().zip(met).filter(|(_, met)| *met) {
            best_so_far.offer(walker.image, &walker.x);
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
    use super::super::test_model::{TestModel, attack, image};
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn on_a_linear_model_the_smallest_perturbation_is_found() {
        let weights = [1.0, -0.5, 0.25, 0.0];
        let mut model = TestModel::of([1, 2, 2], &[&weights, &weights.map(|w| -w)]);
        let x = [0.6, 0.4, 0.5, 0.5];
        for norm in Norm::ALL {
            let plane = model.plane(&x, 1, 0);
            let best = norm.of(plane.reach(norm, &x, &x).into_iter());
            let fmn = Attack::Fmn(Fmn {
                norm,
                steps: 300,
                ..Fmn::default()
            });
            let found = attack(&mut model, &fmn, &x, &Criterion::untargeted(vec![0])).unwrap();
            assert_eq!(model.class_of(&found), 1);
            let distance = norm.distance(&found, &x);
            assert!(
                distance >= best - 1e-5 && distance < 1.02 * best,
                "{norm:?}: {distance} against {best}"
            );
        }
    }

    #[test]
    fn classes_are_reached() {
        let mut rng = Rng::from_seed(6);
        let mut reached = 0;
        for round in 0..30 {
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x = image(&mut rng, 48);
            let target = (model.class_of(&x) + 1 + round % 3) % 4;
            let fmn = Attack::Fmn(Fmn {
                norm: Norm::ALL[round % 3],
                steps: 60,
                ..Fmn::default()
            });
            let found = attack(&mut model, &fmn, &x, &Criterion::targeted(vec![target])).unwrap();
            match model.class_of(&found) == target {
                true => reached += 1,
                false => assert_eq!(found, x),
            }
        }
        assert!(reached >= 24, "{reached}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let wrong = |change: &dyn Fn(&mut Fmn)| {
            let mut fmn = Fmn::default();
            change(&mut fmn);
            assert!(fmn.check().is_err(), "{fmn:?}");
        };
        wrong(&|f| f.steps = 0);
        wrong(&|f| f.step[1] = 0.0);
        wrong(&|f| f.step[0] = f32::NAN);
        wrong(&|f| f.shrink[0] = 1.0);
        wrong(&|f| f.shrink[1] = 0.0);
        assert!(Fmn::default().check().is_ok());
    }
}
