//! Running a plan, unit by unit.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::Row;
use super::plan::{Batch, Condition, Plan, PlanError, Treatment};
use super::report::Report;
use super::summary::FragileImage;
use crate::compute::lost::DeviceLost;
use crate::experiment::engine::{Context, Experiment, Unit};
use crate::image::dataset::LabelledSet;
use crate::image::{Picture, encode_png};
use crate::model::classes::{Unknown, match_classes};
use crate::model::cost::multiply_adds;
use crate::model::load::Loaded;
use crate::model::network::Network;
use crate::model::probe::{CancelToken, Cancelled, Taps};
use crate::perturb::attack::autoattack::Part;
use crate::perturb::attack::network::{NetworkOracle, Noise, Pause, read};
use crate::perturb::attack::plan as attacking;
use crate::perturb::attack::{Aim, AttackError, Criterion, Norm, Predictions};
use crate::perturb::corruption::{self, CorruptionError, Image, Setting, Textures};
use crate::rng::Rng;

/// Why a unit was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(transparent)]
    Device(#[from] DeviceLost),
    #[error(transparent)]
    Attack(AttackError),
    #[error(transparent)]
    Classes(#[from] Unknown),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Corruption(#[from] CorruptionError),
}

impl From<AttackError> for RunError {
    fn from(error: AttackError) -> Self {
        match error {
            AttackError::Cancelled => Self::Cancelled(Cancelled),
            AttackError::Device { cause } => Self::Device(DeviceLost { cause }),
            other => Self::Attack(other),
        }
    }
}

/// A model under test and the images it is tested with.
pub struct Candidate {
    /// On the autodiff side of the device, frozen.
    network: Network,
    /// Already thinned to the plan's number of images, and of the side the model takes.
    set: LabelledSet,
    /// The model's class for each of the set's.
    classes: Vec<usize>,
    /// Multiply-adds of a pass over an image.
    cost: f64,
}

impl Candidate {
    /// A model and images of the side it takes. `named` says which class of the model a class of the
    /// set is where its name does not.
    ///
    /// # Errors
    /// Classes of the set that the model does not have.
    pub fn new(
        model: &Loaded,
        set: LabelledSet,
        named: &BTreeMap<String, String>,
        device: &Device,
    ) -> Result<Self, Unknown> {
        let classes = match_classes(&set.classes, &model.classes, named)?;
        Ok(Self {
            network: model.to_network(&device.clone().autodiff()),
            // No image of a class that is left out is there to be looked up.
            classes: classes.into_iter().map(Option::unwrap_or_default).collect(),
            cost: multiply_adds(&model.config, set.size) as f64,
            set,
        })
    }

    pub fn set(&self) -> &LabelledSet {
        &self.set
    }

    /// Whether a condition can be run on it.
    fn check(&self, condition: &Condition, name: &str) -> Result<(), PlanError> {
        let Some(attack) = condition.attack(self.set.size)? else {
            return Ok(());
        };
        let (length, classes) = (3 * self.set.size * self.set.size, self.network.classes());
        let fits = attacking::check_fit(&attack, length, classes, Aim::Untargeted);
        fits.map_err(|cause| PlanError::Unfit {
            model: name.to_owned(),
            condition: condition.name().to_owned(),
            cause: cause.to_string(),
        })
    }
}

/// A robustness plan with what it is run on.
pub struct Robustness<'a> {
    plan: &'a Plan,
    conditions: Vec<Condition<'a>>,
    /// As the plan has them.
    models: &'a [Candidate],
    images: usize,
    batches: Vec<Batch>,
    device: Device,
    textures: &'a Textures,
}

impl<'a> Robustness<'a> {
    /// The models are in the plan's order, on the autodiff side of `device`.
    ///
    /// # Errors
    /// A plan that makes no sense, and settings that an attack does not take for images of this
    /// size: what would only come up after hours.
    pub fn new(
        plan: &'a Plan,
        models: &'a [Candidate],
        device: &Device,
        textures: &'a Textures,
    ) -> Result<Self, PlanError> {
        let conditions = plan.conditions()?;
        for condition in &conditions {
            for (model, name) in models.iter().zip(&plan.models) {
                model.check(condition, name)?;
            }
        }
        let images = models.iter().map(|m| m.set.len()).min().unwrap_or(0);
        Ok(Self {
            batches: plan.batches(conditions.len(), images),
            plan,
            conditions,
            models,
            images,
            device: device.clone(),
            textures,
        })
    }

    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    pub fn conditions(&self) -> &[Condition<'a>] {
        &self.conditions
    }

    pub fn models(&self) -> &'a [Candidate] {
        self.models
    }

    /// Images that all models have.
    pub fn images(&self) -> usize {
        self.images
    }

    /// A guess at what a unit takes, in forward passes of an image.
    pub fn passes(&self, unit: &Unit) -> f64 {
        let batch = &self.batches[unit.number];
        let stochastic = self.models[batch.model].network.is_stochastic();
        self.conditions[batch.condition].cost(self.plan, stochastic) * batch.images as f64
    }

    /// The images that the first model gets wrong in most conditions, with pictures of them and what
    /// the mildest of these conditions does. `names` are the classes', where they are known.
    pub fn gallery(&self, report: &Report, rows: &[Row], names: &[String]) -> Vec<FragileImage> {
        let (Some(model), Some(set)) = (
            self.plan.models.first(),
            self.models.first().map(|model| &model.set),
        ) else {
            return Vec::new();
        };
        let shown = |mut lost: FragileImage| {
            let mut conditions = self.conditions.iter();
            let condition = conditions.find(|c| c.name() == lost.condition)?;
            lost.action = condition.action(set.size);
            lost.png = png(set, lost.image as usize)?.into();
            Some(lost)
        };
        let lost = report.lost(rows, model, MOST_LOST, names);
        lost.into_iter().filter_map(shown).collect()
    }

    /// A row for each image of a unit.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn rows<'r>(
        &'r self,
        unit: &Unit,
        cancel: &'r CancelToken,
        pause: Option<Pause<'r>>,
    ) -> Result<Vec<Row>, RunError> {
        let batch = self.batches[unit.number];
        let run = BatchRun {
            plan: self.plan,
            condition: self.conditions[batch.condition],
            model: &self.models[batch.model],
            batch,
            device: &self.device,
            textures: self.textures,
            cancel,
            pause,
        };
        run.rows().await
    }
}

impl Experiment for Robustness<'_> {
    type Plan = Plan;
    type Row = Row;
    type Report = Report;
    type Error = RunError;
    const KIND: &'static str = "robustness";

    fn units(&self) -> Vec<Unit> {
        let unit = |(number, batch): (usize, &Batch)| {
            let mut unit = Unit {
                number,
                label: format!(
                    "{}, {}",
                    self.plan.models[batch.model],
                    self.conditions[batch.condition].name()
                ),
                cost: 0.0,
            };
            unit.cost = self.passes(&unit) * self.models[batch.model].cost;
            unit
        };
        self.batches.iter().enumerate().map(unit).collect()
    }

    async fn run(&self, unit: &Unit, context: &mut Context<'_, Row>) -> Result<Vec<Row>, RunError> {
        let pause = || context.watch.pause();
        self.rows(unit, context.place.cancel, Some(&pause)).await
    }

    fn report(&self, rows: &[Row]) -> Result<Report, RunError> {
        Ok(Report::new(self.plan, rows, self.images)?)
    }
}

/// Images whose areas are compared: a run's first. How far an area's activations move differs less
/// from image to image than whether the prediction is right.
const COMPARED: usize = 10;

/// Images of the gallery of those that are lost.
const MOST_LOST: usize = 24;

/// How far the activations of the areas have moved, for each image.
type Moved = Vec<Vec<(String, f32)>>;

/// A unit's images and what they are of.
struct Images {
    /// `[n, 3, side, side]`.
    pixels: Vec<f32>,
    /// In the model's classes.
    labels: Vec<usize>,
}

/// A unit's images in its condition.
struct Treated {
    /// As [`Images::pixels`].
    pixels: Vec<f32>,
    predictions: Predictions,
    /// Which part of AutoAttack brought each down; none of another treatment.
    parts: Vec<Option<Part>>,
}

/// A batch on its way.
struct BatchRun<'r> {
    plan: &'r Plan,
    condition: Condition<'r>,
    model: &'r Candidate,
    batch: Batch,
    device: &'r Device,
    textures: &'r Textures,
    cancel: &'r CancelToken,
    pause: Option<Pause<'r>>,
}

impl<'r> BatchRun<'r> {
    /// A row for each image.
    async fn rows(&self) -> Result<Vec<Row>, RunError> {
        let images = self.images();
        let mut oracle = self.oracle();
        let Treated {
            pixels: treated,
            predictions,
            parts,
        } = self.treat(&images, &mut oracle).await?;
        let moved = match self.condition.treatment {
            Treatment::Clean => Moved::new(),
            _ => self.moved(&images.pixels, &treated).await?,
        };
        let mut rows = self.found(&images, &treated, &predictions);
        for (row, areas) in rows.iter_mut().zip(moved) {
            row.areas = areas;
        }
        for (row, part) in rows.iter_mut().zip(parts) {
            row.part = part;
        }
        Ok(rows)
    }

    /// How far the areas of the batch's images moved, where it has any of a run's first.
    async fn moved(&self, clean: &[f32], treated: &[f32]) -> Result<Moved, RunError> {
        let images = COMPARED
            .saturating_sub(self.batch.first)
            .min(self.batch.images);
        let mut moved = Moved::new();
        moved.resize(images, Vec::new());
        if images == 0 {
            return Ok(moved);
        }
        let floats = images * self.model.set.stride();
        let before = self.areas(&clean[..floats]).await?;
        let after = self.areas(&treated[..floats]).await?;
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

    /// The activations of each area at its last time step; the noise of a stochastic front-end is
    /// the batch's own, so that what differs between two calls is the images.
    async fn areas(&self, pixels: &[f32]) -> Result<Vec<(String, Vec<f32>)>, RunError> {
        let network = self.model.network.valid();
        let side = self.model.set.size;
        let shape = [pixels.len() / self.model.set.stride(), 3, side, side];
        let mut rng = Rng::from_seed(self.seed("noise of the areas"));
        let noise = network.draw_noise(shape[0], side, &mut rng, self.device);
        let pixels = Tensor::from_data(TensorData::new(pixels.to_vec(), shape), self.device);
        let taps = Taps::Named(network.areas());
        let pass = network.pass(pixels, noise, taps, self.cancel)?;
        let mut areas = Vec::with_capacity(pass.taps.len());
        for (name, response) in pass.taps {
            areas.push((name, read(response).await?));
        }
        Ok(areas)
    }

    fn images(&self) -> Images {
        let (set, batch) = (&self.model.set, &self.batch);
        let mut images = Images {
            pixels: Vec::with_capacity(batch.images * set.stride()),
            labels: Vec::with_capacity(batch.images),
        };
        for index in batch.first..batch.first + batch.images {
            let label = set.push_input(index, &mut images.pixels);
            let class = label.map(|l| self.model.classes[usize::from(l)]);
            images.labels.extend(class);
        }
        images
    }

    /// The seed of what is drawn for the batch's images. Conditions and models share it: they are
    /// compared on the same draws, and an attack that runs others finds what these find.
    fn seed(&self, what: &str) -> u64 {
        let batch = &self.batch;
        Rng::stream(batch.seed, &format!("{what} from image {}", batch.first)).seed()
    }

    fn oracle(&self) -> NetworkOracle<'r> {
        let noise = Noise::Fresh {
            rng: Rng::from_seed(self.seed("front-end noise")),
            samples: self.plan.eot,
        };
        let (device, side) = (self.device.clone(), self.model.set.size);
        let cancel = self.cancel.clone();
        let mut oracle = NetworkOracle::new(&self.model.network, device, side, noise, cancel);
        oracle.batch = self.plan.batch;
        match self.pause {
            Some(pause) => oracle.pausing(pause),
            None => oracle,
        }
    }

    /// The batch's images in its condition, and the model's predictions for them.
    async fn treat(
        &self,
        images: &Images,
        oracle: &mut NetworkOracle<'r>,
    ) -> Result<Treated, RunError> {
        if let Some(attack) = self.condition.attack(self.model.set.size)? {
            let plan = attacking::Plan {
                attack,
                seed: self.seed("attack"),
                eight_bit: false,
                passes: self.plan.passes,
            };
            let criterion = Criterion::untargeted(images.labels.clone());
            let pixels = &images.pixels;
            let outcome =
                attacking::run(&plan, oracle, pixels, &criterion, None, &mut |_| {}).await?;
            return Ok(Treated {
                pixels: outcome.pixels,
                predictions: outcome.after,
                parts: outcome.parts,
            });
        }
        let treated = match self.condition.treatment {
            Treatment::Corruption {
                corruption,
                severity,
            } => {
                let setting = Setting {
                    corruption,
                    severity,
                    table: None,
                    seed: self.batch.seed,
                    eight_bit: true,
                };
                self.corrupt(images, &setting)?
            }
            Treatment::Clean | Treatment::Attack { .. } => images.pixels.clone(),
        };
        let predictions = Predictions::of(oracle, &treated, self.plan.passes).await?;
        Ok(Treated {
            pixels: treated,
            predictions,
            parts: Vec::new(),
        })
    }

    fn corrupt(&self, images: &Images, setting: &Setting) -> Result<Vec<f32>, RunError> {
        let side = self.model.set.size;
        let image = |pixels| Image {
            pixels,
            channels: 3,
            height: side,
            width: side,
        };
        let stride = self.model.set.stride();
        let given: Vec<Image> = images.pixels.chunks_exact(stride).map(image).collect();
        let first = self.batch.first as u64;
        Ok(corruption::corrupt_batch(&given, first, setting, self.textures)?.concat())
    }

    fn found(&self, images: &Images, treated: &[f32], predictions: &Predictions) -> Vec<Row> {
        let stride = self.model.set.stride();
        let condition = self.condition.name();
        let best = predictions.best();
        let right = predictions.right_shares(&images.labels);
        let row = |i: usize| {
            let at = i * stride..(i + 1) * stride;
            let size =
                |norm: Norm| norm.distance(&treated[at.clone()], &images.pixels[at.clone()]) as f32;
            Row {
                model: self.plan.models[self.batch.model].clone(),
                seed: self.batch.seed,
                condition: condition.clone(),
                image: (self.batch.first + i) as u32,
                label: images.labels[i] as u16,
                prediction: best[i] as u16,
                right: right[i],
                passes: predictions.passes() as u16,
                l1: size(Norm::L1),
                l2: size(Norm::L2),
                linf: size(Norm::Linf),
                areas: Vec::new(),
                part: None,
            }
        };
        (0..images.labels.len()).map(row).collect()
    }
}

/// An image of a set as a PNG file.
fn png(set: &LabelledSet, image: usize) -> Option<Vec<u8>> {
    let planes = set.image(image)?;
    let area = set.size * set.size;
    let rgb = (0..area).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * area + at]));
    let picture = Picture::from_rgb(set.size, set.size, rgb.collect()).ok()?;
    encode_png(&picture).ok()
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
