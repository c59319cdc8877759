//! Cross-entropy against labels, hard or smoothed.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

use super::mixup::{Blend, targets};

/// Mean cross-entropy against labels that keep `1 − smoothing` for the true class and share the
/// rest evenly among all (Szegedy et al. 2016).
pub fn cross_entropy(logits: Tensor<2>, labels: &[u16], smoothing: f64) -> Tensor<1> {
    let [_, classes] = logits.dims();
    let blends: Vec<Blend> = labels.iter().copied().map(Blend::pure).collect();
    soft_cross_entropy(logits, targets(&blends, classes, smoothing))
}

/// Mean cross-entropy of logits `[n, classes]` against as many probabilities.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Vec<f32>) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let targets = Tensor::<2>::from_data(TensorData::new(targets, [n, classes]), &logits.device());
    -(log_softmax(logits, 1) * targets).sum() / n as f64
}
