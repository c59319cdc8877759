//! Which network a set of names and shapes is.
//!
//! The family comes from the names, the sizes from the shapes of a few tensors, and the rest from
//! the settings of the training script or the published models. Then the list of all tensors such a
//! network has is compared with the file's, so that what is missing, left over or misshapen is found
//! and named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounds::{ConfigError, SettingError, check_setting};
use super::checkpoint::{Value, name_some};
use super::config::{ModelConfig, Preprocessing};
use super::family::reading::{Gap, Reading, Shapes};
use super::family::vone::{BODY_PREFIX, VOneConfig};
use super::family::{BodyConfig, FAMILIES, Row};
use super::trace::TensorSpec;
use crate::archive::shorten;

/// The flag (metadata of a safetensors file) under which this project's own files keep their
/// [`ModelConfig`] as JSON. It is believed where it fits the tensors.
pub const CONFIG_KEY: &str = "config";

/// A recognised network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognised {
    /// As a user knows it, the depth of a ResNet included: "CORnet-S", "VOneResNet-50".
    pub name: String,
    /// All sizes and settings. The tensors in the file fit it exactly.
    pub config: ModelConfig,
    /// Weights and biases, the fixed filters of a VOneBlock included; running statistics are not
    /// counted.
    pub parameters: u64,
    /// Tensors of the file that the network has no use for.
    pub dropped: Vec<String>,
    /// Sentences for the user: what was dropped or assumed, and why.
    pub remarks: Vec<String>,
}

/// Why the network is not recognised; `Display` is one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecogniseError {
    /// The names are those of no network this program has.
    #[error(
        "this is no network that this program knows: its {count} tensors are {found}, and the nearest network, {nearest}, would also need {missing}"
    )]
    Unknown {
        count: usize,
        found: String,
        nearest: String,
        missing: String,
    },
    /// One of the known networks, incomplete.
    #[error("this looks like {family}, but {names} {} missing", if *.count == 1 { "is" } else { "are" })]
    Missing {
        family: String,
        names: String,
        count: usize,
    },
    /// A tensor that contradicts the others.
    #[error(
        "this looks like {family}, but the tensor `{name}` has the shape {found:?} where {expected} was expected"
    )]
    Shape {
        family: String,
        name: String,
        expected: String,
        found: Vec<usize>,
    },
    /// Tensors that the network would not use: it would compute something else.
    #[error("this looks like {family}, but it also holds {names}, which {family} does not have")]
    Extra { family: String, names: String },
    /// A flag that no network can have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A size that no network can have.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A family, alone or behind a VOneBlock.
#[derive(Clone, Copy)]
struct Candidate {
    row: &'static Row,
    behind_vone: bool,
}

/// The plain ones first.
fn candidates() -> impl Iterator<Item = Candidate> {
    [false, true].into_iter().flat_map(|behind_vone| {
        let rows = FAMILIES.iter();
        let rows = rows.filter(move |row| !behind_vone || (row.behind_vone)().is_some());
        rows.map(move |row| Candidate { row, behind_vone })
    })
}

/// The families that are recognised, as a user knows them.
pub fn family_names() -> Vec<String> {
    candidates().map(|family| family.to_string()).collect()
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vone = if self.behind_vone { "VOne" } else { "" };
        write!(f, "{vone}{}", (self.row.name)())
    }
}

impl Candidate {
    /// The tensors of the published network, for their names.
    fn official(self) -> Vec<TensorSpec> {
        let behind_vone = self.behind_vone.then(self.row.behind_vone).flatten();
        ModelConfig {
            front: behind_vone.is_some().then(VOneConfig::official),
            body: behind_vone.unwrap_or_else(self.row.official),
            classes: 1000,
            preprocessing: Preprocessing::imagenet(),
        }
        .tensors()
    }

    /// # Errors
    /// A tensor that is missing or has an impossible shape.
    fn read(self, file: &mut Reading) -> Result<ModelConfig, Gap> {
        let front = match self.behind_vone {
            true => Some(VOneConfig::read(file)?),
            false => None,
        };
        if let Some(front) = &front {
            file.prefix = BODY_PREFIX;
            file.behind = Some(front.bottleneck);
        }
        let (body, classes) = (self.row.read)(file)?;
        let preprocessing = preprocessing(file, &body);
        Ok(ModelConfig {
            body,
            front,
            classes,
            preprocessing,
        })
    }
}

/// What happens to an image before the network. VOneNets have a mean and deviation of 0.5.
fn preprocessing(file: &Reading, body: &BodyConfig) -> Preprocessing {
    let sides = body.family().sides(file.behind.is_some());
    if sides.start() == sides.end() {
        return Preprocessing {
            resize: *sides.start(),
            crop: *sides.start(),
            ..Preprocessing::imagenet()
        };
    }
    let is_vonenet = match file.text("normalization") {
        Some("vonenet") => true,
        Some("imagenet") => false,
        _ => file.behind.is_some(),
    };
    let published = match is_vonenet {
        true => Preprocessing::vonenet(),
        false => Preprocessing::imagenet(),
    };
    match file.size("image_size") {
        Some(crop) => Preprocessing {
            // The same margin as torchvision leaves: 256 to 224.
            resize: crop.saturating_mul(8).saturating_add(3) / 7,
            crop,
            ..published
        },
        None => published,
    }
}

/// Says which network tensors of these names (without `module.`) and shapes make up.
///
/// `flags` are a checkpoint's settings; the published models' are assumed where it has none.
/// `file_name` decides what nothing else tells: CORnet-R or -RT, with noise or without.
///
/// # Errors
/// An unknown network, or a known one that is incomplete, contradictory, or mixed with another.
pub fn recognise(
    shapes: &Shapes,
    flags: &BTreeMap<String, Value>,
    file_name: &str,
) -> Result<Recognised, RecogniseError> {
    let family = nearest(shapes)?;
    let mut file = Reading {
        shapes,
        flags,
        name: &file_name.to_lowercase().replace('-', "_"),
        prefix: "",
        behind: None,
        remarks: Vec::new(),
    };
    let mut config = family
        .read(&mut file)
        .map_err(|gap| explain(gap, family, shapes))?;
    check(&config)?;
    let mut remarks = file.remarks;
    if let Some(description) = own_description(flags) {
        match fitting(description, &config) {
            Some(own) => {
                config = own;
                // Nothing had to be assumed.
                remarks.clear();
            }
            None => remarks.push(
                "The file's own description of the network does not fit its tensors and was not used."
                    .to_owned(),
            ),
        }
    }
    let tensors = config.tensors();
    compare(&tensors, shapes, family)?;
    let dropped = left_over(&tensors, shapes, family)?;
    if !dropped.is_empty() {
        let names = name_some(dropped.iter().map(String::as_str));
        remarks.push(format!(
            "Left out, for the network does not use it: {names}."
        ));
    }
    let parameters = tensors.iter().filter(|tensor| !tensor.is_buffer());
    Ok(Recognised {
        name: config.label(),
        // The shapes are those of tensors that are in a file.
        parameters: parameters.map(TensorSpec::elements).sum(),
        config,
        dropped,
        remarks,
    })
}

/// Refuses numbers that no network can have, before anything is allocated or divided by them.
fn check(config: &ModelConfig) -> Result<(), RecogniseError> {
    for std in config.preprocessing.std {
        check_setting("preprocessing.std", std.into(), 1e-6, 1e6)?;
    }
    for mean in config.preprocessing.mean {
        check_setting("preprocessing.mean", mean.into(), -1e6, 1e6)?;
    }
    if let Some(front) = &config.front {
        front.check_settings()?;
    }
    Ok(config.check()?)
}

/// The names of a network with every number replaced: how many layers it has does not matter.
fn patterns<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let pattern = |name: &str| {
        let mut pattern = String::with_capacity(name.len());
        for c in name.chars() {
            match c {
                '0'..='9' if pattern.ends_with('#') => {}
                '0'..='9' => pattern.push('#'),
                c => pattern.push(c),
            }
        }
        pattern
    };
    let counted = names.filter(|name| !name.ends_with(".num_batches_tracked"));
    counted.map(pattern).collect()
}

/// The family that shares most names with the file: shared over all that either has.
fn nearest(shapes: &Shapes) -> Result<Candidate, RecogniseError> {
    let found = patterns(shapes.keys().map(String::as_str));
    let share = |family: Candidate| {
        let official = family.official();
        let theirs = patterns(official.iter().map(|tensor| tensor.name.as_str()));
        let both = found.intersection(&theirs).count();
        // In parts of a million, to be comparable.
        both * 1_000_000 / found.union(&theirs).count().max(1)
    };
    let scored = candidates().map(|family| (share(family), family));
    // Of two that are equally near, the first.
    let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
    match best.expect("there are families") {
        (500_000.., family) => Ok(family),
        (_, family) => Err(RecogniseError::Unknown {
            count: shapes.len(),
            found: name_some(shapes.keys().map(String::as_str)),
            nearest: family.to_string(),
            missing: name_some(missing(&family.official(), shapes)),
        }),
    }
}

fn missing<'a>(tensors: &'a [TensorSpec], shapes: &Shapes) -> impl Iterator<Item = &'a str> {
    let names = tensors.iter().map(|tensor| tensor.name.as_str());
    names.filter(|name| !shapes.contains_key(*name))
}

/// A gap in what determines the sizes, with all else that is missing.
fn explain(gap: Gap, family: Candidate, shapes: &Shapes) -> RecogniseError {
    match gap {
        Gap::Missing => missing_error(&family.official(), shapes, family),
        Gap::Shape(name, found, expected) => RecogniseError::Shape {
            family: family.to_string(),
            name: shorten(&name),
            expected: expected.to_owned(),
            found,
        },
    }
}

fn missing_error(tensors: &[TensorSpec], shapes: &Shapes, family: Candidate) -> RecogniseError {
    RecogniseError::Missing {
        family: family.to_string(),
        names: name_some(missing(tensors, shapes)),
        count: missing(tensors, shapes).count(),
    }
}

/// What a file of this project's own says of its network.
fn own_description(flags: &BTreeMap<String, Value>) -> Option<&str> {
    let text = flags.get(CONFIG_KEY)?.as_str()?;
    // Else it is the name of a settings file, as other people's training scripts keep it.
    text.starts_with('{').then_some(text)
}

/// The described network, where it has the tensors of the one that was read from the shapes.
fn fitting(description: &str, read: &ModelConfig) -> Option<ModelConfig> {
    let own: ModelConfig = serde_json::from_str(description).ok()?;
    // Before the list is made, for a hostile file may describe millions of layers.
    check(&own).ok()?;
    (own.tensors() == read.tensors()).then_some(own)
}

fn compare(
    tensors: &[TensorSpec],
    shapes: &Shapes,
    family: Candidate,
) -> Result<(), RecogniseError> {
    if missing(tensors, shapes).next().is_some() {
        return Err(missing_error(tensors, shapes, family));
    }
    for TensorSpec { name, shape } in tensors {
        let found = shapes.get(name).filter(|found| *found != shape);
        if let Some(found) = found {
            return Err(RecogniseError::Shape {
                family: family.to_string(),
                name: name.clone(),
                expected: format!("{shape:?}"),
                found: found.clone(),
            });
        }
    }
    Ok(())
}

/// Tensors that published files are known to hold and the networks not to use: the counters of
/// batch norms (without a word), two of an adversarially trained VOneNet.
const UNUSED: [&str; 2] = ["vone_block.div_u.weight", "vone_block.div_t.weight"];

fn left_over(
    tensors: &[TensorSpec],
    shapes: &Shapes,
    family: Candidate,
) -> Result<Vec<String>, RecogniseError> {
    let used: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let counter = |name: &&str| name.ends_with(".num_batches_tracked");
    let names = shapes.keys().map(String::as_str);
    let (dropped, extra): (Vec<&str>, Vec<&str>) = names
        .filter(|name| !used.contains(name) && !counter(name))
        .partition(|name| UNUSED.contains(name));
    if !extra.is_empty() {
        return Err(RecogniseError::Extra {
            family: family.to_string(),
            names: name_some(extra),
        });
    }
    Ok(dropped.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_the_catalog_are_of_families_that_are_recognised() {
        let families = family_names();
        for entry in super::super::catalog::entries() {
            // CORnet-R has the names of CORnet-RT; the depth of a ResNet follows its family.
            let is_of = |family: &String| {
                entry.family.starts_with(family.as_str()) || family.starts_with(&entry.family)
            };
            assert!(families.iter().any(is_of), "{}", entry.family);
        }
    }
}
