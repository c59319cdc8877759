//! AutoAttack's standard suite (Croce and Hein 2020; in L1, Croce and Hein 2021): four attacks
//! without a setting to get wrong, one after the other on what still stands.
//!
//! It is never weaker than one of its parts. Each part draws from streams of its own, named by the
//! attack and the image ([`Context::stream`]), so what it finds for an image does not depend on
//! what the parts before found or which images they left: run alone with the same seed it finds
//! the same. That holds for a model that repeats itself and takes an image the same in any batch.

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::best_so_far::{narrow, unmet};
use super::context::Context;
use super::criterion::{Aim, Criterion, MARGIN};
use super::error::{AttackError, require};
use super::fab::Fab;
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm};
use super::oracle::Oracle;
use super::square::Square;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoAttack {
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1].
    pub eps: f32,
    /// Steps of each gradient attack; 100 in the standard suite.
    pub steps: usize,
    /// Queries of the Square attack; 5,000 in the standard suite.
    pub queries: usize,
    /// Other classes that the targeted attacks try to reach; 9 in the standard suite, of which
    /// Auto-PGD takes the first 5 in L1.
    pub target_classes: usize,
}

/// Runs of the first attack in L1, and the most classes that its targeted sibling tries there.
const RUNS_IN_L1: usize = 5;

impl Default for AutoAttack {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            steps: 100,
            queries: 5000,
            target_classes: 9,
        }
    }
}

/// What brought an image down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    ApgdCe,
    ApgdDlrTargeted,
    FabTargeted,
    Square,
}

impl Part {
    pub const ALL: [Self; 4] = [
        Self::ApgdCe,
        Self::ApgdDlrTargeted,
        Self::FabTargeted,
        Self::Square,
    ];

    /// As files write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ApgdCe => "apgd-ce",
            Self::ApgdDlrTargeted => "apgd-dlr-targeted",
            Self::FabTargeted => "fab-targeted",
            Self::Square => "square",
        }
    }

    /// The part of a [`word`](Self::word).
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::ApgdCe => "APGD-CE",
            Self::ApgdDlrTargeted => "APGD-DLR, targeted",
            Self::FabTargeted => "FAB, targeted",
            Self::Square => "Square",
        }
    }
}

impl AutoAttack {
    pub(super) fn check(&self, classes: usize, aim: Aim) -> Result<(), AttackError> {
        require(
            aim == Aim::Untargeted,
            "AutoAttack is untargeted: it drives the prediction away from a class.",
        )?;
        require(
            classes >= Loss::Dlr.least_classes(Aim::Targeted),
            "AutoAttack needs a model of at least four classes.",
        )?;
        require(
            self.eps.is_finite() && self.eps >= 0.0,
            "AutoAttack's radius must be a number of at least 0.",
        )?;
        require(
            self.steps > 0 && self.queries > 0 && self.target_classes > 0,
            "AutoAttack needs at least one step, one query and one target class.",
        )
    }

    /// [`attack`](Self::attack), and which part brought each image down.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub async fn attack_by_parts<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<(Vec<f32>, Vec<Option<Part>>), AttackError> {
        self.check(context.oracle.classes(), criterion.aim)?;
        let length = context.oracle.image_len();
        let mut best = pixels.to_vec();
        let mut fallen: Vec<Option<Part>> = vec![None; criterion.classes.len()];
        for part in Part::ALL {
            let open = unmet(&fallen.iter().map(Option::is_some).collect::<Vec<_>>());
            if open.is_empty() {
                break;
            }
            let tried = self
                .attempt(part, context, pixels, criterion, &open)
                .await?;
            let images = open.iter().zip(tried.chunks_exact(length));
            let met = context.judge(&tried, &criterion.pick(&open)).await?;
            for ((i, image), _) in images.zip(met).filter(|(_, met)| *met) {
                let centre = &pixels[i * length..][..length];
                // FAB looks for the nearest success, be it inside or not.
                if self.norm.distance(image, centre) <= f64::from(self.eps) {
                    fallen[*i] = Some(part);
                    best[i * length..][..length].copy_from_slice(image);
                }
            }
        }
        Ok((best, fallen))
    }

    /// What a part makes of the images `open`, rounded as the result will be.
    async fn attempt<O: Oracle>(
        &self,
        part: Part,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
        open: &[usize],
    ) -> Result<Vec<f32>, AttackError> {
        let length = context.oracle.image_len();
        let (centres, wanted) = narrow(pixels, criterion, length, open);
        let images = context.images.clone();
        context.images = open.iter().map(|i| images[*i]).collect();
        let tried = self.run(part, context, &centres, &wanted).await;
        context.images = images;
        let mut tried = tried?;
        if context.eight_bit {
            let pairs = tried
                .chunks_exact_mut(length)
                .zip(centres.chunks_exact(length));
            let (norm, eps) = (self.norm, self.eps);
            pairs.for_each(|(x, centre)| Ball { norm, eps, centre }.round(x));
        }
        Ok(tried)
    }

    async fn run<O: Oracle>(
        &self,
        part: Part,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        match part {
            Part::ApgdCe | Part::ApgdDlrTargeted => {
                let apgd = self.apgd(part == Part::ApgdDlrTargeted);
                apgd.attack(context, pixels, criterion).await
            }
            Part::FabTargeted => {
                // As alone, where it leaves a margin: it looks for the smallest perturbation.
                let clear = Criterion {
                    margin: MARGIN,
                    ..criterion.clone()
                };
                self.fab().attack(context, pixels, &clear).await
            }
            Part::Square => self.square().attack(context, pixels, criterion).await,
        }
    }

    /// [`Part::ApgdDlrTargeted`], or [`Part::ApgdCe`].
    pub fn apgd(&self, targeted: bool) -> Apgd {
        let (loss, restarts, target_classes) = match (targeted, self.norm) {
            (true, Norm::L1) => (Loss::Dlr, 1, self.target_classes.min(RUNS_IN_L1)),
            (true, _) => (Loss::Dlr, 1, self.target_classes),
            (false, Norm::L1) => (Loss::CrossEntropy, RUNS_IN_L1, 0),
            (false, _) => (Loss::CrossEntropy, 1, 0),
        };
        Apgd {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            restarts,
            loss,
            target_classes,
            shrinking: true,
        }
    }

    /// [`Part::FabTargeted`].
    pub fn fab(&self) -> Fab {
        Fab {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            target_classes: self.target_classes,
            ..Fab::default()
        }
    }

    /// [`Part::Square`].
    pub fn square(&self) -> Square {
        Square {
            norm: self.norm,
            eps: self.eps,
            queries: self.queries,
            ..Square::default()
        }
    }
}

impl Method for AutoAttack {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    fn least_classes(&self, _aim: Aim) -> usize {
        Loss::Dlr.least_classes(Aim::Targeted)
    }

    /// `[n, c, h, w]` within `eps` of `pixels`; an image that no part brought down is returned as
    /// it was. The context's `parts` say which part brought each down.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        let (found, parts) = self.attack_by_parts(context, pixels, criterion).await?;
        context.parts = parts;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::Step;
    use super::super::plan::{Plan, run};
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack, image};
    use super::*;
    use crate::rng::Rng;

    const LENGTH: usize = 75;

    fn suite(norm: Norm, eps: f32) -> AutoAttack {
        AutoAttack {
            norm,
            eps,
            steps: 2,
            queries: 30,
            target_classes: 3,
        }
    }

    /// A part as an attack of its own.
    fn part_alone(suite: &AutoAttack, part: Part) -> Attack {
        match part {
            Part::ApgdCe | Part::ApgdDlrTargeted => {
                Attack::Apgd(suite.apgd(part == Part::ApgdDlrTargeted))
            }
            Part::FabTargeted => Attack::Fab(suite.fab()),
            Part::Square => Attack::Square(suite.square()),
        }
    }

    fn run_alone(
        attack: Attack,
        eight_bit: bool,
        model: &mut TestModel,
        x: &[f32],
        criterion: &Criterion,
    ) -> (Vec<f32>, Vec<bool>) {
        let plan = Plan {
            attack,
            seed: 9,
            eight_bit,
            passes: 1,
        };
        let mut watch = |_: Step<'_>| {};
        let outcome =
            pollster::block_on(run(&plan, model, x, criterion, None, &mut watch)).unwrap();
        (outcome.pixels.clone(), outcome.success())
    }

    /// Through the plan, with the same seed: what a part brings down alone falls to the suite, and
    /// to the same pixels where that part was the first.
    #[test]
    fn no_part_alone_finds_what_the_suite_does_not() {
        let mut rng = Rng::from_seed(2);
        // How many images each part was the first to bring down; the last: those that stood.
        let mut firsts = [0; 5];
        for round in 0..72 {
            let norm = [Norm::Linf, Norm::L2, Norm::L1][round % 3];
            // Radii about which some images fall and some stand.
            let eps = [0.06, 0.4, 1.5][round % 3] * (0.3 + rng.uniform_f32());
            let mut model = TestModel::two_layer(&mut rng, [3, 5, 5], 12, 5);
            model.masked = round % 5 == 0;
            let x: Vec<f32> = (0..8).flat_map(|_| image(&mut rng, LENGTH)).collect();
            let mut classes: Vec<usize> = x.chunks(LENGTH).map(|x| model.class_of(x)).collect();
            // One image meets the criterion before: it shifts the numbers of the others.
            classes[2] = (classes[2] + 1) % 5;
            let criterion = Criterion::untargeted(classes);
            let eight_bit = round % 4 > 1;
            let suite = suite(norm, eps);
            let whole = Attack::AutoAttack(suite.clone());
            let (found, fell) = run_alone(whole, eight_bit, &mut model, &x, &criterion);
            let mut unexplained: Vec<usize> = (0..8).filter(|i| fell[*i] && *i != 2).collect();
            for (part, first) in Part::ALL.into_iter().zip(0..) {
                if part == Part::FabTargeted && eight_bit {
                    // Alone it has no ball to be rounded in.
                    continue;
                }
                let (alone, success) = run_alone(
                    part_alone(&suite, part),
                    eight_bit,
                    &mut model,
                    &x,
                    &criterion,
                );
                for i in 0..8 {
                    let at = i * LENGTH..(i + 1) * LENGTH;
                    let distance = norm.distance(&alone[at.clone()], &x[at.clone()]);
                    if !success[i] || distance > f64::from(eps) {
                        continue;
                    }
                    assert!(fell[i], "{part:?} alone brings down image {i}");
                    if unexplained.contains(&i) {
                        assert_eq!(alone[at.clone()], found[at], "{part:?}, image {i}");
                        unexplained.retain(|u| *u != i);
                        firsts[first] += 1;
                    }
                }
            }
            assert!(unexplained.is_empty() || eight_bit, "{unexplained:?}");
            firsts[4] += fell.iter().filter(|f| !**f).count();
        }
        assert!(firsts.iter().all(|n| *n > 0), "{firsts:?}");
    }

    /// Through the plan, which numbers the images as its caller does.
    #[test]
    fn the_outcome_says_which_part_brought_an_image_down() {
        let mut rng = Rng::from_seed(4);
        let mut model = TestModel::two_layer(&mut rng, [3, 5, 5], 12, 5);
        let x: Vec<f32> = (0..4).flat_map(|_| image(&mut rng, LENGTH)).collect();
        let mut classes: Vec<usize> = x.chunks(LENGTH).map(|x| model.class_of(x)).collect();
        classes[1] = (classes[1] + 1) % 5;
        let criterion = Criterion::untargeted(classes);
        let mut parts = |masked: bool, eps: f32| {
            model.masked = masked;
            let plan = Plan {
                attack: Attack::AutoAttack(suite(Norm::Linf, eps)),
                seed: 9,
                eight_bit: false,
                passes: 1,
            };
            pollster::block_on(run(&plan, &mut model, &x, &criterion, None, &mut |_| {}))
                .unwrap()
                .parts
        };
        // Nothing stands in so large a ball; the second image needs no attack.
        let first = Some(Part::ApgdCe);
        assert_eq!(parts(false, 0.5), [first, None, first, first]);
        assert_eq!(parts(false, 1e-6), [None; 4]);
        // Where gradients point the other way, another part brings them down.
        let masked = parts(true, 0.3);
        assert!(masked[1].is_none(), "{masked:?}");
        let others = [masked[0], masked[2], masked[3]];
        assert!(
            others
                .iter()
                .all(|part| part.is_some_and(|part| part != Part::ApgdCe)),
            "{masked:?}"
        );
    }

    #[test]
    fn an_image_that_fell_is_not_attacked_again() {
        let mut rng = Rng::from_seed(4);
        let mut model = TestModel::two_layer(&mut rng, [3, 5, 5], 12, 5);
        let x: Vec<f32> = (0..4).flat_map(|_| image(&mut rng, LENGTH)).collect();
        let criterion =
            Criterion::untargeted(x.chunks(LENGTH).map(|x| model.class_of(x)).collect());
        // Nothing stands in so large a ball.
        let suite = suite(Norm::Linf, 0.5);
        let count = |attack_: &Attack, model: &mut TestModel| {
            let before = model.forwards;
            let found = attack(model, attack_, &x, &criterion).unwrap();
            (model.forwards - before, found)
        };
        let (first, alone) = count(&part_alone(&suite, Part::ApgdCe), &mut model);
        let (whole, found) = count(&Attack::AutoAttack(suite), &mut model);
        assert_eq!(found, alone);
        assert_eq!(whole, first + 4, "one pass more an image, to judge");
    }

    /// A part that leaves the ball has not brought an image down, and which part did is told.
    #[test]
    fn results_out_of_the_ball_do_not_count() {
        let mut rng = Rng::from_seed(8);
        let mut model = TestModel::two_layer(&mut rng, [3, 5, 5], 12, 5);
        let x = image(&mut rng, LENGTH);
        let criterion = Criterion::untargeted(vec![model.class_of(&x)]);
        let suite = suite(Norm::Linf, 1e-5);
        let fab = attack(
            &mut model,
            &part_alone(&suite, Part::FabTargeted),
            &x,
            &criterion,
        )
        .unwrap();
        assert_ne!(
            model.class_of(&fab),
            criterion.classes[0],
            "FAB alone succeeds"
        );
        let mut watch = |_: Step<'_>| {};
        let mut context = Context::new(&mut model, 1, &mut watch, vec![0]);
        let found = suite.attack_by_parts(&mut context, &x, &criterion);
        let (found, parts) = pollster::block_on(found).unwrap();
        assert_eq!((found, parts), (x, vec![None]));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = AutoAttack::default();
        assert!(good.check(4, Aim::Untargeted).is_ok());
        assert!(good.check(3, Aim::Untargeted).is_err());
        assert!(good.check(4, Aim::Targeted).is_err());
        let wrong = |change: &dyn Fn(&mut AutoAttack)| {
            let mut suite = AutoAttack::default();
            change(&mut suite);
            assert!(suite.check(10, Aim::Untargeted).is_err(), "{suite:?}");
        };
        wrong(&|s| s.eps = f32::INFINITY);
        wrong(&|s| s.steps = 0);
        wrong(&|s| s.queries = 0);
        wrong(&|s| s.target_classes = 0);
    }
}
