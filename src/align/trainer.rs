//! The trainer behind `ventral train`: seeded, resumable, stops at once on a NaN.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};

use super::accuracy::{hits, right};
use super::adversary::Adversary;
use super::examples::{Examples, Source, Window};
pub use super::loss::cross_entropy::cross_entropy;
use super::loss::cross_entropy::soft_cross_entropy;
pub use super::metrics::EpochMetrics;
use super::optimise::clip;
use super::recipe::{Recipe, ema_decay};
use super::shards::Crew;
use super::state::{State, StateFiles};
use crate::image::dataset::LabelledSet;
use crate::model::names;
use crate::model::network::Network;
use crate::model::probe::CancelToken;
use crate::perturb::attack::AttackError;
use crate::perturb::corruption::CorruptionError;
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
    #[error(
        "the run cannot go on from epoch {epoch}: what it takes is kept for {kept:?}; keep = \"all\" \
         in a recipe keeps every epoch"
    )]
    NotKept { epoch: usize, kept: Vec<usize> },
    #[error("the set has {set} classes and the recipe's model has {model}; they must be as many")]
    Classes { set: usize, model: usize },
    #[error("the set has {images} images, fewer than one batch of {batch}")]
    TooFew { images: usize, batch: usize },
    #[error("no corrupted examples can be made: {0}")]
    Corruption(#[from] CorruptionError),
    #[error("no adversarial examples could be made: {0}")]
    Attack(#[from] AttackError),
}

/// What a run tells while it goes.
pub enum TrainEvent<'a> {
    Step {
        epoch: usize,
        step: usize,
        steps: usize,
        loss: f32,
        images_per_second: f32,
        /// Pixels trained on so far and in the whole run: a measure of time that knows of crops.
        done: u64,
        total: u64,
    },
    Epoch(&'a EpochMetrics),
}

/// A run of a recipe in a folder of its own.
///
/// After every epoch the weights, the optimiser's state, the moving average, the metrics and their
/// plot are in `folder`. What a run draws at random follows from the seed and from where it is in
/// the run alone, so an interrupted run ends in the same weights as an uninterrupted one.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub recipe: &'a Recipe,
    pub training: &'a LabelledSet,
    pub test: &'a LabelledSet,
    pub folder: &'a Path,
    pub device: &'a Device,
    /// The epoch to begin with, from 0; everything the folder has of it and of later ones is
    /// replaced. `None`: the one behind the last finished one.
    pub from_epoch: Option<usize>,
}

/// Trains by `recipe`, from the last finished epoch in `folder` if there is one.
///
/// # Errors
/// As [`Run::go`].
pub fn train(
    recipe: &Recipe,
    train: &LabelledSet,
    test: &LabelledSet,
    folder: &Path,
    device: &Device,
    tell: impl FnMut(TrainEvent),
) -> Result<(Network, Vec<EpochMetrics>), TrainError> {
    let run = Run {
        recipe,
        training: train,
        test,
        folder,
        device,
        from_epoch: None,
    };
    run.go(tell)
}

impl Run<'_> {
    /// Trains to the end of the recipe. Returns the network, the moving average where the recipe
    /// has one, and what is known of every epoch.
    ///
    /// # Errors
    /// [`TrainError`]: a loss that is not finite, a folder that cannot be used, a set that does not
    /// fit the recipe.
    pub fn go(
        &self,
        mut tell: impl FnMut(TrainEvent),
    ) -> Result<(Network, Vec<EpochMetrics>), TrainError> {
        self.check()?;
        let files = StateFiles::open(self.folder, self.recipe)?;
        let mut metrics = files.begin(self.from_epoch)?;
        let training_device = self.device.clone().autodiff();
        let mut trainer = Trainer {
            run: *self,
            source: Source::new(self.recipe, self.training)?,
            crew: Crew::new(self.recipe.shards),
            state: files.restore(self.recipe, metrics.len(), &training_device)?,
        };
        for epoch in metrics.len()..self.recipe.epochs {
            let done = trainer.epoch(epoch, &mut tell)?;
            files.keep(self.recipe, &trainer.state, &metrics, &done)?;
            tell(TrainEvent::Epoch(&done));
            metrics.push(done);
        }
        Ok((trainer.tested_network(), metrics))
    }

    fn check(&self) -> Result<(), TrainError> {
        let (set, model) = (self.training.classes.len(), self.recipe.model.classes);
        if set != model {
            return Err(TrainError::Classes { set, model });
        }
        if self.steps() == 0 {
            return Err(TrainError::TooFew {
                images: self.training.len(),
                batch: self.recipe.batch,
            });
        }
        Ok(())
    }

    /// Steps of an epoch. The last, smaller batch would train on noisier batch statistics; its
    /// images come again.
    fn steps(&self) -> usize {
        self.training.len() / self.recipe.batch
    }

    fn progress(&self, step: usize) -> f64 {
        step as f64 / (self.recipe.epochs * self.steps()) as f64
    }

    /// Side of the images of step `step` of the run, px.
    fn side(&self, step: usize) -> usize {
        let whole = self.training.size;
        match self.recipe.augmentation.crops {
            Some(crops) if self.progress(step) < crops.until => crops.side.min(whole),
            _ => whole,
        }
    }

    /// Pixels of the first `steps` steps of the run.
    fn work(&self, steps: usize) -> u64 {
        let pixels = (0..steps).map(|step| self.side(step).pow(2) as u64);
        pixels.sum::<u64>() * self.recipe.batch as u64
    }
}

struct Trainer<'a> {
    run: Run<'a>,
    source: Source<'a>,
    crew: Crew,
    state: State,
}

/// Where a run is.
#[derive(Clone, Copy)]
struct Place {
    epoch: usize,
    /// Of the epoch.
    step: usize,
    /// Of the run.
    of_run: usize,
}

impl Trainer<'_> {
    fn epoch(
        &mut self,
        epoch: usize,
        tell: &mut impl FnMut(TrainEvent),
    ) -> Result<EpochMetrics, TrainError> {
        let Run { recipe, .. } = self.run;
        let mut rng = Rng::stream(recipe.seed, &format!("epoch {epoch}"));
        let mut order: Vec<usize> = (0..self.run.training.len()).collect();
        rng.shuffle(&mut order);
        let steps = self.run.steps();
        let total = self.run.work(recipe.epochs * steps);
        let mut done = self.run.work(epoch * steps);
        let (mut losses, mut hits, mut rate) = (0.0_f64, 0_usize, 0.0);
        let start = Instant::now();
        let speed = |steps: usize| (steps * recipe.batch) as f32 / start.elapsed().as_secs_f32();
        for (step, batch) in order.chunks_exact(recipe.batch).enumerate() {
            let of_run = epoch * steps + step;
            let place = Place {
                epoch,
                step,
                of_run,
            };
            rate = recipe
                .schedule
                .rate(self.run.progress(of_run), recipe.epochs);
            let outcome = self.step(place, batch, rate, &mut rng)?;
            hits += outcome.hits;
            losses += f64::from(outcome.loss);
            done += (self.run.side(of_run).pow(2) * recipe.batch) as u64;
            tell(TrainEvent::Step {
                epoch,
                step,
                steps,
                loss: outcome.loss,
                images_per_second: speed(step + 1),
                done,
                total,
            });
        }
        let images_per_second = speed(steps);
        let network = self.tested_network();
        check_finite(&network, epoch, steps)?;
        Ok(EpochMetrics {
            epoch,
            train_loss: (losses / steps as f64) as f32,
            train_accuracy: hits as f32 / (steps * recipe.batch) as f32,
            test_accuracy: evaluate(&network, self.run.test, 250, self.run.device),
            learning_rate: rate,
            seconds: start.elapsed().as_secs_f32(),
            images_per_second,
        })
    }

    /// What is tested and handed out.
    fn tested_network(&self) -> Network {
        match &self.state.average {
            Some(average) => average.network().valid(),
            None => self.state.network.valid(),
        }
    }

    fn step(
        &mut self,
        place: Place,
        batch: &[usize],
        rate: f64,
        rng: &mut Rng,
    ) -> Result<Descent, TrainError> {
        let recipe = self.run.recipe;
        let shards = self.cut(place, batch, rng);
        let mut outcome = self.descend(place, shards)?;
        let diverged = |loss| TrainError::Diverged {
            epoch: place.epoch,
            step: place.step,
            loss,
        };
        if !outcome.loss.is_finite() {
            return Err(diverged(outcome.loss));
        }
        if let Some(longest) = recipe.clip {
            let length = clip(&self.state.network, &mut outcome.gradients, longest);
            // A device that fails here has failed the step.
            let length = pollster::block_on(length).unwrap_or(f64::NAN);
            if !length.is_finite() {
                return Err(diverged(outcome.loss));
            }
        }
        let gradients = std::mem::take(&mut outcome.gradients);
        let State {
            network,
            optimiser,
            average,
        } = &mut self.state;
        *network = optimiser.step(rate, network.clone(), gradients);
        if let (Some(average), Some(decay)) = (average, recipe.ema) {
            average.follow(&network.valid(), ema_decay(decay, place.of_run));
        }
        Ok(outcome)
    }

    /// Cuts `batch` into the recipe's number of shards. The first trains the network itself, which
    /// so keeps its running statistics; the others train copies of it.
    fn cut<'b>(&self, place: Place, batch: &'b [usize], rng: &mut Rng) -> Vec<Shard<'_, 'b>> {
        let Run {
            recipe, training, ..
        } = self.run;
        let side = self.run.side(place.of_run);
        let size = batch.len().div_ceil(recipe.shards);
        // Taken for every step, even by one shard: it settles the running statistics, which a step
        // on another thread of the pool would otherwise not see.
        let still = self.state.network.valid();
        let mut shards = Vec::with_capacity(recipe.shards);
        for (number, part) in batch.chunks(size).enumerate() {
            let window = |_| Window::draw(&recipe.augmentation, side, training.size, rng);
            let windows = part.iter().map(window).collect();
            let network = match number {
                0 => self.state.network.clone(),
                _ => still.clone().train(),
            };
            let adversary = recipe
                .adversarial
                .as_ref()
                .map(|config| Adversary::new(config, still.clone(), self.run.device));
            shards.push(Shard {
                name: format!("{} {} {number}", place.epoch, place.step),
                network,
                adversary,
                batch: part,
                windows,
                share: part.len() as f64 / batch.len() as f64,
            });
        }
        shards
    }

    /// Loss, hits and gradients over all shards.
    fn descend(&self, place: Place, shards: Vec<Shard>) -> Result<Descent, TrainError> {
        let parts = self
            .crew
            .each(shards, |shard| self.descend_shard(place, shard));
        let mut sum = GradientsAccumulator::new();
        let (mut loss, mut hits) = (0.0, 0);
        for part in parts {
            let part = part?;
            loss += part.loss;
            hits += part.hits;
            sum.accumulate(&self.state.network, part.gradients);
        }
        Ok(Descent {
            loss,
            hits,
            gradients: sum.grads(),
        })
    }

    fn descend_shard(&self, place: Place, shard: Shard) -> Result<Descent, TrainError> {
        let Run { recipe, device, .. } = self.run;
        let side = self.run.side(place.of_run);
        let mut examples =
            self.source
                .make(place.epoch, &shard.name, shard.batch, &shard.windows)?;
        if let Some(adversary) = &shard.adversary {
            let name = format!("attack {}", shard.name);
            let rng = Rng::stream(recipe.seed, &name);
            attack(adversary, &mut examples, side, rng)?;
        }
        let device = device.clone().autodiff();
        let n = examples.labels.len();
        let mut rng = Rng::stream(recipe.seed, &format!("front-end noise {}", shard.name));
        let noise = shard.network.draw_noise(n, side, &mut rng, &device);
        let pixels = TensorData::new(examples.pixels, [n, 3, side, side]);
        let logits = shard
            .network
            .forward(Tensor::from_data(pixels, &device), noise);
        let hits = count_hits(logits.clone(), &examples.labels);
        let loss = soft_cross_entropy(logits, examples.targets) * shard.share;
        Ok(Descent {
            loss: loss.clone().into_scalar(),
            hits,
            gradients: GradientsParams::from_grads(loss.backward(), &shard.network),
        })
    }
}

/// A part of a batch.
struct Shard<'a, 'b> {
    /// Unique within the run.
    name: String,
    network: Network,
    adversary: Option<Adversary<'a>>,
    batch: &'b [usize],
    windows: Vec<Window>,
    /// Its part of the batch's images, 0 to 1.
    share: f64,
}

#[derive(Default)]
struct Descent {
    loss: f32,
    hits: usize,
    gradients: GradientsParams,
}

/// Replaces the images that are to be attacked.
fn attack(
    adversary: &Adversary,
    examples: &mut Examples,
    side: usize,
    rng: Rng,
) -> Result<(), AttackError> {
    let place = examples.attacked.clone();
    if place.is_empty() {
        return Ok(());
    }
    let length = 3 * side * side;
    let pixels = &mut examples.pixels[place.start * length..place.end * length];
    let attacked = adversary.attack(pixels, &examples.labels[place], side, rng)?;
    pixels.copy_from_slice(&attacked);
    Ok(())
}

/// The last step of an epoch is followed by no loss that would show what it did.
fn check_finite(network: &Network, epoch: usize, step: usize) -> Result<(), TrainError> {
    let mut sums = Vec::new();
    names::visit(network, |_, _, flat| sums.push(flat.tensor().sum()));
    let sums: Vec<f32> = to_vec(Tensor::cat(sums, 0));
    match sums.iter().find(|sum| !sum.is_finite()) {
        Some(loss) => Err(TrainError::Diverged {
            epoch,
            step,
            loss: *loss,
        }),
        None => Ok(()),
    }
}

fn count_hits(logits: Tensor<2>, labels: &[u16]) -> usize {
    hits(&to_vec(logits.detach()), labels)
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the networks are f32 throughout")
}

/// Top-1 accuracy in [0, 1], the noise of a stochastic network drawn from seed 0.
pub fn evaluate(network: &Network, set: &LabelledSet, batch: usize, device: &Device) -> f32 {
    let cancel = CancelToken::default();
    let right = pollster::block_on(right(network, set, batch, device, &cancel));
    let right = right.expect("nobody cancels, and a device that fails here ends the run");
    right as f32 / set.len().max(1) as f32
}
