//! Corruptions, noise and attacks on the current image, one after the other.

use std::cell::RefCell;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::engine::{Host, Session, read, rgba, softmax, top};
use super::error::SessionError;
use super::protocol::{
    AttackOptions, AttackStep, Bytes, Event, Frame, FrontEndNoise, PerturbOptions, Perturbed,
    Prediction, Stage,
};
use super::see::{front_end_noise, le_bytes};
use crate::clock::Clock;
use crate::experiment::robustness::run::relative_change;
use crate::model::checkpoint::npy::{Array, Data, write_npy};
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Taps};
use crate::perturb::attack::criterion::argmax;
use crate::perturb::attack::network::{NetworkOracle, Noise};
use crate::perturb::attack::plan::{Outcome, Plan, run};
use crate::perturb::attack::{Criterion, Oracle, Predictions, Step, registry};
use crate::perturb::corruption::{Corruption, Image, Setting, Textures, corrupt};
use crate::perturb::{noise, spectrum};
use crate::rng::Rng;

const TOP: usize = 5;

/// Pictures of an attack's way that are kept at most.
const FRAMES: usize = 24;

/// What is kept of the current model and image.
#[derive(Default)]
pub(super) struct PerturbState {
    /// In a cell, so that a chain that was cancelled leaves what it reached.
    prefix: RefCell<Option<Prefix>>,
    pub last: Option<Last>,
}

/// The image after the first stages of a chain, kept so that a change of the last stage does not run
/// them again.
struct Prefix {
    stages: Vec<Stage>,
    noise: FrontEndNoise,
    passes: usize,
    pixels: Vec<f32>,
    textures: Option<String>,
}

/// The last perturbation, for what is asked about it.
pub(super) struct Last {
    pub pixels: Vec<f32>,
    pub attacked: Option<Attacked>,
    pub noise: FrontEndNoise,
}

/// The last attack of a chain.
pub(super) struct Attacked {
    /// What it started from.
    pub centre: Vec<f32>,
    pub criterion: Criterion,
    pub options: AttackOptions,
}

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
        let before = viewer.evaluate(&input.pixels).await?;
        let mut chain = Chain {
            viewer: &viewer,
            host,
            frost: &self.textures,
            original: &input.pixels,
            before: &before,
            classes,
            passes: options.passes.max(1),
            details: options.details,
            pixels: input.pixels.clone(),
            textures: None,
            last: None,
        };
        chain
            .run(&options.stages, &self.perturb_state.prefix)
            .await?;
        let Chain {
            pixels,
            textures,
            last,
            ..
        } = chain;
        let after = viewer.evaluate(&pixels).await?;
        let change: Vec<f32> = pixels
            .iter()
            .zip(&input.pixels)
            .map(|(after, before)| after - before)
            .collect();
        let norms = Norms::of(&change);
        let show = Show {
            original: &input.pixels,
            side: input.side,
            gain: gain(norms.linf),
        };
        let target = last.as_ref().and_then(|l| l.options.target);
        let success = match target {
            Some(target) => after.best() == target,
            None => after.best() != before.best(),
        };
        let outcome = last.as_ref().map(|l| &l.outcome);
        let frames = last
            .as_ref()
            .map_or(Ok(Vec::new()), |l| show.frames(l, classes))?;
        let shown = Perturbed {
            original: rgba(&input.pixels, input.side)?,
            perturbed: rgba(&pixels, input.side)?,
            difference: show.difference(&pixels)?,
            gain: show.gain,
            spectrum: match options.details {
                true => le_bytes(&spectrum::log_amplitude(&change, input.side)),
                false => Bytes::new(),
            },
            npy: to_npy(&pixels, input.side)?,
            before: before.top(classes),
            after: after.top(classes),
            textures,
            l1: norms.l1,
            l2: norms.l2,
            linf: norms.linf,
            success,
            met: outcome.map_or(f32::from(success), |o| o.met[0]),
            passes: outcome.map_or(1, |o| o.after.passes()),
            met_before: outcome.is_some_and(|o| o.met_before[0]),
            trajectory: last.as_ref().map_or(Vec::new(), |l| l.trajectory.clone()),
            frames,
            area_change: before.change_to(&after),
            milliseconds: clock.milliseconds(),
            backend: active.info.name.clone(),
        };
        let last = Last {
            pixels,
            attacked: last.map(|l| Attacked {
                centre: l.centre,
                criterion: l.criterion,
                options: l.options,
            }),
            noise: options.noise,
        };
        self.perturb_state.last = Some(last);
        host.tell(Event::Perturbed(Box::new(shown)));
        Ok(())
    }
}

/// Pixels as an `.npy` file, f32 `[1, 3, side, side]`.
fn to_npy(pixels: &[f32], side: usize) -> Result<Bytes, SessionError> {
    let failed = SessionError::Missing("The perturbed image could not be written as numbers.");
    let array = Array::new(vec![1, 3, side, side], Data::F32(pixels.to_vec()));
    let mut bytes = Vec::new();
    match array.and_then(|array| write_npy(&mut bytes, &array)) {
        Ok(()) => Ok(Bytes::from(bytes)),
        Err(_) => Err(failed),
    }
}

/// The stages of a chain on their way.
struct Chain<'a> {
    viewer: &'a Viewer<'a>,
    host: &'a dyn Host,
    frost: &'a Textures,
    original: &'a [f32],
    /// The predictions for the original.
    before: &'a View,
    classes: &'a [String],
    passes: usize,
    details: bool,
    pixels: Vec<f32>,
    textures: Option<String>,
    last: Option<Attack>,
}

/// An attack that has run.
struct Attack {
    centre: Vec<f32>,
    criterion: Criterion,
    options: AttackOptions,
    outcome: Outcome,
    trajectory: Vec<AttackStep>,
    film: Film,
}

impl Chain<'_> {
    async fn run(
        &mut self,
        stages: &[Stage],
        prefix: &RefCell<Option<Prefix>>,
    ) -> Result<(), SessionError> {
        let Some((_, first)) = stages.split_last() else {
            return Ok(());
        };
        let done = self.resume(first, &prefix.borrow());
        for (at, stage) in stages.iter().enumerate().skip(done) {
            if at == first.len() {
                prefix.replace(Some(Prefix {
                    stages: first.to_vec(),
                    noise: self.viewer.noise,
                    passes: self.passes,
                    pixels: self.pixels.clone(),
                    textures: self.textures.clone(),
                }));
                // What the page shows of an attack is the last stage's.
                self.last = None;
            }
            if let Some(setting) = &stage.corruption {
                self.corrupt(setting)?;
                self.host.pause().await;
                self.host.cancel().check()?;
            }
            if let Some(added) = &stage.pixel_noise {
                noise::add(&mut self.pixels, added);
            }
            if let Some(attack) = &stage.attack {
                self.attack(attack).await?;
            }
        }
        Ok(())
    }

    /// Takes over what an earlier run of the `first` stages came to; returns how many stages that
    /// spares.
    fn resume(&mut self, first: &[Stage], prefix: &Option<Prefix>) -> usize {
        let known = prefix.as_ref().filter(|known| {
            known.stages == first && known.noise == self.viewer.noise && known.passes == self.passes
        });
        let Some(known) = known else { return 0 };
        self.pixels.clone_from(&known.pixels);
        self.textures.clone_from(&known.textures);
        first.len()
    }

    fn corrupt(&mut self, setting: &Setting) -> Result<(), SessionError> {
        let image = Image {
            pixels: &self.pixels,
            channels: 3,
            height: self.viewer.side,
            width: self.viewer.side,
        };
        self.pixels = corrupt(image, setting, self.frost)?;
        if setting.corruption == Corruption::Frost {
            self.textures = Some(self.frost.origin().to_owned());
        }
        Ok(())
    }

    async fn attack(&mut self, options: &AttackOptions) -> Result<(), SessionError> {
        check_target(options, self.classes.len())?;
        let criterion = match options.target {
            Some(target) => Criterion::targeted(vec![target]),
            None => Criterion::untargeted(vec![self.before.best()]),
        };
        let watched = criterion.classes[0];
        let clock = Clock::start();
        let mut trajectory = Vec::new();
        let mut film = Film::new(if self.details { FRAMES } else { 0 });
        let host = self.host;
        let clean = self.before.best();
        let mut watch = |view: Step<'_>| {
            let probabilities = softmax(view.logits);
            let left = view.steps.saturating_sub(view.step) as f32;
            let step = AttackStep {
                step: view.step,
                steps: view.steps,
                loss: -probabilities[watched].max(f32::MIN_POSITIVE).ln(),
                probability: probabilities[clean],
                seconds_left: clock.seconds() / view.step.max(1) as f32 * left,
            };
            film.take(&step, view.pixels, &probabilities);
            trajectory.push(step.clone());
            host.tell(Event::Step(step));
        };
        let pause = || host.pause();
        let mut oracle = self.viewer.oracle(options).pausing(&pause);
        let plan = Plan {
            attack: registry::by_name(&options.name, &options.settings)?,
            seed: options.seed,
            eight_bit: options.eight_bit,
            passes: self.passes,
        };
        let centre = std::mem::take(&mut self.pixels);
        // The original's predictions are known, where another pass would give the same.
        let known = !oracle.is_stochastic() && centre == self.original;
        let before = known.then(|| self.before.predictions());
        let outcome = run(&plan, &mut oracle, &centre, &criterion, before, &mut watch).await?;
        self.pixels.clone_from(&outcome.pixels);
        self.last = Some(Attack {
            centre,
            criterion,
            options: options.clone(),
            outcome,
            trajectory,
            film,
        });
        Ok(())
    }
}

/// Pictures of an attack's way, evenly spaced however long it gets.
struct Film {
    most: usize,
    /// Every how many steps one is kept.
    every: usize,
    count: usize,
    frames: Vec<Still>,
}

struct Still {
    step: AttackStep,
    pixels: Vec<f32>,
    best: usize,
    share: f32,
}

impl Film {
    fn new(most: usize) -> Self {
        Self {
            most,
            every: 1,
            count: 0,
            frames: Vec::new(),
        }
    }

    fn take(&mut self, step: &AttackStep, pixels: &[f32], probabilities: &[f32]) {
        if self.most == 0 {
            return;
        }
        let due = self.count.is_multiple_of(self.every);
        self.count += 1;
        if !due {
            return;
        }
        if self.frames.len() == self.most {
            // Every other one goes, and from now on half as many come.
            let mut place = 0;
            self.frames.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
            if !(self.count - 1).is_multiple_of(self.every) {
                return;
            }
        }
        let best = argmax(probabilities);
        self.frames.push(Still {
            step: step.clone(),
            pixels: pixels.to_vec(),
            best,
            share: probabilities[best],
        });
    }
}

/// How a perturbation is made visible.
struct Show<'a> {
    original: &'a [f32],
    side: usize,
    gain: f32,
}

impl Show<'_> {
    fn difference(&self, pixels: &[f32]) -> Result<super::protocol::Rgba, SessionError> {
        let amplified: Vec<f32> = pixels
            .iter()
            .zip(self.original)
            .map(|(after, before)| (0.5 + self.gain * (after - before)).clamp(0.0, 1.0))
            .collect();
        rgba(&amplified, self.side)
    }

    fn frames(&self, attack: &Attack, classes: &[String]) -> Result<Vec<Frame>, SessionError> {
        let frame = |still: &Still| {
            Ok(Frame {
                step: still.step.step,
                perturbed: rgba(&still.pixels, self.side)?,
                difference: self.difference(&still.pixels)?,
                probability: still.step.probability,
                best: Prediction {
                    class: still.best,
                    label: classes.get(still.best).cloned().unwrap_or_default(),
                    probability: still.share,
                },
            })
        };
        attack.film.frames.iter().map(frame).collect()
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

/// A network and the noise of its front-end.
pub(super) struct Viewer<'a> {
    pub network: &'a Network,
    pub noise: FrontEndNoise,
    pub side: usize,
    pub device: Device,
    pub cancel: &'a CancelToken,
}

impl<'a> Viewer<'a> {
    fn tensor(&self, pixels: Vec<f32>, device: &Device) -> Tensor<4> {
        let data = TensorData::new(pixels, [1, 3, self.side, self.side]);
        Tensor::from_data(data, device)
    }

    /// Of pixels `[3, side, side]`.
    pub async fn evaluate(&self, pixels: &[f32]) -> Result<View, SessionError> {
        // Nothing here asks for a gradient.
        let (network, device) = (self.network.valid(), &self.device);
        let noise = front_end_noise(&network, self.noise, self.side, device);
        let x = self.tensor(pixels.to_vec(), device);
        let pass = network.pass(x, noise, Taps::All, self.cancel)?;
        let mut areas = Vec::with_capacity(pass.taps.len());
        for (name, tensor) in pass.taps {
            areas.push((name, read(tensor).await?));
        }
        let logits = read(pass.logits).await?;
        Ok(View {
            probabilities: softmax(&logits),
            logits,
            areas,
        })
    }

    /// The network as an attack with these options meets it.
    pub fn oracle(&self, options: &AttackOptions) -> NetworkOracle<'a> {
        let noise = match (self.noise, options.fixed_noise) {
            (FrontEndNoise::Off, _) => Noise::Off,
            (FrontEndNoise::Seed(seed), true) => Noise::Fixed(seed),
            (FrontEndNoise::Seed(_), false) => Noise::Fresh {
                rng: Rng::stream(options.seed, "attack noise"),
                samples: options.eot,
            },
        };
        let (device, cancel) = (self.device.clone(), self.cancel.clone());
        NetworkOracle::new(self.network, device, self.side, noise, cancel)
    }
}

/// The network's response to one image.
pub(super) struct View {
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    areas: Vec<(String, Vec<f32>)>,
}

impl View {
    pub fn best(&self) -> usize {
        argmax(&self.probabilities)
    }

    fn predictions(&self) -> Predictions {
        Predictions::of_pass(self.logits.clone(), self.logits.len())
    }

    pub fn top(&self, classes: &[String]) -> Vec<Prediction> {
        top(&self.probabilities, classes, TOP)
    }

    /// ‖after − before‖ / ‖before‖ of every tap.
    fn change_to(&self, after: &Self) -> Vec<(String, f32)> {
        self.areas
            .iter()
            .zip(&after.areas)
            .map(|((name, before), (_, after))| (name.clone(), relative_change(before, after)))
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
