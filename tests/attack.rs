//! Attacks on real networks against what the reference library made of the same weights and images.
#![cfg(feature = "compute")]

mod common;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use burn::tensor::Device;
use common::arrays::{Named, array, f32s, fixture, full_fixture};
use common::{reference, shared};
use ventral::model::load;
use ventral::model::network::Network;
use ventral::model::probe::CancelToken;
use ventral::perturb::attack::apgd::Apgd;
use ventral::perturb::attack::autoattack::{AutoAttack, Part};
use ventral::perturb::attack::carlini_wagner::{Abort, CarliniWagner};
use ventral::perturb::attack::deepfool::DeepFool;
use ventral::perturb::attack::descent::Descent;
use ventral::perturb::attack::fab::Fab;
use ventral::perturb::attack::fmn::Fmn;
use ventral::perturb::attack::jsma::Jsma;
use ventral::perturb::attack::masking;
use ventral::perturb::attack::network::{NetworkOracle, Noise};
use ventral::perturb::attack::plan::{Plan, run};
use ventral::perturb::attack::registry::Attack;
use ventral::perturb::attack::square::Square;
use ventral::perturb::attack::universal::Universal;
use ventral::perturb::attack::{
    AttackError, Context, Criterion, Loss, Norm, Oracle, Pullback, Step,
};

/// Share of the pixels that are the same within 1e-4.
fn agreement(ours: &[f32], theirs: &[f32]) -> f64 {
    let pairs = ours.iter().zip(theirs);
    let close = pairs.filter(|(a, b)| (**a - **b).abs() <= 1e-4).count();
    close as f64 / ours.len() as f64
}

/// A network of the fixtures, its images and their labels.
struct Case {
    network: Network,
    pixels: Vec<f32>,
    labels: Vec<usize>,
    side: usize,
    adversarial: Box<dyn Named>,
}

impl Case {
    fn new(weights: &Path, suffix: &str, adversarial: Box<dyn Named>) -> Self {
        let name = weights.to_string_lossy();
        let source = Box::new(BufReader::new(File::open(weights).unwrap()));
        let token = CancelToken::default();
        let loaded = load::read(&name, vec![source], &token, |_, _, _: &str| {}).unwrap();
        let mut inputs = fixture("attack_inputs.npz");
        let x = array(&mut inputs, &format!("x_{suffix}"));
        let labels = array(&mut inputs, &format!("y_{suffix}"));
        Self {
            network: loaded.to_network(&Device::flex().autodiff()),
            side: x.shape[2],
            pixels: x.data.to_f32(),
            labels: labels.data.to_f32().iter().map(|l| *l as usize).collect(),
            adversarial,
        }
    }

    fn small() -> Self {
        let stored = Box::new(fixture("attacks_small_cnn.npz"));
        Self::new(&reference("small_cnn.safetensors"), "small", stored)
    }

    fn cornet() -> Option<Self> {
        let weights = shared("fixtures/cornet_s_div8.pth")?;
        let stored = Box::new(full_fixture("attacks_cornet_s_div8.npz")?);
        Some(Self::new(&weights, "cornet_s", stored))
    }

    fn oracle(&self) -> NetworkOracle<'_> {
        let token = CancelToken::default();
        NetworkOracle::new(&self.network, Device::flex(), self.side, Noise::Off, token)
    }

    fn criterion(&self) -> Criterion {
        Criterion::untargeted(self.labels.clone())
    }

    fn attack(&self, attack: Attack) -> (Vec<f32>, Vec<bool>) {
        let plan = Plan {
            attack,
            seed: 3,
            eight_bit: false,
            passes: 1,
        };
        let mut oracle = self.oracle();
        let (criterion, mut watch) = (self.criterion(), |_: Step<'_>| {});
        let outcome = run(
            &plan,
            &mut oracle,
            &self.pixels,
            &criterion,
            None,
            &mut watch,
        );
        let outcome = pollster::block_on(outcome).unwrap();
        (outcome.pixels.clone(), outcome.success())
    }

    /// Floats of an image.
    fn length(&self) -> usize {
        self.pixels.len() / self.labels.len()
    }

    /// Distances of `pixels` from the clean images.
    fn distances(&self, norm: Norm, pixels: &[f32]) -> Vec<f64> {
        let pairs = pixels
            .chunks(self.length())
            .zip(self.pixels.chunks(self.length()));
        pairs.map(|(x, clean)| norm.distance(x, clean)).collect()
    }

    /// Success flags equal, norms of the perturbation within 1 %; pixels where `exact`.
    fn agrees(&mut self, name: &str, attack: Attack, exact: bool) {
        if !self.adversarial.has(&format!("{name}/adv")) {
            return;
        }
        let (ours, success) = self.attack(attack.clone());
        let theirs = f32s(&mut *self.adversarial, &format!("{name}/adv"));
        let flags = f32s(&mut *self.adversarial, &format!("{name}/success"));
        let flags: Vec<bool> = flags.iter().map(|f| *f != 0.0).collect();
        assert_eq!(success, flags, "{name}: success");
        let norms = match &attack {
            // The reference's projection pushes images that are inside the ball out of it
            // when another of the batch is outside. The radius is the same in the end.
            Attack::Descent(descent) if descent.quantile.is_some() => &[Norm::L1][..],
            _ => &Norm::ALL[..],
        };
        for norm in norms {
            let pairs = self.distances(*norm, &ours);
            for (a, b) in pairs.into_iter().zip(self.distances(*norm, &theirs)) {
                assert!(
                    (a - b).abs() <= 0.01 * b + 1e-6,
                    "{name} {norm:?}: {a} against {b}"
                );
            }
        }
        if exact {
            let share = agreement(&ours, &theirs);
            assert!(share >= 0.99, "{name}: {share} of the pixels agree");
        }
    }
}

#[test]
fn descent_on_the_small_network_is_the_reference_pixel_by_pixel() {
    let mut case = Case::small();
    let (small, large) = (4.0 / 255.0, 16.0 / 255.0);
    let steps = |norm, eps, steps, rel_step| Descent {
        norm,
        eps,
        steps,
        rel_step,
        ..Descent::default()
    };
    for (name, attack) in [
        ("fgsm/eps0", Descent::fgsm(Norm::Linf, small)),
        ("fgsm/eps1", Descent::fgsm(Norm::Linf, large)),
        ("fgm_l2/eps0", Descent::fgsm(Norm::L2, 1.0)),
        ("fgm_l2/eps1", Descent::fgsm(Norm::L2, 4.0)),
        ("linf_pgd/eps0", steps(Norm::Linf, small, 10, 1.0 / 30.0)),
        ("linf_pgd/eps1", steps(Norm::Linf, large, 10, 1.0 / 30.0)),
        (
            "linf_pgd_rel025_steps8/eps0",
            steps(Norm::Linf, small, 8, 0.25),
        ),
        ("linf_bim/eps0", Descent::bim(Norm::Linf, small)),
        ("l2_pgd/eps0", steps(Norm::L2, 1.0, 10, 0.1)),
        ("l2_pgd/eps1", steps(Norm::L2, 4.0, 10, 0.1)),
        ("l2_bim/eps0", Descent::bim(Norm::L2, 1.0)),
        ("l2_bim/eps1", Descent::bim(Norm::L2, 4.0)),
        ("l1_pgd/eps0", steps(Norm::L1, 10.0, 10, 0.1)),
        ("l1_pgd/eps1", steps(Norm::L1, 40.0, 10, 0.1)),
        ("sparse_l1/eps0", Descent::sparse(10.0)),
        ("sparse_l1/eps1", Descent::sparse(40.0)),
        ("linf_mifgsm/eps0", Descent::mi_fgsm(small)),
    ] {
        case.agrees(name, Attack::Descent(attack), !name.starts_with("sparse"));
    }
}

#[test]
fn descent_on_cornet_s_has_the_reference_success_and_norms() {
    let Some(mut case) = Case::cornet() else {
        return;
    };
    let meta = reference("attacks_meta.json");
    let meta: serde_json::Value = serde_json::from_reader(File::open(meta).unwrap()).unwrap();
    let meta = &meta["attacks"]["cornet_s_div8"];
    let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
    for (name, norm, sparse, momentum, exact) in [
        ("fgsm", Norm::Linf, false, 0.0, true),
        ("linf_pgd", Norm::Linf, false, 0.0, false),
        ("l2_pgd", Norm::L2, false, 0.0, true),
        ("l2_bim", Norm::L2, false, 0.0, true),
        ("l1_pgd", Norm::L1, false, 0.0, true),
        ("sparse_l1", Norm::L1, true, 0.0, false),
        ("linf_mifgsm", Norm::Linf, false, 1.0, false),
    ] {
        let settings = &meta[name]["kwargs"];
        let single = name == "fgsm";
        let attack = Descent {
            norm,
            eps: number(&meta[format!("{name}/eps0")]["epsilon"]),
            steps: if single {
                1
            } else {
                settings["steps"].as_u64().unwrap() as usize
            },
            rel_step: if single {
                1.0
            } else {
                number(&settings["rel_stepsize"])
            },
            momentum,
            quantile: sparse.then_some(0.99),
            ..Descent::default()
        };
        case.agrees(&format!("{name}/eps0"), Attack::Descent(attack), exact);
    }
}

/// The settings that the fixtures of minimal-norm attacks were made with.
fn minimal(case: &str, name: &str) -> Attack {
    let meta = reference("attacks_meta.json");
    let meta: serde_json::Value = serde_json::from_reader(File::open(meta).unwrap()).unwrap();
    let settings = &meta["attacks"][case][name]["kwargs"];
    let number = |key: &str| settings[key].as_f64().unwrap() as f32;
    let count = |key: &str| settings[key].as_u64().unwrap() as usize;
    if name == "l2_cw" {
        return Attack::CarliniWagner(CarliniWagner {
            binary_search_steps: count("binary_search_steps"),
            steps: count("steps"),
            stepsize: number("stepsize"),
            confidence: number("confidence"),
            initial_const: number("initial_const"),
            abort: match settings["abort_early"].as_bool().unwrap() {
                true => Abort::Batch,
                false => Abort::Never,
            },
        });
    }
    Attack::DeepFool(DeepFool {
        norm: if name == "linf_deepfool" {
            Norm::Linf
        } else {
            Norm::L2
        },
        steps: count("steps"),
        candidates: count("candidates"),
        overshoot: number("overshoot"),
    })
}

#[test]
fn minimal_attacks_on_the_small_network_are_the_reference_pixel_by_pixel() {
    let mut case = Case::small();
    for name in ["l2_deepfool", "linf_deepfool"] {
        case.agrees(name, minimal("small_cnn", name), true);
    }
    case.agrees("l2_cw", minimal("small_cnn", "l2_cw"), true);
}

#[test]
fn minimal_attacks_on_cornet_s_are_the_reference_pixel_by_pixel() {
    let Some(mut case) = Case::cornet() else {
        return;
    };
    let settings = |name| minimal("cornet_s_div8", name);
    case.agrees("l2_deepfool", settings("l2_deepfool"), true);
    case.agrees("l2_cw", settings("l2_cw"), true);
}

/// The reference library has neither to compare with; DeepFool and Carlini-Wagner look for the same.
#[test]
fn fab_and_fmn_find_perturbations_as_small_as_the_reference_of_other_attacks() {
    let mut case = Case::small();
    for (norm, names) in [
        (Norm::L2, &["l2_deepfool", "l2_cw"][..]),
        (Norm::Linf, &["linf_deepfool"][..]),
    ] {
        let mut least = vec![f64::INFINITY; case.labels.len()];
        for name in names {
            let theirs = f32s(&mut *case.adversarial, &format!("{name}/adv"));
            let sizes = case.distances(norm, &theirs);
            least.iter_mut().zip(sizes).for_each(|(l, s)| *l = l.min(s));
        }
        let fab = |target_classes| {
            Attack::Fab(Fab {
                norm,
                target_classes,
                ..Fab::default()
            })
        };
        let fmn = Attack::Fmn(Fmn {
            norm,
            ..Fmn::default()
        });
        for attack in [fab(0), fab(9), fmn] {
            let (found, success) = case.attack(attack.clone());
            assert!(success.iter().all(|s| *s), "{attack:?}");
            let sizes = case.distances(norm, &found);
            eprintln!("{attack:?}: {sizes:?} against {least:?}");
            for (size, least) in sizes.into_iter().zip(&least) {
                assert!(size <= 1.1 * least, "{attack:?}: {size} against {least}");
            }
        }
    }
}

#[test]
fn auto_attack_brings_down_all_that_a_part_brings_down() {
    let case = Case::small();
    let mut stood = 0;
    for (norm, radii) in [
        (Norm::Linf, [0.01, 0.015, 0.02]),
        (Norm::L2, [0.2, 0.4, 0.6]),
    ] {
        for eps in radii {
            let suite = AutoAttack {
                norm,
                eps,
                steps: 15,
                queries: 60,
                ..AutoAttack::default()
            };
            let (found, fell) = case.attack(Attack::AutoAttack(suite.clone()));
            let sizes = case.distances(norm, &found);
            assert!(sizes.iter().all(|s| *s <= f64::from(eps)));
            for part in Part::ALL {
                let (alone, success) = case.attack(part_of(&suite, part));
                let inside = case.distances(norm, &alone);
                let inside = inside.into_iter().map(|s| s <= f64::from(eps));
                for ((fell, success), inside) in fell.iter().zip(success).zip(inside) {
                    assert!(*fell || !success || !inside, "{part:?} {norm:?} {eps}");
                }
            }
            stood += fell.iter().filter(|f| !**f).count();
        }
    }
    assert!(stood > 0 && stood < 24, "{stood} of 24 stood");
}

#[test]
fn jsma_and_universal_perturbations_work_on_a_network() {
    let case = Case::small();
    let (found, success) = case.attack(Attack::Jsma(Jsma::default()));
    assert!(success.iter().all(|s| *s), "{success:?}");
    let changed = found.iter().zip(&case.pixels).filter(|(a, b)| a != b);
    assert!(changed.count() <= found.len() / 10);
    let universal = Universal {
        norm: Norm::L2,
        eps: 4.0,
        fooling_rate: 1.0,
        ..Universal::default()
    };
    let (found, success) = case.attack(Attack::Universal(universal));
    assert!(success.iter().filter(|s| **s).count() >= 3, "{success:?}");
    let sizes = case.distances(Norm::L2, &found);
    assert!(sizes.into_iter().all(|s| s <= 4.0));
}

#[test]
fn stronger_attacks_find_at_least_what_weaker_ones_find() {
    let case = Case::small();
    let count = |success: Vec<bool>| success.into_iter().filter(|s| *s).count();
    for eps in [4.0 / 255.0, 8.0 / 255.0] {
        let fgsm = count(
            case.attack(Attack::Descent(Descent::fgsm(Norm::Linf, eps)))
                .1,
        );
        for loss in [Loss::CrossEntropy, Loss::Dlr] {
            let apgd = Apgd {
                eps,
                loss,
                ..Apgd::default()
            };
            let (pixels, success) = case.attack(Attack::Apgd(apgd));
            assert!(count(success) >= fgsm, "{loss:?} at {eps}");
            let sizes = case.distances(Norm::Linf, &pixels);
            assert!(sizes.into_iter().all(|s| s <= f64::from(eps)));
        }
    }
    for norm in [Norm::Linf, Norm::L2] {
        let square = Square {
            norm,
            eps: if norm == Norm::L2 { 4.0 } else { 16.0 / 255.0 },
            queries: 300,
            ..Square::default()
        };
        let (_, success) = case.attack(Attack::Square(square));
        assert!(count(success) >= 3, "Square {norm:?}");
    }
}

#[test]
fn an_honest_gradient_raises_no_flag_and_a_masked_one_does() {
    let case = Case::small();
    let eps = 16.0 / 255.0;
    let (perturbed, _) = case.attack(Attack::Descent(Descent::bim(Norm::Linf, eps)));
    let honest = look(&mut case.oracle(), &case, &perturbed, eps);
    assert!(honest.flags.is_empty(), "{honest:?}");
    let masked = look(&mut Masked(case.oracle()), &case, &case.pixels, eps);
    assert!(
        masked.flags.contains(&masking::Flag::WrongSlope),
        "{masked:?}"
    );
    assert!(
        masked.flags.contains(&masking::Flag::LargeRadiusFails),
        "{masked:?}"
    );
    assert!(
        masked.flags.contains(&masking::Flag::ScoresBeatGradient),
        "{masked:?}"
    );
}

fn look<O: Oracle>(oracle: &mut O, case: &Case, perturbed: &[f32], eps: f32) -> masking::Masking {
    let mut watch = |_: Step<'_>| {};
    let images = (0..case.labels.len()).collect();
    let mut context = Context::new(oracle, 1, &mut watch, images);
    let ball = (Norm::Linf, eps);
    let criterion = case.criterion();
    let found = masking::check(
        &mut context,
        &case.pixels,
        perturbed,
        &criterion,
        Some(ball),
    );
    pollster::block_on(found).unwrap()
}

/// A part of a suite as an attack of its own.
fn part_of(suite: &AutoAttack, part: Part) -> Attack {
    match part {
        Part::ApgdCe => suite.apgd(false).into(),
        Part::ApgdDlrTargeted => suite.apgd(true).into(),
        Part::FabTargeted => suite.fab().into(),
        Part::Square => suite.square().into(),
    }
}

/// A model whose logits are honest and whose gradient points the other way.
struct Masked<'a>(NetworkOracle<'a>);

impl Oracle for Masked<'_> {
    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn classes(&self) -> usize {
        self.0.classes()
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError> {
        self.0.logits(pixels).await
    }

    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        let mut found = self.0.gradient(pixels, cotangent).await?;
        found.gradient.iter_mut().for_each(|g| *g *= -0.3);
        Ok(found)
    }
}
