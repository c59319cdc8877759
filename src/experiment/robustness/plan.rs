//! What is to be measured, as a document.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fields::MOST_IMAGES;
use super::summary::{Action, ConditionSummary, Group};
use crate::perturb::attack::registry::{self, Attack, AttackInfo, Family, RegistryError};
use crate::perturb::attack::settings::{ValueError, parse_radius};
use crate::perturb::attack::{Norm, Setting, Settings};
use crate::perturb::corruption::Corruption;

/// The version of the document this program writes and reads.
pub const VERSION: u32 = 1;

/// The most models and seeds a plan may name.
const MOST_MODELS: usize = 64;

/// A robustness test.
///
/// Clean images are always tested; they need no entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    pub version: u32,
    /// For people; it heads the report.
    pub name: String,
    /// By their names in the catalog, or paths of checkpoints.
    #[serde(default)]
    pub models: Vec<String>,
    /// A shipped set by its name, or the path of one; the command line's `--data` comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Images, the set's classes taking turns. A set with fewer is used whole.
    pub images: usize,
    /// Everything random is drawn once for each seed.
    #[serde(default = "seed_0")]
    pub seeds: Vec<u64>,
    /// Images of a unit: they are attacked together, and what is drawn for them follows from the
    /// number of the first.
    #[serde(default = "fifty")]
    pub batch: usize,
    /// Passes that judge an image of a stochastic model, each with fresh noise (n).
    #[serde(default = "ten")]
    pub passes: usize,
    /// Passes a gradient of a stochastic model is averaged over (k): expectation over
    /// transformation, Athalye et al. 2018.
    #[serde(default = "ten")]
    pub eot: usize,
    /// The model whose errors those of the others are divided by for the mCE; the first unless
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Which class of the models a class of the set is, by name or number, where it is not the one
    /// of its own name; left out where that is "".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corruptions: Vec<Corruptions>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attacks: Vec<Attacks>,
}

fn seed_0() -> Vec<u64> {
    vec![0]
}

fn ten() -> usize {
    10
}

fn fifty() -> usize {
    50
}

/// Corruptions at severities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Corruptions {
    /// As published: `gaussian_noise`. None named: the fifteen of the benchmark.
    #[serde(default)]
    pub kinds: Vec<Corruption>,
    /// 1 to 5.
    #[serde(default = "every_severity")]
    pub severities: Vec<u8>,
}

fn every_severity() -> Vec<u8> {
    vec![1, 2, 3, 4, 5]
}

/// An attack, at radii where it takes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attacks {
    /// Its name, as `ventral attack --help` lists them.
    pub attack: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eps: Vec<Radius>,
    /// Side in px of the images the radii are meant for. On others they are scaled by the number of
    /// pixels: L2 by its root, L1 by itself, L∞ not at all. Not scaled unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
    /// How many of the radii, the weakest first, count for the white-box mean; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_mean: Option<usize>,
    /// The others it takes: `steps`, `rel-step`, ….
    #[serde(flatten)]
    pub settings: Settings,
}

/// A radius as it was written: `8/255` stays that in the tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Radius {
    text: String,
    value: f32,
}

impl Radius {
    /// In the norm of pixels in [0, 1].
    pub fn value(&self) -> f32 {
        self.value
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for Radius {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self {
            value: parse_radius(text)?,
            text: text.trim().to_owned(),
        })
    }
}

impl From<Radius> for String {
    fn from(radius: Radius) -> Self {
        radius.text
    }
}

/// What may stand for a radius in a document.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(f64),
}

impl TryFrom<Written> for Radius {
    type Error = ValueError;

    fn try_from(written: Written) -> Result<Self, ValueError> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Number(number) => number.to_string().parse(),
        }
    }
}

/// Why a plan cannot be followed. Every message is a sentence for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("this is no robustness plan: {0}")]
    Format(String),
    #[error("the plan has version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("the plan needs {what}")]
    Missing { what: &'static str },
    #[error("the plan asks for {count} {what}; {most} are the most")]
    TooMany {
        what: &'static str,
        count: usize,
        most: usize,
    },
    #[error("the plan names {what} “{name}” twice")]
    Twice { what: &'static str, name: String },
    #[error("the severity is {0}; it goes from 1 to 5")]
    Severity(u8),
    #[error("the reference “{0}” is not one of the plan's models")]
    Reference(String),
    #[error("a plan's radii must be larger than 0; clean images are tested anyway")]
    NoRadius,
    #[error(transparent)]
    Attack(#[from] RegistryError),
    #[error("the plan's condition “{condition}” does not fit the model “{model}”: {cause}")]
    Unfit {
        model: String,
        condition: String,
        cause: String,
    },
}

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Treatment<'a> {
    Clean,
    Corruption {
        corruption: Corruption,
        severity: u8,
    },
    Attack {
        attacks: &'a Attacks,
        named: &'static AttackInfo,
        norm: Option<Norm>,
        radius: Option<&'a Radius>,
        in_mean: bool,
    },
}

/// One way to treat images: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition<'a> {
    pub treatment: Treatment<'a>,
}

impl<'a> Condition<'a> {
    /// Its name in rows and tables: `clean`, `gaussian_noise 3`, `pgd linf 8/255`, `deepfool l2`.
    pub fn name(&self) -> String {
        match self.treatment {
            Treatment::Clean => "clean".to_owned(),
            Treatment::Corruption {
                corruption,
                severity,
            } => format!("{corruption} {severity}"),
            Treatment::Attack {
                named,
                norm,
                radius,
                ..
            } => {
                let norm = norm.map_or("", Norm::word);
                let radius = radius.map_or("", Radius::text);
                let words = [named.name, norm, radius];
                let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
                words.join(" ")
            }
        }
    }

    /// What it shares with others of its kind, for people: "Fog", "PGD, L∞".
    pub fn title(&self) -> String {
        match self.treatment {
            Treatment::Clean => "Clean".to_owned(),
            Treatment::Corruption { corruption, .. } => corruption.title().to_owned(),
            Treatment::Attack { named, norm, .. } => {
                let norm = norm.map_or(String::new(), |norm| format!(", {}", norm.title()));
                format!("{}{norm}", named.title)
            }
        }
    }

    /// Its strength as it is written: "3", "8/255"; nothing where it has none.
    pub fn strength(&self) -> String {
        match self.treatment {
            Treatment::Corruption { severity, .. } => severity.to_string(),
            Treatment::Attack { radius, .. } => {
                radius.map_or(String::new(), |r| r.text().to_owned())
            }
            Treatment::Clean => String::new(),
        }
    }

    /// Its strength as a number, for an axis; 0 where it has none.
    pub fn value(&self) -> f32 {
        match self.treatment {
            Treatment::Corruption { severity, .. } => f32::from(severity),
            Treatment::Attack { radius, .. } => radius.map_or(0.0, Radius::value),
            Treatment::Clean => 0.0,
        }
    }

    /// What a chart needs of it.
    pub fn summary(&self) -> ConditionSummary {
        ConditionSummary {
            name: self.name(),
            title: self.title(),
            strength: self.strength(),
            value: self.value(),
            corruption: matches!(self.treatment, Treatment::Corruption { .. }),
        }
    }

    /// What it does to an image of `side` px, so that it can be repeated.
    pub fn action(&self, side: usize) -> Action {
        match self.treatment {
            Treatment::Corruption {
                corruption,
                severity,
            } => Action::Corruption(corruption, severity),
            _ => match self.named(side) {
                Some((named, options)) => Action::Attack(named.name.to_owned(), options),
                None => Action::None,
            },
        }
    }

    pub fn group(&self) -> Group {
        match self.treatment {
            Treatment::Clean => Group::Clean,
            Treatment::Corruption { corruption, .. } => Group::Corruption(corruption.category()),
            Treatment::Attack { named, .. } => match named.family {
                Family::Bounded => Group::WhiteBox,
                Family::Minimal => Group::Minimal,
                Family::BlackBox | Family::Blind if radius_free(named) => Group::Minimal,
                Family::BlackBox | Family::Blind => Group::BlackBox,
            },
        }
    }

    /// Whether it counts for its group's mean.
    pub fn in_mean(&self) -> bool {
        match self.treatment {
            Treatment::Clean => true,
            Treatment::Corruption { corruption, .. } => !corruption.is_extra(),
            Treatment::Attack { in_mean, .. } => in_mean,
        }
    }

    /// The attack for images of `side` px; `None` where there is none.
    ///
    /// # Errors
    /// [`PlanError::Attack`]: settings it does not take.
    pub fn attack(&self, side: usize) -> Result<Option<Attack>, PlanError> {
        match self.named(side) {
            Some((named, settings)) => Ok(Some(named.attack(&settings)?)),
            None => Ok(None),
        }
    }

    /// The attack by its name, and what is set of it, for images of `side` px.
    pub fn named(&self, side: usize) -> Option<(&'static AttackInfo, Settings)> {
        let Treatment::Attack {
            attacks,
            named,
            norm,
            radius,
            ..
        } = self.treatment
        else {
            return None;
        };
        let scale = scale(norm.unwrap_or_default(), attacks.side, side);
        let mut settings = attacks.settings.clone();
        settings.norm = norm;
        if let Some(radius) = radius {
            let eps = (f64::from(radius.value) * scale) as f32;
            settings.set(Setting::Eps, f64::from(eps));
        }
        Some((named, settings))
    }

    /// A guess at what an image costs, in forward passes of a model that repeats itself. A
    /// backward pass costs two.
    pub fn cost(&self, plan: &Plan, stochastic: bool) -> f64 {
        let (eot, passes) = match stochastic {
            true => (plan.eot.max(1) as f64, plan.passes.max(1) as f64),
            false => (1.0, 1.0),
        };
        let Treatment::Attack { attacks, named, .. } = self.treatment else {
            return passes;
        };
        let given = |setting| attacks.settings.get(setting);
        let steps = given(Setting::Steps).or(named.usual(Setting::Steps));
        let steps = steps.unwrap_or(1.0);
        let restarts = given(Setting::Restarts).unwrap_or(1.0).max(1.0);
        let queries = match named.takes(Setting::Queries) {
            true => given(Setting::Queries).unwrap_or(1000.0),
            false => 0.0,
        };
        let gradients = match named.family {
            Family::Bounded | Family::Minimal => 3.0 * eot * steps * restarts,
            Family::BlackBox | Family::Blind => 0.0,
        };
        2.0 * passes + gradients + queries
    }
}

fn radius_free(named: &AttackInfo) -> bool {
    !named.takes(Setting::Eps)
}

/// What a radius meant for images of `from` px is multiplied by on images of `to` px.
fn scale(norm: Norm, from: Option<usize>, to: usize) -> f64 {
    let sides = from.map_or(1.0, |from| to as f64 / from.max(1) as f64);
    match norm {
        Norm::Linf => 1.0,
        Norm::L2 => sides,
        Norm::L1 => sides * sides,
    }
}

/// A unit of a run: a few images, in one condition, by one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Index into the plan's models.
    pub model: usize,
    pub seed: u64,
    /// Index into [`Plan::conditions`].
    pub condition: usize,
    /// The number of its first image.
    pub first: usize,
    pub images: usize,
}

impl Plan {
    /// The same for one model on so many images, as an alignment puts its networks through it.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn for_model(mut self, model: &str, images: usize) -> Result<Self, PlanError> {
        self.models = vec![model.to_owned()];
        self.reference = None;
        self.images = images;
        self.check()?;
        Ok(self)
    }

    /// Reads a plan from TOML or JSON and checks it.
    ///
    /// # Errors
    /// A [`PlanError`] that names what is wrong.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let json = text.trim_start().starts_with('{');
        let plan: Self = match json {
            true => serde_json::from_str(text).map_err(|e| PlanError::Format(e.to_string()))?,
            false => from_toml(text)?,
        };
        plan.check()?;
        Ok(plan)
    }

    /// # Errors
    /// A [`PlanError`] that names what is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.version != VERSION {
            return Err(PlanError::Version(self.version));
        }
        let present = [
            (self.images > 0, "at least one image"),
            (self.batch > 0, "a batch of at least one image"),
            (!self.seeds.is_empty(), "at least one seed"),
            (self.passes > 0, "at least one pass"),
            (self.passes <= 10_000, "at most 10,000 passes"),
            (self.eot > 0, "at least one sample a gradient (eot)"),
        ];
        if let Some((_, what)) = present.into_iter().find(|(there, _)| !there) {
            return Err(PlanError::Missing { what });
        }
        let counts = [
            ("images", self.images, MOST_IMAGES),
            ("models", self.models.len(), MOST_MODELS),
            ("seeds", self.seeds.len(), MOST_MODELS),
        ];
        if let Some((what, count, most)) = counts.into_iter().find(|(_, n, most)| n > most) {
            return Err(PlanError::TooMany { what, count, most });
        }
        once("the model", self.models.iter().cloned())?;
        once("the seed", self.seeds.iter().map(u64::to_string))?;
        if let Some(reference) = &self.reference
            && !self.models.contains(reference)
        {
            return Err(PlanError::Reference(reference.clone()));
        }
        let severities = self.corruptions.iter().flat_map(|c| &c.severities);
        if let Some(severity) = severities.copied().find(|s| !(1..=5).contains(s)) {
            return Err(PlanError::Severity(severity));
        }
        let conditions = self.conditions()?;
        once("the condition", conditions.iter().map(Condition::name))
    }

    /// Every condition once, the clean one first.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn conditions(&self) -> Result<Vec<Condition<'_>>, PlanError> {
        let mut treatments = vec![Treatment::Clean];
        for corruptions in &self.corruptions {
            let kinds = match corruptions.kinds.is_empty() {
                true => &Corruption::BENCHMARK[..],
                false => &corruptions.kinds,
            };
            for corruption in kinds.iter().copied() {
                let severities = corruptions.severities.iter().copied();
                treatments.extend(severities.map(|severity| Treatment::Corruption {
                    corruption,
                    severity,
                }));
            }
        }
        for attacks in &self.attacks {
            treatments.extend(attacks.treatments()?);
        }
        let condition = |treatment| Condition { treatment };
        Ok(treatments.into_iter().map(condition).collect())
    }

    /// The units of the whole run in the order that shows most soonest: the first images in every
    /// condition and by every model, then the next ones. `images` is how many the set has.
    pub fn batches(&self, conditions: usize, images: usize) -> Vec<Batch> {
        let images = self.images.min(images);
        let mut batches = Vec::new();
        for first in (0..images).step_by(self.batch.max(1)) {
            for seed in self.seeds.iter().copied() {
                for condition in 0..conditions {
                    batches.extend((0..self.models.len()).map(|model| Batch {
                        model,
                        seed,
                        condition,
                        first,
                        images: self.batch.min(images - first),
                    }));
                }
            }
        }
        batches
    }
}

impl Attacks {
    fn treatments(&self) -> Result<Vec<Treatment<'_>>, PlanError> {
        let named =
            registry::find(&self.attack).ok_or_else(|| RegistryError::unknown(&self.attack))?;
        let norm = self.norm.or(named.norms.first().copied());
        let treatment = |radius, in_mean| Treatment::Attack {
            attacks: self,
            named,
            norm,
            radius,
            in_mean,
        };
        if radius_free(named) && self.eps.is_empty() {
            return Ok(vec![treatment(None, false)]);
        }
        if self.eps.is_empty() {
            return Err(RegistryError::NoRadius(named).into());
        }
        if radius_free(named) {
            return Err(RegistryError::NotTaken(named, "eps").into());
        }
        if self.eps.iter().any(|r| r.value <= 0.0) {
            return Err(PlanError::NoRadius);
        }
        let mut weakest: Vec<f32> = self.eps.iter().map(Radius::value).collect();
        weakest.sort_by(f32::total_cmp);
        let last = self.in_mean.unwrap_or(weakest.len()).min(weakest.len());
        let limit = match last {
            0 => 0.0,
            last => weakest[last - 1],
        };
        let radii = self.eps.iter();
        Ok(radii
            .map(|r| treatment(Some(r), r.value <= limit))
            .collect())
    }
}

fn once(what: &'static str, names: impl Iterator<Item = String>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(PlanError::Twice { what, name });
        }
    }
    Ok(())
}

impl Plan {
    /// The document that repeats this plan, as TOML; as JSON where TOML cannot say it (a seed above
    /// its largest number) or this build does not write it.
    pub fn document(&self) -> String {
        #[cfg(feature = "plans")]
        if let Ok(text) = toml::to_string_pretty(self) {
            return text;
        }
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(feature = "plans")]
fn from_toml(text: &str) -> Result<Plan, PlanError> {
    toml::from_str(text).map_err(|e| PlanError::Format(e.to_string()))
}

#[cfg(not(feature = "plans"))]
fn from_toml(_: &str) -> Result<Plan, PlanError> {
    Err(PlanError::Format("it does not begin with “{”".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturb::corruption::Category;

    fn with(lines: &str) -> Result<Plan, PlanError> {
        Plan::parse(&format!(
            "version = 1\nname = \"x\"\nmodels = [\"a\"]\nimages = 10\n{lines}"
        ))
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("seeds = []", "at least one seed"),
            ("seeds = [1, 1]", "the seed “1” twice"),
            ("batch = 0", "a batch of at least one image"),
            ("reference = \"b\"", "“b” is not one of"),
            ("[[corruptions]]\nseverities = [6]", "from 1 to 5"),
            (
                "[[corruptions]]\n[[corruptions]]",
                "“gaussian_noise 1” twice",
            ),
            (
                "[[corruptions]]\nkinds = [\"blur\"]",
                "unknown variant `blur`",
            ),
            ("[[attacks]]\nattack = \"pdg\"", "no attack `pdg`"),
            ("[[attacks]]\nattack = \"pgd\"", "needs a radius"),
            (
                "[[attacks]]\nattack = \"pgd\"\neps = [\"8:255\"]",
                "is no radius",
            ),
            ("[[attacks]]\nattack = \"pgd\"\neps = [0]", "larger than 0"),
            (
                "[[attacks]]\nattack = \"deepfool\"\neps = [1]",
                "takes no eps",
            ),
            (
                "[[attacks]]\nattack = \"pgd\"\neps = [1]\nstep = 3",
                "unknown field `step`",
            ),
        ];
        for (lines, said) in table {
            let error = with(lines).expect_err(lines).to_string();
            assert!(error.contains(said), "{lines}: {error}");
        }
        let other = Plan::parse("{\"version\": 2, \"name\": \"x\", \"images\": 1}");
        assert_eq!(other, Err(PlanError::Version(2)));
    }

    #[test]
    fn radii_are_scaled_by_the_number_of_pixels() {
        let text = "[[attacks]]\nattack = \"pgd\"\nnorm = \"NORM\"\neps = [\"0.5\"]\nside = 224";
        let table = [("linf", 0.5), ("l2", 0.5 / 7.0), ("l1", 0.5 / 49.0)];
        for (norm, expected) in table {
            let plan = with(&text.replace("NORM", norm)).expect(norm);
            let conditions = plan.conditions().expect(norm);
            let attack = conditions[1].attack(32).expect(norm).expect("an attack");
            let (_, eps) = attack.ball().expect("a radius");
            assert!((eps - expected).abs() < 1e-7, "{norm}: {eps}");
            let (_, same) = conditions[1]
                .attack(224)
                .expect(norm)
                .expect("an attack")
                .ball()
                .expect("a radius");
            assert_eq!(same, 0.5);
        }
    }

    #[test]
    fn conditions_have_names_and_groups() {
        let plan = with(
            "[[corruptions]]\nkinds = [\"fog\"]\nseverities = [3]\n\
             [[attacks]]\nattack = \"pgd\"\neps = [\"8/255\", 0.5]\n\
             [[attacks]]\nattack = \"square\"\neps = [\"8/255\"]\n\
             [[attacks]]\nattack = \"boundary\"\n[[attacks]]\nattack = \"one-pixel\"",
        )
        .expect("it is sound");
        let found: Vec<_> = plan
            .conditions()
            .expect("it is sound")
            .iter()
            .map(|c| (c.name(), c.group()))
            .collect();
        let expected = [
            ("clean", Group::Clean),
            ("fog 3", Group::Corruption(Category::Weather)),
            ("pgd linf 8/255", Group::WhiteBox),
            ("pgd linf 0.5", Group::WhiteBox),
            ("square linf 8/255", Group::BlackBox),
            ("boundary l2", Group::Minimal),
            ("one-pixel", Group::Minimal),
        ];
        assert_eq!(
            found,
            expected.map(|(name, group)| (name.to_owned(), group))
        );
    }
}
