//! Adversarial examples for training (Madry et al. 2018), made by the network that is trained.

use burn::module::Module;
use burn::tensor::Device;

use super::recipe::{AdversarialConfig, Statistics};
use crate::model::network::Network;
use crate::model::probe::CancelToken;
use crate::perturb::attack::network::{NetworkOracle, Noise};
use crate::perturb::attack::{AttackError, Context, Criterion, Method, Step};
use crate::rng::Rng;

/// A copy of the network as it is attacked.
pub struct Adversary<'a> {
    config: &'a AdversarialConfig,
    /// On the training side of `device`. Its weights take no gradient: only that of the pixels is
    /// wanted, which is half of a backward pass.
    network: Network,
    device: &'a Device,
}

impl<'a> Adversary<'a> {
    /// For the weights of `network`, which is on the plain side of `device`, as
    /// [`valid`](Module::valid) gives it. The copy's running statistics are its own.
    pub fn new(config: &'a AdversarialConfig, network: Network, device: &'a Device) -> Self {
        let network = network.train();
        let network = match config.statistics {
            // Batch norms stay in training.
            Statistics::Batch => network.no_grad(),
            Statistics::Running => network.freeze(),
        };
        Self {
            config,
            network,
            device,
        }
    }

    /// Images `[n, 3, side, side]` within the recipe's `eps` of `pixels` that the network is to
    /// take for something else than their `labels`. `rng` gives the starting points, and a
    /// stochastic front-end's noise, which is new at every pass.
    ///
    /// # Errors
    /// When the device fails, or when a setting makes no sense, which a checked recipe excludes.
    pub fn attack(
        &self,
        pixels: &[f32],
        labels: &[u16],
        side: usize,
        mut rng: Rng,
    ) -> Result<Vec<f32>, AttackError> {
        let noise = Noise::Fresh {
            rng: Rng::from_seed(rng.seed()),
            samples: 1,
        };
        let cancel = CancelToken::default();
        let mut oracle =
            NetworkOracle::new(&self.network, self.device.clone(), side, noise, cancel);
        let mut watch = |_: Step<'_>| {};
        let images = (0..labels.len()).collect();
        let mut context = Context::new(&mut oracle, rng.seed(), &mut watch, images);
        let criterion = Criterion::untargeted(labels.iter().copied().map(usize::from).collect());
        let descent = self.config.descent();
        pollster::block_on(descent.attack(&mut context, pixels, &criterion))
    }
}
