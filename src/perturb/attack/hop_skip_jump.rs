//! HopSkipJump (Chen et al. 2020): to the boundary, the direction of the gradient there from
//! decisions about its neighbours, a step that way, and again.

use serde::{Deserialize, Serialize};

use super::best_so_far::{BestSoFar, Clean, PORTION, to_pixel};
use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::{Norm, sign};
use super::oracle::Oracle;
use super::start::{self, Bracket, Questions};
use crate::rng::Rng;

/// Halvings of a step until it is a success.
const HALVINGS: usize = 30;

/// Radius of the first probes.
const FIRST_RADIUS: f64 = 0.1;

/// Probes move a pixel by so much at least, in the mean: less is lost in the rounding of an f32.
const LEAST_MOVE: f64 = 1e-6;

/// Narrower brackets than this tell no f32 pixels apart.
const LEAST_TOLERANCE: f64 = 1e-7;

/// A minimal-norm attack in L2 or L∞ that needs decisions only.
///
/// A [`Step`](super::Step) has the passes an image has been through as its number. The start is
/// blended noise; for a class to reach, an image of the batch that is of it, if there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HopSkipJump {
    /// L2 or L∞.
    pub norm: Norm,
    /// Most steps, at least 1.
    pub steps: usize,
    /// Passes an image may take, the start included; at least 1. All 64 steps of the default take
    /// about 35,000; the default ends sooner.
    pub queries: usize,
    /// Probes behind the first direction, at least 1. Later ones have more, with the square root
    /// of the step's number.
    pub initial_probes: usize,
    /// Most probes behind a direction, at least 1.
    pub max_probes: usize,
    /// Scales how precisely the boundary is found and how wide the probes are; above 0.
    pub gamma: f32,
}

impl Default for HopSkipJump {
    fn default() -> Self {
        Self {
            norm: Norm::L2,
            steps: 64,
            queries: 10_000,
            initial_probes: 100,
            max_probes: 10_000,
            gamma: 1.0,
        }
    }
}

/// One image on its way.
struct Jumper {
    image: usize,
    /// On the boundary, and a success.
    x: Vec<f32>,
    logits: Vec<f32>,
    /// From the original.
    distance: f64,
    /// How far from the original the step before led.
    reach: f64,
}

/// What probes about a point say: sums over the directions they lie in.
struct Poll {
    successes: usize,
    probes: usize,
    of_successes: Vec<f64>,
    of_all: Vec<f64>,
}

impl HopSkipJump {
    fn check(&self) -> Result<(), AttackError> {
        require(self.norm != Norm::L1, "HopSkipJump works in L2 and L∞.")?;
        require(
            self.steps > 0 && self.queries > 0,
            "HopSkipJump needs at least one step and one query.",
        )?;
        require(
            self.initial_probes > 0 && self.max_probes > 0,
            "HopSkipJump needs at least one probe for a direction.",
        )?;
        require(
            self.gamma.is_finite() && self.gamma > 0.0,
            "HopSkipJump's gamma must be a number above 0.",
        )
    }

    /// How closely the boundary is found, as a part of the way in L2 and of the distance in L∞.
    fn precision(&self, length: usize) -> f64 {
        let length = length as f64;
        let scale = match self.norm {
            Norm::Linf => length * length,
            _ => length * length.sqrt(),
        };
        f64::from(self.gamma) / scale
    }

    /// Radius in L2 of the probes of a step.
    fn radius(&self, step: usize, reach: f64, length: usize) -> f64 {
        if step == 1 {
            return FIRST_RADIUS;
        }
        let spread = match self.norm {
            Norm::Linf => length as f64,
            _ => (length as f64).sqrt(),
        };
        let radius = spread * self.precision(length) * reach;
        radius.max(LEAST_MOVE * (length as f64).sqrt())
    }

    /// Takes every jumper back to the boundary.
    async fn to_boundary<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        jumpers: &mut Vec<Jumper>,
        best_so_far: &mut BestSoFar<'_>,
    ) -> Result<(), AttackError> {
        let precision = self.precision(context.oracle.image_len());
        let bracket = |jumper: Jumper| {
            let reach = self
                .norm
                .distance(&jumper.x, best_so_far.original(jumper.image));
            let (high, tolerance) = match self.norm {
                Norm::Linf => (reach, precision * reach.min(1.0)),
                _ => (1.0, precision),
            };
            let bracket = Bracket {
                image: jumper.image,
                far: jumper.x.clone(),
                low: 0.0,
                high,
                pixels: jumper.x,
                logits: jumper.logits,
                tolerance: tolerance.max(LEAST_TOLERANCE * high),
            };
            (bracket, reach)
        };
        let (mut brackets, reaches): (Vec<Bracket>, Vec<f64>) =
            jumpers.drain(..).map(bracket).unzip();
        let norm = self.norm;
        let way = |b: &Bracket, amount: f64| {
            let original = best_so_far.original(b.image);
            match norm {
                Norm::Linf => within(original, &b.far, amount),
                _ => start::blend(original, &b.far, amount),
            }
        };
        start::bisect(context, questions, &mut brackets, &way).await?;
        for (bracket, reach) in brackets.into_iter().zip(reaches) {
            best_so_far.offer(bracket.image, &bracket.pixels);
            let original = best_so_far.original(bracket.image);
            jumpers.push(Jumper {
                image: bracket.image,
                distance: self.norm.distance(&bracket.pixels, original),
                x: bracket.pixels,
                logits: bracket.logits,
                reach,
            });
        }
        Ok(())
    }

    /// For every jumper the direction, of length 1 in the attack's norm, in which successes lie.
    async fn directions<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        jumpers: &[Jumper],
        step: usize,
    ) -> Result<Vec<Vec<f64>>, AttackError> {
        let length = context.oracle.image_len();
        let wanted = (self.initial_probes as f64 * (step as f64).sqrt()) as usize;
        let mut left = wanted.min(self.max_probes).min(questions.left());
        let mut polls: Vec<Poll> = jumpers.iter().map(|_| Poll::new(length)).collect();
        while left > 0 {
            let each = (PORTION / jumpers.len()).clamp(1, left);
            let mut tried = Vec::with_capacity(jumpers.len() * each * length);
            let mut owners = Vec::with_capacity(jumpers.len() * each);
            for jumper in jumpers {
                let radius = self.radius(step, jumper.reach, length);
                for _ in 0..each {
                    tried.extend(self.probe(&jumper.x, radius, &mut context.rng));
                    owners.push(jumper.image);
                }
            }
            let answers = questions.ask(context, &tried, &owners, each).await?;
            let probes = tried.chunks_exact(length).zip(answers.met);
            for (i, (probe, met)) in probes.enumerate() {
                polls[i / each].note(probe, &jumpers[i / each].x, met);
            }
            left -= each;
        }
        Ok(polls.iter().map(|poll| self.direction(poll)).collect())
    }

    /// A point at `radius` in L2 of `x`, or less where the box ends.
    fn probe(&self, x: &[f32], radius: f64, rng: &mut Rng) -> Vec<f32> {
        let draw = |rng: &mut Rng| match self.norm {
            Norm::Linf => 2.0 * rng.uniform_f64() - 1.0,
            _ => rng.normal_f64(),
        };
        let draws: Vec<f64> = x.iter().map(|_| draw(rng)).collect();
        let scale = radius / Norm::L2.of(draws.iter().copied()).max(f64::MIN_POSITIVE);
        let moved = x.iter().zip(draws);
        moved
            .map(|(x, d)| to_pixel(f64::from(*x) + scale * d))
            .collect()
    }

    fn direction(&self, poll: &Poll) -> Vec<f64> {
        let slope = poll.slope();
        if self.norm == Norm::Linf {
            return slope.iter().map(|s| f64::from(sign(*s as f32))).collect();
        }
        let size = Norm::L2.of(slope.iter().copied()).max(f64::MIN_POSITIVE);
        slope.into_iter().map(|s| s / size).collect()
    }

    /// Moves every jumper along its direction, half as far again and again until it is a success
    /// there. One that is none anywhere stays where it is.
    async fn jump<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        jumpers: &mut [Jumper],
        directions: &[Vec<f64>],
        step: usize,
    ) -> Result<(), AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let mut left: Vec<usize> = (0..jumpers.len()).collect();
        for halving in 0..HALVINGS {
            if left.is_empty() || questions.left() == 0 {
                break;
            }
            let images: Vec<usize> = left.iter().map(|j| jumpers[*j].image).collect();
            let part = (step as f64).sqrt().recip() * 0.5_f64.powi(halving as i32);
            let target = |j: &usize| {
                let (jumper, direction) = (&jumpers[*j], &directions[*j]);
                let moved = jumper.x.iter().zip(direction);
                let stride = part * jumper.distance;
                moved.map(move |(x, d)| to_pixel(f64::from(*x) + stride * d))
            };
            let tried: Vec<f32> = left.iter().flat_map(target).collect();
            let answers = questions.ask(context, &tried, &images, 1).await?;
            for (k, j) in left.iter().enumerate().filter(|(k, _)| answers.met[*k]) {
                jumpers[*j].x = tried[k * length..][..length].to_vec();
                jumpers[*j].logits = answers.logits[k * classes..][..classes].to_vec();
            }
            let mut met = answers.met.iter();
            left.retain(|_| !met.next().is_some_and(|met| *met));
        }
        Ok(())
    }
}

impl Method for HopSkipJump {
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
        let mut best_so_far = BestSoFar::new(self.norm, pixels, context.oracle.image_len());
        let mut questions = Questions {
            criterion,
            asked: 1,
            most: self.queries,
        };
        let starts = start::find(context, &mut questions, pixels, &clean).await?;
        let starts = starts.into_iter().map(|b| Jumper {
            image: b.image,
            x: b.pixels,
            logits: b.logits,
            distance: 0.0,
            reach: 0.0,
        });
        let mut jumpers = starts.collect();
        self.to_boundary(context, &mut questions, &mut jumpers, &mut best_so_far)
            .await?;
        for step in 1..=self.steps {
            if jumpers.is_empty() || questions.left() == 0 {
                break;
            }
            let before: Vec<f32> = jumpers.iter().flat_map(|j| j.logits.clone()).collect();
            let directions = self
                .directions(context, &mut questions, &jumpers, step)
                .await?;
            self.jump(context, &mut questions, &mut jumpers, &directions, step)
                .await?;
            self.to_boundary(context, &mut questions, &mut jumpers, &mut best_so_far)
                .await?;
            let images: Vec<usize> = jumpers.iter().map(|j| j.image).collect();
            let after: Vec<f32> = jumpers.iter().flat_map(|j| j.x.clone()).collect();
            context.report_some(&images, questions.at(), &before, &after);
            jumpers.retain(|j| best_so_far.distances[j.image] > 0.0);
        }
        Ok(best_so_far.pixels)
    }
}

impl Poll {
    fn new(length: usize) -> Self {
        Self {
            successes: 0,
            probes: 0,
            of_successes: vec![0.0; length],
            of_all: vec![0.0; length],
        }
    }

    fn note(&mut self, probe: &[f32], centre: &[f32], success: bool) {
        self.probes += 1;
        self.successes += usize::from(success);
        let both = self.of_all.iter_mut().zip(&mut self.of_successes);
        for ((all, of_successes), (p, c)) in both.zip(probe.iter().zip(centre)) {
            let moved = f64::from(*p) - f64::from(*c);
            *all += moved;
            *of_successes += if success { moved } else { 0.0 };
        }
    }

    /// The sum of the directions, each with its decision, 1 or −1, less the mean decision. That
    /// baseline takes most of the variance away; it would take everything away where all
    /// decisions are the same.
    fn slope(&self) -> Vec<f64> {
        let share = self.successes as f64 / self.probes.max(1) as f64;
        let sums = self.of_successes.iter().zip(&self.of_all);
        match (self.successes, self.probes - self.successes) {
            (0, _) => sums.map(|(_, all)| -all).collect(),
            (_, 0) => sums.map(|(_, all)| *all).collect(),
            _ => sums.map(|(met, all)| 2.0 * (met - share * all)).collect(),
        }
    }
}

/// `far`, brought to within `radius` of `original` pixel by pixel.
fn within(original: &[f32], far: &[f32], radius: f64) -> Vec<f32> {
    let pairs = original.iter().zip(far);
    pairs
        .map(|(o, f)| {
            let o = f64::from(*o);
            to_pixel(f64::from(*f).max(o - radius).min(o + radius))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_formula::{Linear, follows_the_rules};
    use super::*;

    fn small(norm: Norm) -> HopSkipJump {
        HopSkipJump {
            norm,
            queries: 1000,
            ..HopSkipJump::default()
        }
    }

    #[test]
    fn it_follows_the_rules() {
        for norm in [Norm::L2, Norm::Linf] {
            let attack = Attack::HopSkipJump(small(norm));
            follows_the_rules(&attack, &Linear::default().rules());
        }
    }

    #[test]
    fn it_comes_near_the_smallest_perturbation_of_a_linear_model() {
        let linear = Linear::default();
        for norm in [Norm::L2, Norm::Linf] {
            let attack = Attack::HopSkipJump(HopSkipJump {
                queries: 4000,
                ..small(norm)
            });
            for (distance, queries) in linear.distances(&attack, norm) {
                assert!((1.0 - 1e-3..1.1).contains(&distance), "{norm:?} {distance}");
                assert!(queries <= 4000, "{norm:?} {queries}");
            }
        }
    }

    #[test]
    fn probes_give_the_direction_of_a_linear_model() {
        let mut rng = Rng::from_seed(4);
        let slope: Vec<f64> = (0..20).map(|_| rng.normal_f64()).collect();
        let x = vec![0.5_f32; 20];
        // Off the boundary, so that most decisions are alike: the baseline matters.
        let mut poll = Poll::new(20);
        for _ in 0..4000 {
            let probe = small(Norm::L2).probe(&x, 0.1, &mut rng);
            let moves = probe.iter().zip(&slope);
            let rise: f64 = moves.map(|(p, s)| (f64::from(*p) - 0.5) * s).sum();
            poll.note(&probe, &x, rise > -0.05);
        }
        let found = small(Norm::L2).direction(&poll);
        let size = Norm::L2.of(slope.iter().copied());
        let cosine: f64 = found.iter().zip(&slope).map(|(f, s)| f * s / size).sum();
        assert!(cosine > 0.95, "{cosine}");
        assert!((Norm::L2.of(found.into_iter()) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_all_probes_share_says_nothing() {
        let mut poll = Poll::new(2);
        for (moved, success) in [(0.25, true), (0.25, true), (-0.5, false)] {
            poll.note(&[0.5 + moved, 0.75], &[0.5, 0.5], success);
        }
        // Decisions less their mean of 1/3: 2/3, 2/3 and −4/3.
        let [up, shared] = poll.slope()[..] else {
            unreachable!("two values went in");
        };
        assert!(
            (up - 1.0).abs() < 1e-9 && shared.abs() < 1e-9,
            "{up} {shared}"
        );
    }

    #[test]
    fn where_all_decisions_agree_the_mean_direction_counts() {
        for (success, sign) in [(true, 1.0), (false, -1.0)] {
            let mut poll = Poll::new(2);
            poll.note(&[0.75, 0.5], &[0.5, 0.5], success);
            assert_eq!(poll.slope(), [0.25 * sign, 0.0 * sign]);
        }
    }

    #[test]
    fn bad_settings_are_refused() {
        let fine = HopSkipJump::default();
        assert_eq!(fine.check(), Ok(()));
        for bad in [
            small(Norm::L1),
            HopSkipJump {
                steps: 0,
                ..fine.clone()
            },
            HopSkipJump {
                queries: 0,
                ..fine.clone()
            },
            HopSkipJump {
                max_probes: 0,
                ..fine.clone()
            },
            HopSkipJump { gamma: 0.0, ..fine },
        ] {
            assert!(
                matches!(bad.check(), Err(AttackError::Setting(_))),
                "{bad:?}"
            );
        }
    }
}
