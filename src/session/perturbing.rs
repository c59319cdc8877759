//! The bench Perturb: noise and attacks on the current image.

use burn::tensor::{Tensor, TensorData};

use super::engine::{Host, Session, SessionError, read, rgba, softmax, top};
use super::protocol::{
    AttackOptions, AttackStep, Event, FrontEndNoise, PerturbOptions, Perturbed, Prediction,
};
use super::seeing::front_end_noise;
use crate::clock::Clock;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Taps};
use crate::perturb::attack::network::{NetworkOracle, Noise};
use crate::perturb::attack::{Goal, Step, Subject, plan};
use crate::perturb::corruption::{Corruption, Image, Textures, corrupt};
use crate::perturb::noise;
use crate::rng::Rng;

const TOP: usize = 5;

impl Session {
    pub(super) async fn perturb(
        &mut self,
        options: &PerturbOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let active = self.device(host).await;
        let (model, input) = self.model_and_input()?;
        let classes = &model.info.classes;
        let clock = Clock::start();
        let viewer = Viewer {
            network: &model.network,
            noise: options.noise,
            side: input.side,
            device: active.device.clone(),
            cancel: host.cancel(),
        };
        let before = viewer.look(&input.pixels).await?;
        let clean = before.best();
        let mut pixels = input.pixels.clone();
        let mut textures = None;
        if let Some(setting) = &options.corruption {
            let frost = Textures::default();
            let image = Image {
                pixels: &pixels,
                channels: 3,
                height: input.side,
                width: input.side,
            };
            pixels = corrupt(image, setting, &frost)?;
            textures = (setting.corruption == Corruption::Frost).then(|| frost.origin().to_owned());
            host.pause().await;
            host.cancel().check()?;
        }
        if let Some(added) = &options.pixel_noise {
            noise::add(&mut pixels, added);
        }
        let mut trajectory = Vec::new();
        if let Some(attack) = &options.attack {
            check_target(attack, classes.len())?;
            pixels = viewer
                .attack(pixels, attack, clean, host, &mut trajectory)
                .await?;
        }
        let after = viewer.look(&pixels).await?;
        let difference: Vec<f32> = pixels
            .iter()
            .zip(&input.pixels)
            .map(|(after, before)| after - before)
            .collect();
        let norms = Norms::of(&difference);
        let gain = gain(norms.linf);
        let amplified: Vec<f32> = difference
            .iter()
            .map(|d| (0.5 + gain * d).clamp(0.0, 1.0))
            .collect();
        let target = options.attack.as_ref().and_then(|attack| attack.target);
        let success = match target {
            Some(target) => after.best() == target,
            None => after.best() != clean,
        };
        host.tell(Event::Perturbed(Box::new(Perturbed {
            original: rgba(&input.pixels, input.side)?,
            perturbed: rgba(&pixels, input.side)?,
            difference: rgba(&amplified, input.side)?,
            gain,
            before: before.top(classes),
            after: after.top(classes),
            textures,
            l1: norms.l1,
            l2: norms.l2,
            linf: norms.linf,
            success,
            trajectory,
            area_change: before.change_to(&after),
            milliseconds: clock.milliseconds(),
            backend: active.info.name,
        })));
        Ok(())
    }
}

fn check_target(attack: &AttackOptions, classes: usize) -> Result<(), SessionError> {
    let reachable = attack.target.is_none_or(|target| target < classes);
    if reachable {
        return Ok(());
    }
    Err(SessionError::Missing(
        "The attack's target is not a class of this model. Choose another target.",
    ))
}

/// The amplification that makes the largest change span half the range, 1 for no change.
fn gain(linf: f32) -> f32 {
    if linf > 0.0 { 0.5 / linf } else { 1.0 }
}

/// What is attacked and how it is run.
struct Viewer<'a> {
    network: &'a Network,
    noise: FrontEndNoise,
    side: usize,
    device: burn::tensor::Device,
    cancel: &'a CancelToken,
}

impl Viewer<'_> {
    fn tensor(&self, pixels: Vec<f32>, device: &burn::tensor::Device) -> Tensor<4> {
        let data = TensorData::new(pixels, [1, 3, self.side, self.side]);
        Tensor::from_data(data, device)
    }

    async fn look(&self, pixels: &[f32]) -> Result<View, SessionError> {
        let device = self.device.clone().autodiff();
        let noise = front_end_noise(self.network, self.noise, self.side, &device);
        let x = self.tensor(pixels.to_vec(), &device);
        let pass = self.network.pass(x, noise, Taps::All, self.cancel)?;
        let mut areas = Vec::with_capacity(pass.taps.len());
        for (name, tensor) in pass.taps {
            areas.push((name, read(tensor).await?));
        }
        Ok(View {
            probabilities: softmax(&read(pass.logits).await?),
            areas,
        })
    }

    async fn attack(
        &self,
        pixels: Vec<f32>,
        attack: &AttackOptions,
        clean: usize,
        host: &dyn Host,
        trajectory: &mut Vec<AttackStep>,
    ) -> Result<Vec<f32>, SessionError> {
        let goal = match attack.target {
            Some(target) => Goal::reach(vec![target]),
            None => Goal::leave(vec![clean]),
        };
        let watched = goal.classes[0];
        let clock = Clock::start();
        let mut watch = |view: Step<'_>| {
            let probabilities = softmax(view.logits);
            let left = view.steps.saturating_sub(view.step) as f32;
            let step = AttackStep {
                step: view.step,
                steps: view.steps,
                loss: -probabilities[watched].max(f32::MIN_POSITIVE).ln(),
                probability: probabilities[clean],
                seconds_left: clock.seconds() / view.step as f32 * left,
            };
            trajectory.push(step.clone());
            host.tell(Event::Step(step));
        };
        let pause = || host.pause();
        let noise = match self.noise {
            FrontEndNoise::Off => Noise::Off,
            FrontEndNoise::Seed(_) => Noise::Fresh {
                rng: Rng::stream(attack.seed, "attack noise"),
                samples: attack.eot,
            },
        };
        let (device, cancel) = (self.device.clone(), self.cancel.clone());
        let mut oracle =
            NetworkOracle::new(self.network, device, self.side, noise, cancel).pausing(&pause);
        let mut subject = Subject::new(&mut oracle, attack.seed, &mut watch, vec![0]);
        subject.eight_bit = attack.eight_bit;
        let mut found = attack.attack.attack(&mut subject, &pixels, &goal).await?;
        if attack.eight_bit {
            plan::round(attack.attack.ball(), &mut found, &pixels, pixels.len());
        }
        Ok(found)
    }
}

/// What the network makes of one image.
struct View {
    probabilities: Vec<f32>,
    areas: Vec<(String, Vec<f32>)>,
}

impl View {
    fn best(&self) -> usize {
        let mut best = 0;
        for (class, p) in self.probabilities.iter().enumerate() {
            if *p > self.probabilities[best] {
                best = class;
            }
        }
        best
    }

    fn top(&self, classes: &[String]) -> Vec<Prediction> {
        top(&self.probabilities, classes, TOP)
    }

    /// ‖after − before‖ / ‖before‖ of every tap.
    fn change_to(&self, after: &Self) -> Vec<(String, f32)> {
        self.areas
            .iter()
            .zip(&after.areas)
            .map(|((name, before), (_, after))| {
                let moved: Vec<f32> = before.iter().zip(after).map(|(b, a)| a - b).collect();
                let scale = Norms::of(before).l2.max(f32::MIN_POSITIVE);
                (name.clone(), Norms::of(&moved).l2 / scale)
            })
            .collect()
    }
}

struct Norms {
    l1: f32,
    l2: f32,
    linf: f32,
}

impl Norms {
    fn of(values: &[f32]) -> Self {
        let (mut l1, mut squares, mut linf) = (0.0_f64, 0.0_f64, 0.0_f32);
        for value in values {
            l1 += f64::from(value.abs());
            squares += f64::from(*value).powi(2);
            linf = linf.max(value.abs());
        }
        Self {
            l1: l1 as f32,
            l2: squares.sqrt() as f32,
            linf,
        }
    }
}
