//! What an alignment came to, and whether it beat its controls.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::align::aligner::Evaluation;
use crate::align::plan::Control;
use crate::experiment::engine::Experiment;
use crate::experiment::journal::Later;
use crate::experiment::robustness::plan::Plan as TestPlan;
use crate::experiment::robustness::run::{Candidate, Robustness, RunError};
use crate::image::dataset::LabelledSet;
use crate::measure::interval::wilson;
use crate::measure::similarity::inference::Gain;
use crate::measure::similarity::inference::{Ceiling, Permuted};
use crate::model::load::Loaded;
use crate::model::probe::CancelToken;
use crate::perturb::corruption::Textures;

/// A share of images right in one condition of a robustness test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Robust {
    pub condition: String,
    pub right: usize,
    pub images: usize,
}

/// A finished run: the plan with one seed and one control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    pub control: Control,
    pub steps: usize,
    pub before: Evaluation,
    pub after: Evaluation,
    /// All held-out stimuli and all neuroids, against permuted stimuli.
    pub chance: Permuted,
    pub ceiling: Option<Ceiling>,
    /// Over the run with this seed whose target was shuffled, where there was one.
    pub gain: Option<Gain>,
    /// Conditions, before and after; empty where none were asked for.
    pub robust_before: Vec<Robust>,
    pub robust_after: Vec<Robust>,
    pub seconds: f32,
}

/// A run that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub seed: u64,
    pub control: Control,
    /// A sentence for people.
    pub reason: String,
}

/// How many images a model gets right in every condition of a plan, on images that are no stimuli.
///
/// # Errors
/// A plan that does not fit the images, cancelled, a device that failed.
pub async fn robustness<'p>(
    plan: &TestPlan,
    set: &LabelledSet,
    model: &Loaded,
    device: &Device,
    cancel: &CancelToken,
    pause: impl Fn() -> Later<'p, ()>,
) -> Result<Vec<Robust>, RunError> {
    let set = set.in_turns(plan.images);
    // The set's labels are the model's classes already, by number.
    let numbered = |(number, name): (usize, &String)| (name.clone(), number.to_string());
    let classes = set.classes.iter().enumerate().map(numbered).collect();
    let candidates = [Candidate::new(model, set, &classes, device)?];
    let textures = Textures::default();
    let test = Robustness::new(plan, &candidates, device, &textures)?;
    let conditions = test.conditions().iter();
    let mut found: Vec<Robust> = conditions
        .map(|condition| Robust {
            condition: condition.name(),
            right: 0,
            images: 0,
        })
        .collect();
    // A future of the caller's outlives one of these passes.
    let pause = || -> Later<'_, ()> { pause() };
    for unit in test.units() {
        for row in test.rows(&unit, cancel, Some(&pause)).await? {
            if let Some(of) = found.iter_mut().find(|r| r.condition == row.condition) {
                of.images += 1;
                of.right += usize::from(row.prediction == row.label);
            }
        }
    }
    Ok(found)
}

/// What a run and its shuffled control say, in plain words.
pub fn verdict(aligned: &Outcome) -> String {
    let similarity = match aligned.gain {
        None => format!(
            "Similarity to the responses on held-out stimuli went from {:.3} to {:.3} (chance {:.3}, \
             p {:.3}). Without a shuffled control this does not tell alignment from training.",
            aligned.before.held_out_stimuli,
            aligned.after.held_out_stimuli,
            aligned.chance.chance,
            aligned.chance.p
        ),
        Some(gain) => {
            let beat = match (gain.low > 0.0, gain.high < 0.0) {
                (true, _) => "Alignment beat its shuffled control",
                (_, true) => "The shuffled control came out above alignment",
                _ => "Alignment cannot be told from its shuffled control",
            };
            format!(
                "{beat}: CKA {:.3} against {:.3} on held-out stimuli, a difference of {:+.3} (95 % \
                 interval {:+.3} to {:+.3}).",
                gain.ours, gain.theirs, gain.gain, gain.low, gain.high
            )
        }
    };
    match (aligned.before.accuracy, aligned.after.accuracy) {
        (Some(before), Some(after)) => {
            let (low, high) = wilson(after, aligned.after.images);
            format!(
                "{similarity} Accuracy went from {:.1} % to {:.1} % ({:.1} to {:.1}) on {} images \
                 that were not trained on.",
                100.0 * before,
                100.0 * after,
                100.0 * low,
                100.0 * high,
                aligned.after.images
            )
        }
        _ => similarity,
    }
}

/// One row a control, the mean and the standard deviation over seeds, and one row a run that
/// failed, with its reason: the heads and the rows.
pub fn rows(outcomes: &[Outcome], failed: &[Failed]) -> (Vec<String>, Vec<Vec<String>>) {
    let conditions = outcomes.first().map_or(&[][..], |o| &o.robust_after);
    let heads = HEADS.iter().map(|head| (*head).to_owned());
    let heads = heads.chain(conditions.iter().map(|r| r.condition.clone()));
    let before: Vec<&Outcome> = outcomes.iter().filter(|o| o.control.is_none()).collect();
    let mut rows = vec![row("before", &before, |o| o.before, |o| &o.robust_before)];
    for control in Control::ALL {
        let of: Vec<&Outcome> = outcomes.iter().filter(|o| o.control == control).collect();
        if !of.is_empty() {
            rows.push(row(control.run(), &of, |o| o.after, |o| &o.robust_after));
        }
    }
    let heads: Vec<String> = heads.collect();
    rows.extend(failed.iter().map(|run| {
        let name = format!("{}, seed {}", run.control.run(), run.seed);
        let mut cells = vec![name, "failed".to_owned(), run.reason.clone()];
        cells.resize(heads.len(), "–".to_owned());
        cells
    }));
    (heads, rows)
}

/// What every table of runs begins with.
const HEADS: [&str; 5] = [
    "run",
    "seeds",
    "CKA, held-out stimuli",
    "CKA, held-out neuroids",
    "accuracy, %",
];

/// [`rows`] in Markdown.
pub fn table(outcomes: &[Outcome], failed: &[Failed]) -> String {
    let (heads, rows) = rows(outcomes, failed);
    let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = "---|".repeat(heads.len());
    let body: String = rows.iter().map(line).collect();
    format!("{}|{rule}\n{body}", line(&heads))
}

fn row(
    name: &str,
    outcomes: &[&Outcome],
    evaluation: impl Fn(&Outcome) -> Evaluation,
    robust: impl Fn(&Outcome) -> &[Robust],
) -> Vec<String> {
    let spread = |values: Vec<f64>, digits: usize| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        match values.len() {
            0 => "–".to_owned(),
            1 => format!("{mean:.digits$}"),
            _ => format!(
                "{mean:.digits$} ± {:.digits$}",
                (squares / (n - 1.0)).sqrt()
            ),
        }
    };
    let of = |f: &dyn Fn(Evaluation) -> f64| {
        outcomes
            .iter()
            .map(|o| f(evaluation(o)))
            .collect::<Vec<f64>>()
    };
    let accuracies = outcomes.iter().filter_map(|o| evaluation(o).accuracy);
    let mut cells = vec![
        name.to_owned(),
        outcomes.len().to_string(),
        spread(of(&|l| l.held_out_stimuli), 3),
        spread(of(&|l| l.held_out_neuroids), 3),
        spread(accuracies.map(|a| 100.0 * a).collect(), 1),
    ];
    let conditions = outcomes.first().map_or(0, |o| robust(o).len());
    for condition in 0..conditions {
        let shares = outcomes.iter().filter_map(|o| robust(o).get(condition));
        let shares = shares.map(|r| 100.0 * r.right as f64 / r.images.max(1) as f64);
        cells.push(spread(shares.collect(), 1));
    }
    cells
}
