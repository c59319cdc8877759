//! Weights before training.

use super::config::ModelConfig;
use super::family::vone::BANK;
use super::gabor;
use super::names;
use super::network::Network;
use crate::rng::Rng;

use burn::tensor::Device;

/// A network with fresh weights, the same for the same seed on every backend.
///
/// Convolutions: normal, variance 2 / (k² · out), as CORnet-S and torchvision's ResNets are
/// initialised. Linear layers: uniform within 1 / √in. Norms: 1 and 0. The Gabor bank of a
/// VOneBlock is drawn by its own configuration and never trained.
pub fn initialise(config: &ModelConfig, seed: u64, device: &Device) -> Network {
    let bank = config.front.as_ref().map(gabor::FilterBank::draw);
    let network = Network::new(config, device);
    names::replace(network, |name, shape| {
        if let Some(bank) = &bank {
            let quadratures = BANK.into_iter().zip([&bank.q0, &bank.q1]);
            let layer = name.strip_suffix(".weight");
            let drawn = { quadratures }.find(|(name, _)| layer == Some(*name));
            if let Some((_, weights)) = drawn {
                return Some(weights.clone());
            }
        }
        let mut rng = Rng::stream(seed, name);
        fresh(name, shape, &mut rng)
    })
}

fn fresh(name: &str, shape: &[usize], rng: &mut Rng) -> Option<Vec<f32>> {
    let mut values = vec![0.0_f32; shape.iter().product()];
    match *shape {
        [out, _, k, _] => {
            let std = (2.0 / (k * k * out) as f32).sqrt();
            rng.fill_normal(&mut values);
            values.iter_mut().for_each(|v| *v *= std);
        }
        [_, features_in] => {
            let bound = (1.0 / features_in as f32).sqrt();
            values
                .iter_mut()
                .for_each(|v| *v = bound * (2.0 * rng.uniform_f32() - 1.0));
        }
        // Norms keep their 1 and 0, biases their 0.
        _ => return None,
    }
    debug_assert!(values.iter().all(|v| v.is_finite()), "{name}");
    Some(values)
}
