//! The terms of an alignment's loss: a file each, and a row of [`TERMS`].
//!
//! Each term is a function of tensors, differentiable once, on any device. Its weight is a key of
//! the plan ([`weights::Losses`]).

pub mod cka;
pub mod cross_entropy;
pub mod distillation;
pub mod harmonizer;
pub mod l2_sp;
pub mod similarity;
pub mod weights;

use std::future::{Future, ready};
use std::pin::Pin;

use burn::tensor::{Device, Tensor, TensorData};

use self::similarity::RunningMean;
use self::weights::Losses;
use super::error::AlignError;
use super::stimuli::Stimuli;
use crate::model::network::Network;

/// A term's value, `[1]`.
pub type Loss<'c> = Pin<Box<dyn Future<Output = Result<Tensor<1>, AlignError>> + 'c>>;

/// A term that needs no read from the device.
fn computed<'c>(loss: Tensor<1>) -> Loss<'c> {
    Box::pin(ready(Ok(loss)))
}

/// A term of the loss.
pub struct Term {
    /// In tables and curves.
    pub name: &'static str,
    weight: fn(&Losses) -> f64,
    /// Whether the weight rises during the warm-up.
    warms_up: bool,
    needs: Needs,
    loss: for<'c> fn(&'c mut Context<'_>) -> Loss<'c>,
}

/// What the stimuli must have for a term; without it the term is left out.
enum Needs {
    Nothing,
    Labels,
    HeatMaps,
}

const fn row(
    name: &'static str,
    weight: fn(&Losses) -> f64,
    warms_up: bool,
    needs: Needs,
    loss: for<'c> fn(&'c mut Context<'_>) -> Loss<'c>,
) -> Term {
    Term {
        name,
        weight,
        warms_up,
        needs,
        loss,
    }
}

/// All terms, in the order in which they are summed: the name, the weight, whether it warms up, the
/// data it needs, and the function.
#[rustfmt::skip]
pub const TERMS: &[Term] = &[
    row("cross-entropy", |l| l.cross_entropy, false, Needs::Labels,   cross_entropy::term),
    row("distillation",  |l| l.distillation,  false, Needs::Nothing,  distillation::term),
    row("cka",           |l| l.cka,           true,  Needs::Nothing,  cka::term),
    row("similarity",    |l| l.similarity,    true,  Needs::Nothing,  similarity::term),
    row("harmonizer",    |l| l.harmonizer,    true,  Needs::HeatMaps, harmonizer::term),
    row("stay",          |l| l.l2_sp,         false, Needs::Nothing,  l2_sp::term),
];

impl Term {
    /// Whether the term has a weight and the stimuli have its data.
    pub fn applies(&self, losses: &Losses, stimuli: &Stimuli) -> bool {
        let has_data = match self.needs {
            Needs::Nothing => true,
            Needs::Labels => stimuli.labelled,
            Needs::HeatMaps => !stimuli.heat_maps.is_empty(),
        };
        has_data && (self.weight)(losses) > 0.0
    }

    /// The weight at `progress` in [0, 1] of the run.
    pub fn weight(&self, losses: &Losses, progress: f64) -> f64 {
        let weight = (self.weight)(losses);
        match self.warms_up {
            true => losses.warm_up_factor(progress) * weight,
            false => weight,
        }
    }

    /// The value, without its weight.
    pub fn loss<'c>(&self, context: &'c mut Context<'_>) -> Loss<'c> {
        (self.loss)(context)
    }
}

/// What terms are computed from: a part of a batch, of `n` images.
pub struct Context<'a> {
    pub losses: &'a Losses,
    /// On the training side of the device.
    pub network: &'a Network,
    /// The network as it began, frozen, on the plain side.
    pub start: &'a Network,
    /// The plain side.
    pub device: &'a Device,
    pub input: &'a Input,
    /// `[n, classes]`
    pub logits: Tensor<2>,
    /// The activations of the aligned tap, `[n, units]`.
    pub features: Tensor<2>,
    /// `[training stimuli, neuroids]`, as the control has them.
    pub targets: &'a [f32],
    pub neuroids: usize,
    /// The part's rows of `targets`.
    pub part: &'a [usize],
    pub mean: &'a mut RunningMean,
}

impl Context<'_> {
    /// The part's targets, `[n, neuroids]`, on the training side of the device.
    pub fn targets(&self) -> Tensor<2> {
        let row = |i: &usize| &self.targets[i * self.neuroids..(i + 1) * self.neuroids];
        let values: Vec<f32> = self.part.iter().flat_map(row).copied().collect();
        let data = TensorData::new(values, [self.part.len(), self.neuroids]);
        Tensor::from_data(data, &self.device.clone().autodiff())
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
    /// Of the images, px.
    pub side: usize,
}

impl Input {
    /// The pixels as a tensor.
    pub fn tensor(&self, device: &Device) -> Tensor<4> {
        let shape = [self.labels.len(), 3, self.side, self.side];
        Tensor::from_data(TensorData::new(self.pixels.clone(), shape), device)
    }
}
