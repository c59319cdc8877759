//! Which network a set of names and shapes is.
//!
//! The family comes from the names, the sizes from the shapes of a few tensors, and the rest from
//! flags or the published models. Then the list of all tensors such a network has is compared with
//! the file's, so that what is missing, left over or misshapen is found and named.

mod expected;
mod read;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Value;
use super::error::name_some;
use crate::archive::shorten;
use crate::model::config::{
    AlexNetConfig, BodyConfig, ConfigError, CornetRtConfig, CornetSConfig, CornetZConfig,
    ModelConfig, ResBlock, ResNetConfig, SmallCnnConfig, Unrolling, VOneConfig,
    imagenet_preprocessing,
};
use expected::expected;
use read::Gap;
use settings::Settings;

/// The flag (metadata of a safetensors file) under which this project's own files keep their
/// [`ModelConfig`] as JSON. It is believed where it fits the tensors.
pub const CONFIG_KEY: &str = "config";

/// The networks that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    CornetZ,
    CornetS,
    CornetRt,
    CornetR,
    /// Two 3x3 convolutions a block: ResNet-18, -34.
    ResNetBasic,
    /// 1x1, 3x3, 1x1: ResNet-50, -101, -152.
    ResNetBottleneck,
    AlexNet,
    /// Two convolutions and a linear layer, for tests.
    SmallCnn,
    VOneCornetS,
    VOneResNetBasic,
    VOneResNetBottleneck,
    VOneAlexNet,
}

/// A recognised network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognised {
    pub architecture: Architecture,
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
    #[error("the file's setting `{name}` is {found}, which must be from {least} to {most}")]
    Setting {
        name: &'static str,
        found: String,
        least: String,
        most: String,
    },
    /// A size that no network can have.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Networks with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    CornetZ,
    CornetS,
    CornetRt,
    ResNet,
    AlexNet,
    SmallCnn,
    VOneCornetS,
    VOneResNet,
    VOneAlexNet,
}

const FAMILIES: [Family; 9] = [
    Family::CornetZ,
    Family::CornetS,
    Family::CornetRt,
    Family::ResNet,
    Family::AlexNet,
    Family::SmallCnn,
    Family::VOneCornetS,
    Family::VOneResNet,
    Family::VOneAlexNet,
];

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CornetZ => "CORnet-Z",
            Self::CornetS => "CORnet-S",
            Self::CornetRt => "CORnet-RT",
            Self::ResNet => "ResNet",
            Self::AlexNet => "AlexNet",
            Self::SmallCnn => "the small test network",
            Self::VOneCornetS => "VOneCORnet-S",
            Self::VOneResNet => "VOneResNet",
            Self::VOneAlexNet => "VOneAlexNet",
        })
    }
}

impl Family {
    fn behind_vone(self) -> bool {
        matches!(
            self,
            Self::VOneCornetS | Self::VOneResNet | Self::VOneAlexNet
        )
    }

    /// The published network of this family, for its names.
    fn official(self) -> ModelConfig {
        let body = match self {
            Self::CornetZ => BodyConfig::CornetZ(CornetZConfig::official()),
            Self::CornetS => BodyConfig::CornetS(CornetSConfig::official()),
            Self::CornetRt => BodyConfig::CornetRt(CornetRtConfig::official(Unrolling::Biological)),
            Self::ResNet => BodyConfig::ResNet(ResNetConfig::resnet50()),
            Self::AlexNet => BodyConfig::AlexNet(AlexNetConfig::official()),
            Self::SmallCnn => BodyConfig::SmallCnn(SmallCnnConfig {
                widths: [8, 16],
                input: 32,
            }),
            Self::VOneCornetS => BodyConfig::CornetS(CornetSConfig {
                stem: None,
                ..CornetSConfig::official()
            }),
            Self::VOneResNet => BodyConfig::ResNet(ResNetConfig {
                stem: None,
                ..ResNetConfig::resnet50()
            }),
            Self::VOneAlexNet => BodyConfig::AlexNet(AlexNetConfig::behind_vone(
                64,
                [192, 384, 256, 256],
                [4096; 2],
            )),
        };
        ModelConfig {
            body,
            front: self.behind_vone().then(VOneConfig::official),
            classes: 1000,
            preprocessing: imagenet_preprocessing(),
        }
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
    shapes: &BTreeMap<String, Vec<usize>>,
    flags: &BTreeMap<String, Value>,
    file_name: &str,
) -> Result<Recognised, RecogniseError> {
    let family = nearest(shapes)?;
    let file = file_name.to_lowercase().replace('-', "_");
    let settings = Settings { flags, file: &file };
    let mut remarks = Vec::new();
    let config = read::config(family, shapes, settings, &mut remarks)
        .map_err(|gap| explain(gap, family, shapes))?;
    settings::check(&config)?;
    let config = match own_description(&config, flags) {
        Some(Ok(own)) => {
            // Nothing had to be assumed.
            remarks.clear();
            own
        }
        Some(Err(remark)) => {
            remarks.push(remark);
            config
        }
        None => config,
    };
    let tensors = expected(&config);
    compare(&tensors, shapes, family)?;
    let dropped = left_over(&tensors, shapes, family)?;
    if !dropped.is_empty() {
        let names = name_some(dropped.iter().map(String::as_str));
        remarks.push(format!(
            "Left out, for the network does not use it: {names}."
        ));
    }
    let (architecture, name) = label(&config);
    Ok(Recognised {
        architecture,
        name,
        parameters: parameters(&tensors),
        config,
        dropped,
        remarks,
    })
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
fn nearest(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Family, RecogniseError> {
    let found = patterns(shapes.keys().map(String::as_str));
    let share = |family: &Family| {
        let official = expected(&family.official());
        let theirs = patterns(official.iter().map(|(name, _)| name.as_str()));
        let both = found.intersection(&theirs).count();
        // In parts of a million, to be comparable.
        both * 1_000_000 / found.union(&theirs).count().max(1)
    };
    let scored = FAMILIES.iter().map(|family| (share(family), *family));
    // Of two that are equally near, the first.
    let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
    match best {
        Some((500_000.., family)) => Ok(family),
        Some((_, family)) => Err(unknown(shapes, family)),
        None => Err(unknown(shapes, Family::CornetS)),
    }
}

fn unknown(shapes: &BTreeMap<String, Vec<usize>>, family: Family) -> RecogniseError {
    RecogniseError::Unknown {
        count: shapes.len(),
        found: name_some(shapes.keys().map(String::as_str)),
        nearest: family.to_string(),
        missing: name_some(missing(&expected(&family.official()), shapes)),
    }
}

fn missing<'a>(
    tensors: &'a [(String, Vec<usize>)],
    shapes: &BTreeMap<String, Vec<usize>>,
) -> impl Iterator<Item = &'a str> {
    let names = tensors.iter().map(|(name, _)| name.as_str());
    names.filter(|name| !shapes.contains_key(*name))
}

/// A gap in what determines the sizes, with all else that is missing.
fn explain(gap: Gap, family: Family, shapes: &BTreeMap<String, Vec<usize>>) -> RecogniseError {
    match gap {
        Gap::Missing => missing_error(&expected(&family.official()), shapes, family),
        Gap::Shape(name, found, expected) => RecogniseError::Shape {
            family: family.to_string(),
            name: shorten(&name),
            expected: expected.to_owned(),
            found,
        },
    }
}

fn missing_error(
    tensors: &[(String, Vec<usize>)],
    shapes: &BTreeMap<String, Vec<usize>>,
    family: Family,
) -> RecogniseError {
    RecogniseError::Missing {
        family: family.to_string(),
        names: name_some(missing(tensors, shapes)),
        count: missing(tensors, shapes).count(),
    }
}

/// The configuration that a file of this project's own brings, or a remark where it does not fit.
fn own_description(
    read: &ModelConfig,
    flags: &BTreeMap<String, Value>,
) -> Option<Result<ModelConfig, String>> {
    let text = flags.get(CONFIG_KEY)?.as_str()?;
    if !text.starts_with('{') {
        // The name of a settings file, as other people's training scripts keep it.
        return None;
    }
    let own: Option<ModelConfig> = serde_json::from_str(text).ok();
    // Before the list is made, for a hostile file may describe millions of layers.
    let own = own.filter(|own| settings::check(own).is_ok());
    let own = own.filter(|own| expected(own) == expected(read));
    Some(own.ok_or_else(|| {
        "The file's own description of the network does not fit its tensors and was not used."
            .to_owned()
    }))
}

fn compare(
    tensors: &[(String, Vec<usize>)],
    shapes: &BTreeMap<String, Vec<usize>>,
    family: Family,
) -> Result<(), RecogniseError> {
    if missing(tensors, shapes).next().is_some() {
        return Err(missing_error(tensors, shapes, family));
    }
    for (name, expected) in tensors {
        let found = shapes.get(name).filter(|found| *found != expected);
        if let Some(found) = found {
            return Err(RecogniseError::Shape {
                family: family.to_string(),
                name: name.clone(),
                expected: format!("{expected:?}"),
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
    tensors: &[(String, Vec<usize>)],
    shapes: &BTreeMap<String, Vec<usize>>,
    family: Family,
) -> Result<Vec<String>, RecogniseError> {
    let used: BTreeSet<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
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

fn parameters(tensors: &[(String, Vec<usize>)]) -> u64 {
    let is_state = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
    let counted = tensors.iter().filter(|(name, _)| !is_state(name));
    // The shapes are those of tensors that are in a file.
    counted
        .map(|(_, shape)| shape.iter().map(|d| *d as u64).product::<u64>())
        .sum()
}

fn label(config: &ModelConfig) -> (Architecture, String) {
    let behind_vone = config.front.is_some();
    let (plain, vone, name) = match &config.body {
        BodyConfig::CornetZ(_) => (Architecture::CornetZ, None, "CORnet-Z".to_owned()),
        BodyConfig::CornetS(_) => (
            Architecture::CornetS,
            Some(Architecture::VOneCornetS),
            "CORnet-S".to_owned(),
        ),
        BodyConfig::CornetRt(c) => match c.unrolling {
            Unrolling::Biological => (Architecture::CornetRt, None, "CORnet-RT".to_owned()),
            Unrolling::Sequential => (Architecture::CornetR, None, "CORnet-R".to_owned()),
        },
        BodyConfig::ResNet(c) => resnet_label(c),
        BodyConfig::AlexNet(_) => (
            Architecture::AlexNet,
            Some(Architecture::VOneAlexNet),
            "AlexNet".to_owned(),
        ),
        BodyConfig::SmallCnn(_) => (Architecture::SmallCnn, None, "small CNN".to_owned()),
    };
    match vone.filter(|_| behind_vone) {
        Some(vone) => (vone, format!("VOne{name}")),
        None => (plain, name),
    }
}

/// A ResNet is named after its layers with weights: the stem, those of the blocks, the last.
fn resnet_label(c: &ResNetConfig) -> (Architecture, Option<Architecture>, String) {
    let blocks: usize = c.layers.iter().sum();
    let (plain, vone, depth) = match c.block {
        ResBlock::Basic => (Architecture::ResNetBasic, Architecture::VOneResNetBasic, 2),
        ResBlock::Bottleneck => (
            Architecture::ResNetBottleneck,
            Architecture::VOneResNetBottleneck,
            3,
        ),
    };
    (plain, Some(vone), format!("ResNet-{}", blocks * depth + 2))
}
