//! Projected gradient descent (Madry et al. 2018) in L∞.

use burn::tensor::Tensor;

use super::objective::{Goal, cross_entropy_gradient};
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Cancelled};
use crate::rng::Rng;
use crate::session::protocol::Pgd;

/// What a finished step looks like, before anything is read back from the device.
pub struct StepView<'a> {
    /// 1-based.
    pub step: usize,
    /// Logits `[n, classes]` of the images the step started from.
    pub logits: &'a Tensor<2>,
}

/// Runs the attack; `after_step` is awaited after every step and may stop it.
///
/// `pixels` is `[n, 3, h, w]` in [0, 1] on a device without autodiff. The result never leaves
/// the ε-ball or the box, to the last bit.
pub async fn pgd<F>(
    network: &Network,
    pixels: &Tensor<4>,
    goal: &Goal,
    config: &Pgd,
    stochastic: bool,
    cancel: &CancelToken,
    mut after_step: F,
) -> Result<Tensor<4>, Cancelled>
where
    F: AsyncFnMut(StepView<'_>) -> Result<(), Cancelled>,
{
    let ball = Ball::new(pixels, config.eps);
    let mut rng = Rng::stream(config.seed, "pgd noise");
    let mut x = match config.random_start {
        true => ball.random_point(pixels, config.eps, config.seed),
        false => pixels.clone(),
    };
    let step_length = goal.sign() * config.rel_step * config.eps;
    for step in 1..=config.steps {
        cancel.check()?;
        let noise = stochastic.then_some((&mut rng, config.eot));
        let found = cross_entropy_gradient(network, &x, goal.classes(), noise, cancel)?;
        x = ball.project(x + found.gradient.sign() * step_length);
        let view = StepView {
            step,
            logits: &found.logits,
        };
        after_step(view).await?;
    }
    Ok(x)
}

/// The intersection of the ε-ball with the pixel range.
struct Ball {
    low: Tensor<4>,
    high: Tensor<4>,
}

impl Ball {
    fn new(centre: &Tensor<4>, eps: f32) -> Self {
        Self {
            low: (centre.clone() - eps).clamp_min(0.0),
            high: (centre.clone() + eps).clamp_max(1.0),
        }
    }

    fn project(&self, x: Tensor<4>) -> Tensor<4> {
        x.max_pair(self.low.clone()).min_pair(self.high.clone())
    }

    fn random_point(&self, centre: &Tensor<4>, eps: f32, seed: u64) -> Tensor<4> {
        let shape = centre.dims();
        let mut rng = Rng::stream(seed, "pgd start");
        let draws: Vec<f32> = (0..shape.iter().product())
            .map(|_| eps * (2.0 * rng.uniform_f32() - 1.0))
            .collect();
        let data = burn::tensor::TensorData::new(draws, shape);
        self.project(centre.clone() + Tensor::from_data(data, &centre.device()))
    }
}
