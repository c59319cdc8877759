//! A run of an alignment: one step at a time, on any device, driven by its caller.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::AlignError;
use super::features::{centred, check_tap, features, single_tap};
use super::freezing::unfreeze;
use super::loss::similarity::RunningMean;
use super::loss::{Context, Input, TERMS};
use super::plan::{Plan, PlanError};
use super::requirements::check;
use super::stimuli::{Split, Stimuli, pick, targets};
use crate::image::dataset::LabelledSet;
use crate::measure::similarity::cka::{Estimator, Kernel, cka};
use crate::measure::similarity::{Gram, Matrix};
use crate::model::load::Loaded;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Probe, Taps};
use crate::rng::Rng;
use crate::train::accuracy::{count_correct, read};
use crate::train::clip::clip;
use crate::train::optimiser::Optimiser;

/// Images a pass when accuracy is measured.
const BATCH: usize = 50;

/// Training stimuli whose similarity is measured, at most.
const MEASURED: usize = 200;

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done, including this one.
    pub step: usize,
    /// The learning rate.
    pub rate: f64,
    /// The weighted sum of the terms.
    pub loss: f32,
    /// Every term without its weight.
    pub terms: BTreeMap<String, f32>,
}

/// An evaluation of the network between steps. Similarities are unbiased linear CKA of the tap with
/// the true responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
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
    /// Accuracy, 0 to 1, on images that are no stimuli, where there are any.
    pub accuracy: Option<f64>,
    /// The number of those images.
    pub images: usize,
}

/// JSON writes `null` for a similarity that is undefined because nothing was held out.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A run of a plan.
pub struct Aligner {
    pub(super) plan: Plan,
    pub(super) stimuli: Stimuli,
    /// Images that are no stimuli.
    pub(super) test: LabelledSet,
    pub(super) split: Split,
    /// `[training stimuli, training neuroids]`, as the control has them.
    pub(super) targets: Vec<f32>,
    /// Its plain side.
    pub(super) device: Device,
    /// The network at the beginning: frozen, on the plain side.
    pub(super) start: Network,
    /// On the training side.
    pub(super) network: Network,
    pub(super) optimiser: Optimiser,
    pub(super) mean: RunningMean,
    pub(super) step: usize,
    pub(super) best: Option<(Evaluation, Network)>,
    pub(super) looks_since_best: usize,
    pub(super) cancel: CancelToken,
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
        let network = unfreeze(frozen, &plan.frozen)?;
        Ok(Self {
            targets: targets(&stimuli, &split, plan.control, plan.seed),
            optimiser: Optimiser::new(&plan.optimiser),
            mean: RunningMean::default(),
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

    /// Whether it is time for an evaluation.
    pub fn is_evaluation_due(&self) -> bool {
        self.step.is_multiple_of(self.plan.validation.every) || self.is_finished()
    }

    /// The current network, on the plain side.
    pub fn network(&self) -> Network {
        self.network.valid()
    }

    /// The network at the beginning, on the plain side.
    pub fn start(&self) -> &Network {
        &self.start
    }

    /// The network at the best evaluation, or the current one before the first.
    pub fn best(&self) -> (Option<Evaluation>, Network) {
        match &self.best {
            Some((evaluation, network)) => (Some(*evaluation), network.valid()),
            None => (None, self.network()),
        }
    }

    /// Back to the first step and the weights at the beginning.
    pub fn undo(&mut self) -> Result<(), AlignError> {
        let frozen = self.start.clone().train().freeze();
        self.network = unfreeze(frozen, &self.plan.frozen)?;
        self.optimiser = Optimiser::new(&self.plan.optimiser);
        self.mean = RunningMean::default();
        (self.step, self.best, self.looks_since_best) = (0, None, 0);
        Ok(())
    }

    /// Splits a batch into twice as many parts from now on, where memory was short. False where the
    /// parts would be too small for CKA.
    pub fn split_further(&mut self) -> bool {
        let parts = self.plan.parts * 2;
        let fits = self.plan.batch / parts >= 4;
        if fits {
            self.plan.parts = parts;
        }
        fits
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`AlignError::Diverged`], with the network unchanged; a device that failed.
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
            let (gradients, values) = self.gradients(part, share, progress, &mut rng).await?;
            sum.accumulate(&self.network, gradients);
            for (name, weight, value) in values {
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

    /// The training stimuli of the step, by their indices in [`Split::training`].
    fn batch(&self) -> Vec<usize> {
        let n = self.split.training.len();
        let size = self.plan.batch.min(n);
        let steps = n / size;
        let (epoch, place) = (self.step / steps, self.step % steps);
        let mut order: Vec<usize> = (0..n).collect();
        Rng::stream(self.plan.seed, &format!("epoch {epoch}")).shuffle(&mut order);
        order[place * size..(place + 1) * size].to_vec()
    }

    /// Gradients of a part of a batch, times its share, and each term's name, weight and value.
    async fn gradients(
        &mut self,
        part: &[usize],
        share: f64,
        progress: f64,
        rng: &mut Rng,
    ) -> Result<(GradientsParams, Vec<(&'static str, f64, f32)>), AlignError> {
        let training = self.device.clone().autodiff();
        let input = self.input(part, rng);
        let x = input.tensor(&training);
        let noise = self
            .network
            .draw_noise(part.len(), input.side, rng, &training);
        let tap = Taps::Named(vec![self.plan.tap.clone()]);
        let mut probe = Probe::new(tap, self.cancel.clone());
        let logits = self.network.forward_probed(x, noise, &mut probe)?;
        let mut context = Context {
            losses: &self.plan.losses,
            network: &self.network,
            start: &self.start,
            device: &self.device,
            input: &input,
            logits,
            features: single_tap(probe)?,
            targets: &self.targets,
            neuroids: self.split.neuroids.len(),
            part,
            mean: &mut self.mean,
        };
        let mut terms = Vec::new();
        for term in TERMS
            .iter()
            .filter(|term| term.applies(&self.plan.losses, &self.stimuli))
        {
            let weight = term.weight(&self.plan.losses, progress);
            terms.push((term.name, weight, term.loss(&mut context).await?));
        }
        let weighted = terms
            .iter()
            .map(|(_, weight, loss)| loss.clone() * (weight * share));
        let total = weighted
            .reduce(|sum, term| sum + term)
            .ok_or(PlanError::NoLoss)?;
        let gradients = GradientsParams::from_grads(total.backward(), &self.network);
        // One read for all: on a GPU every read waits for it.
        let values = terms
            .iter()
            .map(|(.., loss)| loss.clone().detach())
            .collect();
        let values = read(Tensor::cat(values, 0)).await?;
        let named = terms.iter().zip(values);
        let named = named.map(|((name, weight, _), value)| (*name, *weight, value));
        Ok((gradients, named.collect()))
    }

    /// Evaluates the network, and keeps it where it is the best so far.
    ///
    /// # Errors
    /// A device that failed; fewer than four stimuli held out or trained on.
    pub async fn evaluate(&mut self) -> Result<Evaluation, AlignError> {
        let network = self.network.valid();
        let evaluation = self.evaluate_network(&network).await?;
        let rises =
            |(best, _): &(Evaluation, Network)| evaluation.held_out_stimuli > best.held_out_stimuli;
        if self.best.as_ref().is_none_or(rises) {
            self.best = Some((evaluation, self.network.clone()));
            self.looks_since_best = 0;
        } else {
            self.looks_since_best += 1;
        }
        Ok(evaluation)
    }

    /// Evaluates another network.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub async fn evaluate_network(&self, network: &Network) -> Result<Evaluation, AlignError> {
        let split = &self.split;
        let seen: Vec<usize> = split.training.iter().copied().take(MEASURED).collect();
        let training = self.features(network, &seen).await?;
        let held_out = self.held_out_features(network).await?;
        let similarity = |features: &Matrix, rows: &[usize], neuroids: &[usize]| {
            let responses = pick(&self.stimuli, rows, neuroids);
            let responses = Matrix::from_f32(rows.len(), neuroids.len(), &responses)?;
            match rows.len() >= 4 && !neuroids.is_empty() {
                true => cka(features, &responses, Kernel::Linear, Estimator::Unbiased),
                false => Ok(f64::NAN),
            }
        };
        let accuracy = self.accuracy(network).await?;
        Ok(Evaluation {
            step: self.step,
            training: similarity(&training, &seen, &split.neuroids)?,
            held_out_stimuli: similarity(&held_out, &split.held_out, &split.neuroids)?,
            held_out_neuroids: similarity(&held_out, &split.held_out, &split.held_out_neuroids)?,
            accuracy,
            images: self.test.len(),
        })
    }

    /// The tap's activations for the held-out stimuli.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn held_out_features(&self, network: &Network) -> Result<Matrix, AlignError> {
        self.features(network, &self.split.held_out).await
    }

    /// Centred kernels of the held-out stimuli: the network's, and that of all true responses.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
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

    /// The held-out stimuli in the order of their classes: their indices among them, and the classes.
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
        let (test, device) = (&self.test, &self.device);
        let correct = count_correct(network, test, BATCH, device, &self.cancel).await?;
        Ok(Some(correct as f64 / self.test.len() as f64))
    }

    /// Pixels, labels and heat maps of training stimuli, by their indices, mirrored at random.
    fn input(&self, part: &[usize], rng: &mut Rng) -> Input {
        let rows: Vec<usize> = part.iter().map(|i| self.split.training[*i]).collect();
        let side = self.stimuli.images.size;
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
            side,
        }
    }
}

fn mirror(planes: &mut [f32], side: usize) {
    planes.chunks_exact_mut(side).for_each(<[f32]>::reverse);
}
