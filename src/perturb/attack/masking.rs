//! Checks for gradient masking, which belong beside every robustness number (Athalye et
//! al. 2018; Zimmermann et al. 2022): a model whose gradient is masked looks robust and is not.

use serde::{Deserialize, Serialize};

use super::context::{Context, pick};
use super::criterion::Criterion;
use super::descent::Descent;
use super::error::AttackError;
use super::loss::Loss;
use super::method::Method;
use super::norm::Norm;
use super::oracle::Oracle;
use super::square::Square;

/// What was found for a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Masking {
    /// Relative difference of the gradient's slope along a random direction from the loss's own by
    /// finite differences; the median over images. Needs a model that repeats itself.
    pub slope_error: Option<f32>,
    /// Part of the gradient's entries that are exactly 0.
    pub zero_gradient: f32,
    /// Loss at fractions 0, 0.1, …, 1 of the perturbation, the mean over images.
    pub path: Vec<f32>,
    /// Success of plain PGD at a radius of 0.5 in L∞, where nothing can stand: 1 when all is well.
    pub large_radius: f32,
    /// Images that withstood the attack but not a search by scores within the same radius.
    pub beaten_by_scores: usize,
    /// How many withstood the attack.
    pub stood: usize,
    pub flags: Vec<Flag>,
}

/// A sign that the attack, not the model, has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// The gradient is not the loss's slope.
    WrongSlope,
    /// Most of the gradient is 0.
    VanishedGradient,
    /// The loss falls again along the perturbation.
    NotMonotone,
    /// A perturbation without limits fails.
    LargeRadiusFails,
    /// An attack that sees less does better.
    ScoresBeatGradient,
}

impl Flag {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::WrongSlope => "The gradient is not the slope of the loss.",
            Self::VanishedGradient => "Most of the gradient is exactly zero.",
            Self::NotMonotone => "The loss falls again on the way to the perturbed image.",
            Self::LargeRadiusFails => "Even a perturbation of half the pixel range fails.",
            Self::ScoresBeatGradient => "A search by scores alone finds what the gradient missed.",
        }
    }
}

/// Points along the perturbation.
const PATH: usize = 10;

/// Side of a finite difference, in L2 for an image in [0, 1].
const STEP: f32 = 1e-2;

/// Steps of PGD at the large radius.
const STEPS: usize = 20;

/// Queries of the search by scores.
const QUERIES: usize = 200;

/// Checks the result `perturbed` of an attack on `pixels` in a ball; where it has none, there is none
/// to search within by scores.
///
/// # Errors
/// [`AttackError`], when the user cancelled or the device failed.
pub async fn check<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    perturbed: &[f32],
    criterion: &Criterion,
    ball: Option<(Norm, f32)>,
) -> Result<Masking, AttackError> {
    let mut found = Masking::default();
    slope(context, pixels, criterion, &mut found).await?;
    path(context, pixels, perturbed, criterion, &mut found).await?;
    let large = Descent {
        norm: Norm::Linf,
        eps: 0.5,
        steps: STEPS,
        rel_step: 0.1,
        ..Descent::default()
    };
    let far = large.attack(context, pixels, criterion).await?;
    let met = context.judge(&far, criterion).await?;
    found.large_radius = share(&met);
    scores(context, pixels, perturbed, criterion, ball, &mut found).await?;
    found.flags = flags(&found);
    Ok(found)
}

fn share(met: &[bool]) -> f32 {
    met.iter().filter(|m| **m).count() as f32 / met.len().max(1) as f32
}

fn flags(found: &Masking) -> Vec<Flag> {
    let peak = found.path.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let end = found.path.last().copied().unwrap_or(peak);
    let rise = (peak - found.path.first().copied().unwrap_or(peak)).abs();
    let table = [
        (Flag::WrongSlope, found.slope_error.is_some_and(|e| e > 0.1)),
        (Flag::VanishedGradient, found.zero_gradient > 0.5),
        (Flag::NotMonotone, peak - end > 0.1 * rise.max(1e-3)),
        (Flag::LargeRadiusFails, found.large_radius < 1.0),
        (Flag::ScoresBeatGradient, found.beaten_by_scores > 0),
    ];
    let raised = table.into_iter().filter(|(_, raised)| *raised);
    raised.map(|(flag, _)| flag).collect()
}

async fn slope<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    criterion: &Criterion,
    found: &mut Masking,
) -> Result<(), AttackError> {
    let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
    // The margin, not the cross-entropy: that of a confident model is flat to f32.
    let loss = |logits: &[f32]| Loss::Margin.evaluate(logits, classes, criterion, &[]);
    let here = context
        .oracle
        .gradient(pixels, &|l| loss(l).cotangent)
        .await?;
    let zeros = here.gradient.iter().filter(|g| **g == 0.0).count();
    found.zero_gradient = zeros as f32 / here.gradient.len().max(1) as f32;
    if context.oracle.is_stochastic() {
        return Ok(());
    }
    // Along the gradient itself, where the slope is steepest and rounding matters least.
    let directions: Vec<f32> = here
        .gradient
        .chunks_exact(length)
        .flat_map(|g| Norm::L2.direction(g))
        .collect();
    let at = |by: f32| -> Vec<f32> {
        let pairs = pixels.iter().zip(&directions);
        pairs.map(|(x, d)| x + by * d).collect()
    };
    let ahead = context.oracle.logits(&at(STEP)).await?;
    let behind = context.oracle.logits(&at(-STEP)).await?;
    let (ahead, behind) = (loss(&ahead).values, loss(&behind).values);
    let slopes = here.gradient.chunks_exact(length);
    let mut errors: Vec<f32> = slopes
        .zip(ahead.iter().zip(&behind))
        .map(|(g, (a, b))| {
            let predicted = Norm::L2.of(g.iter().map(|v| f64::from(*v)));
            let measured = (a - b) / f64::from(2.0 * STEP);
            ((predicted - measured).abs() / predicted.abs().max(measured.abs()).max(1e-12)) as f32
        })
        .collect();
    errors.sort_by(f32::total_cmp);
    found.slope_error = errors.get(errors.len() / 2).copied();
    Ok(())
}

async fn path<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    perturbed: &[f32],
    criterion: &Criterion,
    found: &mut Masking,
) -> Result<(), AttackError> {
    let classes = context.oracle.classes();
    for i in 0..=PATH {
        let part = i as f32 / PATH as f32;
        let pairs = pixels.iter().zip(perturbed);
        let between: Vec<f32> = pairs.map(|(a, b)| a + part * (b - a)).collect();
        let logits = context.oracle.logits(&between).await?;
        let values = Loss::CrossEntropy
            .evaluate(&logits, classes, criterion, &[])
            .values;
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        found.path.push(mean as f32);
    }
    Ok(())
}

async fn scores<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    perturbed: &[f32],
    criterion: &Criterion,
    ball: Option<(Norm, f32)>,
    found: &mut Masking,
) -> Result<(), AttackError> {
    let met = context.judge(perturbed, criterion).await?;
    let stood: Vec<usize> = (0..met.len()).filter(|i| !met[*i]).collect();
    found.stood = stood.len();
    let ball = ball.filter(|(norm, _)| *norm != Norm::L1 && !stood.is_empty());
    let Some((norm, eps)) = ball else {
        return Ok(());
    };
    let square = Square {
        norm,
        eps,
        queries: QUERIES,
        ..Square::default()
    };
    let centres = pick(pixels, context.oracle.image_len(), &stood);
    let images = std::mem::take(&mut context.images);
    context.images = stood.iter().map(|i| images[*i]).collect();
    let wanted = criterion.pick(&stood);
    let tried = square.attack(context, &centres, &wanted).await;
    context.images = images;
    let fell = context.judge(&tried?, &wanted).await?;
    found.beaten_by_scores = fell.iter().filter(|f| **f).count();
    Ok(())
}
