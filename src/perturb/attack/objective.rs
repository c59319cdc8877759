//! What an attack climbs, and its gradient with respect to the pixels.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

use crate::model::network::Network;
use crate::model::probe::{CancelToken, Cancelled, Probe, Taps};
use crate::rng::Rng;

/// Leave the given classes, or reach them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// One class an image: any other prediction is a success.
    Leave(Vec<usize>),
    /// One class an image: only that prediction is a success.
    Reach(Vec<usize>),
}

impl Goal {
    pub fn classes(&self) -> &[usize] {
        match self {
            Self::Leave(classes) | Self::Reach(classes) => classes,
        }
    }

    /// +1 where the cross-entropy is to grow, −1 where it is to shrink.
    pub fn sign(&self) -> f32 {
        match self {
            Self::Leave(_) => 1.0,
            Self::Reach(_) => -1.0,
        }
    }

    /// Is `prediction` what image `index` was attacked for?
    pub fn is_met(&self, index: usize, prediction: usize) -> bool {
        match self {
            Self::Leave(classes) => classes[index] != prediction,
            Self::Reach(classes) => classes[index] == prediction,
        }
    }
}

/// Summed cross-entropy, its input gradient and the logits it came from.
pub struct Gradient {
    /// `[n, 3, h, w]`, of the sum over images (so that images do not scale each other).
    pub gradient: Tensor<4>,
    /// `[n, classes]`.
    pub logits: Tensor<2>,
}

/// Gradient of the summed cross-entropy of `classes` with respect to the pixels, averaged over
/// `samples` draws of the front-end's noise (expectation over transformation, Athalye et al.
/// 2018). `noise` is `None` for a deterministic pass.
pub fn cross_entropy_gradient(
    network: &Network,
    pixels: &Tensor<4>,
    classes: &[usize],
    noise: Option<(&mut Rng, usize)>,
    cancel: &CancelToken,
) -> Result<Gradient, Cancelled> {
    let device = pixels.device().autodiff();
    let Some((rng, samples)) = noise.filter(|_| network.is_stochastic()) else {
        return one_gradient(network, pixels, classes, None, cancel);
    };
    let [n, _, side, _] = pixels.dims();
    let mut total: Option<Gradient> = None;
    let samples = samples.max(1);
    for _ in 0..samples {
        let draws = network.draw_noise(n, side, rng, &device);
        let one = one_gradient(network, pixels, classes, draws, cancel)?;
        total = Some(match total {
            Some(sum) => Gradient {
                gradient: sum.gradient + one.gradient,
                logits: sum.logits + one.logits,
            },
            None => one,
        });
    }
    // `samples` is at least 1, so there is a sum.
    let sum = total.ok_or(Cancelled)?;
    Ok(Gradient {
        gradient: sum.gradient / samples as f64,
        logits: sum.logits / samples as f64,
    })
}

fn one_gradient(
    network: &Network,
    pixels: &Tensor<4>,
    classes: &[usize],
    noise: Option<Tensor<4>>,
    cancel: &CancelToken,
) -> Result<Gradient, Cancelled> {
    let x = Tensor::from_inner(pixels.clone()).require_grad();
    let mut probe = Probe::new(Taps::None, cancel.clone());
    let logits = network.forward_probed(x.clone(), noise, &mut probe)?;
    let loss = summed_cross_entropy(logits.clone(), classes);
    let gradients = loss.backward();
    cancel.check()?;
    let gradient = x.grad(&gradients).unwrap_or_else(|| pixels.zeros_like());
    Ok(Gradient {
        gradient,
        logits: logits.inner(),
    })
}

/// Cross-entropy of `classes`, summed over the batch.
pub fn summed_cross_entropy(logits: Tensor<2>, classes: &[usize]) -> Tensor<1> {
    let [_, count] = logits.dims();
    let targets = one_hot(classes, count, &logits.device());
    -(log_softmax(logits, 1) * targets).sum()
}

fn one_hot(classes: &[usize], count: usize, device: &Device) -> Tensor<2> {
    let mut rows = vec![0.0_f32; classes.len() * count];
    for (row, class) in rows.chunks_exact_mut(count).zip(classes) {
        row[*class] = 1.0;
    }
    Tensor::from_data(TensorData::new(rows, [classes.len(), count]), device)
}
