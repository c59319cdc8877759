//! Any attack as a document, run by one function that keeps what holds for all of them.

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::autoattack::AutoAttack;
use super::boundary::Boundary;
use super::carlini_wagner::CarliniWagner;
use super::deepfool::DeepFool;
use super::descent::Descent;
use super::fab::Fab;
use super::fmn::Fmn;
use super::goal::{Aim, Goal};
use super::hop_skip_jump::HopSkipJump;
use super::jsma::Jsma;
use super::noise_search::{AdditiveNoise, BlendedNoise, SaltAndPepper};
use super::norm::{Ball, Norm};
use super::one_pixel::OnePixel;
use super::oracle::{Oracle, Step, Stopped, Subject, pick};
use super::spatial::Spatial;
use super::square::Square;
use super::universal::Universal;
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
    Boundary(Boundary),
    HopSkipJump(HopSkipJump),
    OnePixel(OnePixel),
    SaltAndPepper(SaltAndPepper),
    AdditiveNoise(AdditiveNoise),
    BlendedNoise(BlendedNoise),
    Spatial(Spatial),
    Fab(Fab),
    AutoAttack(AutoAttack),
    Jsma(Jsma),
    Universal(Universal),
    Fmn(Fmn),
}

impl Attack {
    /// The ball the result stays in; `None` for attacks that look for the smallest perturbation.
    pub fn ball(&self) -> Option<(Norm, f32)> {
        match self {
            Self::Descent(a) => Some((a.norm, a.eps)),
            Self::Apgd(a) => Some((a.norm, a.eps)),
            Self::Square(a) => Some((a.norm, a.eps)),
            Self::AdditiveNoise(a) => Some((a.norm, a.eps)),
            Self::Boundary(_)
            | Self::HopSkipJump(_)
            | Self::OnePixel(_)
            | Self::SaltAndPepper(_)
            | Self::BlendedNoise(_)
            | Self::Spatial(_) => None,
            Self::AutoAttack(a) => Some((a.norm, a.eps)),
            Self::Universal(a) => Some((a.norm, a.eps)),
            Self::DeepFool(_) | Self::CarliniWagner(_) | Self::Fab(_) | Self::Fmn(_) => None,
            // Its limit is on the number of features.
            Self::Jsma(_) => None,
        }
    }

    /// Whether the attack starts from other images of the batch, those among them that need no
    /// attack.
    fn borrows(&self, goal: &Goal) -> bool {
        goal.aim == Aim::Reach && matches!(self, Self::Boundary(_) | Self::HopSkipJump(_))
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
            Self::Boundary(a) => a.attack(subject, pixels, goal).await,
            Self::HopSkipJump(a) => a.attack(subject, pixels, goal).await,
            Self::OnePixel(a) => a.attack(subject, pixels, goal).await,
            Self::SaltAndPepper(a) => a.attack(subject, pixels, goal).await,
            Self::AdditiveNoise(a) => a.attack(subject, pixels, goal).await,
            Self::BlendedNoise(a) => a.attack(subject, pixels, goal).await,
            Self::Spatial(a) => a.attack(subject, pixels, goal).await,
            Self::Fab(a) => a.attack(subject, pixels, goal).await,
            Self::AutoAttack(a) => a.attack(subject, pixels, goal).await,
            Self::Jsma(a) => a.attack(subject, pixels, goal).await,
            Self::Universal(a) => a.attack(subject, pixels, goal).await,
            Self::Fmn(a) => a.attack(subject, pixels, goal).await,
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
    let given = match plan.attack.borrows(goal) {
        true => (0..outcome.met.len()).collect(),
        false => open,
    };
    let (centres, wanted) = (pick(pixels, length, &given), goal.pick(&given));
    let mut subject = Subject::new(&mut *oracle, plan.seed, watch, given.clone());
    subject.eight_bit = plan.eight_bit;
    let mut found = plan.attack.attack(&mut subject, &centres, &wanted).await?;
    if plan.eight_bit {
        round(plan.attack.ball(), &mut found, &centres, length);
    }
    let met = judge(oracle, &found, &wanted, plan.passes).await?;
    for (j, i) in given.into_iter().enumerate() {
        if outcome.met_before[i] {
            continue;
        }
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
    use super::super::carlini_wagner::Abort;
    use super::super::goal::{Aim, Loss};
    use super::super::toy::{Toy, image};
    use super::*;

    const SHAPE: [usize; 3] = [3, 5, 5];
    const LENGTH: usize = 75;

    #[test]
    fn attacks_from_decisions_are_written_by_name() {
        let table = [
            ("boundary", None),
            ("hop-skip-jump", None),
            ("one-pixel", None),
            ("salt-and-pepper", None),
            ("additive-noise", Some((Norm::Linf, 8.0 / 255.0))),
            ("blended-noise", None),
            ("spatial", None),
        ];
        for (name, ball) in table {
            let read = |inside: &str| {
                serde_json::from_str::<Attack>(&format!("{{\"{name}\":{{{inside}}}}}"))
            };
            let attack = read("").unwrap();
            assert_eq!(attack.ball(), ball, "{name}");
            let written = serde_json::to_string(&attack).unwrap();
            assert_eq!(serde_json::from_str::<Attack>(&written).unwrap(), attack);
            assert!(read("\"unknown\":1").is_err(), "{name}");
        }
    }

    /// Every attack, with settings drawn at random.
    fn attacks(rng: &mut Rng, aim: Aim) -> Vec<Attack> {
        // Of about the size that moves a pixel of L∞ as far in the others.
        let of = |norm: Norm, rng: &mut Rng| match norm {
            Norm::Linf => 0.3 * rng.uniform_f32(),
            Norm::L2 => 2.0 * rng.uniform_f32(),
            Norm::L1 => 10.0 * rng.uniform_f32(),
        };
        let any = Norm::ALL[rng.below(3)];
        let round = Norm::ALL[rng.below(2)];
        let steps = 1 + rng.below(6);
        let coin = rng.below(2) == 0;
        let loss = [Loss::CrossEntropy, Loss::Dlr, Loss::Margin][rng.below(3)];
        let descent = Descent {
            norm: any,
            eps: of(any, rng),
            steps,
            rel_step: rng.uniform_f32(),
            random_start: coin,
            momentum: rng.below(2) as f32,
            quantile: (any == Norm::L1 && coin).then_some(0.9),
            loss: Loss::CrossEntropy,
        };
        let mut attacks = vec![
            Attack::Descent(descent),
            Attack::Apgd(Apgd {
                norm: round,
                eps: of(round, rng),
                steps,
                restarts: 1 + rng.below(2),
                loss,
                target_classes: rng.below(3),
            }),
            Attack::Square(Square {
                norm: round,
                eps: of(round, rng),
                queries: 1 + rng.below(30),
                start_share: 0.05 + 0.95 * rng.uniform_f32(),
            }),
            Attack::DeepFool(DeepFool {
                norm: round,
                steps: 4 * steps,
                candidates: 2 + rng.below(5),
                overshoot: 0.1 * rng.uniform_f32(),
            }),
            Attack::CarliniWagner(CarliniWagner {
                binary_search_steps: 1 + rng.below(3),
                steps: 5 * steps,
                stepsize: 0.01 + 0.1 * rng.uniform_f32(),
                confidence: 0.1 * rng.below(2) as f32,
                initial_const: 0.1 + rng.uniform_f32(),
                abort: [Abort::Never, Abort::Image, Abort::Batch][rng.below(3)],
            }),
            Attack::Fab(Fab {
                norm: any,
                eps: of(any, rng),
                steps,
                restarts: 1 + rng.below(2),
                target_classes: rng.below(6),
                alpha_max: rng.uniform_f32(),
                eta: 1.0 + 0.1 * rng.uniform_f32(),
                beta: 0.5 + 0.5 * rng.uniform_f32(),
            }),
            Attack::Fmn(Fmn {
                norm: any,
                steps: 10 * steps,
                step: [0.5 + rng.uniform_f32(), 1e-3],
                shrink: [0.05 + 0.2 * rng.uniform_f32(), 1e-3],
            }),
            Attack::Jsma(Jsma {
                theta: [1.0, 0.5, -1.0, -0.1][rng.below(4)],
                gamma: 0.02 + 0.9 * rng.uniform_f32(),
            }),
            Attack::Universal(Universal {
                norm: round,
                eps: of(round, rng),
                epochs: steps,
                fooling_rate: 0.1 + 0.9 * rng.uniform_f32(),
                rel_step: 0.05 + rng.uniform_f32(),
                batch: 1 + rng.below(5),
                cutoff: 0.1 + 5.0 * rng.uniform_f32(),
            }),
        ];
        if aim == Aim::Leave {
            attacks.push(Attack::AutoAttack(AutoAttack {
                norm: round,
                eps: of(round, rng),
                steps,
                queries: 1 + rng.below(10),
                target_classes: 1 + rng.below(5),
            }));
        }
        attacks
    }

    /// What a plan promises, for all attacks and whatever the settings.
    #[test]
    fn whatever_the_attack_a_plan_keeps_its_promises() {
        let mut rng = Rng::from_seed(12);
        // How many images each attack brought to the goal, and how many not.
        let mut ends = std::collections::BTreeMap::<String, [usize; 2]>::new();
        for round in 0..40 {
            let mut toy = Toy::two_layer(&mut rng, SHAPE, 10, 5);
            let x: Vec<f32> = (0..4).flat_map(|_| image(&mut rng, LENGTH)).collect();
            let aim = [Aim::Leave, Aim::Reach][round % 2];
            let mut goal = Goal {
                aim,
                classes: x.chunks(LENGTH).map(|x| toy.class_of(x)).collect(),
                confidence: [0.0, 0.0, 0.5][round % 3],
            };
            // One image meets the goal from the start where that is possible, the others do not.
            match aim {
                Aim::Leave => goal.classes[1] = (goal.classes[1] + 1) % 5,
                Aim::Reach => {
                    let shift = |c: &mut usize| *c = (*c + 1 + round % 4) % 5;
                    [0, 2, 3]
                        .into_iter()
                        .for_each(|i| shift(&mut goal.classes[i]));
                }
            }
            for attack in attacks(&mut rng, aim) {
                let text = serde_json::to_string(&attack).unwrap();
                assert_eq!(serde_json::from_str::<Attack>(&text).unwrap(), attack);
                let plan = Plan {
                    attack,
                    seed: rng.below(1000) as u64,
                    eight_bit: rng.below(3) == 0,
                    passes: 1,
                };
                let outcome = kept(&plan, &mut toy, &x, &goal);
                let name = text.split('"').nth(1).unwrap().to_owned();
                let [reached, not] = ends.entry(name).or_default();
                *reached += outcome.success().iter().filter(|s| **s).count();
                *not += outcome.success().iter().filter(|s| !**s).count();
            }
        }
        let names: Vec<&str> = ends.keys().map(String::as_str).collect();
        let all = [
            "apgd",
            "auto-attack",
            "carlini-wagner",
            "deep-fool",
            "descent",
            "fab",
            "fmn",
            "jsma",
            "square",
            "universal",
        ];
        assert_eq!(names, all);
        assert!(ends.values().all(|[a, b]| *a > 40 && *b > 0), "{ends:?}");
    }

    /// Every image has randomness of its own, be it the same image.
    #[test]
    fn copies_of_an_image_are_attacked_from_different_points() {
        let mut rng = Rng::from_seed(3);
        let mut toy = Toy::two_layer(&mut rng, SHAPE, 10, 5);
        let one = image(&mut rng, LENGTH);
        let x = [one.clone(), one.clone()].concat();
        let goal = Goal::leave(vec![toy.class_of(&one); 2]);
        let random = [
            Attack::Apgd(Apgd::default()),
            Attack::Square(Square::default()),
            Attack::Descent(Descent {
                random_start: true,
                ..Descent::default()
            }),
        ];
        for attack in random {
            let mut first: Option<Vec<f32>> = None;
            let mut watch = |step: Step<'_>| _ = first.get_or_insert(step.pixels.to_vec());
            let plan = Plan {
                attack,
                seed: 1,
                eight_bit: false,
                passes: 1,
            };
            pollster::block_on(run(&plan, &mut toy, &x, &goal, &mut watch)).unwrap();
            let first = first.unwrap();
            assert_ne!(first[..LENGTH], first[LENGTH..], "{plan:?}");
        }
    }

    /// Runs a plan twice and checks what holds for every one.
    fn kept(plan: &Plan, toy: &mut Toy, x: &[f32], goal: &Goal) -> Outcome {
        let mut run_once = || {
            let mut watch = |step: Step<'_>| {
                assert!(step.pixels.iter().all(|v| (0.0..=1.0).contains(v)));
                assert_eq!(step.pixels.len(), step.images.len() * LENGTH);
                assert!(step.images.iter().all(|i| *i < goal.classes.len()));
            };
            pollster::block_on(run(plan, toy, x, goal, &mut watch)).unwrap()
        };
        let (outcome, again) = (run_once(), run_once());
        assert_eq!(outcome, again, "{plan:?}");
        let success = outcome.success();
        let pairs = outcome.pixels.chunks(LENGTH).zip(x.chunks(LENGTH));
        for (i, (found, clean)) in pairs.enumerate() {
            assert!(found.iter().all(|v| (0.0..=1.0).contains(v)));
            let met = |x: &[f32]| goal.is_met(i, &toy.logits_of(x));
            assert_eq!(outcome.met_before[i], met(clean));
            assert_eq!(success[i], met(found), "{plan:?}: says what it is");
            if outcome.met_before[i] {
                assert!(
                    found
                        .iter()
                        .zip(clean)
                        .all(|(a, b)| a.to_bits() == b.to_bits())
                );
            }
            match plan.attack.ball() {
                Some((norm, eps)) => {
                    assert!(norm.distance(found, clean) <= f64::from(eps), "{plan:?}");
                }
                None if !plan.eight_bit && !success[i] => assert_eq!(found, clean, "{plan:?}"),
                None => {}
            }
            let level = |v: &f32| (v * 255.0 - (v * 255.0).round()).abs() < 1e-4;
            assert!(!plan.eight_bit || found.iter().all(level));
        }
        outcome
    }

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
