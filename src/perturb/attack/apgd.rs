//! Auto-PGD (Croce and Hein 2020): descent with momentum whose step halves by itself.

use serde::{Deserialize, Serialize};

use super::goal::{Aim, Goal, Loss, runner_up};
use super::norm::{Ball, Norm, Projection};
use super::oracle::{Oracle, Stopped, Subject, pick};

/// Weight of the step against the momentum.
const STEP_WEIGHT: f32 = 0.75;

/// Fewest steps of a stretch, as a fraction of all, of which the loss has to grow in at least
/// three quarters for the step to be kept.
const RHO: f64 = 0.75;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Apgd {
    /// L∞ or L2.
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
        }
    }
}

impl Apgd {
    fn check(&self, classes: usize, aim: Aim) -> Result<(), Stopped> {
        let failed = |sentence: String| Err(Stopped::Failed(sentence));
        if self.norm == Norm::L1 {
            return failed("Auto-PGD works in L∞ and L2.".to_owned());
        }
        if self.steps == 0 || self.restarts == 0 || !(self.eps.is_finite() && self.eps >= 0.0) {
            return failed(
                "Auto-PGD needs at least one step and one restart, and a radius of at least 0."
                    .to_owned(),
            );
        }
        if self.target_classes > 0 && aim == Aim::Reach {
            return failed(
                "Auto-PGD goes either towards a class of yours or towards several in turn."
                    .to_owned(),
            );
        }
        let aim = if self.target_classes > 0 {
            Aim::Reach
        } else {
            aim
        };
        let least = self.loss.least_classes(aim);
        if classes < least {
            return failed(format!(
                "The difference of logits ratio needs a model of at least {least} classes; this one has {classes}."
            ));
        }
        Ok(())
    }

    /// `[n, c, h, w]` within `eps` of `pixels`: an image of the goal where one was found, the one
    /// of the highest loss otherwise.
    ///
    /// # Errors
    /// [`Stopped`], when cancelled, when the device failed or when a setting makes no sense.
    pub async fn attack<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        let (length, classes) = (subject.oracle.image_len(), subject.oracle.classes());
        self.check(classes, goal.aim)?;
        let mut hunt = Hunt::new(pixels, goal);
        for _ in 0..self.restarts {
            let rounds = self.target_classes.min(classes - 1).max(1);
            for round in 0..rounds {
                let active = hunt.open();
                if active.is_empty() {
                    return Ok(hunt.best);
                }
                let centres = pick(pixels, length, &active);
                let labels = goal.pick(&active);
                let climbed = match self.target_classes {
                    0 => labels.clone(),
                    _ => targets(subject, &centres, &labels, round).await?,
                };
                let run = Run {
                    config: self,
                    climbed,
                    labels: self.labels(subject, &centres, &labels).await?,
                    judged: labels,
                };
                let found = run.climb(subject, &centres, &active).await?;
                hunt.take(&active, found, length);
            }
        }
        Ok(hunt.best)
    }

    /// The classes the images are of, which the difference of logits ratio asks for. With a class
    /// to reach they are not known: the best other one stands in.
    async fn labels<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<usize>, Stopped> {
        if goal.aim == Aim::Leave || self.loss != Loss::Dlr {
            return Ok(goal.classes.clone());
        }
        let classes = subject.oracle.classes();
        let logits = subject.oracle.logits(pixels).await?;
        let rows = logits.chunks_exact(classes).zip(&goal.classes);
        Ok(rows.map(|(row, target)| runner_up(row, *target)).collect())
    }
}

/// The `round`th best class of every image other than its label, as a goal to reach.
async fn targets<O: Oracle>(
    subject: &mut Subject<'_, O>,
    pixels: &[f32],
    goal: &Goal,
    round: usize,
) -> Result<Goal, Stopped> {
    let classes = subject.oracle.classes();
    let logits = subject.oracle.logits(pixels).await?;
    let rows = logits.chunks_exact(classes).zip(&goal.classes);
    let chosen = rows.map(|(row, label)| {
        let mut order: Vec<usize> = (0..classes).filter(|c| c != label).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order[round.min(order.len() - 1)]
    });
    Ok(Goal::reach(chosen.collect()))
}

/// What is known of a batch over several runs.
struct Hunt {
    best: Vec<f32>,
    fallen: Vec<bool>,
    loss: Vec<f64>,
}

/// What a run found: images, whether they are of the goal, their losses.
struct Found {
    pixels: Vec<f32>,
    met: Vec<bool>,
    loss: Vec<f64>,
}

impl Hunt {
    fn new(pixels: &[f32], goal: &Goal) -> Self {
        Self {
            best: pixels.to_vec(),
            fallen: vec![false; goal.classes.len()],
            loss: vec![f64::NEG_INFINITY; goal.classes.len()],
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
    climbed: Goal,
    /// The classes the images are of.
    labels: Vec<usize>,
    /// What counts.
    judged: Goal,
}

/// One image's climb.
struct Climber {
    step: f32,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f64,
    before: Vec<f32>,
    adversarial: Option<Vec<f32>>,
    /// Losses since the last check, the one at the check first.
    losses: Vec<f64>,
    halved: bool,
    best_at_check: f64,
}

impl Run<'_> {
    fn ball<'a>(&self, centre: &'a [f32]) -> Ball<'a> {
        Ball {
            norm: self.config.norm,
            eps: self.config.eps,
            centre,
        }
    }

    fn start<O: Oracle>(&self, subject: &mut Subject<'_, O>, centres: &[f32]) -> Vec<f32> {
        let length = subject.oracle.image_len();
        let mut x = centres.to_vec();
        for (x, centre) in x.chunks_exact_mut(length).zip(centres.chunks_exact(length)) {
            // To the surface of the ball, in a random direction.
            let mut offset = match self.config.norm {
                Norm::Linf => Norm::Linf.random_point(length, 1.0, &mut subject.rng),
                _ => {
                    let mut draws = vec![0.0; length];
                    subject.rng.fill_normal(&mut draws);
                    draws
                }
            };
            let size = self.config.norm.of(offset.iter().map(|o| f64::from(*o)));
            let scale = (f64::from(self.config.eps) / size.max(1e-12)) as f32;
            offset.iter_mut().for_each(|o| *o *= scale);
            x.iter_mut().zip(offset).for_each(|(x, o)| *x += o);
            self.ball(centre).project(x, Projection::Scale);
        }
        x
    }

    async fn climb<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        centres: &[f32],
        active: &[usize],
    ) -> Result<Found, Stopped> {
        let (length, classes) = (subject.oracle.image_len(), subject.oracle.classes());
        let steps = self.config.steps;
        let loss = self.config.loss;
        let labels = &self.labels;
        let slope = |logits: &[f32]| {
            let evaluated = loss.evaluate(logits, classes, &self.climbed, labels);
            evaluated.cotangent
        };
        // From a point of the ball's surface, as in the paper.
        let mut x = self.start(subject, centres);
        let mut climbers: Vec<Climber> = Vec::new();
        let mut checks = Checkpoints::new(steps);
        for step in 0..=steps {
            let found = subject.oracle.gradient(&x, &slope).await?;
            let losses = loss
                .evaluate(&found.logits, classes, &self.climbed, labels)
                .values;
            let rows = found.logits.chunks_exact(classes);
            let slopes = found.gradient.chunks_exact(length);
            if step == 0 {
                climbers = x
                    .chunks_exact(length)
                    .zip(slopes.clone())
                    .zip(&losses)
                    .map(|((x, g), loss)| Climber::new(self.config.eps, x, g, *loss))
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
                let back = due.is_some_and(|stretch| climber.check(stretch));
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
                let ball = self.ball(&centres[j * length..][..length]);
                climber.advance(here, &gradient, &ball, step == 0);
            }
            if step > 0 {
                subject.tell_some(active, [step, steps], &found.logits, &x);
            }
        }
        Ok(Found {
            met: climbers.iter().map(|c| c.adversarial.is_some()).collect(),
            loss: climbers.iter().map(|c| c.best_loss).collect(),
            pixels: climbers
                .into_iter()
                .flat_map(|c| c.adversarial.unwrap_or(c.best))
                .collect(),
        })
    }
}

impl Climber {
    fn new(eps: f32, x: &[f32], gradient: &[f32], loss: f64) -> Self {
        Self {
            step: 2.0 * eps,
            best: x.to_vec(),
            best_gradient: gradient.to_vec(),
            best_loss: loss,
            before: x.to_vec(),
            adversarial: None,
            losses: Vec::new(),
            halved: true,
            best_at_check: loss,
        }
    }

    fn note(&mut self, step: usize, x: &[f32], gradient: &[f32], loss: f64) {
        self.losses.push(loss);
        if step > 0 && loss > self.best_loss {
            self.best_loss = loss;
            self.best.copy_from_slice(x);
            self.best_gradient.copy_from_slice(gradient);
        }
    }

    /// At the end of a stretch: halves the step and says so where the loss oscillated, or where
    /// neither the best loss nor the step changed since the last time.
    fn check(&mut self, stretch: usize) -> bool {
        let grown = self.losses.windows(2).filter(|w| w[1] > w[0]).count();
        let oscillates = grown as f64 <= RHO * stretch as f64;
        let stuck = !self.halved && self.best_at_check >= self.best_loss;
        self.halved = oscillates || stuck;
        self.best_at_check = self.best_loss;
        let last = self.losses.last().copied();
        self.losses.clear();
        self.losses.extend(last);
        if self.halved {
            self.step /= 2.0;
        }
        self.halved
    }

    /// A step along the gradient, with three quarters of it kept and a quarter of the last one.
    fn advance(&mut self, x: &mut [f32], gradient: &[f32], ball: &Ball, first: bool) {
        let mut ahead = x.to_vec();
        let direction = ball.norm.direction(gradient);
        ahead
            .iter_mut()
            .zip(direction)
            .for_each(|(z, d)| *z += self.step * d);
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

/// When steps are checked: after 22 % of them, then after stretches that shrink by 3 % to 6 %.
struct Checkpoints {
    stretch: usize,
    shrink: usize,
    least: usize,
    since: usize,
}

impl Checkpoints {
    fn new(steps: usize) -> Self {
        let part = |percent: usize| (steps * percent / 100).max(1);
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
