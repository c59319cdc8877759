//! An alignment as a document: what is in a plan repeats the run.
//!
//! The page and `ventral align` read the same file. A key that is not there is refused by name.

use serde::{Deserialize, Serialize};

use super::fields::{self, FIELDS};
use super::loss::weights::Losses;
use crate::train::optimiser::{OptimiserConfig, OptimiserKind};
use crate::train::schedule::{ScheduleConfig, ScheduleKind};

/// The version of the document; an older program refuses a newer one.
pub const VERSION: u32 = 1;

/// Images of a part of a batch: CKA needs this many.
const LEAST_PART: usize = 4;

/// An alignment of one area of one model with one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    #[serde(default = "version")]
    pub version: u32,
    /// File name of the result, without extension.
    pub name: String,
    #[serde(default)]
    pub seed: u64,
    /// The model to start from, by catalog name or path.
    pub model: String,
    /// The tap that is aligned: an area by its name (`IT`), or a time step of it (`IT.t0`).
    #[serde(default = "it")]
    pub tap: String,
    /// What it is aligned with.
    pub target: Target,
    /// Which images.
    #[serde(default)]
    pub data: Data,
    #[serde(default)]
    pub losses: Losses,
    /// What replaces the target, for comparison. The page and the command line run the plan once
    /// without and once with each control they are asked for.
    #[serde(default, skip_serializing_if = "Control::is_none")]
    pub control: Control,
    /// Stages whose weights stay as they are: `V1`, `V2`, `layer1`, `decoder`. A VOneBlock always
    /// stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<String>,
    /// The images' classes in the place of the model's own, by a last layer drawn anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_head: bool,
    /// Steps of the optimiser, at least 1.
    pub steps: usize,
    /// Images a step, at least 4.
    pub batch: usize,
    /// Parts that a batch is passed in where memory is short. CKA is then the mean over parts.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub parts: usize,
    /// Longest gradient, in L2 over all parameters together; a longer one is scaled down to it.
    #[serde(default = "whole")]
    pub clip: f64,
    /// Mirror half of the images.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flip: bool,
    #[serde(default = "sgd")]
    pub optimiser: OptimiserConfig,
    #[serde(default = "gentle")]
    pub schedule: ScheduleConfig,
    #[serde(default)]
    pub validation: Validation,
}

/// What an area is aligned with: a matrix of responses, stimuli × neuroids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Recorded responses in a file: `.npy`, `.npz`, `.csv`, `.parquet`, HDF5 or NetCDF-4.
    Responses { file: String },
    /// The responses of another model's area.
    Model { model: String, tap: String },
    /// The pixels themselves: what any image code shares.
    Pixels,
    /// A synthetic population with known noise: random weighted sums of another model's area,
    /// rectified, as the rates of Poisson spike counts.
    Population {
        model: String,
        tap: String,
        #[serde(default = "Target::neuroids")]
        neuroids: usize,
        #[serde(default = "Target::repetitions")]
        repetitions: usize,
        /// Mean spikes of a neuroid in a presentation.
        #[serde(default = "Target::rate")]
        rate: f64,
    },
}

impl Target {
    /// Those of the IT data set of Majaj et al. 2015.
    fn neuroids() -> usize {
        fields::default("target.neuroids") as usize
    }

    fn repetitions() -> usize {
        fields::default("target.repetitions") as usize
    }

    fn rate() -> f64 {
        fields::default("target.rate")
    }

    /// The model whose responses it is made of, and the tap.
    pub fn model(&self) -> Option<(&str, &str)> {
        match self {
            Self::Model { model, tap } | Self::Population { model, tap, .. } => Some((model, tap)),
            Self::Responses { .. } | Self::Pixels => None,
        }
    }
}

/// Images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Labelled images: a shipped set by name, or a path. When empty, the shipped set with as many
    /// classes as the model.
    pub images: String,
    /// How many of them are stimuli, the classes taking turns; 0 for all. Accuracy is measured on
    /// the rest, which training never sees.
    pub stimuli: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            images: String::new(),
            stimuli: fields::default("data.stimuli") as usize,
        }
    }
}

/// What a run is compared with. Everything else of the plan stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    #[default]
    None,
    /// The stimuli of the target change places: the same responses, to the wrong images.
    Shuffled,
    /// Normal draws in the place of responses.
    Gaussian,
    /// No term looks at the target: the same fine-tuning without it.
    Unaligned,
}

impl Control {
    pub const ALL: [Self; 4] = [Self::None, Self::Shuffled, Self::Gaussian, Self::Unaligned];

    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The control that a plan writes so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|control| control.name() == name)
    }

    /// As it is written in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Shuffled => "shuffled",
            Self::Gaussian => "gaussian",
            Self::Unaligned => "unaligned",
        }
    }

    /// What a run with it is called.
    pub fn run(self) -> &'static str {
        match self {
            Self::None => "aligned",
            other => other.name(),
        }
    }
}

/// What is held out, and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Share of the stimuli that training does not see, of every class alike; 0 to below 1.
    pub stimuli: f64,
    /// Share of the neuroids that training does not see, 0 to below 1.
    pub neuroids: f64,
    /// Steps from one look to the next, at least 1.
    pub every: usize,
    /// Looks without a better similarity on held-out stimuli after which the run ends; 0 for never.
    pub patience: usize,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            stimuli: fields::default("validation.stimuli"),
            neuroids: fields::default("validation.neuroids"),
            every: fields::default("validation.every") as usize,
            patience: fields::default("validation.patience") as usize,
        }
    }
}

fn version() -> u32 {
    VERSION
}

fn it() -> String {
    "IT".to_owned()
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    fields::default("clip")
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

/// That of the published fine-tuning.
fn sgd() -> OptimiserConfig {
    OptimiserConfig {
        kind: OptimiserKind::Sgd,
        momentum: Some(0.9),
        betas: None,
        weight_decay: fields::default("optimiser.weight_decay") as f32,
    }
}

fn gentle() -> ScheduleConfig {
    ScheduleConfig {
        kind: ScheduleKind::OneCycle,
        peak: fields::default("schedule.peak"),
        warm_up: fields::default("schedule.warm_up"),
        milestones: Vec::new(),
        every: None,
        factor: None,
    }
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the plan cannot be read: {0}")]
    Read(String),
    #[error(
        "this plan is of version {0} and this program reads up to {VERSION}; a newer one is needed"
    )]
    Version(u32),
    #[error("{key} is {value}, and must be {range}")]
    Range {
        key: &'static str,
        value: String,
        range: String,
    },
    #[error("no term of the loss has a weight; give one under [losses]")]
    NoLoss,
}

impl Plan {
    /// Reads TOML, or JSON where the text begins with a brace, and checks it.
    ///
    /// # Errors
    /// [`PlanError`], with the key at fault.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let read = |e: String| PlanError::Read(e.trim().to_owned());
        let plan: Self = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|e| read(e.to_string()))?,
            false => toml::from_str(text).map_err(|e| read(e.to_string()))?,
        };
        plan.check()?;
        Ok(plan)
    }

    /// The models it names, once each: the one to align, then that of its target.
    pub fn models(&self) -> Vec<String> {
        let target = self.target.model().map(|(model, _)| model);
        let other = target.filter(|model| *model != self.model);
        let both = [Some(self.model.as_str()), other].into_iter().flatten();
        both.map(str::to_owned).collect()
    }

    /// # Errors
    /// A value out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.version > VERSION {
            return Err(PlanError::Version(self.version));
        }
        let parts = self.batch / self.parts.max(1);
        let l = &self.losses;
        self.check_numbers()?;
        if parts < LEAST_PART {
            return Err(PlanError::Range {
                key: "batch / parts",
                value: parts.to_string(),
                range: format!("at least {LEAST_PART}"),
            });
        }
        if self.new_head && l.distillation > 0.0 {
            return Err(PlanError::Range {
                key: "losses.distillation",
                value: l.distillation.to_string(),
                range: "0 with a new class head, which has no teacher".to_owned(),
            });
        }
        let terms = [
            l.cross_entropy,
            l.cka,
            l.similarity,
            l.harmonizer,
            l.distillation,
        ];
        match terms.iter().any(|weight| *weight > 0.0) {
            true => Ok(()),
            false => Err(PlanError::NoLoss),
        }
    }

    /// Looks every number up by its path in the document.
    fn check_numbers(&self) -> Result<(), PlanError> {
        let document = serde_json::to_value(self).map_err(|e| PlanError::Read(e.to_string()))?;
        for field in &FIELDS {
            let pointer = format!("/{}", field.key.replace('.', "/"));
            // What is left out has its default, or belongs to another kind of target.
            let Some(value) = document.pointer(&pointer) else {
                continue;
            };
            // JSON has no infinity and no NaN, and writes null for them.
            let value = value.as_f64().unwrap_or(f64::NAN);
            if !field.range.holds(value) {
                return Err(PlanError::Range {
                    key: field.key,
                    value: value.to_string(),
                    range: field.range.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The same run with another control.
    pub fn with_control(&self, control: Control) -> Self {
        let mut plan = self.clone();
        plan.control = control;
        if control == Control::Unaligned {
            plan.losses.cka = 0.0;
            plan.losses.similarity = 0.0;
        }
        plan
    }
}
