//! Running a plan, unit by unit.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::Row;
use super::plan::{Condition, Plan, PlanError, Treatment, Unit};
use crate::image::dataset::LabelledSet;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Taps};
use crate::perturb::attack::network::{NetworkOracle, Noise, Pause, read};
use crate::perturb::attack::plan as attacking;
use crate::perturb::attack::{AttackError, Criterion, Norm, Predictions, Step};
use crate::perturb::corruption::{self, Image, Setting, Textures};
use crate::rng::Rng;

/// Why a unit was not run to its end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    #[error("cancelled")]
    Cancelled,
    /// The device failed; nothing is wrong with the plan.
    #[error("{0}")]
    Device(AttackError),
    /// A sentence for the user.
    #[error("{0}")]
    Failed(String),
}

impl From<AttackError> for RunError {
    fn from(stopped: AttackError) -> Self {
        match stopped {
            AttackError::Cancelled => Self::Cancelled,
            lost @ AttackError::Device { .. } => Self::Device(lost),
            mistake => Self::Failed(mistake.to_string()),
        }
    }
}

impl From<PlanError> for RunError {
    fn from(error: PlanError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A model under test and the images it is tested with.
pub struct Bench<'a> {
    pub plan: &'a Plan,
    /// Of the plan.
    pub conditions: &'a [Condition<'a>],
    /// Already thinned to the plan's number of images, and of the side the model takes.
    pub set: &'a LabelledSet,
    /// The model's class for each of the set's.
    pub classes: &'a [usize],
    /// On the autodiff side of `device`, frozen.
    pub network: &'a Network,
    pub device: Device,
    pub textures: &'a Textures,
    pub cancel: CancelToken,
    /// Lets other work of the thread run between passes, where there is any.
    pub pause: Option<Pause<'a>>,
}

/// Images whose areas are looked at: a run's first. How far an area moves differs less from image to
/// image than whether the answer is right.
const LOOKED_INTO: usize = 10;

/// How far the areas of each image have moved.
type Moved = Vec<Vec<(String, f32)>>;

/// A unit's images and what they are of.
struct Images {
    /// `[n, 3, side, side]`.
    pixels: Vec<f32>,
    /// In the model's classes.
    labels: Vec<usize>,
}

impl<'a> Bench<'a> {
    /// Runs a unit; a row for each of its images. The same unit gives the same rows wherever and
    /// whenever it is run on one backend.
    ///
    /// # Errors
    /// [`RunError`]: cancelled, the device failed, or a setting makes no sense.
    pub async fn run(
        &self,
        unit: &Unit,
        watch: &mut dyn FnMut(Step<'_>),
    ) -> Result<Vec<Row>, RunError> {
        let condition = self.conditions[unit.condition];
        let images = self.images(unit);
        let mut oracle = self.oracle(unit);
        let treated = self.treat(unit, &condition, &images, &mut oracle, watch);
        let (treated, predictions) = treated.await?;
        let moved = match condition.treatment {
            Treatment::Clean => Moved::new(),
            _ => self.moved(unit, &images.pixels, &treated).await?,
        };
        let mut rows = self.rows(unit, &condition, &images, &treated, &predictions);
        for (row, areas) in rows.iter_mut().zip(moved) {
            row.areas = areas;
        }
        Ok(rows)
    }

    /// How far the areas of the unit's images moved, where it has any of a run's first.
    async fn moved(&self, unit: &Unit, clean: &[f32], treated: &[f32]) -> Result<Moved, RunError> {
        let images = LOOKED_INTO.saturating_sub(unit.first).min(unit.images);
        let mut moved = Moved::new();
        moved.resize(images, Vec::new());
        if images == 0 {
            return Ok(moved);
        }
        let floats = images * self.set.stride();
        let before = self.areas(unit, &clean[..floats]).await?;
        let after = self.areas(unit, &treated[..floats]).await?;
        for ((area, before), (_, after)) in before.into_iter().zip(after) {
            let of_image = before.len() / images;
            let pairs = before
                .chunks_exact(of_image)
                .zip(after.chunks_exact(of_image));
            for (areas, (before, after)) in moved.iter_mut().zip(pairs) {
                areas.push((area.clone(), relative_change(before, after)));
            }
        }
        Ok(moved)
    }

    /// What each area makes of `pixels`, at its last time step; the noise of a stochastic front-end
    /// is the unit's own, so that what differs between two calls is the images.
    async fn areas(
        &self,
        unit: &Unit,
        pixels: &[f32],
    ) -> Result<Vec<(String, Vec<f32>)>, RunError> {
        let network = self.network.valid();
        let side = self.set.size;
        let shape = [pixels.len() / self.set.stride(), 3, side, side];
        let mut rng = Rng::from_seed(Self::seed(unit, "noise of the areas"));
        let noise = network.draw_noise(shape[0], side, &mut rng, &self.device);
        let pixels = Tensor::from_data(TensorData::new(pixels.to_vec(), shape), &self.device);
        let taps = Taps::Named(network.areas());
        let pass = network.pass(pixels, noise, taps, &self.cancel);
        let pass = pass.map_err(|_| RunError::Cancelled)?;
        let mut areas = Vec::with_capacity(pass.taps.len());
        for (name, response) in pass.taps {
            areas.push((name, read(response).await?));
        }
        Ok(areas)
    }

    fn images(&self, unit: &Unit) -> Images {
        let mut images = Images {
            pixels: Vec::with_capacity(unit.images * self.set.stride()),
            labels: Vec::with_capacity(unit.images),
        };
        for index in unit.first..unit.first + unit.images {
            let label = self.set.push_input(index, &mut images.pixels);
            images
                .labels
                .extend(label.map(|l| self.classes[usize::from(l)]));
        }
        images
    }

    /// The seed of what is drawn for a unit's images. Conditions and models share it: they are
    /// compared on the same draws, and an attack that runs others finds what these find.
    fn seed(unit: &Unit, what: &str) -> u64 {
        Rng::stream(unit.seed, &format!("{what} from image {}", unit.first)).seed()
    }

    fn oracle(&self, unit: &Unit) -> NetworkOracle<'a> {
        let noise = Noise::Fresh {
            rng: Rng::from_seed(Self::seed(unit, "front-end noise")),
            samples: self.plan.eot,
        };
        let (device, cancel) = (self.device.clone(), self.cancel.clone());
        let mut oracle = NetworkOracle::new(self.network, device, self.set.size, noise, cancel);
        oracle.batch = self.plan.batch;
        match self.pause {
            Some(pause) => oracle.pausing(pause),
            None => oracle,
        }
    }

    /// The unit's images in its condition, and the model's predictions for them.
    async fn treat(
        &self,
        unit: &Unit,
        condition: &Condition<'_>,
        images: &Images,
        oracle: &mut NetworkOracle<'a>,
        watch: &mut dyn FnMut(Step<'_>),
    ) -> Result<(Vec<f32>, Predictions), RunError> {
        if let Some(attack) = condition.attack(self.set.size)? {
            let plan = attacking::Plan {
                attack,
                seed: Self::seed(unit, "attack"),
                eight_bit: false,
                passes: self.plan.passes,
            };
            let criterion = Criterion::untargeted(images.labels.clone());
            let outcome =
                attacking::run(&plan, oracle, &images.pixels, &criterion, None, watch).await?;
            return Ok((outcome.pixels, outcome.after));
        }
        let treated = match condition.treatment {
            Treatment::Corruption {
                corruption,
                severity,
            } => {
                let setting = Setting {
                    corruption,
                    severity,
                    table: None,
                    seed: unit.seed,
                    eight_bit: true,
                };
                self.corrupt(unit, images, &setting)?
            }
            Treatment::Clean | Treatment::Attack { .. } => images.pixels.clone(),
        };
        let predictions = Predictions::of(oracle, &treated, self.plan.passes).await?;
        Ok((treated, predictions))
    }

    fn corrupt(
        &self,
        unit: &Unit,
        images: &Images,
        setting: &Setting,
    ) -> Result<Vec<f32>, RunError> {
        let side = self.set.size;
        let image = |pixels| Image {
            pixels,
            channels: 3,
            height: side,
            width: side,
        };
        let given: Vec<Image> = images
            .pixels
            .chunks_exact(self.set.stride())
            .map(image)
            .collect();
        let first = unit.first as u64;
        let done = corruption::corrupt_batch(&given, first, setting, self.textures);
        let done = done.map_err(|e| RunError::Failed(e.to_string()))?;
        Ok(done.concat())
    }

    fn rows(
        &self,
        unit: &Unit,
        condition: &Condition,
        images: &Images,
        treated: &[f32],
        predictions: &Predictions,
    ) -> Vec<Row> {
        let stride = self.set.stride();
        let condition = condition.name();
        let best = predictions.best();
        let right = predictions.right_shares(&images.labels);
        let row = |i: usize| {
            let at = i * stride..(i + 1) * stride;
            let size =
                |norm: Norm| norm.distance(&treated[at.clone()], &images.pixels[at.clone()]) as f32;
            Row {
                model: self.plan.models[unit.model].clone(),
                seed: unit.seed,
                condition: condition.clone(),
                image: (unit.first + i) as u32,
                label: images.labels[i] as u16,
                prediction: best[i] as u16,
                right: right[i],
                passes: predictions.passes() as u16,
                l1: size(Norm::L1),
                l2: size(Norm::L2),
                linf: size(Norm::Linf),
                areas: Vec::new(),
            }
        };
        (0..images.labels.len()).map(row).collect()
    }
}

/// ‖after − before‖₂ / ‖before‖₂; 0 where there was no response, or one that is no number.
pub fn relative_change(before: &[f32], after: &[f32]) -> f32 {
    let (mut moved, mut size) = (0.0_f64, 0.0_f64);
    for (before, after) in before.iter().zip(after) {
        moved += f64::from(after - before).powi(2);
        size += f64::from(*before).powi(2);
    }
    let change = (moved / size).sqrt() as f32;
    if change.is_finite() { change } else { 0.0 }
}
