//! The responses that a plan aligns with.

use burn::module::Module;
use burn::tensor::Device;

use super::error::AlignError;
use super::features::features;
use super::plan::{Plan, Target};
use super::stimuli::population;
use crate::image::dataset::LabelledSet;
use crate::image::unit;
use crate::measure::similarity::inference::{Ceiling, Repeated, ceiling};
use crate::measure::similarity::{Matrix, inference::ceiling_of};
use crate::model::load::Loaded;
use crate::model::probe::CancelToken;
use crate::rng::Rng;

/// Halves drawn for a ceiling.
const SPLITS: usize = 20;

/// The activations of another model's area for the stimuli. They do not depend on a run's seed.
pub struct TargetActivations {
    /// `[stimuli, units]`.
    values: Vec<f32>,
    stimuli: usize,
}

impl TargetActivations {
    /// Those of `tap` of `model` for `images`, the stimuli at the size of that model.
    ///
    /// # Errors
    /// A tap the model does not have, a device that failed.
    pub async fn of(
        model: &Loaded,
        tap: &str,
        images: &LabelledSet,
        device: &Device,
        cancel: &CancelToken,
    ) -> Result<Self, AlignError> {
        let network = model.to_network(&device.clone().autodiff()).valid();
        let rows: Vec<usize> = (0..images.len()).collect();
        let found = features(&network, images, &rows, tap, device, cancel).await?;
        Ok(Self {
            values: found.values.iter().map(|v| *v as f32).collect(),
            stimuli: images.len(),
        })
    }
}

/// Responses to the stimuli, and the ceiling of their noise.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// `[stimuli, neuroids]`, means over repetitions.
    pub values: Vec<f32>,
    pub neuroids: usize,
    /// Where there are repetitions.
    pub ceiling: Option<Ceiling>,
}

/// The responses of a plan's target to `images`, the stimuli at the size of the aligned model.
/// `activations` are those of a target's model.
///
/// # Errors
/// A target whose activations or file are missing; fewer than four stimuli.
pub fn responses(
    plan: &Plan,
    images: &LabelledSet,
    activations: Option<&TargetActivations>,
    recorded: Option<Responses>,
) -> Result<Responses, AlignError> {
    let missing =
        |what: &str| AlignError::Data(format!("the target needs {what}, and there is none"));
    match &plan.target {
        Target::Responses { .. } => recorded.ok_or_else(|| missing("a file of responses")),
        Target::Pixels => Ok(pixels(images)),
        Target::Model { .. } => {
            let TargetActivations { values, stimuli } =
                activations.ok_or_else(|| missing("a model"))?;
            Ok(Responses {
                neuroids: values.len() / (*stimuli).max(1),
                values: values.clone(),
                ceiling: None,
            })
        }
        Target::Population {
            neuroids,
            repetitions,
            rate,
            ..
        } => {
            let TargetActivations { values, stimuli } =
                activations.ok_or_else(|| missing("a model"))?;
            let n = *stimuli;
            let counts = population(values, n, *neuroids, *repetitions, *rate, plan.seed);
            repeated(
                Repeated {
                    repetitions: *repetitions,
                    stimuli: n,
                    neuroids: *neuroids,
                    values: &counts,
                },
                plan.seed,
            )
        }
    }
}

/// Means over repetitions, with the ceilings of split halves.
///
/// # Errors
/// Fewer than four stimuli.
pub fn repeated(data: Repeated, seed: u64) -> Result<Responses, AlignError> {
    let all: Vec<usize> = (0..data.repetitions).collect();
    let mut rng = Rng::stream(seed, "split halves");
    Ok(Responses {
        values: data.mean(&all).values.iter().map(|v| *v as f32).collect(),
        neuroids: data.neuroids,
        ceiling: ceiling(data, SPLITS, &mut rng)?,
    })
}

/// Recorded responses as a target: means over repetitions, and over splits of these the ceilings.
///
/// # Errors
/// Fewer than four stimuli.
pub fn recorded(data: &crate::neural::Responses, seed: u64) -> Result<Responses, AlignError> {
    let [stimuli, _, neuroids] = data.shape();
    let matrix = |values: &[f32]| Matrix::from_f32(stimuli, neuroids, values);
    // Too few repetitions of a stimulus leave no halves, and no ceiling.
    let halves = |split: usize| {
        let (a, b) = data.halves(seed.wrapping_add(split as u64)).ok()?;
        Some([matrix(&a).ok()?, matrix(&b).ok()?])
    };
    Ok(Responses {
        values: data.mean(),
        neuroids,
        ceiling: ceiling_of(SPLITS, halves)?,
    })
}

fn pixels(images: &LabelledSet) -> Responses {
    Responses {
        values: images.images.iter().map(|byte| unit(*byte)).collect(),
        neuroids: images.stride(),
        ceiling: None,
    }
}
