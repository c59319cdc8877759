//! A batch of numbers through the model, numbers back.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::engine::{Host, Session, read};
use super::error::SessionError;
use super::perturb::Viewer;
use super::protocol::{AttackOptions, Event, FrontEndNoise, RawTensor, RunOptions};
use super::see::le_bytes;
use crate::model::probe::{Probe, Taps};
use crate::perturb::attack::plan::{self, Plan};
use crate::perturb::attack::{Criterion, Step, registry};

impl Session {
    pub(super) async fn run(
        &mut self,
        options: &RunOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let active = self.device(host).await;
        let network = &self.model()?.network;
        let [n, colours, ..] = dimensions(&options.input)?;
        if colours != 3 {
            return Err(SessionError::Missing(
                "The input's second axis must be the 3 colours.",
            ));
        }
        let wants_gradient = !options.labels.is_empty();
        if wants_gradient && options.labels.len() != n {
            return Err(SessionError::Missing(
                "Give one label for every image of the input.",
            ));
        }
        if options
            .labels
            .iter()
            .any(|label| *label >= network.classes())
        {
            return Err(SessionError::Missing(
                "A label is not a class of this model.",
            ));
        }
        if let Some(attack) = &options.attack {
            let tensors = self.attack_batch(options, attack, host).await?;
            host.tell(Event::Tensors(tensors));
            return Ok(());
        }
        // Only what asks for a gradient goes through autodiff.
        let (network, device) = match wants_gradient {
            true => (network.clone(), active.device.autodiff()),
            false => (network.valid(), active.device),
        };
        let input = to_tensor(&options.input, &device)?;
        let input = if wants_gradient {
            input.require_grad()
        } else {
            input
        };
        let noise = match &options.noise {
            Some(noise) => Some(to_tensor(noise, &device)?),
            None => None,
        };
        let taps = options.taps.iter().filter(|tap| *tap != "logits").cloned();
        let mut probe = Probe::new(Taps::Named(taps.collect()), host.cancel().clone());
        let logits = match options.normalised {
            true => network.forward_normalised(input.clone(), noise, &mut probe)?,
            false => network.forward_probed(input.clone(), noise, &mut probe)?,
        };
        let mut tensors = Vec::new();
        for (name, tensor) in probe.into_activations() {
            tensors.push(to_raw(&name, tensor).await?);
        }
        if wants_gradient {
            let loss = summed_cross_entropy(logits.clone(), &options.labels) / n as f64;
            let gradients = loss.backward();
            let gradient = input.grad(&gradients);
            let gradient = gradient.unwrap_or_else(|| input.clone().inner().zeros_like());
            tensors.push(to_raw("gradient", gradient).await?);
        }
        tensors.push(to_raw("logits", logits).await?);
        host.tell(Event::Tensors(tensors));
        Ok(())
    }

    async fn attack_batch(
        &mut self,
        options: &RunOptions,
        attack: &AttackOptions,
        host: &dyn Host,
    ) -> Result<Vec<RawTensor>, SessionError> {
        let device = self.device(host).await.device;
        let network = &self.model()?.network;
        let [n, _, height, width] = dimensions(&options.input)?;
        if height != width || options.labels.len() != n || options.normalised {
            return Err(SessionError::Missing(
                "An attack needs square images in [0, 1] and one label for each.",
            ));
        }
        let viewer = Viewer {
            network,
            noise: FrontEndNoise::Off,
            side: height,
            device,
            cancel: host.cancel(),
        };
        let pause = || host.pause();
        let mut oracle = viewer.oracle(attack).pausing(&pause);
        let criterion = match attack.target {
            Some(target) => Criterion::targeted(vec![target; n]),
            None => Criterion::untargeted(options.labels.clone()),
        };
        let plan = Plan {
            attack: registry::by_name(&attack.name, &attack.settings)?,
            seed: attack.seed,
            eight_bit: attack.eight_bit,
            passes: 1,
        };
        let pixels = floats(&options.input);
        let watch = &mut |_: Step<'_>| {};
        let outcome = plan::run(&plan, &mut oracle, &pixels, &criterion, None, watch).await?;
        Ok(vec![
            RawTensor {
                name: "adv".to_owned(),
                shape: options.input.shape.clone(),
                data: le_bytes(&outcome.pixels),
            },
            RawTensor {
                name: "logits".to_owned(),
                shape: vec![n, network.classes()],
                data: le_bytes(&outcome.after.logits),
            },
        ])
    }
}

/// The shape of a batch, checked against its bytes.
fn dimensions(raw: &RawTensor) -> Result<[usize; 4], SessionError> {
    let shape: [usize; 4] = raw.shape.as_slice().try_into().map_err(|_| {
        SessionError::Missing("The input needs four axes: images, colours, height, width.")
    })?;
    let values = shape.iter().try_fold(4_usize, |all, d| all.checked_mul(*d));
    if values != Some(raw.data.len()) || raw.data.is_empty() {
        return Err(SessionError::Missing(
            "The input's bytes do not fit its shape.",
        ));
    }
    Ok(shape)
}

fn to_tensor(raw: &RawTensor, device: &Device) -> Result<Tensor<4>, SessionError> {
    let shape = dimensions(raw)?;
    Ok(Tensor::from_data(
        TensorData::new(floats(raw), shape),
        device,
    ))
}

fn floats(raw: &RawTensor) -> Vec<f32> {
    let words = raw.data.as_chunks::<4>().0;
    words
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

async fn to_raw<const D: usize>(name: &str, tensor: Tensor<D>) -> Result<RawTensor, SessionError> {
    Ok(RawTensor {
        name: name.to_owned(),
        shape: tensor.dims().to_vec(),
        data: le_bytes(&read(tensor).await?),
    })
}

/// Cross-entropy of `classes`, summed over the batch.
pub(super) fn summed_cross_entropy(logits: Tensor<2>, classes: &[usize]) -> Tensor<1> {
    let [n, count] = logits.dims();
    let mut rows = vec![0.0_f32; n * count];
    for (row, class) in rows.chunks_exact_mut(count).zip(classes) {
        row[*class] = 1.0;
    }
    let targets = Tensor::<2>::from_data(TensorData::new(rows, [n, count]), &logits.device());
    -(log_softmax(logits, 1) * targets).sum()
}
