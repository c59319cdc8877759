//! A training run as a document: what is in a recipe repeats the run.
//!
//! Every key has one place below, with its range. A key that is not there is refused by name, and
//! so is a combination that would do something other than it says.

use serde::{Deserialize, Serialize};

use crate::model::bounds::ConfigError;
use crate::model::config::ModelConfig;
use crate::perturb::attack::descent::Descent;
use crate::perturb::attack::{Loss, Norm};
use crate::perturb::corruption::Corruption;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// File name of the result, without extension.
    pub name: String,
    /// As the picker shows it.
    pub title: String,
    pub seed: u64,
    pub data: DataConfig,
    pub epochs: usize,
    pub batch: usize,
    /// Parts a batch is cut into, each with batch statistics of its own, one thread each.
    #[serde(default = "one")]
    pub shards: usize,
    pub optimiser: OptimiserConfig,
    pub schedule: ScheduleConfig,
    pub augmentation: AugmentationConfig,
    /// Probability mass given to the other classes, 0 to 1.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Longest gradient, in L2 over all parameters together; a longer one is scaled down to it
    /// (Pascanu et al. 2013).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Weights to start from instead of random ones: a `weights-N.bpk` that another run of the
    /// same model kept. The path is taken from where the command runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<std::path::PathBuf>,
    /// Decay of the exponential moving average of the weights, 0 to 1: what is tested and exported
    /// is then the average. See [`ema_decay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Which epochs' states stay on the disk: a run can be taken up again from these.
    #[serde(default, skip_serializing_if = "Keep::is_last")]
    pub keep: Keep,
    /// What a batch is made of.
    #[serde(default, skip_serializing_if = "ExamplesConfig::is_clean")]
    pub examples: ExamplesConfig,
    /// How the adversarial examples are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialConfig>,
    /// How the corrupted examples are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<CorruptedConfig>,
    /// How the stylised examples are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stylised: Option<StylisedConfig>,
    pub model: ModelConfig,
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    pub set: DataSet,
    /// Only these classes, by WordNet id, folder or name; all when empty. Their labels are in the
    /// order of the set, whatever the order here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Side of the images, px; `model.preprocessing.crop` unless given, and equal to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
}

/// Which layout and which classes are expected in what the user points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSet {
    Cifar10,
    TinyImagenet,
    /// Any folder or archive of class folders.
    Folder,
}

impl DataSet {
    /// As it is written in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::TinyImagenet => "tiny-imagenet",
            Self::Folder => "folder",
        }
    }
}

/// How gradients become steps. Norms and biases are not decayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    #[serde(default)]
    pub kind: OptimiserKind,
    /// SGD only, 0 to 1; 0.9 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// AdamW only: decays of the first and second moment, each 0 to 1; 0.9 and 0.999 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f32; 2]>,
    /// At least 0. In SGD part of the gradient; in AdamW a shrinking of the weights by itself, in
    /// proportion to the rate.
    pub weight_decay: f32,
}

impl OptimiserConfig {
    /// The momentum of SGD.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(0.9)
    }

    /// The decays of AdamW.
    pub fn betas(&self) -> [f32; 2] {
        self.betas.unwrap_or([0.9, 0.999])
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013).
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), ε 1e-8.
    Adamw,
}

/// The learning rate over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    #[serde(default)]
    pub kind: ScheduleKind,
    /// The highest rate, above 0.
    pub peak: f64,
    /// Fraction of the run spent warming up, at least 0 and below 1.
    #[serde(default)]
    pub warm_up: f64,
    /// Step only: fractions of the run, ascending, at each of which the rate drops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<f64>,
    /// Step only: instead of milestones, a drop every so many epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// Step only: what a drop multiplies the rate by, above 0 and below 1; 0.1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// One cycle (Smith and Topin 2018): linear warm-up to the peak, linear descent to zero.
    #[default]
    OneCycle,
    /// The peak, less by a factor at every milestone.
    Step,
}

impl ScheduleConfig {
    /// The learning rate at `progress` in [0, 1] of a run of `epochs`.
    pub fn rate(&self, progress: f64, epochs: usize) -> f64 {
        let rising = progress / self.warm_up.max(f64::EPSILON);
        match self.kind {
            ScheduleKind::OneCycle => {
                let falling = (1.0 - progress) / (1.0 - self.warm_up).max(f64::EPSILON);
                self.peak * rising.min(falling).clamp(0.0, 1.0)
            }
            ScheduleKind::Step => {
                let warm = if self.warm_up > 0.0 {
                    rising.min(1.0)
                } else {
                    1.0
                };
                let drops = self.drops(progress, epochs);
                self.peak * warm * self.factor.unwrap_or(0.1).powi(drops as i32)
            }
        }
    }

    fn drops(&self, progress: f64, epochs: usize) -> usize {
        // The progress of an epoch's first step is a quotient, perhaps a hair below its value.
        let reached = progress + 1e-9;
        match self.every {
            Some(every) => (reached * epochs as f64) as usize / every.max(1),
            None => self.milestones.iter().filter(|m| **m <= reached).count(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentationConfig {
    /// Mirror half of the images.
    pub flip: bool,
    /// Shift by up to this many pixels each way, mirrored at the border.
    pub shift: usize,
    /// Begin on crops, which are cheaper and vary more; end on whole images.
    #[serde(default)]
    pub crops: Option<CropsConfig>,
    /// Side, px, of a square set to the mean in every image, its centre anywhere in the image
    /// (Cutout, DeVries and Taylor 2017); 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub erase: usize,
    /// α of the Beta distribution by which pairs of clean images, and their labels, are averaged
    /// (Zhang et al. 2018), above 0. With `cutmix` too, each batch takes one or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// α of the Beta distribution of the area that stays when a rectangle is replaced by another
    /// clean image's (Yun et al. 2019), above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
}

/// Random square crops for the first part of a run. Networks that pool globally take any size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropsConfig {
    /// Side, px.
    pub side: usize,
    /// Fraction of the run that is trained on crops, 0 to 1.
    pub until: f64,
}

/// Shares of every batch, each 0 to 1, together 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamplesConfig {
    #[serde(default)]
    pub clean: f64,
    /// As `[adversarial]` says.
    #[serde(default)]
    pub adversarial: f64,
    /// As `[corrupted]` says.
    #[serde(default)]
    pub corrupted: f64,
    /// As `[stylised]` says.
    #[serde(default)]
    pub stylised: f64,
}

impl Default for ExamplesConfig {
    fn default() -> Self {
        Self {
            clean: 1.0,
            adversarial: 0.0,
            corrupted: 0.0,
            stylised: 0.0,
        }
    }
}

impl ExamplesConfig {
    fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// In the order of a batch: clean, corrupted, stylised, adversarial.
    pub fn shares(&self) -> [f64; 4] {
        [self.clean, self.corrupted, self.stylised, self.adversarial]
    }
}

/// Adversarial training (Madry et al. 2018). Unless told otherwise it is the fast kind, one step
/// from a random point (Wong, Rice and Kolter 2020).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialConfig {
    #[serde(default)]
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1]; 8/255 is 0.03137.
    pub eps: f32,
    /// At least 1.
    #[serde(default = "one")]
    pub steps: usize,
    /// Step length as a fraction of `eps`.
    #[serde(default = "AdversarialConfig::fast_step")]
    pub rel_step: f32,
    /// Start from a random point of the ball.
    #[serde(default = "AdversarialConfig::fast_start")]
    pub random_start: bool,
    #[serde(default)]
    pub loss: Loss,
    /// What batch norms go by while an example is made.
    #[serde(default)]
    pub statistics: Statistics,
}

/// What batch norms go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// The statistics of the attacked images, as in training; so did Wong et al. The running ones
    /// do not move.
    #[default]
    Batch,
    /// The running ones, as in use.
    Running,
}

impl AdversarialConfig {
    fn fast_step() -> f32 {
        1.25
    }

    fn fast_start() -> bool {
        true
    }

    /// The attack, as the rest of the program knows it.
    pub fn descent(&self) -> Descent {
        Descent {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            rel_step: self.rel_step,
            random_start: self.random_start,
            momentum: 0.0,
            quantile: None,
            loss: self.loss,
        }
    }
}

/// The common corruptions (Hendrycks and Dietterich 2019), each image with one of the kinds at one
/// of the severities, all with the same chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorruptedConfig {
    /// The four outside the benchmark unless given: training on the others would spoil a
    /// measurement by them.
    pub kinds: Vec<Corruption>,
    /// Each 1 to 5; all five unless given.
    pub severities: Vec<u8>,
}

impl Default for CorruptedConfig {
    fn default() -> Self {
        let extra = Corruption::ALL.into_iter().filter(|c| c.is_extra());
        Self {
            kinds: extra.collect(),
            severities: vec![1, 2, 3, 4, 5],
        }
    }
}

/// Fourier amplitude mixing (Xu et al. 2021): the amplitude spectrum, which carries colour and
/// texture, moves towards that of another image of the set, and the phase, which carries shape,
/// stays. It needs no second set of images. It is not Stylized-ImageNet (Geirhos et al. 2019),
/// whose images are painted anew by a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StylisedConfig {
    /// The most that a spectrum moves, 0 to 1; each image draws its own between 0 and this.
    #[serde(default = "whole")]
    pub strength: f64,
}

impl Default for StylisedConfig {
    fn default() -> Self {
        Self { strength: 1.0 }
    }
}

/// Which epochs' states stay on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeepValue", into = "KeepValue")]
pub enum Keep {
    #[default]
    Last,
    All,
    /// The last so many, at least 1.
    Newest(usize),
}

impl Keep {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }

    /// How many states stay; `None` for all.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Last => Some(1),
            Self::All => None,
            Self::Newest(n) => Some(n.max(1)),
        }
    }
}

/// As it is written: a word or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KeepValue {
    Count(i64),
    Word(String),
}

impl TryFrom<KeepValue> for Keep {
    type Error = &'static str;

    fn try_from(value: KeepValue) -> Result<Self, Self::Error> {
        match value {
            KeepValue::Word(word) if word == "last" => Ok(Self::Last),
            KeepValue::Word(word) if word == "all" => Ok(Self::All),
            KeepValue::Count(n) if n >= 1 => Ok(Self::Newest(n as usize)),
            _ => Err("keep must be \"last\", \"all\" or a number of epochs, at least 1"),
        }
    }
}

impl From<Keep> for KeepValue {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::Last => Self::Word("last".to_owned()),
            Keep::All => Self::Word("all".to_owned()),
            Keep::Newest(n) => Self::Count(i64::try_from(n).unwrap_or(i64::MAX)),
        }
    }
}

/// The decay of the moving average at step `step` (from 0) of a run whose recipe says `decay`. It
/// starts low and approaches that, so that the first weights are soon forgotten; TensorFlow's
/// moving average ramps up alike.
pub fn ema_decay(decay: f64, step: usize) -> f64 {
    decay.min((1 + step) as f64 / (10 + step) as f64)
}

/// A demand on a recipe, and what to say where it is not met.
type Demand = (bool, &'static str);

impl Recipe {
    /// Reads a TOML document.
    ///
    /// # Errors
    /// A sentence with the line, when it is not a recipe; one that names the key, when it asks for
    /// something impossible.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Side of the images outside of crops, px.
    pub fn side(&self) -> usize {
        self.data.side.unwrap_or(self.model.preprocessing.crop)
    }

    /// Whether nothing impossible is asked for.
    ///
    /// # Errors
    /// The first thing that is, by its key.
    pub fn check(&self) -> Result<(), RecipeError> {
        let demands = [
            self.run_demands(),
            self.optimiser.demands(),
            self.schedule.demands(),
            self.augmentation.demands(),
            self.example_demands(),
        ];
        let broken = demands.into_iter().flatten().find(|(met, _)| !met);
        match broken {
            Some((_, sentence)) => Err(RecipeError::Value(sentence)),
            None => Ok(self.model.check()?),
        }
    }

    fn run_demands(&self) -> Vec<Demand> {
        let is_above_0 = |v: f64| v.is_finite() && v > 0.0;
        vec![
            (
                self.epochs > 0 && self.batch > 0,
                "epochs and batch must be at least 1",
            ),
            (
                (1..=self.batch.max(1)).contains(&self.shards),
                "shards must be at least 1 and at most the batch",
            ),
            (
                (0.0..1.0).contains(&self.label_smoothing),
                "label_smoothing must be at least 0 and below 1",
            ),
            (self.clip.is_none_or(is_above_0), "clip must be above 0"),
            (
                self.ema.is_none_or(|d| (0.0..1.0).contains(&d)),
                "ema must be at least 0 and below 1",
            ),
            (
                self.side() == self.model.preprocessing.crop,
                "data.side must equal model.preprocessing.crop, the size the model is shown later",
            ),
        ]
    }

    fn example_demands(&self) -> Vec<Demand> {
        let e = &self.examples;
        let mut demands = vec![
            (
                e.shares().iter().all(|s| (0.0..=1.0).contains(s)),
                "every share of examples must be from 0 to 1",
            ),
            (
                (e.shares().iter().sum::<f64>() - 1.0).abs() < 1e-6,
                "the shares of examples must sum to 1",
            ),
            (
                (e.adversarial > 0.0) == self.adversarial.is_some(),
                "examples.adversarial above 0 and [adversarial], with its eps, belong together",
            ),
            (
                e.corrupted > 0.0 || self.corrupted.is_none(),
                "[corrupted] does nothing while examples.corrupted is 0",
            ),
            (
                e.stylised > 0.0 || self.stylised.is_none(),
                "[stylised] does nothing while examples.stylised is 0",
            ),
        ];
        if let Some(attack) = &self.adversarial {
            demands.extend(attack.demands(self.model.classes));
        }
        if let Some(corrupted) = &self.corrupted {
            let severities = &corrupted.severities;
            demands.push((
                !corrupted.kinds.is_empty() && !severities.is_empty(),
                "corrupted.kinds and corrupted.severities must not be empty",
            ));
            demands.push((
                severities.iter().all(|s| (1..=5).contains(s)),
                "corrupted.severities go from 1 to 5",
            ));
        }
        if let Some(stylised) = &self.stylised {
            demands.push((
                (0.0..=1.0).contains(&stylised.strength),
                "stylised.strength must be from 0 to 1",
            ));
        }
        demands
    }
}

impl OptimiserConfig {
    fn demands(&self) -> Vec<Demand> {
        let is_sgd = self.kind == OptimiserKind::Sgd;
        vec![
            (
                is_sgd || self.momentum.is_none(),
                "optimiser.momentum belongs to sgd; adamw has betas",
            ),
            (
                !is_sgd || self.betas.is_none(),
                "optimiser.betas belong to adamw; sgd has a momentum",
            ),
            (
                (0.0..1.0).contains(&self.momentum()),
                "optimiser.momentum must be at least 0 and below 1",
            ),
            (
                self.betas().iter().all(|b| (0.0..1.0).contains(b)),
                "optimiser.betas must be at least 0 and below 1",
            ),
            (
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
                "optimiser.weight_decay must be at least 0",
            ),
        ]
    }
}

impl ScheduleConfig {
    fn demands(&self) -> Vec<Demand> {
        let is_step = self.kind == ScheduleKind::Step;
        let has_steps = !self.milestones.is_empty() || self.every.is_some();
        vec![
            (
                (0.0..1.0).contains(&self.warm_up),
                "schedule.warm_up must be at least 0 and below 1",
            ),
            (
                self.peak.is_finite() && self.peak > 0.0,
                "schedule.peak must be above 0",
            ),
            (
                is_step || !(has_steps || self.factor.is_some()),
                "schedule.milestones, every and factor belong to kind = \"step\"",
            ),
            (
                !is_step || self.milestones.is_empty() == self.every.is_some(),
                "a step schedule has either milestones or every",
            ),
            (
                self.milestones.iter().all(|m| (0.0..=1.0).contains(m)),
                "schedule.milestones are fractions of the run, from 0 to 1",
            ),
            (
                self.milestones.is_sorted(),
                "schedule.milestones must ascend",
            ),
            (self.every != Some(0), "schedule.every must be at least 1"),
            (
                self.factor.is_none_or(|f| f > 0.0 && f < 1.0),
                "schedule.factor must be above 0 and below 1",
            ),
        ]
    }
}

impl AugmentationConfig {
    fn demands(&self) -> Vec<Demand> {
        let is_alpha = |a: f64| a.is_finite() && a > 0.0;
        vec![
            (
                self.crops.is_none_or(|c| c.side > 0),
                "augmentation.crops.side must be at least 1",
            ),
            (
                self.mixup.is_none_or(is_alpha),
                "augmentation.mixup must be above 0",
            ),
            (
                self.cutmix.is_none_or(is_alpha),
                "augmentation.cutmix must be above 0",
            ),
        ]
    }
}

impl AdversarialConfig {
    fn demands(&self, classes: usize) -> Vec<Demand> {
        let is_above_0 = |v: f32| v.is_finite() && v > 0.0;
        vec![
            (is_above_0(self.eps), "adversarial.eps must be above 0"),
            (self.steps > 0, "adversarial.steps must be at least 1"),
            (
                is_above_0(self.rel_step),
                "adversarial.rel_step must be above 0",
            ),
            (
                classes
                    >= self
                        .loss
                        .least_classes(crate::perturb::attack::Aim::Untargeted),
                "adversarial.loss needs more classes than the model has",
            ),
        ]
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("this is not a recipe: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the recipe asks for something impossible: {0}")]
    Value(&'static str),
    #[error(transparent)]
    Model(#[from] ConfigError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cost::multiply_adds;

    fn schedule(kind: ScheduleKind) -> ScheduleConfig {
        ScheduleConfig {
            kind,
            peak: 0.4,
            warm_up: 0.0,
            milestones: Vec::new(),
            every: None,
            factor: None,
        }
    }

    fn assert_rates(schedule: &ScheduleConfig, epochs: usize, table: &[(f64, f64)]) {
        for (progress, rate) in table {
            let ours = schedule.rate(*progress, epochs);
            assert!((ours - rate).abs() < 1e-12, "{progress}: {ours}");
        }
    }

    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = ScheduleConfig {
            warm_up: 0.25,
            ..schedule(ScheduleKind::OneCycle)
        };
        let table = [
            (0.0, 0.0),
            (0.125, 0.2),
            (0.25, 0.4),
            (0.625, 0.2),
            (1.0, 0.0),
        ];
        assert_rates(&schedule, 20, &table);
    }

    #[test]
    fn steps_drop_at_milestones_or_every_so_many_epochs() {
        let milestones = ScheduleConfig {
            warm_up: 0.1,
            milestones: vec![0.5, 0.75],
            factor: Some(0.5),
            ..schedule(ScheduleKind::Step)
        };
        let table = [
            (0.0, 0.0),
            (0.05, 0.2),
            (0.1, 0.4),
            (0.4999, 0.4),
            (0.5, 0.2),
            (0.75, 0.1),
            (1.0, 0.1),
        ];
        assert_rates(&milestones, 20, &table);
        let every = ScheduleConfig {
            every: Some(20),
            ..schedule(ScheduleKind::Step)
        };
        // 70 epochs of 3 steps: the rate of a VOneNet's run.
        for epoch in 0..70 {
            let progress = f64::from(3 * epoch) / 210.0;
            let wanted = 0.4 * 0.1_f64.powi(epoch / 20);
            let ours = every.rate(progress, 70);
            assert!((ours - wanted).abs() < 1e-12, "epoch {epoch}: {ours}");
        }
    }

    const RECIPE: &str = "name = \"x\"\ntitle = \"X\"\nseed = 0\nepochs = 2\nbatch = 4\n#top\n\
        [data]\nset = \"cifar10\"\n#data\n\
        [optimiser]\nweight_decay = 5e-4\n#optimiser\n\
        [schedule]\npeak = 0.1\nwarm_up = 0.1\n#schedule\n\
        [augmentation]\nflip = true\nshift = 4\n#augmentation\n\
        [model]\nclasses = 10\n\
        [model.preprocessing]\nresize = 32\ncrop = 32\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n\
        [model.body.small-cnn]\nwidths = [4, 8]\ninput = 32\n";

    /// The recipe with `line` where the comment `place` stands.
    fn with(place: &str, line: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&RECIPE.replace(&format!("#{place}\n"), &format!("{line}\n")))
    }

    #[test]
    fn a_plain_recipe_has_every_default() {
        let recipe = Recipe::parse(RECIPE).expect("it is whole");
        assert_eq!(recipe.optimiser.kind, OptimiserKind::Sgd);
        assert_eq!(recipe.optimiser.momentum(), 0.9);
        assert_eq!(recipe.schedule.kind, ScheduleKind::OneCycle);
        assert_eq!(recipe.examples.shares(), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!((recipe.keep, recipe.shards), (Keep::Last, 1));
        assert_eq!((recipe.side(), recipe.ema, recipe.clip), (32, None, None));
        // What is not asked for is not written down.
        let written = toml::to_string(&recipe).expect("it is text");
        for key in ["ema", "examples", "keep", "erase", "milestones"] {
            assert!(!written.contains(key), "{key} in\n{written}");
        }
    }

    #[test]
    fn every_key_is_read_and_written_back() {
        let lines = [
            ("top", "clip = 1.0"),
            ("top", "ema = 0.999"),
            ("top", "keep = \"all\""),
            ("top", "keep = 3"),
            ("top", "examples = { clean = 0.75, stylised = 0.25 }"),
            (
                "top",
                "examples = { clean = 0.5, adversarial = 0.25, corrupted = 0.25 }\n\
                 adversarial = { eps = 0.03, norm = \"l2\", steps = 3, statistics = \"running\" }\n\
                 corrupted = { kinds = [\"fog\"], severities = [1, 3] }",
            ),
            ("data", "side = 32\nclasses = [\"cat\", \"dog\"]"),
            ("optimiser", "kind = \"adamw\"\nbetas = [0.9, 0.95]"),
            ("optimiser", "momentum = 0.8"),
            ("schedule", "kind = \"step\"\nevery = 1\nfactor = 0.2"),
            ("schedule", "kind = \"step\"\nmilestones = [0.5, 0.75]"),
            ("augmentation", "erase = 8\nmixup = 0.2\ncutmix = 1.0"),
        ];
        for (place, line) in lines {
            let recipe = with(place, line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_ne!(
                recipe,
                Recipe::parse(RECIPE).expect("it is whole"),
                "{line}"
            );
            let written = toml::to_string(&recipe).expect("it is text");
            assert_eq!(Recipe::parse(&written).expect("its own text"), recipe);
        }
    }

    #[test]
    fn a_wrong_recipe_says_what_is_wrong() {
        let table = [
            ("top", "colour = 3", "colour"),
            ("top", "clip = 0.0", "clip must be above 0"),
            ("top", "ema = 1.0", "ema must be"),
            ("top", "keep = \"some\"", "keep must be"),
            ("top", "keep = 0", "keep must be"),
            ("top", "shards = 5", "shards must be"),
            ("top", "examples = { clean = 0.5 }", "sum to 1"),
            ("top", "examples = { pure = 1.0 }", "pure"),
            (
                "top",
                "examples = { clean = 1.5, corrupted = -0.5 }",
                "from 0 to 1",
            ),
            ("top", "examples = { adversarial = 1.0 }", "[adversarial]"),
            ("top", "adversarial = { eps = 0.1 }", "[adversarial]"),
            (
                "top",
                "examples = { adversarial = 1.0 }\nadversarial = { steps = 3 }",
                "eps",
            ),
            (
                "top",
                "examples = { adversarial = 1.0 }\nadversarial = { eps = -1.0 }",
                "adversarial.eps must be",
            ),
            ("top", "corrupted = {}", "[corrupted] does nothing"),
            (
                "top",
                "examples = { corrupted = 1.0 }\ncorrupted = { severities = [6] }",
                "1 to 5",
            ),
            (
                "top",
                "examples = { corrupted = 1.0 }\ncorrupted = { kinds = [\"rain\"] }",
                "rain",
            ),
            ("top", "stylised = { strength = 0.5 }", "[stylised]"),
            ("data", "side = 64", "data.side must equal"),
            ("data", "sides = 64", "sides"),
            ("optimiser", "kind = \"adam\"", "adam"),
            ("optimiser", "betas = [0.9, 0.99]", "betas belong to adamw"),
            (
                "optimiser",
                "kind = \"adamw\"\nmomentum = 0.9",
                "momentum belongs to sgd",
            ),
            ("schedule", "factor = 0.1", "belong to kind"),
            ("schedule", "kind = \"step\"", "either milestones or every"),
            (
                "schedule",
                "kind = \"step\"\nevery = 2\nmilestones = [0.5]",
                "either milestones or every",
            ),
            (
                "schedule",
                "kind = \"step\"\nmilestones = [0.5, 0.2]",
                "ascend",
            ),
            ("schedule", "kind = \"cosine\"", "cosine"),
            ("augmentation", "mixup = 0.0", "mixup must be"),
            ("augmentation", "rotate = 3", "rotate"),
        ];
        for (place, line, wanted) in table {
            let error = with(place, line).expect_err(line).to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }

    /// Every recipe of the repository is one, and the networks that are compared with each other
    /// cost alike. `--nocapture` shows what each costs.
    #[test]
    fn the_recipes_of_the_repository_are_possible_and_cost_alike() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut compared: [Vec<Recipe>; 2] = [Vec::new(), Vec::new()];
        for entry in std::fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it can be read").path();
            let text = std::fs::read_to_string(&path).expect("it is text");
            let recipe = Recipe::parse(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            let name = path.file_stem().and_then(|stem| stem.to_str());
            assert_eq!(name, Some(recipe.name.as_str()));
            let cost = multiply_adds(&recipe.model, recipe.side()) as f64 / 1e6;
            println!(
                "{:24} {cost:5.1} million multiply-adds an image",
                recipe.name
            );
            // CORnet-S takes its steps in time: the page's first model and the one at 64 px are
            // larger than the rest of the zoo, and trained at a lower rate.
            if !recipe.name.starts_with("cornet-s") {
                assert!((20.0..30.0).contains(&cost), "{}: {cost}", recipe.name);
                compared[usize::from(recipe.data.set == DataSet::TinyImagenet)].push(recipe);
            }
        }
        assert_eq!(compared.each_ref().map(Vec::len), [7, 2]);
        for pair in compared.iter().flat_map(|recipes| recipes.windows(2)) {
            let how = |r: &Recipe| {
                let (schedule, augmentation) = (r.schedule.clone(), r.augmentation);
                (
                    r.epochs,
                    r.batch,
                    r.optimiser.clone(),
                    schedule,
                    augmentation,
                )
            };
            assert_eq!(how(&pair[0]), how(&pair[1]));
        }
    }

    #[test]
    fn the_average_forgets_the_first_weights() {
        assert_eq!(ema_decay(0.999, 0), 0.1);
        assert_eq!(ema_decay(0.999, 90), 0.91);
        assert_eq!(ema_decay(0.999, 100_000), 0.999);
        assert_eq!(ema_decay(0.0, 7), 0.0);
    }
}
