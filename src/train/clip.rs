//! Gradient clipping.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor};

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
