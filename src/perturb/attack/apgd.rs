//! Auto-PGD: descent with momentum whose step halves by itself (Croce and Hein 2020), and in L1
//! along as many entries of the gradient as pay (Croce and Hein 2021).

use serde::{Deserialize, Serialize};

use super::apgd_sparse::Sparse;
use super::context::{Context, pick};
use super::criterion::{Aim, Criterion, argmax};
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm, Projection};
use super::oracle::Oracle;

/// Weight of the step against the momentum.
const STEP_WEIGHT: f32 = 0.75;

/// Fewest steps of a stretch, as a fraction of all, of which the loss has to grow in at least
/// three quarters for the step to be kept.
const RHO: f64 = 0.75;

/// Stages of a run in L1 whose radius shrinks: each a multiple of the radius.
const SHRINKING: [f32; 3] = [3.0, 2.0, 1.0];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Apgd {
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1].
    pub eps: f32,
    /// At least 1.
    pub steps: usize,
    /// Runs from different random points, at least 1; images that have fallen are not run again.
    pub restarts: usize,
    pub loss: Loss,
    /// Instead of leaving the label: try to reach the best other classes one after the other, so
    /// many of them. 0 for none.
    pub target_classes: usize,
    /// In L1, unused elsewhere: spend three tenths of the steps at three times the radius and as
    /// many at twice it, then go on from the point found there, projected.
    pub shrinking: bool,
}

/// Steps at one radius.
struct Stage {
    eps: f32,
    steps: usize,
    /// Steps of the stages before.
    before: usize,
    /// It goes on from a given point.
    follows: bool,
}

impl Default for Apgd {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            steps: 100,
            restarts: 1,
            loss: Loss::CrossEntropy,
            target_classes: 0,
            shrinking: true,
        }
    }
}

impl Apgd {
    fn stages(&self) -> Vec<Stage> {
        if self.norm != Norm::L1 || !self.shrinking {
            return vec![Stage {
                eps: self.eps,
                steps: self.steps,
                before: 0,
                follows: false,
            }];
        }
        // At the radius itself there is a step at least.
        let early = (3 * self.steps).div_ceil(10).min((self.steps - 1) / 2);
        let steps = [early, early, self.steps - 2 * early];
        let mut before = 0;
        let stages = SHRINKING.into_iter().zip(steps).map(|(factor, steps)| {
            before += steps;
            Stage {
                eps: factor * self.eps,
                steps,
                before: before - steps,
                follows: true,
            }
        });
        stages.filter(|stage| stage.steps > 0).collect()
    }

    fn check(&self, classes: usize, aim: Aim) -> Result<(), AttackError> {
        require(
            self.steps > 0 && self.restarts > 0 && self.eps.is_finite() && self.eps >= 0.0,
            "Auto-PGD needs at least one step and one restart, and a radius of at least 0.",
        )?;
        let least = self.least_classes(aim);
        match classes < least {
            true => Err(AttackError::Classes { least, classes }),
            false => Ok(()),
        }
    }

    /// The classes the images are of, where the loss asks for them.
    async fn labels<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<usize>, AttackError> {
        if self.loss != Loss::Dlr || criterion.aim == Aim::Untargeted {
            return Ok(criterion.classes.clone());
        }
        let classes = context.oracle.classes();
        let logits = context.oracle.logits(pixels).await?;
        Ok(logits.chunks_exact(classes).map(argmax).collect())
    }
}

impl Method for Apgd {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    fn least_classes(&self, aim: Aim) -> usize {
        let is_targeted = self.target_classes > 0;
        self.loss
            .least_classes(if is_targeted { Aim::Targeted } else { aim })
    }

    /// `[n, c, h, w]` within `eps` of `pixels`: an image of the criterion where one was found, the one
    /// of the highest loss otherwise.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        self.check(classes, criterion.aim)?;
        let mut hunt = Hunt::new(pixels, criterion);
        // A class to reach is the only target there is.
        let target_classes = match criterion.aim {
            Aim::Untargeted => self.target_classes.min(classes - 1),
            Aim::Targeted => 0,
        };
        for restart in 0..self.restarts {
            for round in 0..target_classes.max(1) {
                let active = hunt.open();
                if active.is_empty() {
                    return Ok(hunt.best);
                }
                let centres = pick(pixels, length, &active);
                let judged = criterion.pick(&active);
                let climbed = match target_classes {
                    0 => judged.clone(),
                    _ => targets(context, &centres, &judged, round).await?,
                };
                let run = Run {
                    config: self,
                    labels: self.labels(context, &centres, &judged).await?,
                    climbed,
                    judged,
                    stream: format!("apgd/{}/{restart}/{round}", self.loss.name()),
                };
                let found = run.stages(context, &centres, &active).await?;
                hunt.take(&active, found, length);
            }
        }
        Ok(hunt.best)
    }
}

/// The `round`th best class of every image other than its label, as a criterion to reach.
async fn targets<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    criterion: &Criterion,
    round: usize,
) -> Result<Criterion, AttackError> {
    let classes = context.oracle.classes();
    let logits = context.oracle.logits(pixels).await?;
    let rows = logits.chunks_exact(classes).zip(&criterion.classes);
    let chosen = rows.map(|(row, label)| {
        let mut order: Vec<usize> = (0..classes).filter(|c| c != label).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order[round.min(order.len() - 1)]
    });
    Ok(Criterion::targeted(chosen.collect()))
}

/// What is known of a batch over several runs.
struct Hunt {
    best: Vec<f32>,
    fallen: Vec<bool>,
    loss: Vec<f64>,
}

/// What a run found: images, whether they are of the criterion, the points of the highest loss and
/// these losses.
struct Found {
    pixels: Vec<f32>,
    met: Vec<bool>,
    best: Vec<f32>,
    loss: Vec<f64>,
}

impl Hunt {
    fn new(pixels: &[f32], criterion: &Criterion) -> Self {
        Self {
            best: pixels.to_vec(),
            fallen: vec![false; criterion.classes.len()],
            loss: vec![f64::NEG_INFINITY; criterion.classes.len()],
        }
    }

    fn open(&self) -> Vec<usize> {
        let images = self.fallen.iter().enumerate();
        images.filter(|(_, f)| !**f).map(|(i, _)| i).collect()
    }

    fn take(&mut self, active: &[usize], found: Found, length: usize) {
        for (j, i) in active.iter().copied().enumerate() {
            if !found.met[j] && found.loss[j] <= self.loss[i] {
                continue;
            }
            self.fallen[i] = found.met[j];
            self.loss[i] = found.loss[j];
            let image = &found.pixels[j * length..][..length];
            self.best[i * length..][..length].copy_from_slice(image);
        }
    }
}

struct Run<'a> {
    config: &'a Apgd,
    /// What is climbed towards.
    climbed: Criterion,
    /// What counts.
    judged: Criterion,
    /// The classes the images are of.
    labels: Vec<usize>,
    /// Where the start is drawn from.
    stream: String,
}

/// One image's climb.
struct Climber {
    step: f32,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f64,
    adversarial: Option<Vec<f32>>,
    pace: Pace,
}

/// How a climber steps, and what becomes of its step at a check.
enum Pace {
    Halving(Halving),
    Sparse(Sparse),
}

/// With momentum, in L∞ and L2.
struct Halving {
    before: Vec<f32>,
    /// Losses since the last check, the one at the check first.
    losses: Vec<f64>,
    halved: bool,
    best_at_check: f64,
}

impl Run<'_> {
    fn ball_about<'a>(&self, stage: &Stage, centre: &'a [f32]) -> Ball<'a> {
        Ball {
            norm: self.config.norm,
            eps: stage.eps,
            centre,
        }
    }

    /// The stages one after the other, each from the best point of the one before. Only the last,
    /// at the radius itself, counts.
    async fn stages<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        centres: &[f32],
        active: &[usize],
    ) -> Result<Found, AttackError> {
        let length = context.oracle.image_len();
        let stages = self.config.stages();
        // There is a stage at least.
        let mut x = self.start(context, &stages[0], centres, active);
        let mut last = None;
        for stage in &stages {
            let images = x.chunks_exact_mut(length).zip(centres.chunks_exact(length));
            if stage.before > 0 {
                images.for_each(|(x, centre)| {
                    let ball = self.ball_about(stage, centre);
                    ball.project(x, Projection::NearestImage);
                });
            }
            let found = self.climb(context, stage, centres, active, x).await?;
            x = found.best.clone();
            last = Some(found);
        }
        last.ok_or(AttackError::Cancelled)
    }

    /// A random point for every image.
    fn start<O: Oracle>(
        &self,
        context: &Context<'_, O>,
        stage: &Stage,
        centres: &[f32],
        active: &[usize],
    ) -> Vec<f32> {
        let length = context.oracle.image_len();
        let mut x = centres.to_vec();
        let images = x.chunks_exact_mut(length).zip(centres.chunks_exact(length));
        for ((x, centre), image) in images.zip(active) {
            let mut rng = context.stream(&self.stream, *image);
            // To the surface of the ball, in a random direction.
            let mut offset = match self.config.norm {
                Norm::Linf => Norm::Linf.random_point(length, 1.0, &mut rng),
                _ => {
                    let mut draws = vec![0.0; length];
                    rng.fill_normal(&mut draws);
                    draws
                }
            };
            let ball = self.ball_about(stage, centre);
            // In L1 by the projection, which leaves a sparse point.
            let (scale, how) = match ball.norm {
                Norm::L1 => (1.0, Projection::NearestImage),
                norm => {
                    let size = norm.of(offset.iter().map(|o| f64::from(*o)));
                    let scale = (f64::from(ball.eps) / size.max(1e-12)) as f32;
                    (scale, Projection::Scale)
                }
            };
            offset.iter_mut().for_each(|o| *o *= scale);
            x.iter_mut().zip(offset).for_each(|(x, o)| *x += o);
            ball.project(x, how);
        }
        x
    }

    /// The steps of a stage, from `x`.
    async fn climb<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        stage: &Stage,
        centres: &[f32],
        active: &[usize],
        mut x: Vec<f32>,
    ) -> Result<Found, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let steps = stage.steps;
        let loss = self.config.loss;
        let labels = &self.labels;
        let slope = |logits: &[f32]| {
            let evaluated = loss.evaluate(logits, classes, &self.climbed, labels);
            evaluated.cotangent
        };
        let mut climbers: Vec<Climber> = Vec::new();
        let mut checks = Checkpoints::new(steps, self.config.norm);
        for step in 0..=steps {
            let found = context.oracle.gradient(&x, &slope).await?;
            let losses = loss
                .evaluate(&found.logits, classes, &self.climbed, labels)
                .values;
            let rows = found.logits.chunks_exact(classes);
            let slopes = found.gradient.chunks_exact(length);
            if step == 0 {
                climbers = x
                    .chunks_exact(length)
                    .zip(slopes.clone())
                    .zip(centres.chunks_exact(length))
                    .zip(&losses)
                    .map(|(((x, g), centre), loss)| {
                        let ball = self.ball_about(stage, centre);
                        Climber::new(&ball, stage.follows, x, g, *loss)
                    })
                    .collect();
            }
            let due = checks.due(step);
            for (j, (climber, row)) in climbers.iter_mut().zip(rows).enumerate() {
                let here = &mut x[j * length..][..length];
                let gradient = &found.gradient[j * length..][..length];
                if self.judged.is_met(j, row) {
                    climber.adversarial = Some(here.to_vec());
                }
                climber.note(step, here, gradient, losses[j]);
                let ball = self.ball_about(stage, &centres[j * length..][..length]);
                let back = due.is_some_and(|stretch| climber.check(stretch, &ball));
                if step == steps {
                    continue;
                }
                let gradient = match back {
                    true => {
                        here.copy_from_slice(&climber.best);
                        climber.best_gradient.clone()
                    }
                    false => gradient.to_vec(),
                };
                climber.advance(here, &gradient, &ball, step == 0);
            }
            if step > 0 {
                let at = [stage.before + step, self.config.steps];
                context.report_some(active, at, &found.logits, &x);
            }
        }
        Ok(Found {
            met: climbers.iter().map(|c| c.adversarial.is_some()).collect(),
            loss: climbers.iter().map(|c| c.best_loss).collect(),
            best: climbers.iter().flat_map(|c| c.best.clone()).collect(),
            pixels: climbers
                .into_iter()
                .flat_map(|c| c.adversarial.unwrap_or(c.best))
                .collect(),
        })
    }
}

impl Climber {
    /// `follows`: from a point that was found, rather than a random one.
    fn new(ball: &Ball, follows: bool, x: &[f32], gradient: &[f32], loss: f64) -> Self {
        let (step, pace) = match ball.norm {
            Norm::L1 => {
                let sparse = Sparse::new(follows.then_some(x), ball.centre);
                (ball.eps, Pace::Sparse(sparse))
            }
            _ => (2.0 * ball.eps, Pace::Halving(Halving::new(x, loss))),
        };
        Self {
            step,
            best: x.to_vec(),
            best_gradient: gradient.to_vec(),
            best_loss: loss,
            adversarial: None,
            pace,
        }
    }

    fn note(&mut self, step: usize, x: &[f32], gradient: &[f32], loss: f64) {
        if let Pace::Halving(halving) = &mut self.pace {
            halving.losses.push(loss);
        }
        if step > 0 && loss > self.best_loss {
            self.best_loss = loss;
            self.best.copy_from_slice(x);
            self.best_gradient.copy_from_slice(gradient);
        }
    }

    /// At the end of a stretch: adapts the step, and says whether to go back to the best point.
    fn check(&mut self, stretch: usize, ball: &Ball) -> bool {
        match &mut self.pace {
            Pace::Halving(halving) => halving.check(stretch, self.best_loss, &mut self.step),
            Pace::Sparse(sparse) => sparse.check(&self.best, &mut self.step, ball),
        }
    }

    fn advance(&mut self, x: &mut [f32], gradient: &[f32], ball: &Ball, first: bool) {
        match &mut self.pace {
            Pace::Halving(halving) => halving.advance(x, gradient, ball, self.step, first),
            Pace::Sparse(sparse) => sparse.advance(x, gradient, ball, self.step),
        }
    }
}

impl Halving {
    fn new(x: &[f32], loss: f64) -> Self {
        Self {
            before: x.to_vec(),
            losses: Vec::new(),
            halved: true,
            best_at_check: loss,
        }
    }

    /// Halves the step and says so where the loss oscillated, or where neither the best loss nor the
    /// step changed since the last time.
    fn check(&mut self, stretch: usize, best_loss: f64, step: &mut f32) -> bool {
        let grown = self.losses.windows(2).filter(|w| w[1] > w[0]).count();
        let oscillates = grown as f64 <= RHO * stretch as f64;
        let stuck = !self.halved && self.best_at_check >= best_loss;
        self.halved = oscillates || stuck;
        self.best_at_check = best_loss;
        let last = self.losses.last().copied();
        self.losses.clear();
        self.losses.extend(last);
        if self.halved {
            *step /= 2.0;
        }
        self.halved
    }

    /// A step along the gradient, with three quarters of it kept and a quarter of the last one.
    fn advance(&mut self, x: &mut [f32], gradient: &[f32], ball: &Ball, step: f32, first: bool) {
        let mut ahead = x.to_vec();
        let direction = ball.norm.direction(gradient);
        ahead
            .iter_mut()
            .zip(direction)
            .for_each(|(z, d)| *z += step * d);
        ball.project(&mut ahead, Projection::Scale);
        let weight = if first { 1.0 } else { STEP_WEIGHT };
        for ((x, z), before) in x.iter_mut().zip(&ahead).zip(&mut self.before) {
            let moved = *x + (z - *x) * weight + (*x - *before) * (1.0 - weight);
            *before = *x;
            *x = moved;
        }
        ball.project(x, Projection::Scale);
    }
}

/// When steps are checked: after 22 % of them, then after stretches that shrink by 3 % to 6 %; in L1
/// after every 4 %.
struct Checkpoints {
    stretch: usize,
    shrink: usize,
    least: usize,
    since: usize,
}

impl Checkpoints {
    fn new(steps: usize, norm: Norm) -> Self {
        let part = |percent: usize| (steps * percent / 100).max(1);
        if norm == Norm::L1 {
            return Self {
                stretch: part(4),
                shrink: 0,
                least: part(4),
                since: 0,
            };
        }
        Self {
            stretch: part(22),
            shrink: part(3),
            least: part(6),
            since: 0,
        }
    }

    /// The length of the stretch that ends with `step`, if one does.
    fn due(&mut self, step: usize) -> Option<usize> {
        if step == 0 {
            return None;
        }
        self.since += 1;
        if self.since < self.stretch {
            return None;
        }
        let ended = self.stretch;
        self.since = 0;
        self.stretch = self.stretch.saturating_sub(self.shrink).max(self.least);
        Some(ended)
    }
}
