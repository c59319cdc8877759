//! The trainer of an alignment: one step at a time, on any device, wherever the caller waits.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use serde::{Deserialize, Deserializer, Serialize};

use super::accuracy::right;
use super::descent::Descent;
use super::loss::cross_entropy::cross_entropy;
use super::loss::{cka, distil, harmonizer, similarity};
use super::optimise::clip;
use super::plan::{Plan, PlanError};
use super::stages::unfreeze;
use super::stimuli::{Split, Stimuli, pick, targets};
use crate::image::dataset::LabelledSet;
use crate::measure::similarity::cka::{Estimator, Kernel, cka as measure_cka, of_centred};
use crate::measure::similarity::{Gram, Matrix, SimilarityError};
use crate::model::load::Loaded;
use crate::model::names;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Cancelled, Probe, Taps};
use crate::rng::Rng;

/// Images a pass while looking.
const LOOK_BATCH: usize = 50;

/// Fewer held-out stimuli than these have no interval.
const LEAST_HELD_OUT: usize = 5;

/// Training stimuli that are looked at, at most.
const LOOKED_AT: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum AlignError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Model(String),
    #[error("{0}")]
    Data(String),
    #[error(transparent)]
    Similarity(#[from] SimilarityError),
    #[error(
        "the loss was {loss} at step {step}: the run diverged; a lower schedule.peak helps, and the \
         weights before it are kept"
    )]
    Diverged { step: usize, loss: f32 },
    #[error("the device failed while it computed: {0:?}")]
    Device(ExecutionError),
    #[error("the kept state of the run cannot be used: {0}")]
    State(String),
}

impl From<Cancelled> for AlignError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<ExecutionError> for AlignError {
    fn from(error: ExecutionError) -> Self {
        Self::Device(error)
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done, this one counted.
    pub step: usize,
    /// Of the schedule.
    pub rate: f64,
    /// Weighted, all terms together.
    pub loss: f32,
    /// Every term before its weight.
    pub terms: BTreeMap<String, f32>,
}

/// A look at the network between steps. Similarities are unbiased linear CKA of the tap with the
/// true responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Steps done.
    pub step: usize,
    #[serde(deserialize_with = "or_nan")]
    pub training: f64,
    /// Of held-out stimuli, with the neuroids of training.
    #[serde(deserialize_with = "or_nan")]
    pub held_out_stimuli: f64,
    /// Of held-out stimuli, with held-out neuroids.
    #[serde(deserialize_with = "or_nan")]
    pub held_out_neuroids: f64,
    /// Share right of images that are no stimuli, where there are any.
    pub accuracy: Option<f64>,
    /// How many those are.
    pub images: usize,
}

/// JSON has no word for a similarity that cannot be told, where nothing was held out, and writes
/// `null`.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A run of a plan.
pub struct Aligner {
    plan: Plan,
    stimuli: Stimuli,
    /// Images that are no stimuli.
    test: LabelledSet,
    split: Split,
    /// `[training stimuli, training neuroids]`, as the control has them.
    targets: Vec<f32>,
    /// The inner side.
    device: Device,
    /// As it began: frozen, on the inner side.
    start: Network,
    /// On the autodiff side.
    network: Network,
    optimiser: Descent,
    mean: similarity::RunningMean,
    step: usize,
    best: Option<(Look, Network)>,
    looks_since_best: usize,
    cancel: CancelToken,
}

/// What it takes to go on after a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub plan: Plan,
    pub step: usize,
    pub best: Option<Look>,
    pub looks_since_best: usize,
    /// What similarities are taken about.
    pub mean: Vec<f32>,
}

impl Aligner {
    /// A run of `plan` on `device`, at its beginning.
    ///
    /// # Errors
    /// A plan, a tap or a stage the model does not have; too few stimuli.
    pub fn new(
        plan: Plan,
        model: &Loaded,
        stimuli: Stimuli,
        test: LabelledSet,
        device: Device,
        cancel: CancelToken,
    ) -> Result<Self, AlignError> {
        plan.check()?;
        let split = Split::draw(&stimuli, &plan.validation, plan.seed);
        check(&plan, &stimuli, &split)?;
        let frozen = model.to_network(&device.clone().autodiff());
        check_tap(&frozen, &plan.tap)?;
        let start = frozen.valid();
        let network = unfreeze(frozen, &plan.frozen).map_err(AlignError::Model)?;
        Ok(Self {
            targets: targets(&stimuli, &split, plan.control, plan.seed),
            optimiser: Descent::new(&plan.optimiser),
            mean: similarity::RunningMean::default(),
            step: 0,
            best: None,
            looks_since_best: 0,
            plan,
            stimuli,
            test,
            split,
            device,
            start,
            network,
            cancel,
        })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The last step is done, or the similarity has not risen for too long.
    pub fn is_finished(&self) -> bool {
        let patience = self.plan.validation.patience;
        let tired = patience > 0 && self.looks_since_best >= patience;
        self.step >= self.plan.steps || tired
    }

    /// Is it time for a look?
    pub fn is_look_due(&self) -> bool {
        self.step.is_multiple_of(self.plan.validation.every) || self.is_finished()
    }

    /// The network as it is now, on the inner side.
    pub fn network(&self) -> Network {
        self.network.valid()
    }

    /// The network as it began, on the inner side.
    pub fn start(&self) -> &Network {
        &self.start
    }

    /// The network as it was at the best look, or as it is now where there was none.
    pub fn best(&self) -> (Option<Look>, Network) {
        match &self.best {
            Some((look, network)) => (Some(*look), network.valid()),
            None => (None, self.network()),
        }
    }

    /// Back to the weights it began with, at the first step.
    pub fn undo(&mut self) -> Result<(), AlignError> {
        let frozen = self.start.clone().train().freeze();
        self.network = unfreeze(frozen, &self.plan.frozen).map_err(AlignError::Model)?;
        self.optimiser = Descent::new(&self.plan.optimiser);
        self.mean = similarity::RunningMean::default();
        (self.step, self.best, self.looks_since_best) = (0, None, 0);
        Ok(())
    }

    /// Passes a batch in one part more from now on, where memory was short. False where its parts
    /// would become too small for CKA.
    pub fn split_further(&mut self) -> bool {
        let parts = self.plan.parts * 2;
        let fits = self.plan.batch / parts >= 4;
        if fits {
            self.plan.parts = parts;
        }
        fits
    }

    /// Goes one step.
    ///
    /// # Errors
    /// [`AlignError::Diverged`], with the network as it was before; a device that failed.
    pub async fn step(&mut self) -> Result<Step, AlignError> {
        self.cancel.check()?;
        let progress = self.step as f64 / self.plan.steps as f64;
        let rate = self.plan.schedule.rate(progress, self.plan.steps);
        let batch = self.batch();
        let mut sum = GradientsAccumulator::new();
        let mut terms: BTreeMap<String, f32> = BTreeMap::new();
        let mut total = 0.0;
        let (n, parts) = (batch.len(), self.plan.parts);
        for number in 0..parts {
            let part = &batch[number * n / parts..(number + 1) * n / parts];
            let share = part.len() as f64 / batch.len() as f64;
            let mut rng = Rng::stream(self.plan.seed, &format!("step {} {number}", self.step));
            let (found, heads) = self.descend(part, share, progress, &mut rng).await?;
            sum.accumulate(&self.network, found);
            for (name, weight, value) in heads {
                *terms.entry(name.to_owned()).or_default() += value * share as f32;
                total += weight as f32 * value * share as f32;
            }
        }
        if !total.is_finite() {
            return Err(AlignError::Diverged {
                step: self.step,
                loss: total,
            });
        }
        let mut gradients = sum.grads();
        clip(&self.network, &mut gradients, self.plan.clip).await?;
        self.network = self.optimiser.step(rate, self.network.clone(), gradients);
        self.step += 1;
        Ok(Step {
            step: self.step,
            rate,
            loss: total,
            terms,
        })
    }

    /// The training stimuli of the step, by their places in [`Split::training`].
    fn batch(&self) -> Vec<usize> {
        let n = self.split.training.len();
        let size = self.plan.batch.min(n);
        let steps = n / size;
        let (epoch, place) = (self.step / steps, self.step % steps);
        let mut order: Vec<usize> = (0..n).collect();
        Rng::stream(self.plan.seed, &format!("epoch {epoch}")).shuffle(&mut order);
        order[place * size..(place + 1) * size].to_vec()
    }

    /// Gradients of a part of a batch, times its share, and the terms with their weights.
    async fn descend(
        &mut self,
        part: &[usize],
        share: f64,
        progress: f64,
        rng: &mut Rng,
    ) -> Result<(GradientsParams, Vec<(&'static str, f64, f32)>), AlignError> {
        let training = self.device.clone().autodiff();
        let input = self.input(part, rng);
        let n = part.len();
        let x = self.tensor(&input.pixels, &training);
        let noise = self.network.draw_noise(n, self.side(), rng, &training);
        let mut probe = Probe::new(
            Taps::Named(vec![self.plan.tap.clone()]),
            self.cancel.clone(),
        );
        let logits = self.network.forward_probed(x, noise, &mut probe)?;
        let features = flat(probe)?;

        let losses = self.plan.losses.clone();
        let warm = match losses.warm_up > 0.0 {
            true => (progress / losses.warm_up).min(1.0),
            false => 1.0,
        };
        let mut terms: Vec<(&'static str, f64, Tensor<1>)> = Vec::new();
        if losses.cross_entropy > 0.0 && self.stimuli.labelled {
            let smoothing = losses.label_smoothing;
            let loss = cross_entropy(logits.clone(), &input.labels, smoothing);
            terms.push(("cross-entropy", losses.cross_entropy, loss));
        }
        if losses.distillation > 0.0 {
            let teacher = self.teacher(&input.pixels)?;
            let loss = distil::distillation(logits, teacher, losses.temperature);
            terms.push(("distillation", losses.distillation, loss));
        }
        if losses.aligns() {
            let neuroids = self.split.neuroids.len();
            let y = cka::rows(&self.targets, neuroids, part, &training);
            if losses.cka > 0.0 {
                let loss = losses.form.of(cka::cka(features.clone(), y.clone()));
                terms.push(("cka", warm * losses.cka, loss));
            }
            if losses.similarity > 0.0 {
                let ours = similarity::cosines(self.mean.centre(features));
                let theirs = similarity::cosines(y.clone() - y.mean_dim(0));
                let loss = similarity::loss(ours, theirs);
                terms.push(("similarity", warm * losses.similarity, loss));
            }
        }
        if losses.harmonizer > 0.0 && !self.stimuli.heat_maps.is_empty() {
            let still = self.network.clone().freeze();
            let trained = |x| self.network.forward(x, None);
            let still = |x| still.forward(x, None);
            let loss = harmonize(trained, still, &input, self.side(), &self.device).await?;
            terms.push(("harmonizer", warm * losses.harmonizer, loss));
        }
        if losses.stay > 0.0 {
            let loss = distance(&self.network, &self.start, &training);
            terms.push(("stay", losses.stay, loss));
        }
        let total = terms
            .iter()
            .map(|(_, weight, loss)| loss.clone() * (weight * share))
            .reduce(|sum, term| sum + term)
            .ok_or(PlanError::NoLoss)?;
        let gradients = GradientsParams::from_grads(total.backward(), &self.network);
        let values = Tensor::cat(
            terms
                .iter()
                .map(|(.., loss)| loss.clone().detach())
                .collect(),
            0,
        );
        let values = read(values).await?;
        let heads = terms.iter().zip(values);
        let heads = heads.map(|((name, weight, _), value)| (*name, *weight, value));
        Ok((gradients, heads.collect()))
    }

    /// The starting network's logits, on the training side.
    fn teacher(&self, pixels: &[f32]) -> Result<Tensor<2>, AlignError> {
        let x = self.tensor(pixels, &self.device);
        Ok(Tensor::from_inner(self.start.forward(x, None)))
    }

    /// Looks at the network, and keeps it where it is the best so far.
    ///
    /// # Errors
    /// A device that failed; fewer than four stimuli held out or trained on.
    pub async fn look(&mut self) -> Result<Look, AlignError> {
        let network = self.network.valid();
        let look = self.look_at(&network).await?;
        let rises = |(best, _): &(Look, Network)| look.held_out_stimuli > best.held_out_stimuli;
        if self.best.as_ref().is_none_or(rises) {
            self.best = Some((look, self.network.clone()));
            self.looks_since_best = 0;
        } else {
            self.looks_since_best += 1;
        }
        Ok(look)
    }

    /// A look at another network in this one's place.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn look_at(&self, network: &Network) -> Result<Look, AlignError> {
        let split = &self.split;
        let seen: Vec<usize> = split.training.iter().copied().take(LOOKED_AT).collect();
        let training = self.features(network, &seen).await?;
        let held_out = self.held_out_features(network).await?;
        let similarity = |features: &Matrix, rows: &[usize], neuroids: &[usize]| {
            let responses = pick(&self.stimuli, rows, neuroids);
            let responses = Matrix::from_f32(rows.len(), neuroids.len(), &responses)?;
            match rows.len() >= 4 && !neuroids.is_empty() {
                true => measure_cka(features, &responses, Kernel::Linear, Estimator::Unbiased),
                false => Ok(f64::NAN),
            }
        };
        let accuracy = self.accuracy(network).await?;
        Ok(Look {
            step: self.step,
            training: similarity(&training, &seen, &split.neuroids)?,
            held_out_stimuli: similarity(&held_out, &split.held_out, &split.neuroids)?,
            held_out_neuroids: similarity(&held_out, &split.held_out, &split.held_out_neuroids)?,
            accuracy,
            images: self.test.len(),
        })
    }

    /// The tap's answers to the held-out stimuli.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn held_out_features(&self, network: &Network) -> Result<Matrix, AlignError> {
        self.features(network, &self.split.held_out).await
    }

    /// Centred kernels of the held-out stimuli: the network's, and that of all true responses.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn held_out_kernels(&self, network: &Network) -> Result<[Gram; 2], AlignError> {
        let features = self.held_out_features(network).await?;
        Ok([centred(&features), centred(&self.held_out_responses()?)])
    }

    /// The true responses to the held-out stimuli, `[stimuli, neuroids]`.
    ///
    /// # Errors
    /// Nothing held out.
    pub fn held_out_responses(&self) -> Result<Matrix, AlignError> {
        let rows = &self.split.held_out;
        let all: Vec<usize> = (0..self.stimuli.neuroids).collect();
        let values = pick(&self.stimuli, rows, &all);
        Ok(Matrix::from_f32(rows.len(), all.len(), &values)?)
    }

    /// The held-out stimuli in the order of their classes: places among them, and the classes.
    pub fn held_out_by_class(&self) -> (Vec<usize>, Vec<u16>) {
        let label = |place: &usize| self.stimuli.images.labels[self.split.held_out[*place]];
        let mut order: Vec<usize> = (0..self.split.held_out.len()).collect();
        order.sort_by_key(label);
        let classes = order.iter().map(label).collect();
        (order, classes)
    }

    /// Every area's name and its centred kernel of the held-out stimuli, at its last time step.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn area_kernels(
        &self,
        network: &Network,
    ) -> Result<(Vec<String>, Vec<Gram>), AlignError> {
        let areas = network.areas();
        let (images, rows) = (&self.stimuli.images, &self.split.held_out);
        let mut kernels = Vec::new();
        for area in &areas {
            let (device, cancel) = (&self.device, &self.cancel);
            let features = features(network, images, rows, area, device, cancel).await?;
            kernels.push(centred(&features));
        }
        Ok((areas, kernels))
    }

    async fn features(&self, network: &Network, rows: &[usize]) -> Result<Matrix, AlignError> {
        features(
            network,
            &self.stimuli.images,
            rows,
            &self.plan.tap,
            &self.device,
            &self.cancel,
        )
        .await
    }

    async fn accuracy(&self, network: &Network) -> Result<Option<f64>, AlignError> {
        if self.test.is_empty() {
            return Ok(None);
        }
        let right = right(network, &self.test, LOOK_BATCH, &self.device, &self.cancel).await?;
        Ok(Some(right as f64 / self.test.len() as f64))
    }

    fn side(&self) -> usize {
        self.stimuli.images.size
    }

    fn tensor(&self, pixels: &[f32], device: &Device) -> Tensor<4> {
        let side = self.side();
        let n = pixels.len() / (3 * side * side);
        Tensor::from_data(TensorData::new(pixels.to_vec(), [n, 3, side, side]), device)
    }

    /// Pixels, labels and heat maps of training stimuli, by their places, mirrored by chance.
    fn input(&self, part: &[usize], rng: &mut Rng) -> Input {
        let rows: Vec<usize> = part.iter().map(|i| self.split.training[*i]).collect();
        let side = self.side();
        let (mut pixels, labels) = self.stimuli.images.inputs(&rows);
        let plane = side * side;
        let maps = |row: &usize| self.stimuli.heat_maps.get(row * plane..(row + 1) * plane);
        let mut heat_maps: Vec<f32> = rows.iter().flat_map(maps).flatten().copied().collect();
        for i in 0..rows.len() {
            if !self.plan.flip || rng.uniform_f32() < 0.5 {
                continue;
            }
            mirror(&mut pixels[i * 3 * plane..(i + 1) * 3 * plane], side);
            if let Some(map) = heat_maps.get_mut(i * plane..(i + 1) * plane) {
                mirror(map, side);
            }
        }
        Input {
            pixels,
            labels,
            heat_maps,
        }
    }

    /// What to keep: a header, the weights as they are, the optimiser's state, and the best
    /// weights.
    ///
    /// # Errors
    /// A state that cannot be written, a device that failed.
    pub async fn keep(&self) -> Result<(Kept, [Vec<u8>; 3]), AlignError> {
        let kept = Kept {
            plan: self.plan.clone(),
            step: self.step,
            best: self.best.as_ref().map(|(look, _)| *look),
            looks_since_best: self.looks_since_best,
            mean: self.mean.keep().await?,
        };
        let steps = self.optimiser.keep().await?;
        let weights = values_of(&self.network.valid()).await?;
        let best = match &self.best {
            Some((_, network)) => values_of(&network.valid()).await?,
            None => Vec::new(),
        };
        Ok((kept, [weights, steps, best]))
    }

    /// Goes on from what was kept of a run of the same plan.
    ///
    /// # Errors
    /// A state of another plan or model.
    pub fn resume(&mut self, kept: &Kept, files: [Vec<u8>; 3]) -> Result<(), AlignError> {
        let parts = kept.plan.parts;
        if kept.plan
            != (Plan {
                parts,
                ..self.plan.clone()
            })
        {
            return Err(AlignError::State("it is of another plan".to_owned()));
        }
        let [weights, steps, best] = files;
        let fill = |network: &Network, bytes: &[u8]| {
            let network = filled(network.clone(), bytes)?;
            unfreeze(network.freeze(), &self.plan.frozen).map_err(AlignError::Model)
        };
        let best = match kept.best {
            Some(look) => Some((look, fill(&self.network, &best)?)),
            None => None,
        };
        self.network = fill(&self.network, &weights)?;
        let optimiser = Descent::resume(&self.plan.optimiser, &steps, &self.device);
        let cut = || AlignError::State("the optimiser's state is cut short".to_owned());
        self.optimiser = optimiser.ok_or_else(cut)?;
        let training = self.device.clone().autodiff();
        self.mean = similarity::RunningMean::resume(&kept.mean, &training);
        (self.step, self.best, self.looks_since_best) = (kept.step, best, kept.looks_since_best);
        self.plan.parts = parts;
        Ok(())
    }
}

/// A part of a batch on the host.
pub struct Input {
    /// `[n, 3, side, side]` in [0, 1].
    pub pixels: Vec<f32>,
    /// `[n]`
    pub labels: Vec<u16>,
    /// `[n, side, side]`; empty, or 0 throughout for an image without one.
    pub heat_maps: Vec<f32>,
}

/// The harmonizer's loss, `[1]`: its value is that of [`harmonizer::loss`], and its gradient in the
/// weights is that value's, second derivatives and all, by the passes of [`harmonizer::probe`].
///
/// `trained` gives the logits of pixels on the training side of `device`; `still` gives the same and
/// asks for no gradient in the weights. For a network of smooth units the gradient is exact to
/// rounding (within 1 %); that of rectified ones also holds what comes from units the two passes
/// find on different sides of 0, which twofold autodiff leaves out.
///
/// # Errors
/// A device that failed.
pub async fn harmonize(
    trained: impl Fn(Tensor<4>) -> Tensor<2>,
    still: impl Fn(Tensor<4>) -> Tensor<2>,
    input: &Input,
    side: usize,
    device: &Device,
) -> Result<Tensor<1>, AlignError> {
    let training = device.clone().autodiff();
    let n = input.labels.len();
    let tensor = |pixels: &[f32]| {
        let shape = [pixels.len() / (3 * side * side), 3, side, side];
        Tensor::<4>::from_data(TensorData::new(pixels.to_vec(), shape), &training)
    };
    let x = tensor(&input.pixels).require_grad();
    let logits = true_logits(still(x.clone()), &input.labels);
    let gradient = x.grad(&logits.sum().backward());
    let gradient = gradient
        .ok_or_else(|| AlignError::Model("the logits do not depend on the image".into()))?;
    let map = Tensor::from_inner(harmonizer::saliency(gradient)).require_grad();
    let human = TensorData::new(input.heat_maps.clone(), [n, 1, side, side]);
    let human = Tensor::from_data(human, &training);
    let maps = input.heat_maps.chunks_exact(side * side);
    let told: Vec<f32> = maps
        .map(|map| f32::from(u8::from(map.iter().any(|v| *v != 0.0))))
        .collect();
    let told = Tensor::from_data(TensorData::new(told, [n]), &training);
    let loss = harmonizer::loss(map.clone(), human, told);
    let slope = match map.grad(&loss.backward()) {
        Some(slope) => read(slope).await?,
        None => vec![0.0; n * side * side],
    };
    let probe = harmonizer::probe(&input.pixels, &slope, n);
    let both = [input.labels.as_slice(), input.labels.as_slice()].concat();
    let logits = true_logits(trained(tensor(&probe.inputs)), &both);
    let factors = Tensor::from_data(TensorData::new(probe.factors, [2 * n]), &training);
    let slope = (logits * factors).sum();
    // The slope has the gradient and the loss the value: what lies between is a constant.
    Ok(slope.clone() + (loss.detach() - slope.detach()))
}

fn check(plan: &Plan, stimuli: &Stimuli, split: &Split) -> Result<(), AlignError> {
    let data = |sentence: String| Err(AlignError::Data(sentence));
    let images = stimuli.images.len();
    if stimuli.neuroids * images != stimuli.responses.len() {
        return data(format!(
            "there are {images} images and responses to {}; both must be of the same stimuli",
            stimuli.responses.len() / stimuli.neuroids.max(1)
        ));
    }
    if split.held_out.len() < LEAST_HELD_OUT {
        return data(format!(
            "{} of {images} stimuli are held out, and it takes {LEAST_HELD_OUT} to tell a similarity; \
             bring more images or hold out a larger share",
            split.held_out.len()
        ));
    }
    if split.training.len() < plan.batch {
        return data(format!(
            "{} stimuli are left to train on, fewer than a batch of {}; bring more images, hold out \
             fewer or take a smaller batch",
            split.training.len(),
            plan.batch
        ));
    }
    if plan.losses.aligns() && split.neuroids.is_empty() {
        return data("no neuroid is left to train on".to_owned());
    }
    let l = &plan.losses;
    if l.harmonizer > 0.0 && stimuli.heat_maps.is_empty() {
        return data(
            "the harmonizer has a weight and there are no heat maps; bring some, or set it to 0"
                .to_owned(),
        );
    }
    if l.harmonizer > 0.0 && !stimuli.labelled {
        return data(
            "the harmonizer asks what speaks for an image's class, and the stimuli have no classes of \
             the model; label them, or set it to 0"
                .to_owned(),
        );
    }
    let others = [l.cka, l.similarity, l.distillation];
    if !stimuli.labelled && others.iter().all(|weight| *weight == 0.0) {
        return data(
            "the stimuli have no classes of the model, so cross-entropy alone trains nothing; give \
             another term a weight"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_tap(network: &Network, tap: &str) -> Result<(), AlignError> {
    let taps = network.taps();
    if taps.iter().any(|t| t.name == tap || t.area == tap) {
        return Ok(());
    }
    let known: Vec<&str> = taps.iter().map(|t| t.name.as_str()).collect();
    Err(AlignError::Model(format!(
        "the model has no area `{tap}`; it has {}",
        known.join(", ")
    )))
}

/// The answers of `tap` to `rows` of `images`, without front-end noise; f32 on the device and f64
/// here.
///
/// # Errors
/// A tap the network does not have, a device that failed.
pub async fn features(
    network: &Network,
    images: &LabelledSet,
    rows: &[usize],
    tap: &str,
    device: &Device,
    cancel: &CancelToken,
) -> Result<Matrix, AlignError> {
    check_tap(network, tap)?;
    let side = images.size;
    let mut values = Vec::new();
    for rows in rows.chunks(LOOK_BATCH) {
        let (pixels, _) = images.inputs(rows);
        let shape = [rows.len(), 3, side, side];
        let x = Tensor::from_data(TensorData::new(pixels, shape), device);
        let mut probe = Probe::new(Taps::Named(vec![tap.to_owned()]), cancel.clone());
        network.forward_probed(x, None, &mut probe)?;
        values.extend(read(flat(probe)?).await?);
    }
    let columns = values.len() / rows.len().max(1);
    Ok(Matrix::from_f32(rows.len(), columns, &values)?)
}

fn centred(responses: &Matrix) -> Gram {
    Estimator::Unbiased.centre(&Kernel::Linear.of(responses))
}

/// The one tap of a pass, `[n, c · h · w]`.
fn flat(probe: Probe) -> Result<Tensor<2>, AlignError> {
    let seen = probe.into_activations().pop();
    let (_, x) = seen.ok_or_else(|| AlignError::Model("the area did not answer".to_owned()))?;
    Ok(crate::model::layers::flatten(x))
}

fn mirror(planes: &mut [f32], side: usize) {
    planes.chunks_exact_mut(side).for_each(<[f32]>::reverse);
}

/// The logit of each image's class, `[n]`.
fn true_logits(logits: Tensor<2>, labels: &[u16]) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let mut chosen = vec![0.0_f32; n * classes];
    for (i, label) in labels.iter().enumerate() {
        if let Some(one) = chosen.get_mut(i * classes + usize::from(*label)) {
            *one = 1.0;
        }
    }
    let chosen = Tensor::from_data(TensorData::new(chosen, [n, classes]), &logits.device());
    (logits * chosen).sum_dim(1).reshape([n])
}

/// Half the squared distance of two networks' parameters. Those that cannot move add nothing.
fn distance(network: &Network, start: &Network, device: &Device) -> Tensor<1> {
    let mut before = Vec::new();
    names::visit(start, |_, _, flat| before.push(flat.tensor()));
    let mut before = before.into_iter();
    let mut sum = Tensor::<1>::zeros([1], device);
    names::visit(network, |name, _, flat| {
        let Some(before) = before.next() else { return };
        if name.contains(".running_") {
            return;
        }
        let moved = flat.tensor() - Tensor::from_inner(before);
        sum = sum.clone() + moved.powf_scalar(2.0).sum() * 0.5;
    });
    sum
}

/// All parameters and buffers, f32 little-endian, in the order of the modules.
async fn values_of(network: &Network) -> Result<Vec<u8>, AlignError> {
    let mut tensors = Vec::new();
    names::visit(network, |_, _, flat| tensors.push(flat.tensor()));
    let mut bytes = Vec::new();
    for tensor in tensors {
        bytes.extend(read(tensor).await?.iter().flat_map(|v| v.to_le_bytes()));
    }
    Ok(bytes)
}

/// The network with these values, as [`values_of`] gave them.
fn filled(network: Network, bytes: &[u8]) -> Result<Network, AlignError> {
    let sizes = network.config().tensors();
    let wanted: usize = sizes
        .iter()
        .map(|n| 4 * n.shape.iter().product::<usize>())
        .sum();
    if wanted != bytes.len() {
        return Err(AlignError::State("it is of another model".to_owned()));
    }
    let (quads, _) = bytes.as_chunks::<4>();
    let mut values = quads.iter().map(|quad| f32::from_le_bytes(*quad));
    Ok(names::replace(network, |_, shape| {
        let count = shape.iter().product();
        Some(values.by_ref().take(count).collect())
    }))
}

/// Reads a tensor back as f32.
pub(super) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, AlignError> {
    let data = tensor.into_data_async().await?;
    data.try_to_vec().map_err(|_| {
        AlignError::Model("the device returned numbers of an unexpected type".to_owned())
    })
}

/// How much more alike one network is to the responses than another, with what chance alone would
/// make of it: the jackknife over held-out stimuli (Tukey 1958).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    pub ours: f64,
    pub theirs: f64,
    /// `ours − theirs`.
    pub gain: f64,
    /// 95 % interval.
    pub low: f64,
    pub high: f64,
}

impl Gain {
    /// Of kernels over the same stimuli, uncentred or centred alike: two networks' and the
    /// responses'.
    ///
    /// # Errors
    /// Fewer than five stimuli.
    pub fn between(ours: &Gram, theirs: &Gram, responses: &Gram) -> Result<Self, SimilarityError> {
        let n = responses.n;
        if n < 5 {
            return Err(SimilarityError::TooFew {
                stimuli: n,
                needed: 5,
            });
        }
        let similarity = |k: &Gram, l: &Gram| {
            let [k, l] = [k, l].map(|kernel| Estimator::Unbiased.centre(kernel));
            of_centred(&k, &l)
        };
        let (a, b) = (similarity(ours, responses), similarity(theirs, responses));
        let left_out: Vec<f64> = (0..n)
            .map(|i| {
                let rest: Vec<usize> = (0..n).filter(|j| *j != i).collect();
                let [ours, theirs, responses] =
                    [ours, theirs, responses].map(|kernel| kernel.permuted(&rest));
                similarity(&ours, &responses) - similarity(&theirs, &responses)
            })
            .collect();
        let mean = left_out.iter().sum::<f64>() / n as f64;
        let squares: f64 = left_out.iter().map(|v| (v - mean).powi(2)).sum();
        let error = (squares * (n - 1) as f64 / n as f64).sqrt();
        Ok(Self {
            ours: a,
            theirs: b,
            gain: a - b,
            low: a - b - 1.96 * error,
            high: a - b + 1.96 * error,
        })
    }
}
