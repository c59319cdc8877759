//! A training run as a document: what is in a recipe repeats the run.

use serde::{Deserialize, Serialize};

use crate::model::config::{ConfigError, ModelConfig};

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
    pub model: ModelConfig,
}

fn one() -> usize {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `cifar10`.
    pub set: String,
}

/// Stochastic gradient descent with Nesterov momentum. Norms and biases are not decayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    pub momentum: f64,
    pub weight_decay: f32,
}

/// One cycle (Smith and Topin 2018): linear warm-up to the peak, linear descent to zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    pub peak: f64,
    /// Fraction of the run spent warming up, 0 to 1.
    pub warm_up: f64,
}

impl ScheduleConfig {
    /// The learning rate at `progress` in [0, 1] of the run.
    pub fn rate(&self, progress: f64) -> f64 {
        let rising = progress / self.warm_up.max(f64::EPSILON);
        let falling = (1.0 - progress) / (1.0 - self.warm_up).max(f64::EPSILON);
        self.peak * rising.min(falling).clamp(0.0, 1.0)
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

impl Recipe {
    /// Reads a TOML document.
    ///
    /// # Errors
    /// A sentence with the line, when it is not a recipe.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text)?;
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), RecipeError> {
        let wrong = |what| Err(RecipeError::Value(what));
        if self.epochs == 0 || self.batch == 0 {
            return wrong("epochs and batch must be at least 1");
        }
        if !(1..=self.batch).contains(&self.shards) {
            return wrong("shards must be at least 1 and at most the batch");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return wrong("label_smoothing must be at least 0 and below 1");
        }
        if !(0.0..1.0).contains(&self.schedule.warm_up) {
            return wrong("schedule.warm_up must be at least 0 and below 1");
        }
        if !(self.schedule.peak.is_finite() && self.schedule.peak > 0.0) {
            return wrong("schedule.peak must be above 0");
        }
        Ok(self.model.check()?)
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

    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = ScheduleConfig {
            peak: 0.4,
            warm_up: 0.25,
        };
        assert_eq!(schedule.rate(0.0), 0.0);
        assert!((schedule.rate(0.125) - 0.2).abs() < 1e-12);
        assert!((schedule.rate(0.25) - 0.4).abs() < 1e-12);
        assert!((schedule.rate(0.625) - 0.2).abs() < 1e-12);
        assert!(schedule.rate(1.0).abs() < 1e-12);
    }

    #[test]
    fn a_wrong_key_is_named() {
        let error = Recipe::parse("name = \"x\"\ncolour = 3").unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
