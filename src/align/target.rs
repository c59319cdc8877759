//! From what a plan is to align with to a matrix of responses.

use burn::module::Module;
use burn::tensor::Device;

use super::aligner::{AlignError, features};
use super::plan::{Plan, Target};
use super::stimuli::population;
use crate::image::dataset::LabelledSet;
use crate::image::unit;
use crate::measure::similarity::inference::{Ceiling, Repeated, ceiling};
#[cfg(feature = "neural")]
use crate::measure::similarity::{
    Matrix,
    cka::{Estimator, Kernel, cka},
    inference::reliabilities,
    median,
};
use crate::model::load::Loaded;
use crate::model::probe::CancelToken;
use crate::rng::Rng;

/// Halves drawn for a ceiling.
const SPLITS: usize = 20;

/// Another model, and the stimuli as it takes them.
pub struct Other<'a> {
    pub model: &'a Loaded,
    pub images: &'a LabelledSet,
}

/// Responses to the stimuli, and what their noise lets a model reach.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// `[stimuli, neuroids]`, means over repetitions.
    pub values: Vec<f32>,
    pub neuroids: usize,
    /// Where there are repetitions.
    pub ceiling: Option<Ceiling>,
}

/// The responses a plan's target gives to `images`, the stimuli as the aligned model takes them.
/// `other` is the model of a target that has one.
///
/// # Errors
/// A target whose model or file was not brought, a tap the model does not have, a device that
/// failed.
pub async fn responses(
    plan: &Plan,
    images: &LabelledSet,
    other: Option<Other<'_>>,
    recorded: Option<Responses>,
    device: &Device,
    cancel: &CancelToken,
) -> Result<Responses, AlignError> {
    let missing = |what: &str| AlignError::Data(format!("the target needs {what}, and none came"));
    match &plan.target {
        Target::Responses { .. } => recorded.ok_or_else(|| missing("a file of responses")),
        Target::Pixels => Ok(pixels(images)),
        Target::Model { tap, .. } => {
            let other = other.ok_or_else(|| missing("a model"))?;
            let values = answers(&other, tap, device, cancel).await?;
            Ok(Responses {
                neuroids: values.len() / other.images.len().max(1),
                values,
                ceiling: None,
            })
        }
        Target::Population {
            tap,
            neuroids,
            repetitions,
            rate,
            ..
        } => {
            let other = other.ok_or_else(|| missing("a model"))?;
            let values = answers(&other, tap, device, cancel).await?;
            let n = other.images.len();
            let counts = population(&values, n, *neuroids, *repetitions, *rate, plan.seed);
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
#[cfg(feature = "neural")]
pub fn recorded(data: &crate::neural::Responses, seed: u64) -> Result<Responses, AlignError> {
    let [stimuli, repetitions, neuroids] = data.shape();
    let matrix = |values: &[f32]| Matrix::from_f32(stimuli, neuroids, values);
    let mut found: Option<Ceiling> = None;
    for split in 0..if repetitions > 1 { SPLITS } else { 0 } {
        // Too few repetitions of a stimulus leave no halves, and no ceiling.
        let Ok((a, b)) = data.halves(seed.wrapping_add(split as u64)) else {
            break;
        };
        let (Ok(a), Ok(b)) = (matrix(&a), matrix(&b)) else {
            break;
        };
        let sum = found.get_or_insert(Ceiling {
            reliability: 0.0,
            cka: 0.0,
            splits: SPLITS,
        });
        sum.reliability += median(reliabilities(&a, &b)) / SPLITS as f64;
        sum.cka += cka(&a, &b, Kernel::Linear, Estimator::Unbiased)? / SPLITS as f64;
    }
    Ok(Responses {
        values: data.mean(),
        neuroids,
        ceiling: found,
    })
}

async fn answers(
    other: &Other<'_>,
    tap: &str,
    device: &Device,
    cancel: &CancelToken,
) -> Result<Vec<f32>, AlignError> {
    let network = other.model.to_network(&device.clone().autodiff()).valid();
    let rows: Vec<usize> = (0..other.images.len()).collect();
    let found = features(&network, other.images, &rows, tap, device, cancel).await?;
    Ok(found.values.iter().map(|v| *v as f32).collect())
}

fn pixels(images: &LabelledSet) -> Responses {
    Responses {
        values: images.images.iter().map(|byte| unit(*byte)).collect(),
        neuroids: images.stride(),
        ceiling: None,
    }
}
