//! How often a network is right: while it is trained, while it is aligned, when it is done.

use burn::tensor::{Device, Tensor, TensorData};

use super::aligner::{AlignError, read};
use crate::image::dataset::LabelledSet;
use crate::model::network::Network;
use crate::model::probe::CancelToken;
use crate::perturb::attack::criterion::argmax;
use crate::rng::Rng;

/// How many images of a set a network on the inner side of `device` gives their labels, the noise of
/// a stochastic one drawn from seed 0. `batch` images a pass, at least 1.
///
/// # Errors
/// Cancelled; a device that failed.
pub async fn right(
    network: &Network,
    set: &LabelledSet,
    batch: usize,
    device: &Device,
    cancel: &CancelToken,
) -> Result<usize, AlignError> {
    let mut rng = Rng::stream(0, "evaluation");
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut right = 0;
    for indices in indices.chunks(batch) {
        cancel.check()?;
        let (pixels, labels) = set.inputs(indices);
        let shape = [labels.len(), 3, set.size, set.size];
        let pixels = Tensor::from_data(TensorData::new(pixels, shape), device);
        let noise = network.draw_noise(indices.len(), set.size, &mut rng, device);
        right += hits(&read(network.forward(pixels, noise)).await?, &labels);
    }
    Ok(right)
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
