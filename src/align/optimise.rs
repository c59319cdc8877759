//! From gradients to steps.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{ExecutionError, Tensor};

use super::recipe::{OptimiserConfig, OptimiserKind};

/// Keeps AdamW's steps finite where a gradient vanishes; the paper's value.
pub(super) const ADAM_EPSILON: f32 = 1e-8;

/// The recipe's optimiser. Norms and biases are not decayed.
pub fn optimiser(config: &OptimiserConfig) -> ModuleOptimizer {
    let weights = ParamGroup::from_predicate("weight");
    match config.kind {
        OptimiserKind::Sgd => {
            let momentum = MomentumConfig::new()
                .with_momentum(config.momentum())
                .with_dampening(0.0)
                .with_nesterov(true);
            let plain = SgdConfig::new().with_momentum(Some(momentum));
            let decay = WeightDecayConfig::new(config.weight_decay);
            let decayed = plain.clone().with_weight_decay(Some(decay));
            ModuleOptimizer::from(plain.build()).with_group(weights, decayed.build(), None)
        }
        OptimiserKind::Adamw => {
            let [first, second] = config.betas();
            let plain = AdamWConfig::new()
                .with_beta_1(first)
                .with_beta_2(second)
                .with_epsilon(ADAM_EPSILON)
                .with_weight_decay(0.0);
            let decayed = plain.clone().with_weight_decay(config.weight_decay);
            ModuleOptimizer::from(plain.build()).with_group(weights, decayed.build(), None)
        }
    }
}

/// Scales `gradients` down where they are longer than `longest`, in L2 over all parameters of
/// `module` together (Pascanu et al. 2013). Returns their length before that; one that is not
/// finite leaves the gradients as they are.
///
/// # Errors
/// A device that failed.
pub async fn clip(
    module: &impl Module,
    gradients: &mut GradientsParams,
    longest: f64,
) -> Result<f64, ExecutionError> {
    let mut squares = Squares {
        gradients,
        sums: Vec::new(),
    };
    module.visit(&mut squares);
    let length = squares.total().await?.sqrt();
    if length.is_finite() && length > longest {
        module.visit(&mut Scale {
            gradients,
            factor: longest / length,
        });
    }
    Ok(length)
}

/// Sums the squares of every gradient.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl Squares<'_> {
    async fn total(self) -> Result<f64, ExecutionError> {
        if self.sums.is_empty() {
            return Ok(0.0);
        }
        // One read for all: on a GPU every read waits for it.
        let sums = Tensor::cat(self.sums, 0).into_data_async().await?;
        Ok(sums.iter::<f32>().map(f64::from).sum())
    }
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push((gradient.clone() * gradient).sum());
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}
