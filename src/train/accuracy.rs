//! Top-1 accuracy, during and after training and alignment.

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use crate::image::dataset::LabelledSet;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Cancelled};
use crate::perturb::attack::criterion::argmax;
use crate::rng::Rng;

/// Why an accuracy could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum AccuracyError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("the device failed while it computed: {0:?}")]
    Device(ExecutionError),
}

/// Counts the images of a set that a network on the plain side of `device` classifies correctly;
/// the noise of a stochastic network is drawn from seed 0. `batch` images a pass, at least 1.
///
/// # Errors
/// Cancelled; a device that failed.
pub async fn count_correct(
    network: &Network,
    set: &LabelledSet,
    batch: usize,
    device: &Device,
    cancel: &CancelToken,
) -> Result<usize, AccuracyError> {
    let mut rng = Rng::stream(0, "evaluation");
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut correct = 0;
    for indices in indices.chunks(batch) {
        cancel.check()?;
        let (pixels, labels) = set.inputs(indices);
        let shape = [labels.len(), 3, set.size, set.size];
        let pixels = Tensor::from_data(TensorData::new(pixels, shape), device);
        let noise = network.draw_noise(indices.len(), set.size, &mut rng, device);
        let logits = read(network.forward(pixels, noise)).await;
        correct += hits(&logits.map_err(AccuracyError::Device)?, &labels);
    }
    Ok(correct)
}

/// Rows of logits `[n, classes]` whose largest is at their label, of `n` labels.
pub fn hits(logits: &[f32], labels: &[u16]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    logits
        .chunks_exact(classes.max(1))
        .zip(labels)
        .filter(|(row, label)| argmax(row) == usize::from(**label))
        .count()
}

/// A tensor's values on the host, as f32.
///
/// # Errors
/// A device that failed.
pub async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecutionError> {
    Ok(tensor.into_data_async().await?.iter::<f32>().collect())
}
