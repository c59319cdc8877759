//! From a file of weights to a network.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Device;

use super::checkpoint::{Checkpoint, CheckpointError, Limits, Source, Value, sha256};
use super::config::ModelConfig;
use super::names;
use super::network::Network;
use super::probe::CancelToken;
use super::recognise::{CONFIG_KEY, RecogniseError, recognise};
use super::trace::{TensorSpec, is_buffer};
use crate::clock::Clock;

/// Where a safetensors file of ours keeps its class names, as a JSON list.
pub const CLASSES_KEY: &str = "classes";

/// The 1,000 classes of ImageNet, one short label a line.
const IMAGENET: &str = include_str!("../../static/models/imagenet-classes.txt");

const IMAGENET_CLASSES: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Recognise(#[from] RecogniseError),
    #[error(
        "The tensor {tensor} holds a value that is not a number (NaN or infinite). The training \
         run it comes from diverged, or the file is damaged."
    )]
    NotFinite { tensor: String },
    #[error("The file could not be read: {0}")]
    Io(#[from] std::io::Error),
}

/// A tensor on the host.
#[derive(Clone, Debug)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// A model as it was read: device-free.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub name: String,
    pub family: String,
    pub config: ModelConfig,
    pub classes: Vec<String>,
    /// By published name.
    pub weights: BTreeMap<String, HostTensor>,
    /// First 16 hexadecimal digits of the file's SHA-256.
    pub hash: String,
    pub remarks: Vec<String>,
    pub milliseconds: f32,
}

impl Loaded {
    /// The network on `device`, frozen: batch norms use their running statistics and no weight
    /// asks for a gradient.
    pub fn to_network(&self, device: &Device) -> Network {
        let network = Network::new(&self.config, device);
        let filled = names::replace(network, |name, _| {
            Some(self.weights.get(name)?.values.clone())
        });
        filled.freeze()
    }

    /// Trained and fixed parameters, buffers not counted.
    pub fn parameters(&self) -> u64 {
        self.weights
            .iter()
            .filter(|(name, _)| !is_buffer(name))
            .map(|(_, tensor)| tensor.values.len() as u64)
            .sum()
    }
}

/// A checkpoint in one file or in several shards, seen as one.
struct Shards {
    files: Vec<Checkpoint<Box<dyn Source>>>,
    /// Which file holds a tensor, and its name there.
    places: BTreeMap<String, (usize, String)>,
    shapes: BTreeMap<String, Vec<usize>>,
    flags: BTreeMap<String, Value>,
    hash: String,
}

impl Shards {
    fn open(
        sources: Vec<Box<dyn Source>>,
        report: &impl Fn(u64, u64, &str),
    ) -> Result<Self, LoadError> {
        let mut shards = Self {
            files: Vec::with_capacity(sources.len()),
            places: BTreeMap::new(),
            shapes: BTreeMap::new(),
            flags: BTreeMap::new(),
            hash: String::new(),
        };
        for mut source in sources {
            let size = source.seek(std::io::SeekFrom::End(0))?;
            let hash = sha256(&mut source, |done| {
                if done % (8 << 20) == 0 {
                    report(done, size, "Checking the file");
                }
            })?;
            shards.hash.extend(hash.chars().take(16));
            shards.add(Checkpoint::open(source, &Limits::default())?);
        }
        if shards.files.len() > 1 {
            shards.hash = sha256(&mut std::io::Cursor::new(&shards.hash), |_| {})?;
        }
        shards.rename();
        Ok(shards)
    }

    fn add(&mut self, file: Checkpoint<Box<dyn Source>>) {
        let index = self.files.len();
        for (name, shape) in file.shapes() {
            self.places.insert(name.clone(), (index, name.clone()));
            self.shapes.insert(name, shape);
        }
        self.flags.extend(file.flags.clone());
        self.files.push(file);
    }

    /// Gives tensors the published names where a training script has put others before or into them.
    fn rename(&mut self) {
        let names: Vec<String> = self.shapes.keys().cloned().collect();
        let Some(published) = names::published(&names) else {
            return;
        };
        let mut places = std::mem::take(&mut self.places);
        let mut shapes = std::mem::take(&mut self.shapes);
        for (theirs, ours) in names.iter().zip(published) {
            self.places
                .extend(places.remove(theirs).map(|place| (ours.clone(), place)));
            self.shapes
                .extend(shapes.remove(theirs).map(|shape| (ours, shape)));
        }
    }

    fn remarks(&self) -> Vec<String> {
        self.files.iter().flat_map(|f| f.remarks.clone()).collect()
    }

    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let place = self.places.get(name);
        let file = place.and_then(|(place, theirs)| Some((self.files.get_mut(*place)?, theirs)));
        match file {
            Some((file, theirs)) => Ok(file.read_f32(theirs)?),
            None => Err(CheckpointError::UnknownTensor(name.to_owned()).into()),
        }
    }
}

/// Reads a checkpoint from its file, or from all its shards. `report(done, total, stage)` counts
/// bytes while a file is hashed and values while it is read.
///
/// # Errors
/// A sentence naming the tensor, where one is to blame.
///
/// ```
/// use std::fs::File;
/// use std::io::BufReader;
/// use ventral::model::load;
/// use ventral::model::probe::CancelToken;
///
/// let name = "resnet-cifar10.safetensors";
/// let file = BufReader::new(File::open(format!("static/models/{name}"))?);
/// let model = load::read(name, vec![Box::new(file)], &CancelToken::default(), |_, _, _| {})?;
/// assert_eq!(model.classes.len(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(
    name: &str,
    sources: Vec<Box<dyn Source>>,
    cancel: &CancelToken,
    report: impl Fn(u64, u64, &str),
) -> Result<Loaded, LoadError> {
    let clock = Clock::start();
    let mut checkpoint = Shards::open(sources, &report)?;
    let recognised = recognise(&checkpoint.shapes, &checkpoint.flags, name)?;
    let config = recognised.config;
    let expected = config.tensors();
    let mut remarks = checkpoint.remarks();
    remarks.extend(recognised.remarks);
    remarks.extend(assumed(&config, &checkpoint.flags));

    let total: u64 = expected.iter().map(TensorSpec::elements).sum();
    let mut done = 0;
    let mut weights = BTreeMap::new();
    for tensor in expected {
        if cancel.is_cancelled() {
            return Err(LoadError::Cancelled);
        }
        done += tensor.elements();
        let TensorSpec { name, shape } = tensor;
        let values = checkpoint.read_f32(&name)?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(LoadError::NotFinite { tensor: name });
        }
        report(done, total, &format!("Reading {name}"));
        weights.insert(name, HostTensor { shape, values });
    }
    Ok(Loaded {
        name: name.to_owned(),
        family: recognised.name,
        classes: own_classes(&checkpoint.flags, config.classes)
            .unwrap_or_else(|| class_names(config.classes)),
        config,
        weights,
        hash: checkpoint.hash.chars().take(16).collect(),
        remarks,
        milliseconds: clock.milliseconds(),
    })
}

/// Says what was assumed of a model's images where its file says nothing of them. A network of
/// ImageNet's classes has what was published with it.
fn assumed(config: &ModelConfig, flags: &BTreeMap<String, Value>) -> Option<String> {
    let says = |key: &&str| flags.contains_key(*key);
    let is_described = [CONFIG_KEY, "normalization", "image_size"].iter().any(says);
    if is_described || config.classes == IMAGENET_CLASSES {
        return None;
    }
    let p = &config.preprocessing;
    Some(format!(
        "The file says nothing of the images that the network was trained on. Assumed: the short side \
         brought to {} px and the middle {} px of it, minus {:?}, divided by {:?}. Set what is \
         otherwise: on the command line with --side, --mean and --std.",
        p.resize, p.crop, p.mean, p.std
    ))
}

/// The class names a file of ours brings, where there is one for every class.
fn own_classes(flags: &BTreeMap<String, Value>, classes: usize) -> Option<Vec<String>> {
    let text = flags.get(CLASSES_KEY)?.as_str()?;
    let names: Vec<String> = serde_json::from_str(text).ok()?;
    (names.len() == classes).then_some(names)
}

/// ImageNet's labels where there are 1,000 classes, numbers otherwise.
fn class_names(classes: usize) -> Vec<String> {
    let imagenet: Vec<String> = IMAGENET.lines().map(str::to_owned).collect();
    if imagenet.len() == classes {
        return imagenet;
    }
    (0..classes).map(|class| format!("class {class}")).collect()
}
