//! CKA as a loss (Dapello et al. 2023).

use burn::tensor::Tensor;

use super::weights::Form;
use super::{Context, Loss, computed};

/// Keeps the logarithms finite at CKA 0 and 1.
const NEAR: f64 = 1e-6;

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    let cka = cka(context.features.clone(), context.targets());
    computed(context.losses.form.of(cka))
}

impl Form {
    /// The loss of a CKA, `[1]`.
    pub fn of(self, cka: Tensor<1>) -> Tensor<1> {
        match self {
            Self::LogDistance => (cka * -1.0 + 1.0).clamp_min(NEAR).log(),
            Self::Distance => cka * -1.0 + 1.0,
            Self::NegativeLog => -cka.clamp_min(NEAR).log(),
        }
    }
}

/// Linear CKA, biased, of a batch's features `[n, p]` with its targets `[n, m]`; `[1]`. Both are
/// centred over the batch, which needs at least two images.
pub fn cka(features: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let (k, l) = (gram(features), gram(targets));
    let product = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum();
    // 0 for a population that does not vary.
    let scale = (product(&k, &k) * product(&l, &l)).clamp_min(1e-30).sqrt();
    product(&k, &l) / scale
}

/// Inner products of centred rows, scaled to a mean square of 1: CKA does not depend on the scale,
/// and f32 does not hold the fourth power of any feature.
fn gram(x: Tensor<2>) -> Tensor<2> {
    let x = x.clone() - x.mean_dim(0);
    let scale = x
        .clone()
        .powf_scalar(2.0)
        .mean()
        .clamp_min(1e-20)
        .sqrt()
        .detach();
    let x = x / scale.unsqueeze();
    x.clone().matmul(x.transpose())
}
