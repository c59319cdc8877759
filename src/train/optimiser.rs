//! The optimisers of training and alignment, with a state that can be saved on one device and
//! restored on another. Burn's optimisers block while they read theirs and restore it on the default
//! device; a browser allows neither. The steps are those of Burn's.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use serde::{Deserialize, Serialize};

use super::demand::Demand;

/// How gradients become steps. Norms and biases are not decayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    #[serde(default)]
    pub kind: OptimiserKind,
    /// SGD only, 0 to 1; 0.9 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// AdamW only: decays of the first and second moment, each 0 to 1; 0.9 and 0.999 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f32; 2]>,
    /// At least 0. In SGD part of the gradient; in AdamW a shrinking of the weights by itself, in
    /// proportion to the rate.
    pub weight_decay: f32,
}

impl OptimiserConfig {
    /// The momentum of SGD.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(0.9)
    }

    /// The decays of AdamW.
    pub fn betas(&self) -> [f32; 2] {
        self.betas.unwrap_or([0.9, 0.999])
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013).
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), ε 1e-8.
    Adamw,
}

impl OptimiserConfig {
    pub(super) fn demands(&self) -> Vec<Demand> {
        let is_sgd = self.kind == OptimiserKind::Sgd;
        vec![
            (
                is_sgd || self.momentum.is_none(),
                "optimiser.momentum belongs to sgd; adamw has betas",
            ),
            (
                !is_sgd || self.betas.is_none(),
                "optimiser.betas belong to adamw; sgd has a momentum",
            ),
            (
                (0.0..1.0).contains(&self.momentum()),
                "optimiser.momentum must be at least 0 and below 1",
            ),
            (
                self.betas().iter().all(|b| (0.0..1.0).contains(b)),
                "optimiser.betas must be at least 0 and below 1",
            ),
            (
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
                "optimiser.weight_decay must be at least 0",
            ),
        ]
    }
}

/// Keeps AdamW's steps finite where a gradient vanishes; the paper's value.
const ADAM_EPSILON: f32 = 1e-8;

/// An optimiser and its state.
pub struct Optimiser {
    config: OptimiserConfig,
    steps: u32,
    /// For each parameter in the order of the module, flat and on the plain side: SGD's velocity,
    /// AdamW's two moments, nothing before its first gradient.
    moments: Vec<Vec<Tensor<1>>>,
}

/// A parameter before a step, flat; a step returns its weights and its moments.
struct Parameter {
    weights: Tensor<1>,
    gradient: Tensor<1>,
    moments: Vec<Tensor<1>>,
    rate: f64,
    decay: f64,
}

impl Optimiser {
    pub fn new(config: &OptimiserConfig) -> Self {
        Self {
            config: config.clone(),
            steps: 0,
            moments: Vec::new(),
        }
    }

    /// Moves every parameter that has a gradient. Those of one dimension, norms and biases, are not
    /// decayed.
    pub fn step<M: Module>(&mut self, rate: f64, module: M, gradients: GradientsParams) -> M {
        self.steps += 1;
        module.map(&mut Walk {
            optimiser: self,
            gradients,
            rate,
            place: 0,
        })
    }

    fn sgd(&self, parameter: Parameter) -> (Tensor<1>, Vec<Tensor<1>>) {
        let Parameter {
            weights,
            gradient,
            moments,
            rate,
            decay,
        } = parameter;
        let momentum = self.config.momentum();
        let gradient = match decay > 0.0 {
            true => gradient + weights.clone() * decay,
            false => gradient,
        };
        let velocity = match moments.into_iter().next() {
            Some(velocity) => gradient.clone() + velocity * momentum,
            None => gradient.clone(),
        };
        let step = gradient + velocity.clone() * momentum;
        (weights - step * rate, vec![velocity])
    }

    fn adamw(&self, parameter: Parameter) -> (Tensor<1>, Vec<Tensor<1>>) {
        let Parameter {
            weights,
            gradient,
            moments,
            rate,
            decay,
        } = parameter;
        let squared = gradient.clone() * gradient.clone();
        let mut known = moments.into_iter();
        let mut next = |beta: f32, new: Tensor<1>| {
            let new = new * (1.0 - beta);
            match known.next() {
                Some(old) => old * beta + new,
                None => new,
            }
        };
        let [first, second] = self.config.betas();
        let (mean, square) = (next(first, gradient), next(second, squared));
        // One count of steps serves all parameters: none gets its first gradient later than others,
        // as stages are frozen for a whole run.
        let corrected =
            |moment: &Tensor<1>, beta: f32| moment.clone() / (1.0 - beta.powi(self.steps as i32));
        let step = corrected(&mean, first) / (corrected(&square, second).sqrt() + ADAM_EPSILON);
        let weights = weights * (1.0 - rate * decay) - step * rate;
        (weights, vec![mean, square])
    }

    /// The state: the number of steps, then each parameter's moments with their lengths.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn save(&self) -> Result<Vec<u8>, ExecutionError> {
        let mut bytes = self.steps.to_le_bytes().to_vec();
        for moments in &self.moments {
            bytes.extend((moments.len() as u32).to_le_bytes());
            for moment in moments {
                let data = moment.clone().into_data_async().await?;
                bytes.extend((data.num_elements() as u32).to_le_bytes());
                bytes.extend(data.iter::<f32>().flat_map(f32::to_le_bytes));
            }
        }
        Ok(bytes)
    }

    /// Whether a restored state has the shape of this module's parameters.
    pub fn fits(&self, module: &impl Module) -> bool {
        let mut sizes = Sizes(Vec::new());
        module.visit(&mut sizes);
        let count = match self.config.kind {
            OptimiserKind::Sgd => 1,
            OptimiserKind::Adamw => 2,
        };
        let fits = |(moments, size): (&Vec<Tensor<1>>, &usize)| {
            (moments.is_empty() || moments.len() == count)
                && moments.iter().all(|moment| moment.dims() == [*size])
        };
        self.moments.len() == sizes.0.len() && self.moments.iter().zip(&sizes.0).all(fits)
    }

    /// An optimiser with a saved state. `None` where the state is cut short.
    pub fn restore(config: &OptimiserConfig, bytes: &[u8], device: &Device) -> Option<Self> {
        let mut restored = Self::new(config);
        let (steps, mut rest) = number(bytes)?;
        restored.steps = steps;
        while !rest.is_empty() {
            let (count, mut behind) = number(rest)?;
            let mut moments = Vec::new();
            for _ in 0..count {
                let (length, values) = number(behind)?;
                let (values, next) = values.split_at_checked(4 * length as usize)?;
                let (quads, _) = values.as_chunks::<4>();
                let values: Vec<f32> = quads.iter().map(|q| f32::from_le_bytes(*q)).collect();
                let data = TensorData::new(values, [length as usize]);
                moments.push(Tensor::from_data(data, device));
                behind = next;
            }
            restored.moments.push(moments);
            rest = behind;
        }
        Some(restored)
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// The number of values of every parameter.
struct Sizes(Vec<usize>);

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.dims().iter().product());
    }
}

/// Steps every parameter of a module.
struct Walk<'a> {
    optimiser: &'a mut Optimiser,
    gradients: GradientsParams,
    rate: f64,
    place: usize,
}

impl ModuleMapper for Walk<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = self.place;
        self.place += 1;
        if self.optimiser.moments.len() <= place {
            self.optimiser.moments.resize_with(place + 1, Vec::new);
        }
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (shape, is_trained) = (tensor.dims(), tensor.is_require_grad());
        let count: usize = shape.iter().product();
        let moments = std::mem::take(&mut self.optimiser.moments[place]);
        let decay = match D >= 2 {
            true => f64::from(self.optimiser.config.weight_decay),
            false => 0.0,
        };
        let parameter = Parameter {
            weights: tensor.inner().reshape([count]),
            gradient: gradient.reshape([count]),
            moments,
            rate: self.rate,
            decay,
        };
        let (moved, moments) = match self.optimiser.config.kind {
            OptimiserKind::Sgd => self.optimiser.sgd(parameter),
            OptimiserKind::Adamw => self.optimiser.adamw(parameter),
        };
        self.optimiser.moments[place] = moments;
        let moved = Tensor::from_inner(moved.reshape(shape)).set_require_grad(is_trained);
        Param::from_mapped_value(id, moved, mapper)
    }
}
