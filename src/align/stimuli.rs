//! The data of an alignment: images, their classes, and the responses of a population.

use super::plan::{Control, Validation};
use crate::image::dataset::LabelledSet;
use crate::perturb::corruption::Draws;
use crate::rng::Rng;

/// Images with responses to them.
#[derive(Clone, Debug, Default)]
pub struct Stimuli {
    pub images: LabelledSet,
    /// Whether the labels are classes of the model, as cross-entropy and accuracy need.
    pub labelled: bool,
    /// `[stimuli, neuroids]`, row-major.
    pub responses: Vec<f32>,
    pub neuroids: usize,
    /// `[stimuli, side, side]` where people looked, 0 elsewhere; empty without any.
    pub heat_maps: Vec<f32>,
}

/// The stimuli and neuroids of training, and the held-out ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub training: Vec<usize>,
    pub held_out: Vec<usize>,
    pub neuroids: Vec<usize>,
    pub held_out_neuroids: Vec<usize>,
}

impl Split {
    /// Draws the held-out stimuli, the same share of every class, and the held-out neuroids.
    pub fn draw(stimuli: &Stimuli, validation: &Validation, seed: u64) -> Self {
        let mut rng = Rng::stream(seed, "held-out stimuli");
        let labels = &stimuli.images.labels;
        let classes = labels.iter().max().map_or(0, |most| usize::from(*most) + 1);
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        let mut sizes = vec![0_usize; classes];
        labels
            .iter()
            .for_each(|label| sizes[usize::from(*label)] += 1);
        let held = shares(&sizes, validation.stimuli);
        for (class, held) in held.into_iter().enumerate() {
            let of_class = |i: &usize| usize::from(labels[*i]) == class;
            let mut members: Vec<usize> = (0..labels.len()).filter(of_class).collect();
            rng.shuffle(&mut members);
            held_out.extend(members.drain(..held));
            training.extend(members);
        }
        training.sort_unstable();
        held_out.sort_unstable();
        let mut neuroids: Vec<usize> = (0..stimuli.neuroids).collect();
        Rng::stream(seed, "held-out neuroids").shuffle(&mut neuroids);
        let held = (neuroids.len() as f64 * validation.neuroids) as usize;
        let mut held_out_neuroids: Vec<usize> = neuroids.drain(..held).collect();
        neuroids.sort_unstable();
        held_out_neuroids.sort_unstable();
        Self {
            training,
            held_out,
            neuroids,
            held_out_neuroids,
        }
    }
}

/// How many of each class are held out: `share` of all of them, and of every class as nearly as can
/// be (largest remainders).
fn shares(sizes: &[usize], share: f64) -> Vec<usize> {
    let exact = |size: &usize| *size as f64 * share;
    let mut held: Vec<usize> = sizes.iter().map(|size| exact(size) as usize).collect();
    let all: usize = sizes.iter().sum();
    let missing = (exact(&all).round() as usize).saturating_sub(held.iter().sum());
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| {
        exact(&sizes[*b])
            .fract()
            .total_cmp(&exact(&sizes[*a]).fract())
    });
    order
        .into_iter()
        .take(missing)
        .for_each(|class| held[class] += 1);
    held
}

/// The targets that training sees, `[training stimuli, training neuroids]`, as the control has
/// them. Held-out responses never change: every run is evaluated with the true ones.
pub fn targets(stimuli: &Stimuli, split: &Split, control: Control, seed: u64) -> Vec<f32> {
    let mut rng = Rng::stream(seed, control.name());
    let mut rows = split.training.clone();
    if control == Control::Shuffled {
        rng.shuffle(&mut rows);
    }
    let mut targets = pick(stimuli, &rows, &split.neuroids);
    if control == Control::Gaussian {
        rng.fill_normal(&mut targets);
    }
    targets
}

/// Responses of these neuroids to these stimuli, row-major.
pub fn pick(stimuli: &Stimuli, rows: &[usize], neuroids: &[usize]) -> Vec<f32> {
    let row = |i: &usize| {
        let start = i * stimuli.neuroids;
        let row = &stimuli.responses[start..start + stimuli.neuroids];
        neuroids.iter().map(move |neuroid| row[*neuroid])
    };
    rows.iter().flat_map(row).collect()
}

/// A synthetic population: `neuroids` random weighted sums of `features` `[n, p]`, each standardised
/// over stimuli and brought to a mean of `rate` spikes, counted with Poisson noise `repetitions`
/// times. `[repetitions, n, neuroids]`.
pub fn population(
    features: &[f32],
    n: usize,
    neuroids: usize,
    repetitions: usize,
    rate: f64,
    seed: u64,
) -> Vec<f32> {
    let p = features.len() / n.max(1);
    let mut rng = Rng::stream(seed, "synthetic population");
    let mut rates = vec![0.0_f64; n * neuroids];
    let mut weights = vec![0.0_f32; p];
    for neuroid in 0..neuroids {
        rng.fill_normal(&mut weights);
        let sums: Vec<f64> = features
            .chunks_exact(p.max(1))
            .map(|row| {
                row.iter()
                    .zip(&weights)
                    .map(|(a, b)| f64::from(a * b))
                    .sum()
            })
            .collect();
        let mean = sums.iter().sum::<f64>() / n.max(1) as f64;
        let variance = sums.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n.max(1) as f64;
        let deviation = variance.sqrt().max(f64::MIN_POSITIVE);
        for (i, sum) in sums.iter().enumerate() {
            // One deviation is half of the mean rate; a rate is not negative.
            let drive = 1.0 + 0.5 * (sum - mean) / deviation;
            rates[i * neuroids + neuroid] = rate * drive.max(0.0);
        }
    }
    let mut counts: Vec<f32> = Vec::with_capacity(repetitions * rates.len());
    for _ in 0..repetitions {
        counts.extend(rates.iter().map(|rate| *rate as f32));
    }
    rng.poisson(&mut counts);
    counts
}
