//! Activations of a network's areas.

use burn::tensor::{Device, Tensor, TensorData};

use super::error::AlignError;
use crate::image::dataset::LabelledSet;
use crate::measure::similarity::cka::{Estimator, Kernel};
use crate::measure::similarity::{Gram, Matrix};
use crate::model::layers::flatten;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Probe, Taps};
use crate::train::accuracy::read;

/// Images a pass.
const BATCH: usize = 50;

pub(super) fn check_tap(network: &Network, tap: &str) -> Result<(), AlignError> {
    let taps = network.taps();
    if taps.iter().any(|t| t.name == tap || t.area == tap) {
        return Ok(());
    }
    let known: Vec<&str> = taps.iter().map(|t| t.name.as_str()).collect();
    Err(AlignError::Model(format!(
        "the model has no area `{tap}`; it has {}",
        known.join(", ")
    )))
}

/// The activations of `tap` for `rows` of `images`, without front-end noise; f32 on the device and
/// f64 here.
///
/// # Errors
/// A tap the network does not have, a device that failed.
pub async fn features(
    network: &Network,
    images: &LabelledSet,
    rows: &[usize],
    tap: &str,
    device: &Device,
    cancel: &CancelToken,
) -> Result<Matrix, AlignError> {
    check_tap(network, tap)?;
    let side = images.size;
    let mut values = Vec::new();
    for rows in rows.chunks(BATCH) {
        let (pixels, _) = images.inputs(rows);
        let shape = [rows.len(), 3, side, side];
        let x = Tensor::from_data(TensorData::new(pixels, shape), device);
        let mut probe = Probe::new(Taps::Named(vec![tap.to_owned()]), cancel.clone());
        network.forward_probed(x, None, &mut probe)?;
        values.extend(read(single_tap(probe)?).await?);
    }
    let columns = values.len() / rows.len().max(1);
    Ok(Matrix::from_f32(rows.len(), columns, &values)?)
}

pub(super) fn centred(responses: &Matrix) -> Gram {
    Estimator::Unbiased.centre(&Kernel::Linear.of(responses))
}

/// The one tap of a pass, `[n, c · h · w]`.
pub(super) fn single_tap(probe: Probe) -> Result<Tensor<2>, AlignError> {
    let last = probe.into_activations().pop();
    let (_, x) = last.ok_or_else(|| AlignError::Model("the area was not computed".to_owned()))?;
    Ok(flatten(x))
}
