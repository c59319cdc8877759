//! The L2 attack of Carlini and Wagner (2017): a perturbation and a hinge on the margin, weighed
//! against each other and minimised by Adam (Kingma and Ba 2015) where the box has no edges.

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean};
use super::context::Context;
use super::criterion::{Aim, Criterion, runner_up};
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::Norm;
use super::oracle::{Oracle, Pullback};

/// Keeps a pixel's place in the space without edges finite: the box shrinks by this factor.
const INSIDE: f64 = 0.999_999;

/// Decay of Adam's means of the gradient and of its square, and what keeps its division finite.
const ADAM: [f64; 3] = [0.9, 0.999, 1e-8];

/// An image goes on while its loss falls to this part of the loss at the check before.
const PROGRESS: f64 = 0.9999;

/// From so many rounds on, the last one repeats the smallest constant that succeeded.
const REPEATED_FROM: usize = 10;

/// The largest constant for which that last round is run.
const LARGEST_CONSTANT: f64 = 1e10;

/// When a round of the search ends early: losses are looked at after each tenth of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Abort {
    Never,
    /// For each image when its own loss stopped falling: an image then comes to the same in any
    /// batch, and to a perturbation up to a few times larger where its loss rests before it falls.
    Image,
    /// For all images when the sum of their losses stopped falling, as Foolbox has it: the stronger
    /// of the two. What an image comes to depends on the others of its batch.
    #[default]
    Batch,
}

/// A minimal-norm attack in L2 with gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CarliniWagner {
    /// Rounds of the search for the constant that weighs the hinge, at least 1.
    pub binary_search_steps: usize,
    /// Adam's steps in each round, at least 1.
    pub steps: usize,
    /// Adam's step, above 0, in units of the space without edges.
    pub stepsize: f32,
    /// The margin between the logits that a success must have, at least 0.
    pub confidence: f32,
    /// The constant of the first round, above 0. It is raised tenfold until a round succeeds.
    pub initial_const: f32,
    /// When a round ends before its last step.
    pub abort: Abort,
}

impl Default for CarliniWagner {
    fn default() -> Self {
        Self {
            binary_search_steps: 9,
            steps: 10_000,
            stepsize: 0.01,
            confidence: 0.0,
            initial_const: 1e-3,
            abort: Abort::Batch,
        }
    }
}

/// The search for one image's constant.
struct Search {
    constant: f64,
    /// The largest constant that failed.
    lower: f64,
    /// The smallest that succeeded.
    upper: f64,
}

/// One image's minimisation within a round.
struct Descender {
    image: usize,
    constant: f64,
    /// The image in the space without edges.
    origin: Vec<f64>,
    delta: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    loss_at_check: f64,
    succeeded: bool,
}

impl CarliniWagner {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.binary_search_steps > 0 && self.steps > 0,
            "The Carlini-Wagner attack needs at least one search step and one step.",
        )?;
        let above = |v: f32| v.is_finite() && v > 0.0;
        require(
            above(self.stepsize) && above(self.initial_const),
            "The step and the first constant of the Carlini-Wagner attack must be above 0.",
        )?;
        require(
            self.confidence.is_finite() && self.confidence >= 0.0,
            "The confidence of the Carlini-Wagner attack must be a number of at least 0.",
        )
    }

    /// Minimises with the constants at hand; says which images had a success.
    async fn round<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        mut running: Vec<Descender>,
        best_so_far: &mut BestSoFar<'_>,
        criterion: &Criterion,
        round: usize,
    ) -> Result<Vec<bool>, AttackError> {
        let length = context.oracle.image_len();
        let steps = self.binary_search_steps * self.steps;
        let mut ended: Vec<Descender> = Vec::new();
        for step in 0..self.steps {
            if running.is_empty() {
                break;
            }
            let images: Vec<usize> = running.iter().map(|d| d.image).collect();
            let x: Vec<f32> = running.iter().flat_map(Descender::pixels).collect();
            let found = self.slopes(context, &running, &x, criterion).await?;
            let at = [round * self.steps + step + 1, steps];
            context.report_some(&images, at, &found.logits, &x);
            let due = self.abort != Abort::Never && step % self.steps.div_ceil(10) == 0;
            let sights: Vec<Sight> = running
                .iter()
                .enumerate()
                .map(|(j, at)| self.sight(&found, j, at, &x[j * length..][..length], criterion))
                .collect();
            let falls = self.falls(&running, &sights);
            let mut still = Vec::with_capacity(running.len());
            for (j, mut descender) in running.into_iter().enumerate() {
                let x = &x[j * length..][..length];
                let sight = &sights[j];
                descender.step(
                    step,
                    self.stepsize,
                    x,
                    &found.gradient[j * length..][..length],
                );
                if due && !falls[j] {
                    ended.push(descender);
                    continue;
                }
                if due {
                    descender.loss_at_check = sight.loss;
                }
                if sight.success {
                    descender.succeeded = true;
                    best_so_far.offer(descender.image, x);
                }
                still.push(descender);
            }
            running = still;
        }
        ended.extend(running);
        ended.sort_by_key(|d| d.image);
        Ok(ended.iter().map(|d| d.succeeded).collect())
    }

    /// Whether each image's loss, or that of all, has fallen since the check before; not so when it
    /// is no number.
    fn falls(&self, running: &[Descender], sights: &[Sight]) -> Vec<bool> {
        let fallen = |now: f64, before: f64| now <= PROGRESS * before;
        if self.abort == Abort::Batch {
            let now = sights.iter().map(|s| s.loss).sum();
            let before = running.iter().map(|d| d.loss_at_check).sum();
            return vec![fallen(now, before); running.len()];
        }
        let pairs = running.iter().zip(sights);
        pairs
            .map(|(d, s)| fallen(s.loss, d.loss_at_check))
            .collect()
    }

    /// Gradients of the hinges, each times its constant.
    async fn slopes<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        running: &[Descender],
        x: &[f32],
        criterion: &Criterion,
    ) -> Result<Pullback, AttackError> {
        let classes = context.oracle.classes();
        let slope = |logits: &[f32]| {
            let mut slope = vec![0.0; logits.len()];
            let rows = logits.chunks_exact(classes).zip(running);
            for (slope, (row, descender)) in slope.chunks_exact_mut(classes).zip(rows) {
                let hinge = self.hinge(row, descender.image, criterion);
                if hinge.pulls {
                    slope[hinge.down] = descender.constant as f32;
                    slope[hinge.up] = -descender.constant as f32;
                }
            }
            slope
        };
        context.oracle.gradient(x, &slope).await
    }

    fn hinge(&self, row: &[f32], image: usize, criterion: &Criterion) -> Hinge {
        let class = criterion.classes[image];
        let other = runner_up(row, class);
        let (up, down) = match criterion.aim {
            Aim::Untargeted => (other, class),
            Aim::Targeted => (class, other),
        };
        let gap = f64::from(row[down]) - f64::from(row[up]) + f64::from(self.confidence);
        let met = criterion.pick(&[image]).is_met(0, row);
        Hinge {
            up,
            down,
            value: gap.max(0.0),
            success: met && gap <= 0.0,
            // A criterion may ask for more than the margin: pull until it is met, too.
            pulls: gap > 0.0 || !met,
        }
    }

    fn sight(
        &self,
        found: &Pullback,
        j: usize,
        at: &Descender,
        x: &[f32],
        criterion: &Criterion,
    ) -> Sight {
        let classes = found.logits.len() * x.len() / found.gradient.len().max(1);
        let hinge = self.hinge(&found.logits[j * classes..][..classes], at.image, criterion);
        let moved = x.iter().zip(&at.origin);
        let squared: f64 = moved
            .map(|(x, origin)| (f64::from(*x) - to_box(*origin)).powi(2))
            .sum();
        Sight {
            loss: at.constant * hinge.value + squared,
            success: hinge.success,
        }
    }
}

impl Method for CarliniWagner {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut best_so_far = BestSoFar::new(Norm::L2, pixels, length);
        let mut searches: Vec<Search> = clean
            .open
            .iter()
            .map(|_| Search::new(f64::from(self.initial_const)))
            .collect();
        for round in 0..self.binary_search_steps {
            if clean.open.is_empty() {
                break;
            }
            if round + 1 == self.binary_search_steps && round + 1 >= REPEATED_FROM {
                let repeat = |s: &mut Search| s.constant = s.upper.min(LARGEST_CONSTANT);
                searches.iter_mut().for_each(repeat);
            }
            let begin = |(image, search): (&usize, &Search)| {
                Descender::new(*image, search.constant, best_so_far.original(*image))
            };
            let descenders = clean.open.iter().zip(&searches).map(begin).collect();
            let succeeded = self
                .round(context, descenders, &mut best_so_far, criterion, round)
                .await?;
            for (search, succeeded) in searches.iter_mut().zip(succeeded) {
                search.narrow(succeeded);
            }
        }
        Ok(best_so_far.pixels)
    }
}

/// Which logit to raise, which to lower, and whether there is need to.
struct Hinge {
    up: usize,
    down: usize,
    value: f64,
    success: bool,
    pulls: bool,
}

struct Sight {
    loss: f64,
    success: bool,
}

impl Search {
    fn new(constant: f64) -> Self {
        Self {
            constant,
            lower: 0.0,
            upper: f64::INFINITY,
        }
    }

    fn narrow(&mut self, succeeded: bool) {
        match succeeded {
            true => self.upper = self.constant,
            false => self.lower = self.constant,
        }
        self.constant = match self.upper.is_finite() {
            true => (self.lower + self.upper) / 2.0,
            false => self.constant * 10.0,
        };
    }
}

fn to_box(place: f64) -> f64 {
    0.5 * libm::tanh(place) + 0.5
}

impl Descender {
    fn new(image: usize, constant: f64, original: &[f32]) -> Self {
        let place = |x: &f32| libm::atanh((f64::from(*x) - 0.5) * 2.0 * INSIDE);
        Self {
            image,
            constant,
            origin: original.iter().map(place).collect(),
            delta: vec![0.0; original.len()],
            mean: vec![0.0; original.len()],
            square: vec![0.0; original.len()],
            loss_at_check: f64::INFINITY,
            succeeded: false,
        }
    }

    fn pixels(&self) -> impl Iterator<Item = f32> {
        let places = self.origin.iter().zip(&self.delta);
        places.map(|(origin, delta)| to_box(origin + delta) as f32)
    }

    /// A step of Adam from the pixels `x`, where the hinge has this gradient.
    fn step(&mut self, step: usize, stepsize: f32, x: &[f32], hinge: &[f32]) {
        let [slow, slower, tiny] = ADAM;
        let count = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let [bias, bias_of_square] = [slow, slower].map(|decay| 1.0 - decay.powi(count));
        for i in 0..x.len() {
            let x = f64::from(x[i]);
            let by_pixel = f64::from(hinge[i]) + 2.0 * (x - to_box(self.origin[i]));
            // The derivative of the way back into the box, 0.5 (1 - tanh²).
            let gradient = by_pixel * 2.0 * x * (1.0 - x);
            if !gradient.is_finite() {
                continue;
            }
            self.mean[i] = slow * self.mean[i] + (1.0 - slow) * gradient;
            self.square[i] = slower * self.square[i] + (1.0 - slower) * gradient * gradient;
            let length = (self.square[i] / bias_of_square).sqrt() + tiny;
            self.delta[i] -= f64::from(stepsize) * (self.mean[i] / bias) / length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack};
    use super::*;

    #[test]
    fn on_a_linear_model_the_smallest_perturbation_is_found() {
        let weights = [1.0, -0.5, 0.25, 0.0];
        let mut model = TestModel::of([1, 2, 2], &[&weights, &weights.map(|w| -w)]);
        let x = [0.6, 0.4, 0.5, 0.5];
        // The margin 2 w·x is 1.05 at the image; w has the length √1.3125.
        for (confidence, margin) in [(0.0, 1.05), (0.2, 1.25)] {
            let attack_ = Attack::CarliniWagner(CarliniWagner {
                steps: 400,
                confidence,
                ..CarliniWagner::default()
            });
            let found = attack(&mut model, &attack_, &x, &Criterion::untargeted(vec![0])).unwrap();
            let best = margin / (2.0 * 1.3125_f64.sqrt());
            let distance = Norm::L2.distance(&found, &x);
            assert!(
                distance >= best - 1e-4 && distance < 1.02 * best,
                "{distance} against {best}"
            );
        }
    }
}
