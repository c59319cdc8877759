//! Any attack as a document, run by one function that keeps what holds for all of them.

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::carlini_wagner::CarliniWagner;
use super::deepfool::DeepFool;
use super::descent::Descent;
use super::goal::Goal;
use super::norm::{Ball, Norm};
use super::oracle::{Oracle, Step, Stopped, Subject, pick};
use super::square::Square;
use crate::rng::Rng;

/// An attack with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// FGSM, PGD, BIM, MI-FGSM and sparse descent are settings of it.
    Descent(Descent),
    Apgd(Apgd),
    Square(Square),
    DeepFool(DeepFool),
    CarliniWagner(CarliniWagner),
}

impl Attack {
    /// The ball the result stays in; `None` for attacks that look for the smallest perturbation.
    pub fn ball(&self) -> Option<(Norm, f32)> {
        match self {
            Self::Descent(a) => Some((a.norm, a.eps)),
            Self::Apgd(a) => Some((a.norm, a.eps)),
            Self::Square(a) => Some((a.norm, a.eps)),
            Self::DeepFool(_) | Self::CarliniWagner(_) => None,
        }
    }

    /// Runs the attack and nothing else: [`run`] adds what holds for all of them.
    ///
    /// # Errors
    /// [`Stopped`], when cancelled, when the device failed or when a setting makes no sense.
    pub async fn attack<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        match self {
            Self::Descent(a) => a.attack(subject, pixels, goal).await,
            Self::Apgd(a) => a.attack(subject, pixels, goal).await,
            Self::Square(a) => a.attack(subject, pixels, goal).await,
            Self::DeepFool(a) => a.attack(subject, pixels, goal).await,
            Self::CarliniWagner(a) => a.attack(subject, pixels, goal).await,
        }
    }
}

/// An attack and how its success is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub attack: Attack,
    pub seed: u64,
    /// Round the result to 8 bits a channel, inside the ball, before it is judged.
    #[serde(default)]
    pub eight_bit: bool,
    /// Fresh passes over each result of a stochastic model; it is a success when most of them
    /// are. 1 for a model that repeats itself.
    #[serde(default = "ten")]
    pub passes: usize,
}

fn ten() -> usize {
    10
}

impl Plan {
    /// The plan for one batch of a larger set, whose first image has the number `first` in it: the
    /// same but for a seed of its own, so that no two batches draw the same numbers. The batch that
    /// begins the set keeps the seed.
    pub fn for_batch(&self, first: usize) -> Self {
        let seed = match first {
            0 => self.seed,
            _ => Rng::stream(self.seed, &format!("batch from image {first}")).seed(),
        };
        Self {
            seed,
            ..self.clone()
        }
    }
}

/// What an attack on a batch came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `[n, c, h, w]`.
    pub pixels: Vec<f32>,
    /// Images for which the goal was met before anything was done; they are unchanged.
    pub met_before: Vec<bool>,
    /// Share of the passes over the result that meet the goal, an image each.
    pub met: Vec<f32>,
    /// Passes behind each of `met`.
    pub passes: usize,
}

impl Outcome {
    /// Whether most passes over an image's result meet the goal.
    pub fn success(&self) -> Vec<bool> {
        self.met.iter().map(|share| *share > 0.5).collect()
    }
}

/// Attacks `pixels`, `[n, c, h, w]` in [0, 1].
///
/// Whatever the attack: images that meet the goal already come back as they were, pixels stay in
/// [0, 1] and in the attack's ball to the last bit, and the same seed gives the same bits.
///
/// # Errors
/// [`Stopped`], when cancelled, when the device failed, or with a sentence on what is wrong with
/// the request.
pub async fn run<O: Oracle>(
    plan: &Plan,
    oracle: &mut O,
    pixels: &[f32],
    goal: &Goal,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Outcome, Stopped> {
    check(oracle, pixels, goal)?;
    let length = oracle.image_len();
    let before = judge(oracle, pixels, goal, plan.passes).await?;
    let met_before: Vec<bool> = before.iter().map(|share| *share > 0.5).collect();
    let open: Vec<usize> = (0..met_before.len()).filter(|i| !met_before[*i]).collect();
    let mut outcome = Outcome {
        pixels: pixels.to_vec(),
        met: before,
        met_before,
        passes: passes(oracle, plan.passes),
    };
    if open.is_empty() {
        return Ok(outcome);
    }
    let (centres, wanted) = (pick(pixels, length, &open), goal.pick(&open));
    let mut subject = Subject {
        oracle: &mut *oracle,
        rng: Rng::stream(plan.seed, "attack"),
        watch,
        images: open.clone(),
    };
    let mut found = plan.attack.attack(&mut subject, &centres, &wanted).await?;
    if plan.eight_bit {
        round(plan.attack.ball(), &mut found, &centres, length);
    }
    let met = judge(oracle, &found, &wanted, plan.passes).await?;
    for (j, i) in open.into_iter().enumerate() {
        outcome.met[i] = met[j];
        outcome.pixels[i * length..][..length].copy_from_slice(&found[j * length..][..length]);
    }
    Ok(outcome)
}

fn check<O: Oracle>(oracle: &O, pixels: &[f32], goal: &Goal) -> Result<(), Stopped> {
    let failed = |sentence: &str| Err(Stopped::Failed(sentence.to_owned()));
    if pixels.len() != goal.classes.len() * oracle.image_len() {
        return failed("An attack needs one class for each image.");
    }
    if pixels.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return failed("An attacked image must have pixels from 0 to 1.");
    }
    if goal.classes.iter().any(|class| *class >= oracle.classes()) {
        return failed("The attack's target is not a class of this model. Choose another target.");
    }
    if !(0.0..=1.0).contains(&goal.confidence) {
        return failed("The confidence of an attack must be from 0 to 1.");
    }
    Ok(())
}

fn passes<O: Oracle>(oracle: &O, wanted: usize) -> usize {
    if oracle.is_stochastic() {
        wanted.max(1)
    } else {
        1
    }
}

/// The share of fresh passes that meet the goal, an image each.
async fn judge<O: Oracle>(
    oracle: &mut O,
    pixels: &[f32],
    goal: &Goal,
    wanted: usize,
) -> Result<Vec<f32>, Stopped> {
    let passes = passes(oracle, wanted);
    let mut hits = vec![0_usize; goal.classes.len()];
    for _ in 0..passes {
        let logits = oracle.logits(pixels).await?;
        let met = goal.met(&logits, oracle.classes());
        hits.iter_mut()
            .zip(met)
            .for_each(|(h, m)| *h += usize::from(m));
    }
    Ok(hits.into_iter().map(|h| h as f32 / passes as f32).collect())
}

/// Rounds attacked images to 8 bits a channel, inside the attack's ball.
pub fn round(ball: Option<(Norm, f32)>, found: &mut [f32], centres: &[f32], length: usize) {
    // Without a ball there is none to leave: the nearest level.
    let (norm, eps) = ball.unwrap_or((Norm::Linf, 1.0));
    for (x, centre) in found
        .chunks_exact_mut(length)
        .zip(centres.chunks_exact(length))
    {
        Ball { norm, eps, centre }.round(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_differ_in_their_seed_alone() {
        let plan = Plan {
            attack: Attack::Square(Square::default()),
            seed: 5,
            eight_bit: true,
            passes: 3,
        };
        assert_eq!(plan.for_batch(0), plan);
        let [second, third] = [64, 128].map(|first| plan.for_batch(first));
        assert_eq!(second, plan.for_batch(64));
        assert!(second.seed != plan.seed && second.seed != third.seed);
        let seed = plan.seed;
        assert_eq!(Plan { seed, ..second }, plan);
    }
}
