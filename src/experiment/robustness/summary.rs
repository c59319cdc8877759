//! What a robustness report shows, as plain data: it compiles without a tensor library.

use serde::{Deserialize, Serialize};

use crate::model::catalog::Measured;
use crate::perturb::attack::Settings;
use crate::perturb::corruption::{Category, Corruption};

/// A plan that is asked for by name, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    /// In a list.
    pub title: &'static str,
    /// What it measures, in a list.
    pub description: &'static str,
    /// What heads its reports, with the paper.
    pub heading: &'static str,
}

/// All presets, the quickest first.
// A static: there is one of each, where a constant may be copied.
pub static PRESETS: [Preset; 6] = [
    Preset {
        name: "quick",
        title: "Quick look",
        description: "Four corruptions and short PGD on 100 images",
        heading: "Quick look: four corruptions and short PGD",
    },
    Preset {
        name: "vonenet",
        title: "VOneNet protocol",
        description: "PGD in L∞, L2 and L1, and 15 corruptions at 5 severities (Dapello, Marques et al. 2020)",
        heading: "White box and corruption means of VOneNet (Dapello, Marques et al. 2020)",
    },
    Preset {
        name: "corruptions",
        title: "Common corruptions",
        description: "15 corruptions at 5 severities and their mCE (Hendrycks and Dietterich 2019)",
        heading: "mCE over fifteen corruptions at five severities (Hendrycks and Dietterich 2019)",
    },
    Preset {
        name: "autoattack",
        title: "AutoAttack",
        description: "The standard ensemble in L∞ 8/255 and L2 0.5 (Croce and Hein 2020)",
        heading: "AutoAttack, standard (Croce and Hein 2020)",
    },
    Preset {
        name: "curve",
        title: "Accuracy against ε",
        description: "PGD in L∞ and L2 at fifteen radii",
        heading: "Accuracy against ε under PGD in L∞ and L2",
    },
    Preset {
        name: "minimal",
        title: "Smallest perturbations",
        description: "DeepFool, FMN and the Boundary attack",
        heading: "Smallest perturbations: DeepFool, FMN and the Boundary attack",
    },
];

/// The columns that conditions are gathered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    Clean,
    Corruption(Category),
    /// Gradients within a radius.
    WhiteBox,
    /// The smallest perturbation: there is no accuracy to it, only sizes.
    Minimal,
    /// Scores, decisions, noise and geometry.
    BlackBox,
}

/// What a model came to in one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub condition: String,
    pub group: Group,
    pub in_mean: bool,
    /// How often a single pass is right: the mean over the passes of a stochastic model and over the
    /// seeds. Wilson's interval, of as many trials as there are images, each once whatever the
    /// number of seeds.
    pub accuracy: Measured,
    /// Of the perturbations that succeeded, among the images that were right when clean: half of
    /// these images fall to one of at most this size, in the attack's norm (L2 where it has none).
    /// `None` where fewer than half fall at all.
    pub median_size: Option<f64>,
    /// How far each area moved ([`Row::areas`]), the mean over the images that were looked into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<(String, f64)>,
}

/// A model's line of the summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub name: String,
    pub cells: Vec<Cell>,
    pub clean: Option<Measured>,
    /// Mean over the white-box conditions that count for it.
    pub white_box: Option<Measured>,
    /// Mean over the corruptions of the benchmark at the severities of the plan.
    pub corruption: Option<Measured>,
    /// Mean of white box and corruption.
    pub perturbation: Option<f64>,
    /// Mean of perturbation and clean.
    pub overall: Option<f64>,
    /// Mean corruption error relative to the reference, 1 for the reference itself.
    pub mce: Option<f64>,
}

/// Two models on the same images (McNemar, exact, of the first seed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub condition: String,
    pub model: String,
    pub reference: String,
    /// Images that only the model gets right in most passes.
    pub only_model: usize,
    /// Images that only the reference does.
    pub only_reference: usize,
    pub p: f64,
}

impl ModelReport {
    /// The accuracy in a condition.
    pub fn accuracy(&self, condition: &str) -> Option<Measured> {
        let found = self.cells.iter().find(|cell| cell.condition == condition);
        found.map(|cell| cell.accuracy)
    }
}

/// A condition of a report, as a chart needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConditionSummary {
    pub name: String,
    /// What it shares with others of its kind: "Fog", "PGD, L∞".
    pub title: String,
    /// The strength as it is written: "3", "8/255".
    pub strength: String,
    /// As a number, for an axis.
    pub value: f32,
    /// One of the corruptions, which make a map rather than a curve.
    pub corruption: bool,
}

/// What a condition does to an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    None,
    /// With its severity, 1 to 5.
    Corruption(Corruption, u8),
    /// By name, with what is set of it.
    Attack(String, Settings),
}

/// An image that a model gets wrong more often than others, and the mildest condition in which it
/// does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FragileImage {
    /// Its number in the set, as the plan uses it.
    pub image: u32,
    pub label: String,
    pub prediction: String,
    pub condition: String,
    /// What that condition does to it.
    pub action: Action,
    /// Conditions, each with each seed, in which most passes are wrong, and how many there are.
    pub wrong: usize,
    pub of: usize,
    /// The clean image as the model takes it, as a PNG file; empty without the set.
    pub png: serde_bytes::ByteBuf,
}
