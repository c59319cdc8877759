//! Models written down as a formula, to test attacks on, and the rules that every attack from
//! decisions or scores keeps.

use super::context::{Context, Step};
use super::criterion::{Aim, Criterion};
use super::error::AttackError;
use super::norm::Norm;
use super::oracle::{Oracle, Pullback};
use super::registry::Attack;
use crate::rng::Rng;

/// Logits of one image.
pub type Formula<'a> = dyn Fn(&[f32]) -> Vec<f32> + 'a;

/// A formula as a model. It has no gradient, and says so when asked.
pub struct Model<'a> {
    pub shape: [usize; 3],
    pub classes: usize,
    pub formula: &'a Formula<'a>,
    /// Images asked about so far.
    pub asked: usize,
    /// Passes until the user cancels.
    pub patience: usize,
    /// Answers at random, half of the time the other way round.
    pub coin: Option<Rng>,
}

impl<'a> Model<'a> {
    pub fn new(shape: [usize; 3], classes: usize, formula: &'a Formula) -> Self {
        Self {
            shape,
            classes,
            formula,
            asked: 0,
            patience: usize::MAX,
            coin: None,
        }
    }
}

impl Oracle for Model<'_> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn is_stochastic(&self) -> bool {
        self.coin.is_some()
    }

    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError> {
        if self.patience == 0 {
            return Err(AttackError::Cancelled);
        }
        self.patience -= 1;
        assert!(
            pixels.iter().all(|v| (0.0..=1.0).contains(v)),
            "asked outside the box"
        );
        let images = pixels.chunks_exact(self.image_len());
        self.asked += images.len();
        let mut logits = Vec::new();
        for image in images {
            let mut row = (self.formula)(image);
            if self.coin.as_mut().is_some_and(|coin| coin.below(2) == 0) {
                row.reverse();
            }
            logits.extend(row);
        }
        Ok(logits)
    }

    async fn gradient(
        &mut self,
        _: &[f32],
        _: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        Err(AttackError::NoGradient)
    }
}

/// The attack alone, without what a plan adds.
pub fn attack_with(
    attack: &Attack,
    model: &mut Model<'_>,
    pixels: &[f32],
    criterion: &Criterion,
    seed: u64,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<f32>, AttackError> {
    let images = (0..criterion.classes.len()).collect();
    let mut context = Context::new(model, seed, watch, images);
    pollster::block_on(attack.attack(&mut context, pixels, criterion))
}

pub fn attack(
    attack: &Attack,
    model: &mut Model<'_>,
    pixels: &[f32],
    criterion: &Criterion,
) -> Vec<f32> {
    attack_with(attack, model, pixels, criterion, 1, &mut |_| {}).unwrap()
}

/// A model of two classes that the attack can be successful with.
pub struct Rules {
    pub shape: [usize; 3],
    pub formula: Box<Formula<'static>>,
    /// Of class 0.
    pub open: Vec<f32>,
    /// Of class 1.
    pub met: Vec<f32>,
    /// Whether the attack draws random numbers.
    pub random: bool,
}

impl Rules {
    fn model(&self) -> Model<'_> {
        Model::new(self.shape, 2, &self.formula)
    }

    /// An image to attack, one that is not, and one to attack.
    fn batch(&self) -> Vec<f32> {
        [&self.open[..], &self.met, &self.open].concat()
    }
}

/// Checks what holds for every attack from decisions or scores.
pub fn follows_the_rules(attack: &Attack, rules: &Rules) {
    let (length, batch) = (rules.open.len(), rules.batch());
    for criterion in [
        Criterion::untargeted(vec![0; 3]),
        Criterion::targeted(vec![1; 3]),
    ] {
        let mut told = 0;
        let mut watch = |step: Step<'_>| {
            told += 1;
            assert!((1..=step.steps).contains(&step.step), "{step:?}");
            assert!(!step.images.is_empty() && !step.images.contains(&1));
            assert_eq!(step.pixels.len(), step.images.len() * length);
            assert_eq!(step.logits.len(), step.images.len() * 2);
        };
        let mut run = |seed| {
            let model = &mut rules.model();
            attack_with(attack, model, &batch, &criterion, seed, &mut watch).unwrap()
        };
        let found = run(1);
        let same_bits = |a: &[f32], b: &[f32]| {
            let mut pairs = a.iter().zip(b);
            pairs.all(|(a, b)| a.to_bits() == b.to_bits())
        };
        assert!(same_bits(&found, &run(1)), "a seed repeats to the bit");
        // Towards a class it may start from an image instead of noise, and end at the same optimum.
        let draws = rules.random && criterion.aim == Aim::Untargeted;
        assert!(!draws || found != run(2), "seeds differ");
        assert!(found.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(same_bits(&found[length..2 * length], &rules.met));
        assert!(told > 0);
        for image in [&found[..length], &found[2 * length..]] {
            assert!(
                criterion.is_met(0, &(rules.formula)(image)),
                "{criterion:?}"
            );
            if let Some((norm, eps)) = attack.ball() {
                assert!(norm.distance(image, &rules.open) <= f64::from(eps));
            }
        }
    }
    passes_a_cancel_on(attack, rules);
    ends_without_a_success(attack, rules);
}

fn passes_a_cancel_on(attack: &Attack, rules: &Rules) {
    let (batch, criterion) = (rules.batch(), Criterion::untargeted(vec![0; 3]));
    for patience in 0..3 {
        let mut model = Model {
            patience,
            // Never satisfied, so that it would go on.
            formula: &|_| vec![1.0, 0.0],
            ..rules.model()
        };
        let stopped = attack_with(attack, &mut model, &batch, &criterion, 1, &mut |_| {});
        assert_eq!(
            stopped,
            Err(AttackError::Cancelled),
            "after {patience} passes"
        );
    }
}

fn ends_without_a_success(attack: &Attack, rules: &Rules) {
    let (batch, criterion) = (rules.batch(), Criterion::untargeted(vec![0; 3]));
    let mut silent = |_: Step<'_>| {};
    for constant in [1.0, f32::NAN] {
        let formula = move |_: &[f32]| vec![constant, 0.0];
        let mut model = Model {
            formula: &formula,
            ..rules.model()
        };
        let found = attack_with(attack, &mut model, &batch, &criterion, 1, &mut silent).unwrap();
        assert_eq!(found, batch, "no success, no change");
    }
    let mut fickle = Model {
        coin: Some(Rng::from_seed(3)),
        ..rules.model()
    };
    let found = attack_with(attack, &mut fickle, &batch, &criterion, 1, &mut silent).unwrap();
    assert!(found.iter().all(|v| (0.0..=1.0).contains(v)));
    let nothing = Criterion::untargeted(Vec::new());
    let found = attack_with(attack, &mut rules.model(), &[], &nothing, 1, &mut silent);
    assert_eq!(found, Ok(Vec::new()));
}

/// A step, as one who watches sees it.
pub struct Reported {
    pub step: usize,
    pub distance: f64,
    /// Whether its pixels are of class 1.
    pub met: bool,
}

/// Class 1 on one side of a plane, 0 on the other.
pub struct Linear {
    pub shape: [usize; 3],
    pub weights: Vec<f32>,
    pub bias: f32,
    /// Of class 0, far from the edges of the box.
    pub images: [Vec<f32>; 2],
}

impl Default for Linear {
    fn default() -> Self {
        let mut rng = Rng::from_seed(11);
        let shape = [3, 4, 4];
        let length = shape.iter().product();
        let weights: Vec<f32> = (0..length).map(|_| rng.normal_f32()).collect();
        let size = Norm::L2.of(weights.iter().map(|w| f64::from(*w)));
        let mut image = || {
            (0..length)
                .map(|_| 0.45 + 0.1 * rng.uniform_f32())
                .collect()
        };
        Self {
            shape,
            images: [image(), image()],
            weights,
            bias: -0.3 * size as f32,
        }
    }
}

impl Linear {
    pub fn rise(&self, image: &[f32]) -> f32 {
        let terms = image.iter().zip(&self.weights);
        terms.map(|(x, w)| (x - 0.5) * w).sum::<f32>() + self.bias
    }

    /// What it takes to get to the plane.
    pub fn least(&self, image: &[f32], norm: Norm) -> f64 {
        let dual = match norm {
            Norm::Linf => Norm::L1,
            Norm::L2 => Norm::L2,
            Norm::L1 => Norm::Linf,
        };
        let slope = dual.of(self.weights.iter().map(|w| f64::from(*w)));
        f64::from(self.rise(image)).abs() / slope
    }

    fn formula(&self) -> impl Fn(&[f32]) -> Vec<f32> + 'static {
        let (weights, bias) = (self.weights.clone(), self.bias);
        let linear = Self {
            weights,
            bias,
            images: self.images.clone(),
            ..*self
        };
        move |image| vec![0.0, linear.rise(image)]
    }

    pub fn rules(&self) -> Rules {
        let far = |(x, w): (&f32, &f32)| (x + 0.2 * w.signum()).clamp(0.0, 1.0);
        Rules {
            shape: self.shape,
            formula: Box::new(self.formula()),
            met: self.images[1].iter().zip(&self.weights).map(far).collect(),
            open: self.images[0].clone(),
            random: true,
        }
    }

    /// For each image, how many times the smallest perturbation the attack's is, and the queries
    /// it took.
    pub fn distances(&self, attack: &Attack, norm: Norm) -> Vec<(f64, usize)> {
        let formula = self.formula();
        let each = |image: &Vec<f32>| {
            let mut model = Model::new(self.shape, 2, &formula);
            let found = self::attack(attack, &mut model, image, &Criterion::untargeted(vec![0]));
            assert!(self.rise(&found) > 0.0, "no success");
            let ratio = norm.distance(&found, image) / self.least(image, norm);
            (ratio, model.asked)
        };
        self.images.iter().map(each).collect()
    }

    /// What every step tells, for the first image.
    pub fn record(&self, attack: &Attack, norm: Norm) -> Vec<Reported> {
        let (formula, image) = (self.formula(), &self.images[0]);
        let mut model = Model::new(self.shape, 2, &formula);
        let mut record = Vec::new();
        let mut watch = |step: Step<'_>| {
            record.push(Reported {
                step: step.step,
                distance: norm.distance(step.pixels, image),
                met: self.rise(step.pixels) > 0.0,
            });
        };
        let criterion = Criterion::untargeted(vec![0]);
        attack_with(attack, &mut model, image, &criterion, 1, &mut watch).unwrap();
        record
    }
}
