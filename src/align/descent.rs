//! The rules of [`super::optimise`] with a state that can be read on any device and put back on any.
//! Burn's optimisers read theirs without waiting and put it on the default device, neither of which
//! a browser allows.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use super::optimise::ADAM_EPSILON;
use super::recipe::{OptimiserConfig, OptimiserKind};

/// An optimiser under way.
pub struct Descent {
    config: OptimiserConfig,
    steps: u32,
    /// Of each parameter in the order of the module, flat and on the inner side: SGD's velocity,
    /// AdamW's two moments, nothing where there was no gradient yet.
    moments: Vec<Vec<Tensor<1>>>,
}

/// A parameter as a rule takes it, flat; a rule gives the weights after the step, and the moments.
struct Parameter {
    weights: Tensor<1>,
    gradient: Tensor<1>,
    moments: Vec<Tensor<1>>,
    rate: f64,
    decay: f64,
}

impl Descent {
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
            descent: self,
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
        // A step is counted once for all parameters; one whose gradient comes later starts unbiased
        // too late, which freezing by stage never makes happen.
        let corrected =
            |moment: &Tensor<1>, beta: f32| moment.clone() / (1.0 - beta.powi(self.steps as i32));
        let step = corrected(&mean, first) / (corrected(&square, second).sqrt() + ADAM_EPSILON);
        let weights = weights * (1.0 - rate * decay) - step * rate;
        (weights, vec![mean, square])
    }

    /// What it takes to go on: the steps, then each parameter's moments with their lengths.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn keep(&self) -> Result<Vec<u8>, ExecutionError> {
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

    /// Goes on from what was kept. `None` where it is cut short.
    pub fn resume(config: &OptimiserConfig, bytes: &[u8], device: &Device) -> Option<Self> {
        let mut found = Self::new(config);
        let (steps, mut rest) = number(bytes)?;
        found.steps = steps;
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
            found.moments.push(moments);
            rest = behind;
        }
        Some(found)
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// A step over the parameters of a module.
struct Walk<'a> {
    descent: &'a mut Descent,
    gradients: GradientsParams,
    rate: f64,
    place: usize,
}

impl ModuleMapper for Walk<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = self.place;
        self.place += 1;
        if self.descent.moments.len() <= place {
            self.descent.moments.resize_with(place + 1, Vec::new);
        }
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (shape, is_trained) = (tensor.dims(), tensor.is_require_grad());
        let count: usize = shape.iter().product();
        let moments = std::mem::take(&mut self.descent.moments[place]);
        let decay = match D >= 2 {
            true => f64::from(self.descent.config.weight_decay),
            false => 0.0,
        };
        let parameter = Parameter {
            weights: tensor.inner().reshape([count]),
            gradient: gradient.reshape([count]),
            moments,
            rate: self.rate,
            decay,
        };
        let (moved, moments) = match self.descent.config.kind {
            OptimiserKind::Sgd => self.descent.sgd(parameter),
            OptimiserKind::Adamw => self.descent.adamw(parameter),
        };
        self.descent.moments[place] = moments;
        let moved = Tensor::from_inner(moved.reshape(shape)).set_require_grad(is_trained);
        Param::from_mapped_value(id, moved, mapper)
    }
}
