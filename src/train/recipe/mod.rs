//! A training run as a document: the same recipe gives the same run.
//!
//! Every key is declared once, with its range. An unknown key is refused by name, and so is a
//! combination that would not do what it says.

pub mod augmentation;
pub mod examples;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::augmentation::AugmentationConfig;
use self::examples::{AdversarialConfig, CorruptedConfig, ExamplesConfig, StylisedConfig};
use super::demand::Demand;
use super::optimiser::OptimiserConfig;
use super::schedule::ScheduleConfig;
use crate::model::bounds::ConfigError;
use crate::model::config::ModelConfig;

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
    /// Parts a batch is split into, each with its own batch statistics and its own thread.
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
    /// same model kept. The path is relative to the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<std::path::PathBuf>,
    /// Decay of the exponential moving average of the weights, 0 to 1; the average is then tested and
    /// exported. See [`ema_decay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Which epochs' states stay on the disk: a run can be resumed from these.
    #[serde(default, skip_serializing_if = "Keep::is_last")]
    pub keep: Keep,
    /// The composition of a batch.
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

/// The expected layout and classes of the user's data.
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

/// Which epochs' states stay on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeepValue", into = "KeepValue")]
pub enum Keep {
    #[default]
    Last,
    All,
    /// This many of the last, at least 1.
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

/// The written form: a word or a number.
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

impl Recipe {
    /// Reads a TOML document.
    ///
    /// # Errors
    /// A syntax error with its line; a value out of its range, by its key.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Side of the images outside of crops, px.
    pub fn side(&self) -> usize {
        self.data.side.unwrap_or(self.model.preprocessing.crop)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of its range, by its key.
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

#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("this is not a recipe: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the recipe asks for something impossible: {0}")]
    Value(&'static str),
    #[error(transparent)]
    Model(#[from] ConfigError),
}
