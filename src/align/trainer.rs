//! The trainer behind `ventral train`: seeded, resumable, stops at once on a NaN.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::recipe::{AugmentationConfig, OptimiserConfig, Recipe};
use super::shards::Crew;
use crate::image::dataset::LabelledSet;
use crate::model::init::initialise;
use crate::model::network::Network;
use crate::rng::Rng;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(
        "training diverged: the loss was {loss} at step {step} of epoch {epoch}; a lower schedule.peak helps"
    )]
    Diverged {
        epoch: usize,
        step: usize,
        loss: f32,
    },
    #[error("the recipe in {0} is not the one being trained; choose another --output folder")]
    OtherRecipe(PathBuf),
    #[error("cannot keep the training state in {path}: {cause}")]
    State { path: PathBuf, cause: String },
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochMetrics {
    pub epoch: usize,
    pub train_loss: f32,
    pub train_accuracy: f32,
    pub test_accuracy: f32,
    pub learning_rate: f64,
    pub seconds: f32,
}

/// What a run tells while it goes.
pub enum TrainEvent<'a> {
    Step {
        epoch: usize,
        step: usize,
        steps: usize,
        loss: f32,
        images_per_second: f32,
    },
    Epoch(&'a EpochMetrics),
}

/// Trains by `recipe`, from the last finished epoch in `folder` if there is one.
///
/// After every epoch the weights, the optimiser's state and the metrics are in `folder`; what a
/// run draws at random follows from the seed and the epoch alone, so an interrupted run ends in
/// the same weights as an uninterrupted one.
pub fn train(
    recipe: &Recipe,
    train: &LabelledSet,
    test: &LabelledSet,
    folder: &Path,
    device: &Device,
    mut tell: impl FnMut(TrainEvent),
) -> Result<(Network, Vec<EpochMetrics>), TrainError> {
    let state = StateFiles::open(folder, recipe)?;
    let training_device = device.clone().autodiff();
    let mut metrics = state.metrics();
    let (mut network, mut optimiser) = state.restore(recipe, metrics.len(), &training_device)?;
    let crew = Crew::new(recipe.shards);
    for epoch in metrics.len()..recipe.epochs {
        let start = Instant::now();
        let (trained, loss, accuracy, rate) = run_epoch(
            recipe,
            train,
            network,
            &mut optimiser,
            epoch,
            &crew,
            &mut tell,
        )?;
        network = trained;
        let test_accuracy = evaluate(&network.valid(), test, 250, device);
        let done = EpochMetrics {
            epoch,
            train_loss: loss,
            train_accuracy: accuracy,
            test_accuracy,
            learning_rate: rate,
            seconds: start.elapsed().as_secs_f32(),
        };
        state.keep(&network, &optimiser, &done)?;
        tell(TrainEvent::Epoch(&done));
        metrics.push(done);
    }
    Ok((network.valid(), metrics))
}

type EpochOutcome = (Network, f32, f32, f64);

fn run_epoch(
    recipe: &Recipe,
    set: &LabelledSet,
    mut network: Network,
    optimiser: &mut ModuleOptimizer,
    epoch: usize,
    crew: &Crew,
    tell: &mut impl FnMut(TrainEvent),
) -> Result<EpochOutcome, TrainError> {
    let mut rng = Rng::stream(recipe.seed, &format!("epoch {epoch}"));
    let mut order: Vec<usize> = (0..set.len()).collect();
    rng.shuffle(&mut order);
    // The last, smaller batch would train on noisier batch statistics; its images come again.
    let batches: Vec<&[usize]> = order.chunks_exact(recipe.batch).collect();
    let steps = batches.len();
    let (mut losses, mut hits, mut rate) = (0.0_f64, 0_usize, 0.0);
    let start = Instant::now();
    for (step, batch) in batches.into_iter().enumerate() {
        let progress = (epoch * steps + step) as f64 / (recipe.epochs * steps) as f64;
        let side = crop_side(&recipe.augmentation, progress, set.size);
        let shards = draw_shards(recipe, set, batch, side, &network, &mut rng);
        let outcome = descend(&network, shards, recipe.label_smoothing, crew);
        hits += outcome.hits;
        let value = outcome.loss;
        if !value.is_finite() {
            return Err(TrainError::Diverged {
                epoch,
                step,
                loss: value,
            });
        }
        losses += f64::from(value);
        rate = recipe.schedule.rate(progress);
        network = optimiser.step(rate, network, outcome.gradients);
        tell(TrainEvent::Step {
            epoch,
            step,
            steps,
            loss: value,
            images_per_second: ((step + 1) * recipe.batch) as f32 / start.elapsed().as_secs_f32(),
        });
    }
    let images = (steps * recipe.batch).max(1);
    Ok((
        network,
        (losses / steps.max(1) as f64) as f32,
        hits as f32 / images as f32,
        rate,
    ))
}

/// A part of a batch, with the noise a stochastic front-end adds to it.
struct Shard {
    network: Network,
    pixels: Tensor<4>,
    labels: Vec<u16>,
    noise: Option<Tensor<4>>,
    /// Its part of the batch's images, 0 to 1.
    share: f64,
}

/// Cuts `batch` into the recipe's number of shards. The first trains the network itself, which
/// so keeps its running statistics; the others train copies of it.
fn draw_shards(
    recipe: &Recipe,
    set: &LabelledSet,
    batch: &[usize],
    side: usize,
    network: &Network,
    rng: &mut Rng,
) -> Vec<Shard> {
    let device = network.devices().into_iter().next().unwrap_or_default();
    let size = batch.len().div_ceil(recipe.shards);
    let copies =
        std::iter::once(network.clone()).chain(std::iter::repeat_with(|| network.valid().train()));
    let mut shards = Vec::with_capacity(recipe.shards);
    for (network, part) in copies.zip(batch.chunks(size)) {
        let (pixels, labels) = draw_batch(set, part, side, &recipe.augmentation, rng, &device);
        let noise = network.draw_noise(part.len(), side, rng, &device);
        let share = part.len() as f64 / batch.len() as f64;
        shards.push(Shard {
            network,
            pixels,
            labels,
            noise,
            share,
        });
    }
    shards
}

struct Descent {
    loss: f32,
    hits: usize,
    gradients: GradientsParams,
}

/// Loss, hits and gradients over all shards.
fn descend(network: &Network, shards: Vec<Shard>, smoothing: f64, crew: &Crew) -> Descent {
    let parts = crew.each(shards, |shard| {
        let logits = shard.network.forward(shard.pixels, shard.noise);
        let hits = count_hits(logits.clone(), &shard.labels);
        let loss = cross_entropy(logits, &shard.labels, smoothing) * shard.share;
        Descent {
            loss: loss.clone().into_scalar(),
            hits,
            gradients: GradientsParams::from_grads(loss.backward(), &shard.network),
        }
    });
    let mut sum = GradientsAccumulator::new();
    let (mut loss, mut hits) = (0.0, 0);
    for part in parts {
        loss += part.loss;
        hits += part.hits;
        sum.accumulate(network, part.gradients);
    }
    Descent {
        loss,
        hits,
        gradients: sum.grads(),
    }
}

/// Mean cross-entropy against labels that keep `1 − smoothing` for the true class and share the
/// rest evenly among all (Szegedy et al. 2016).
pub fn cross_entropy(logits: Tensor<2>, labels: &[u16], smoothing: f64) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let off = (smoothing / classes as f64) as f32;
    let mut targets = vec![off; n * classes];
    for (row, label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[usize::from(*label)] += 1.0 - smoothing as f32;
    }
    let targets = Tensor::<2>::from_data(TensorData::new(targets, [n, classes]), &logits.device());
    -(log_softmax(logits, 1) * targets).sum() / n as f64
}

fn count_hits(logits: Tensor<2>, labels: &[u16]) -> usize {
    let [_, classes] = logits.dims();
    let values: Vec<f32> = to_vec(logits.detach());
    values
        .chunks_exact(classes)
        .zip(labels)
        .filter(|(row, label)| argmax(row) == usize::from(**label))
        .count()
}

fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the networks are f32 throughout")
}

/// Side of the images a run trains on at `progress` in [0, 1].
fn crop_side(augmentation: &AugmentationConfig, progress: f64, whole: usize) -> usize {
    match augmentation.crops {
        Some(crops) if progress < crops.until => crops.side.min(whole),
        _ => whole,
    }
}

/// Square crops of side `side` of the images `batch`, and their labels.
fn draw_batch(
    set: &LabelledSet,
    batch: &[usize],
    side: usize,
    augmentation: &AugmentationConfig,
    rng: &mut Rng,
    device: &Device,
) -> (Tensor<4>, Vec<u16>) {
    let mut pixels = Vec::with_capacity(batch.len() * 3 * side * side);
    let slack = set.size - side + 2 * augmentation.shift;
    for index in batch {
        let window = Window {
            flip: augmentation.flip && rng.uniform_f64() < 0.5,
            left: rng.below(slack + 1) as isize - augmentation.shift as isize,
            top: rng.below(slack + 1) as isize - augmentation.shift as isize,
            side,
        };
        // `batch` holds indices of this set; one past its end would add no image and no label.
        if let Some(image) = set.image(*index) {
            window.push(image, set.size, &mut pixels);
        }
    }
    let labels = batch
        .iter()
        .filter_map(|i| set.labels.get(*i).copied())
        .collect();
    let data = TensorData::new(pixels, [batch.len(), 3, side, side]);
    (Tensor::from_data(data, device), labels)
}

/// A square part of an image; what lies beyond the border is mirrored.
struct Window {
    flip: bool,
    left: isize,
    top: isize,
    side: usize,
}

impl Window {
    /// Appends the window of an image of side `whole` (planar u8) as f32 in [0, 1].
    fn push(&self, image: &[u8], whole: usize, out: &mut Vec<f32>) {
        for plane in image.chunks_exact(whole * whole) {
            for y in 0..self.side {
                let row = reflect(y as isize + self.top, whole) * whole;
                for x in 0..self.side {
                    let x = if self.flip { self.side - 1 - x } else { x };
                    let column = reflect(x as isize + self.left, whole);
                    out.push(f32::from(plane[row + column]) / 255.0);
                }
            }
        }
    }
}

/// Mirrors an index at the borders, without repeating the border pixel.
fn reflect(i: isize, side: usize) -> usize {
    let last = side as isize - 1;
    let i = i.abs();
    let i = if i > last { 2 * last - i } else { i };
    i.clamp(0, last) as usize
}

/// Top-1 accuracy in [0, 1], the noise of a stochastic network drawn from seed 0.
pub fn evaluate(network: &Network, set: &LabelledSet, batch: usize, device: &Device) -> f32 {
    let mut rng = Rng::stream(0, "evaluation");
    let indices: Vec<usize> = (0..set.len()).collect();
    let hits: usize = indices
        .chunks(batch)
        .map(|chunk| {
            let none = AugmentationConfig::default();
            let (pixels, labels) = draw_batch(set, chunk, set.size, &none, &mut rng, device);
            let noise = network.draw_noise(chunk.len(), set.size, &mut rng, device);
            count_hits(network.forward(pixels, noise), &labels)
        })
        .sum();
    hits as f32 / set.len().max(1) as f32
}

fn optimiser(config: &OptimiserConfig) -> ModuleOptimizer {
    let momentum = MomentumConfig::new()
        .with_momentum(config.momentum)
        .with_dampening(0.0)
        .with_nesterov(true);
    let plain = SgdConfig::new().with_momentum(Some(momentum));
    let decayed = plain
        .clone()
        .with_weight_decay(Some(WeightDecayConfig::new(config.weight_decay)));
    let weights = ParamGroup::from_predicate("weight");
    ModuleOptimizer::from(plain.build()).with_group(weights, decayed.build(), None)
}

/// The files of a run.
struct StateFiles {
    folder: PathBuf,
}

impl StateFiles {
    fn open(folder: &Path, recipe: &Recipe) -> Result<Self, TrainError> {
        let files = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder).map_err(|e| files.failed(folder, e))?;
        let path = folder.join("recipe.json");
        let text = serde_json::to_string_pretty(recipe).map_err(|e| files.failed(&path, e))?;
        match fs::read_to_string(&path) {
            Ok(kept) if kept != text => return Err(TrainError::OtherRecipe(path)),
            Ok(_) => {}
            Err(_) => fs::write(&path, text).map_err(|e| files.failed(&path, e))?,
        }
        Ok(files)
    }

    fn failed(&self, path: &Path, cause: impl std::fmt::Display) -> TrainError {
        TrainError::State {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    fn weights(&self, epoch: usize) -> PathBuf {
        self.folder.join(format!("weights-{epoch}.bpk"))
    }

    fn optimiser(&self, epoch: usize) -> PathBuf {
        self.folder.join(format!("optimiser-{epoch}.bpk"))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("metrics.jsonl")
    }

    /// The finished epochs. A line cut off by a crash does not count.
    fn metrics(&self) -> Vec<EpochMetrics> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn restore(
        &self,
        recipe: &Recipe,
        epochs: usize,
        device: &Device,
    ) -> Result<(Network, ModuleOptimizer), TrainError> {
        let network = initialise(&recipe.model, recipe.seed, device);
        let network = freeze_filter_bank(network);
        let optimiser = optimiser(&recipe.optimiser);
        let Some(last) = epochs.checked_sub(1) else {
            return Ok((network, optimiser));
        };
        let path = self.weights(last);
        let network = network
            .try_load_file(&path)
            .map_err(|e| self.failed(&path, e))?;
        let path = self.optimiser(last);
        let optimiser = optimiser.load(&path).map_err(|e| self.failed(&path, e))?;
        Ok((network, optimiser))
    }

    /// The metrics line comes last: it is what makes an epoch count.
    fn keep(
        &self,
        network: &Network,
        optimiser: &ModuleOptimizer,
        metrics: &EpochMetrics,
    ) -> Result<(), TrainError> {
        let epoch = metrics.epoch;
        let path = self.weights(epoch);
        network
            .clone()
            .save_file(&path)
            .map_err(|e| self.failed(&path, e))?;
        let path = self.optimiser(epoch);
        optimiser.save(&path).map_err(|e| self.failed(&path, e))?;
        let path = self.log();
        let line = serde_json::to_string(metrics).map_err(|e| self.failed(&path, e))?;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{line}"))
            .map_err(|e| self.failed(&path, e))?;
        if let Some(before) = epoch.checked_sub(1) {
            // Only the last epoch is ever restored; a file that cannot be removed is harmless.
            let _ = fs::remove_file(self.weights(before));
            let _ = fs::remove_file(self.optimiser(before));
        }
        Ok(())
    }
}

/// The Gabor bank of a VOneBlock is part of the model, not of what is learnt.
fn freeze_filter_bank(mut network: Network) -> Network {
    if let Some(mut front) = network.front.take() {
        front.vone_block = front.vone_block.freeze();
        network.front = Some(front);
    }
    network
}
