//! Neural-similarity regularisation (Li et al. 2019): pairs of images are to be as similar for the
//! network as for the target.

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use super::{Context, Loss, computed};

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    let targets = context.targets();
    let ours = cosines(context.mean.centre(context.features.clone()));
    let theirs = cosines(targets.clone() - targets.mean_dim(0));
    computed(loss(ours, theirs))
}

/// Similarities are kept this far from ±1, where the inverse hyperbolic tangent is infinite.
const NEAR: f64 = 1e-5;

/// The loss of a batch: over all pairs of different images, the mean square of the difference of
/// `2·artanh` of the similarity of their features and of their targets, both `[n, n]` as
/// [`cosines`] gives them; `[1]`.
pub fn loss(features: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [n, _] = features.dims();
    let difference = twice_artanh(features) - twice_artanh(targets);
    let off_diagonal = Tensor::<2>::eye(n, &difference.device()) * -1.0 + 1.0;
    let pairs = (n * n.saturating_sub(1)).max(1) as f64;
    ((difference * off_diagonal).powf_scalar(2.0)).sum() / pairs
}

/// Cosines of the angles between all rows of `[n, p]`: `[n, n]`.
pub fn cosines(x: Tensor<2>) -> Tensor<2> {
    let length = x
        .clone()
        .powf_scalar(2.0)
        .sum_dim(1)
        .clamp_min(1e-20)
        .sqrt();
    let x = x / length;
    x.clone().matmul(x.transpose())
}

/// `log((1 + s) / (1 − s))`, elementwise.
fn twice_artanh(s: Tensor<2>) -> Tensor<2> {
    let s = s.clamp(-1.0 + NEAR, 1.0 - NEAR);
    (s.clone() + 1.0).log() - (s * -1.0 + 1.0).log()
}

/// The running mean of the features, about which similarities are computed: nine tenths of the last
/// mean and a tenth of the batch's.
#[derive(Clone, Debug, Default)]
pub struct RunningMean(Option<Tensor<2>>);

impl RunningMean {
    const KEPT: f64 = 0.9;

    /// Updates the mean by `x` `[n, p]`, and subtracts it.
    pub fn centre(&mut self, x: Tensor<2>) -> Tensor<2> {
        let now = x.clone().detach().mean_dim(0);
        let mean = match self.0.take() {
            Some(before) => before * Self::KEPT + now * (1.0 - Self::KEPT),
            None => now,
        };
        self.0 = Some(mean.clone());
        x - mean
    }

    /// `[p]`, or nothing before the first batch.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn keep(&self) -> Result<Vec<f32>, ExecutionError> {
        match &self.0 {
            Some(mean) => Ok(mean
                .clone()
                .into_data_async()
                .await?
                .iter::<f32>()
                .collect()),
            None => Ok(Vec::new()),
        }
    }

    /// A saved mean, on the training side of a device.
    pub fn resume(values: &[f32], device: &Device) -> Self {
        let mean =
            || Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device);
        Self((!values.is_empty()).then(mean))
    }
}
