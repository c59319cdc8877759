//! The See tab: what each area makes of an image.

use burn::module::Module;
use burn::tensor::Tensor;

use super::engine::{Host, Session, read, rgba, softmax, top};
use super::error::SessionError;
use super::protocol::{Analysis, Bytes, Event, FrontEndNoise, Readout, Response, SeeOptions};
use crate::clock::Clock;
use crate::model::network::Network;
use crate::model::probe::Taps;
use crate::model::taps::TapInfo;
use crate::rng::Rng;

const TOP: usize = 5;

impl Session {
    pub(super) async fn see(
        &mut self,
        options: &SeeOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let active = self.device(host).await;
        let (model, input) = self.model_and_input()?;
        // Nothing here asks for a gradient.
        let network = &model.network.valid();
        let clock = Clock::start();
        let device = active.device.clone();
        let noise = front_end_noise(network, options.noise, input.side, &device);
        let cancel = host.cancel();
        let pass = network.pass(input.tensor(&device), noise, Taps::All, cancel)?;
        let probabilities = softmax(&read(pass.logits).await?);
        let milliseconds = clock.milliseconds();

        let mut responses = Vec::with_capacity(pass.taps.len());
        let mut readouts = Vec::new();
        let infos = network.taps();
        for (name, tensor) in pass.taps {
            host.pause().await;
            cancel.check()?;
            let tap = find_tap(&infos, &name);
            if let Some(logits) = network.read_out(&tap, tensor.clone(), cancel) {
                let probabilities = softmax(&read(logits?).await?);
                readouts.push(Readout {
                    area: tap.area.clone(),
                    time_step: tap.time_step.unwrap_or_default(),
                    top: top(&probabilities, &model.info.classes, TOP),
                });
            }
            responses.push(response(tap, tensor, options.channels).await?);
        }
        host.tell(Event::Analysis(Box::new(Analysis {
            model: model.info.name.clone(),
            image: input.image.clone(),
            input: rgba(&input.pixels, input.side)?,
            top: top(&probabilities, &model.info.classes, TOP),
            probabilities,
            responses,
            readouts,
            milliseconds,
            memory: host.memory(),
            backend: active.info.name,
        })));
        Ok(())
    }
}

fn find_tap(infos: &[TapInfo], name: &str) -> TapInfo {
    let known = infos.iter().find(|tap| tap.name == name).cloned();
    known.unwrap_or_else(|| TapInfo {
        name: name.to_owned(),
        area: name.to_owned(),
        time_step: None,
    })
}

/// The noise a request asks for; `None` where the network is deterministic or the noise is off.
pub(super) fn front_end_noise(
    network: &Network,
    noise: FrontEndNoise,
    side: usize,
    device: &burn::tensor::Device,
) -> Option<Tensor<4>> {
    match noise {
        FrontEndNoise::Off => None,
        FrontEndNoise::Seed(seed) => {
            let mut rng = Rng::stream(seed, "front-end noise");
            network.draw_noise(1, side, &mut rng, device)
        }
    }
}

/// Reads a tap of one image back and condenses it for display.
async fn response(
    tap: TapInfo,
    tensor: Tensor<4>,
    wanted: usize,
) -> Result<Response, SessionError> {
    let [_, channels, height, width] = tensor.dims();
    let values = read(tensor).await?;
    let area = height * width;
    let maps: Vec<&[f32]> = values.chunks_exact(area.max(1)).take(channels).collect();
    let means: Vec<f32> = maps.iter().map(|map| mean(map)).collect();
    let mut order: Vec<usize> = (0..maps.len()).collect();
    order.sort_by(|a, b| means[*b].total_cmp(&means[*a]));
    order.truncate(wanted);
    let mut mean_map = vec![0.0_f32; area];
    for map in &maps {
        for (sum, value) in mean_map.iter_mut().zip(*map) {
            *sum += value / channels as f32;
        }
    }
    let active = values.iter().filter(|v| **v > 0.0).count();
    Ok(Response {
        tap,
        shape: [channels, height, width],
        mean_map: le_bytes(&mean_map),
        maps: le_bytes(
            &order
                .iter()
                .flat_map(|c| maps[*c])
                .copied()
                .collect::<Vec<_>>(),
        ),
        channels: order,
        mean: mean(&values),
        max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        active: active as f32 / values.len().max(1) as f32,
    })
}

fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
    (sum / values.len().max(1) as f64) as f32
}

/// Little-endian f32, as the page's `Float32Array` reads it.
pub(super) fn le_bytes(values: &[f32]) -> Bytes {
    Bytes::from(
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>(),
    )
}
