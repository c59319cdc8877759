//! The exponential moving average of a network's weights (Polyak and Juditsky 1992; Tarvainen and
//! Valpola 2017), which varies less than the weights of single steps.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::model::names;
use crate::model::network::Network;

/// The average of a network in training. The running statistics of batch norms are averaged like the
/// weights, so that the two match.
pub struct Average {
    /// On the plain side of its device.
    network: Network,
}

impl Average {
    /// Starts at `network`, on the plain side of its device, as [`valid`](Module::valid) gives it.
    pub fn new(network: Network) -> Self {
        Self { network }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Moves `1 − decay` of the way to `network`, which is on the plain side of its device too.
    pub fn follow(&mut self, network: &Network, decay: f64) {
        let mut targets = Vec::new();
        names::visit(network, |_, _, flat| targets.push(flat.tensor()));
        let mut towards = Towards {
            targets: targets.into_iter(),
            rest: 1.0 - decay,
        };
        // A clone shares its running statistics with the original, which is replaced here.
        self.network = self.network.clone().map(&mut towards);
    }
}

/// Moves every parameter and buffer towards the next of `targets`, which are flat.
struct Towards {
    targets: std::vec::IntoIter<Tensor<1>>,
    rest: f64,
}

impl ModuleMapper for Towards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // `visit` and `map` meet the same parameters in the same order.
        let Some(target) = self.targets.next() else {
            return param;
        };
        let rest = self.rest;
        param.map(|tensor| {
            let target = target.reshape(tensor.dims());
            // In this form equal values stay equal: a frozen filter bank does not drift.
            tensor.clone() + (target - tensor) * rest
        })
    }
}
