//! An attack as a document, run by one function that adds what holds for all of them.

use serde::{Deserialize, Serialize};

use super::autoattack::Part;
use super::context::{Context, Step, pick};
use super::criterion::{Aim, Criterion, MARGIN};
use super::error::{AttackError, require_input};
use super::norm::{Ball, Norm};
use super::oracle::Oracle;
use super::predictions::Predictions;
use super::registry::Attack;
use crate::rng::Rng;

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

/// The result of an attack on a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `[n, c, h, w]`.
    pub pixels: Vec<f32>,
    /// For the clean images.
    pub before: Predictions,
    /// For `pixels`.
    pub after: Predictions,
    /// Images for which every pass met the criterion before anything was done; they are unchanged.
    pub met_before: Vec<bool>,
    /// Share of the passes that meet the criterion, an image each: of those over the result, and
    /// where it was met before, 1.
    pub met: Vec<f32>,
    /// Which part of AutoAttack brought each image down; `None` for one that it left standing or
    /// did not attack, and of other attacks.
    pub parts: Vec<Option<Part>>,
}

impl Outcome {
    /// Whether most passes over an image's result meet the criterion.
    pub fn success(&self) -> Vec<bool> {
        self.met.iter().map(|share| *share > 0.5).collect()
    }
}

/// Attacks `pixels`, `[n, c, h, w]` in [0, 1].
///
/// Whatever the attack: images that meet the criterion already come back as they were, pixels stay
/// in [0, 1] and in the attack's ball to the last bit, and the same seed gives the same bits.
///
/// Of a stochastic model an image is left alone where every pass meets the criterion. One that most
/// passes get wrong still counts with its share of right ones, and that share an attack can lower:
/// leaving it alone would make robust accuracy too high.
///
/// An attack that looks for the smallest perturbation goes beyond the boundary by
/// [`MARGIN`](super::criterion::MARGIN) of the largest logit. The result itself, rounded if that was
/// asked for, is judged again in the end, by the criterion alone, and only that counts.
///
/// `before` are the predictions for `pixels` where they are known, over the plan's passes; the
/// model makes them otherwise.
///
/// # Errors
/// [`AttackError`], when cancelled, when the device failed, or with a sentence on what is wrong
/// with the request.
///
/// ```
/// use std::fs::File;
/// use ventral::compute::device::Devices;
/// use ventral::model::load;
/// use ventral::model::probe::CancelToken;
/// use ventral::perturb::attack::descent::Descent;
/// use ventral::perturb::attack::network::{NetworkOracle, Noise};
/// use ventral::perturb::attack::plan::{Plan, run};
/// use ventral::perturb::attack::registry::Attack;
/// use ventral::perturb::attack::{Criterion, Norm, Step};
///
/// let cancel = CancelToken::default();
/// let file = File::open("static/models/resnet-cifar10.safetensors")?;
/// let model = load::read("resnet-cifar10", vec![Box::new(file)], &cancel, |_, _, _| {})?;
/// let device = Devices::cpu("", None).device;
/// let network = model.to_network(&device.clone().autodiff());
/// let mut oracle = NetworkOracle::new(&network, device, 32, Noise::Off, cancel);
/// let plan = Plan {
///     attack: Attack::Descent(Descent::fgsm(Norm::Linf, 8.0 / 255.0)),
///     seed: 0,
///     eight_bit: false,
///     passes: 1,
/// };
/// let pixels = vec![0.5; 3 * 32 * 32];
/// let criterion = Criterion::untargeted(vec![0]);
/// let mut watch = |_: Step<'_>| {};
/// let attack = run(&plan, &mut oracle, &pixels, &criterion, None, &mut watch);
/// let outcome = pollster::block_on(attack)?;
/// assert!(outcome.pixels.iter().all(|v| (v - 0.5).abs() <= 8.0 / 255.0 + 1e-6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run<O: Oracle>(
    plan: &Plan,
    oracle: &mut O,
    pixels: &[f32],
    criterion: &Criterion,
    before: Option<Predictions>,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Outcome, AttackError> {
    check(&plan.attack, oracle, pixels, criterion)?;
    let before = match before {
        Some(before) => before,
        None => Predictions::of(oracle, pixels, plan.passes).await?,
    };
    let shares = before.shares_met(criterion);
    let met_before: Vec<bool> = shares.iter().map(|share| *share >= 1.0).collect();
    let open: Vec<usize> = (0..met_before.len()).filter(|i| !met_before[*i]).collect();
    let attacked = !open.is_empty();
    let mut results = pixels.to_vec();
    let mut parts = vec![None; met_before.len()];
    if attacked {
        let given = match plan.attack.borrows(criterion.aim) {
            true => (0..met_before.len()).collect(),
            false => open.clone(),
        };
        let found = find(plan, oracle, pixels, criterion, given, watch).await?;
        let length = oracle.image_len();
        for found in found.into_iter().filter(|f| !met_before[f.image]) {
            results[found.image * length..][..length].copy_from_slice(&found.pixels);
            parts[found.image] = found.part;
        }
    }
    let after = match attacked || oracle.is_stochastic() {
        true => Predictions::of(oracle, &results, plan.passes).await?,
        false => before.clone(),
    };
    let mut met = after.shares_met(criterion);
    let kept = met.iter_mut().zip(&met_before).filter(|(_, kept)| **kept);
    kept.for_each(|(met, _)| *met = 1.0);
    Ok(Outcome {
        pixels: results,
        before,
        after,
        met_before,
        met,
        parts,
    })
}

/// The attack's result for an image.
struct Found {
    /// Its number.
    image: usize,
    pixels: Vec<f32>,
    part: Option<Part>,
}

/// The attack's result for each of the images `given`.
async fn find<O: Oracle>(
    plan: &Plan,
    oracle: &mut O,
    pixels: &[f32],
    criterion: &Criterion,
    given: Vec<usize>,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Found>, AttackError> {
    let length = oracle.image_len();
    let (centres, mut wanted) = (pick(pixels, length, &given), criterion.pick(&given));
    if plan.attack.ball().is_none() {
        // The smallest perturbation ends on the boundary, where rounding decides.
        wanted.margin = MARGIN;
    }
    let mut context = Context::new(&mut *oracle, plan.seed, watch, given.clone());
    context.eight_bit = plan.eight_bit;
    let attack = plan.attack.attack(&mut context, &centres, &wanted);
    let mut found = attack.await?;
    let mut parts = std::mem::take(&mut context.parts);
    parts.resize(given.len(), None);
    if plan.eight_bit {
        round(plan.attack.ball(), &mut found, &centres, length);
    }
    let images = given.into_iter().zip(found.chunks_exact(length)).zip(parts);
    let found = images.map(|((image, pixels), part)| Found {
        image,
        pixels: pixels.to_vec(),
        part,
    });
    Ok(found.collect())
}

/// What can be known of an attack before anything is computed: whether it fits images of `length`
/// values and a model of so many classes.
///
/// # Errors
/// [`AttackError::Radius`] for a ball that is larger than the box of all images,
/// [`AttackError::Classes`] for too few classes.
pub fn check_fit(
    attack: &Attack,
    length: usize,
    classes: usize,
    aim: Aim,
) -> Result<(), AttackError> {
    let least = attack.least_classes(aim);
    if classes < least {
        return Err(AttackError::Classes { least, classes });
    }
    let Some((norm, eps)) = attack.ball() else {
        return Ok(());
    };
    let most = match norm {
        Norm::Linf => 1.0,
        Norm::L2 => (length as f64).sqrt(),
        Norm::L1 => length as f64,
    };
    // The last digit of a float may lie beyond.
    match f64::from(eps) > most * (1.0 + 1e-6) {
        true => Err(AttackError::Radius { norm, eps, most }),
        false => Ok(()),
    }
}

fn check<O: Oracle>(
    attack: &Attack,
    oracle: &O,
    pixels: &[f32],
    criterion: &Criterion,
) -> Result<(), AttackError> {
    check_fit(attack, oracle.image_len(), oracle.classes(), criterion.aim)?;
    require_input(
        pixels.len() == criterion.classes.len() * oracle.image_len(),
        "An attack needs one class for each image.",
    )?;
    require_input(
        pixels.iter().all(|v| (0.0..=1.0).contains(v)),
        "An attacked image must have pixels from 0 to 1.",
    )?;
    let classes = oracle.classes();
    require_input(
        criterion.classes.iter().all(|class| *class < classes),
        "The attack's target is not a class of this model. Choose another target.",
    )?;
    require_input(
        (0.0..=1.0).contains(&criterion.confidence),
        "The confidence of an attack must be from 0 to 1.",
    )
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
    use super::super::apgd::Apgd;
    use super::super::autoattack::AutoAttack;
    use super::super::boundary::Boundary;
    use super::super::carlini_wagner::{Abort, CarliniWagner};
    use super::super::criterion::Aim;
    use super::super::deepfool::DeepFool;
    use super::super::descent::Descent;
    use super::super::fab::Fab;
    use super::super::fmn::Fmn;
    use super::super::hop_skip_jump::HopSkipJump;
    use super::super::jsma::Jsma;
    use super::super::loss::Loss;
    use super::super::noise_search::BlendedNoise;
    use super::super::square::Square;
    use super::super::test_formula::{Linear, Model};
    use super::super::test_model::{TestModel, image};
    use super::super::test_noise::NoisyMean;
    use super::super::universal::Universal;
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
                norm: any,
                eps: of(any, rng),
                steps,
                restarts: 1 + rng.below(2),
                loss,
                target_classes: rng.below(3),
                shrinking: coin,
            }),
            Attack::Square(Square {
                norm: any,
                eps: of(any, rng),
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
        if aim == Aim::Untargeted {
            attacks.push(Attack::AutoAttack(AutoAttack {
                norm: any,
                eps: of(any, rng),
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
        // How many images each attack brought to the criterion, and how many not.
        let mut ends = std::collections::BTreeMap::<String, [usize; 2]>::new();
        for round in 0..40 {
            let mut model = TestModel::two_layer(&mut rng, SHAPE, 10, 5);
            let x: Vec<f32> = (0..4).flat_map(|_| image(&mut rng, LENGTH)).collect();
            let aim = [Aim::Untargeted, Aim::Targeted][round % 2];
            let mut criterion = Criterion {
                aim,
                classes: x.chunks(LENGTH).map(|x| model.class_of(x)).collect(),
                confidence: [0.0, 0.0, 0.5][round % 3],
                margin: 0.0,
            };
            // One image meets the criterion from the start where that is possible, the others do not.
            match aim {
                Aim::Untargeted => criterion.classes[1] = (criterion.classes[1] + 1) % 5,
                Aim::Targeted => {
                    let shift = |c: &mut usize| *c = (*c + 1 + round % 4) % 5;
                    [0, 2, 3]
                        .into_iter()
                        .for_each(|i| shift(&mut criterion.classes[i]));
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
                let outcome = kept(&plan, &mut model, &x, &criterion);
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
        let mut model = TestModel::two_layer(&mut rng, SHAPE, 10, 5);
        let one = image(&mut rng, LENGTH);
        let x = [one.clone(), one.clone()].concat();
        let criterion = Criterion::untargeted(vec![model.class_of(&one); 2]);
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
            pollster::block_on(run(&plan, &mut model, &x, &criterion, None, &mut watch)).unwrap();
            let first = first.unwrap();
            assert_ne!(first[..LENGTH], first[LENGTH..], "{plan:?}");
        }
    }

    /// Runs a plan twice and checks what holds for every one.
    fn kept(plan: &Plan, model: &mut TestModel, x: &[f32], criterion: &Criterion) -> Outcome {
        let mut run_once = || {
            let mut watch = |step: Step<'_>| {
                assert!(step.pixels.iter().all(|v| (0.0..=1.0).contains(v)));
                assert_eq!(step.pixels.len(), step.images.len() * LENGTH);
                assert!(step.images.iter().all(|i| *i < criterion.classes.len()));
            };
            pollster::block_on(run(plan, model, x, criterion, None, &mut watch)).unwrap()
        };
        let (outcome, again) = (run_once(), run_once());
        assert_eq!(outcome, again, "{plan:?}");
        let success = outcome.success();
        let pairs = outcome.pixels.chunks(LENGTH).zip(x.chunks(LENGTH));
        for (i, (found, clean)) in pairs.enumerate() {
            assert!(found.iter().all(|v| (0.0..=1.0).contains(v)));
            let met = |x: &[f32]| criterion.is_met(i, &model.logits_of(x));
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

    /// An image of mean m is right in a share m of the passes, and an attack of radius ε leaves
    /// m − ε. 14 of 40 images are already wrong in most passes (a share of 0.22), and must be
    /// attacked all the same: left alone they would count 0.22 each instead of 0.045.
    #[test]
    fn robust_accuracy_of_a_stochastic_model_is_not_too_high() {
        let (length, eps) = (8, 0.175);
        let clean: Vec<f32> = (0..40).map(|i| if i < 14 { 0.22 } else { 0.8 }).collect();
        let x: Vec<f32> = clean.iter().flat_map(|m| vec![*m; length]).collect();
        let labels = vec![0; clean.len()];
        let bounded = [
            Attack::Descent(Descent {
                eps,
                ..Descent::default()
            }),
            Attack::Apgd(Apgd {
                eps,
                steps: 40,
                ..Apgd::default()
            }),
        ];
        for attack in bounded {
            let plan = Plan {
                attack,
                seed: 0,
                eight_bit: false,
                passes: 500,
            };
            let mut model = NoisyMean::new(length);
            let criterion = Criterion::untargeted(labels.clone());
            let outcome =
                pollster::block_on(run(&plan, &mut model, &x, &criterion, None, &mut |_| {}))
                    .unwrap();
            let mean = |shares: Vec<f32>| shares.iter().sum::<f32>() / shares.len() as f32;
            let before = mean(outcome.before.right_shares(&labels));
            let after = outcome.after.right_shares(&labels);
            // (14 · 0.22 + 26 · 0.8) / 40, and 0.175 less.
            assert!((before - 0.597).abs() < 0.003, "{before}");
            for (share, clean) in after.iter().zip(&clean) {
                assert!(
                    (share - (clean - eps)).abs() < 0.01,
                    "{plan:?}: {share} of {clean}"
                );
            }
            assert!((mean(after) - 0.422).abs() < 0.003);
            assert_eq!(outcome.met_before, vec![false; 40]);
        }
    }

    /// Only what every pass gets wrong is left alone.
    #[test]
    fn an_image_that_no_pass_gets_right_is_not_attacked() {
        let x = [0.0_f32, 0.0, 0.02, 0.02];
        let plan = Plan {
            attack: Attack::Descent(Descent {
                eps: 0.01,
                ..Descent::default()
            }),
            seed: 0,
            eight_bit: false,
            passes: 200,
        };
        let mut model = NoisyMean::new(2);
        let criterion = Criterion::untargeted(vec![0, 0]);
        let outcome =
            pollster::block_on(run(&plan, &mut model, &x, &criterion, None, &mut |_| {})).unwrap();
        assert_eq!(outcome.met_before, [true, false]);
        assert_eq!(outcome.pixels[..2], x[..2]);
        assert!(outcome.pixels[2] < 0.011, "{:?}", outcome.pixels);
        assert_eq!(outcome.met[0], 1.0);
    }

    /// The smallest perturbation that counts lies beyond the boundary by more than rounding, for
    /// every attack that looks for one and whether it sees gradients or decisions alone.
    #[test]
    fn the_smallest_perturbation_leaves_a_margin() {
        let mut rng = Rng::from_seed(21);
        let minimal = |norm: Norm| {
            [
                Attack::HopSkipJump(HopSkipJump {
                    norm,
                    queries: 1500,
                    ..HopSkipJump::default()
                }),
                Attack::Boundary(Boundary {
                    queries: 1500,
                    ..Boundary::default()
                }),
                Attack::DeepFool(DeepFool {
                    norm,
                    overshoot: 0.0,
                    ..DeepFool::default()
                }),
                Attack::Fab(Fab {
                    norm,
                    ..Fab::default()
                }),
                Attack::Fmn(Fmn {
                    norm,
                    steps: 100,
                    ..Fmn::default()
                }),
                Attack::BlendedNoise(BlendedNoise::default()),
                Attack::CarliniWagner(CarliniWagner {
                    steps: 200,
                    ..CarliniWagner::default()
                }),
            ]
        };
        for norm in [Norm::L2, Norm::Linf] {
            let mut model = TestModel::two_layer(&mut rng, SHAPE, 10, 5);
            let x: Vec<f32> = (0..4).flat_map(|_| image(&mut rng, LENGTH)).collect();
            let labels: Vec<usize> = x.chunks(LENGTH).map(|x| model.class_of(x)).collect();
            let criterion = Criterion::untargeted(labels.clone());
            for attack in minimal(norm) {
                let plan = Plan {
                    attack,
                    seed: 1,
                    eight_bit: false,
                    passes: 1,
                };
                let outcome = kept(&plan, &mut model, &x, &criterion);
                assert!(outcome.success().contains(&true), "{plan:?}");
                for (i, found) in outcome.pixels.chunks(LENGTH).enumerate() {
                    let logits = model.logits_of(found);
                    let size = logits.iter().fold(0.0_f32, |size, l| size.max(l.abs()));
                    let best = logits.iter().copied().fold(f32::MIN, f32::max);
                    let gap = best - logits[labels[i]];
                    let clear = gap >= 0.99 * MARGIN * size;
                    assert!(clear || !outcome.success()[i], "{plan:?}: {gap} of {size}");
                }
            }
        }
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

    /// Noise never gets to the class; the only image of it is not attacked itself.
    #[test]
    fn a_plan_lends_images_that_need_no_attack() {
        let linear = Linear::default();
        let rules = linear.rules();
        let hidden = |image: &[f32]| {
            let near = Norm::Linf.distance(image, &rules.met) <= 0.3;
            vec![0.0, if near { linear.rise(image) } else { -1.0 }]
        };
        let batch = [&rules.open[..], &rules.met].concat();
        let length = rules.open.len();
        for attack in [
            Attack::Boundary(Boundary {
                queries: 300,
                ..Boundary::default()
            }),
            Attack::HopSkipJump(HopSkipJump {
                queries: 500,
                ..HopSkipJump::default()
            }),
        ] {
            let plan = Plan {
                attack,
                seed: 1,
                eight_bit: false,
                passes: 1,
            };
            let attacked = |batch: &[f32], criterion: &Criterion| {
                let mut model = Model::new(rules.shape, 2, &hidden);
                let mut watch = |_: Step<'_>| {};
                let outcome = run(&plan, &mut model, batch, criterion, None, &mut watch);
                pollster::block_on(outcome).unwrap()
            };
            let outcome = attacked(&batch, &Criterion::targeted(vec![1; 2]));
            assert_eq!(outcome.success(), [true; 2]);
            assert_eq!(outcome.met_before, [false, true]);
            assert_eq!(outcome.pixels[length..], rules.met);
            let alone = attacked(&rules.open, &Criterion::targeted(vec![1]));
            assert_eq!(alone.success(), [false]);
            assert_eq!(alone.pixels, rules.open);
        }
    }
}
