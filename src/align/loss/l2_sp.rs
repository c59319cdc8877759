//! L2-SP: the distance of the weights from their starting point (Li, Grandvalet and Davoine 2018).

use burn::tensor::{Device, Tensor};

use super::{Context, Loss, computed};
use crate::model::names;
use crate::model::network::Network;

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    let training = context.device.clone().autodiff();
    computed(distance(context.network, context.start, &training))
}

/// Half the squared distance of two networks' parameters. Frozen ones add nothing.
fn distance(network: &Network, start: &Network, device: &Device) -> Tensor<1> {
    let mut before = Vec::new();
    names::visit(start, |_, _, flat| before.push(flat.tensor()));
    let mut before = before.into_iter();
    let mut sum = Tensor::<1>::zeros([1], device);
    names::visit(network, |name, _, flat| {
        let Some(before) = before.next() else { return };
        if name.contains(".running_") {
            return;
        }
        let moved = flat.tensor() - Tensor::from_inner(before);
        sum = sum.clone() + moved.powf_scalar(2.0).sum() * 0.5;
    });
    sum
}
