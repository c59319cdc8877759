//! An alignment as an experiment: a plan run with each of its seeds, and once with each control.
//!
//! A unit is one run. It keeps the weights and the optimiser's state as it goes, so that it goes on
//! from inside the unit. A run that fails, a diverged seed for example, is a row with its reason and
//! leaves the others as they are.

pub mod charts;
pub mod documents;
pub mod images;
pub mod outcome;
mod run;

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use self::images::Images;
use self::outcome::{Failed, Outcome, Robust, robustness};
use super::engine::{Context, Experiment, Unit};
use super::journal::JournalError;
use super::robustness::plan::Plan as TestPlan;
use super::robustness::run::RunError;
use crate::align::aligner::{Aligner, Evaluation, Step};
use crate::align::error::AlignError;
use crate::align::plan::{Control, Plan};
use crate::compute::lost::DeviceLost;
use crate::measure::similarity::inference::{Ceiling, Gain};
use crate::measure::similarity::{Gram, SimilarityError};
use crate::model::load::Loaded;
use crate::model::probe::{CancelToken, Cancelled};

/// An alignment with the runs it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Study {
    pub plan: Plan,
    /// Seeds and controls, in the order of the results.
    pub runs: Vec<(u64, Control)>,
    /// What every network is put through before and after, on images that are no stimuli.
    pub robustness: Option<TestPlan>,
    /// Which class of the model a class of the images is, where its name does not say so.
    pub classes: BTreeMap<String, String>,
}

impl Study {
    /// What a run is called in files.
    pub fn run_name(&self, (seed, control): (u64, Control)) -> String {
        format!("{}-seed{seed}", control.run())
    }
}

/// Why an alignment cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AlignmentError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error(transparent)]
    Device(#[from] DeviceLost),
    #[error(transparent)]
    Align(AlignError),
    #[error(transparent)]
    Robustness(RunError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the weights could not be written: {0}")]
    Weights(std::io::Error),
}

impl From<AlignError> for AlignmentError {
    fn from(error: AlignError) -> Self {
        match error {
            AlignError::Cancelled => Self::Cancelled(Cancelled),
            AlignError::Device(error) => Self::Device(error.into()),
            error => Self::Align(error),
        }
    }
}

impl From<RunError> for AlignmentError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            RunError::Device(lost) => Self::Device(lost),
            error => Self::Robustness(error),
        }
    }
}

impl From<SimilarityError> for AlignmentError {
    fn from(error: SimilarityError) -> Self {
        Self::Align(error.into())
    }
}

/// Training steps of a run, and its evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub steps: Vec<Step>,
    pub evaluations: Vec<Evaluation>,
}

/// A run that has ended, with what is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub curve: Curve,
    /// Centred kernels of the held-out stimuli: the network's, and the responses'.
    pub network: Gram,
    pub responses: Gram,
    /// Of an aligned run.
    pub pictures: Option<Pictures>,
}

/// Similarities of areas before and after, and of the tap's responses to pairs of stimuli.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pictures {
    pub areas: Vec<String>,
    /// `[areas, areas + 1]`: CKA with each area of the model as it was, and with the target.
    pub before: Vec<f64>,
    pub after: Vec<f64>,
    /// Dissimilarities of the held-out stimuli, by class: the tap before, after, and the target.
    pub rdms: Vec<Gram>,
    pub classes: Vec<u16>,
}

/// What a unit finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// Of the model as it was.
    Before(Vec<Robust>),
    /// A run as it goes; it is shown and not kept.
    UnderWay {
        control: Control,
        curve: Curve,
    },
    Ended(Box<Ended>),
    Failed(Failed),
}

/// What the runs come to together.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// In the order of the study.
    pub ended: Vec<Ended>,
    pub failed: Vec<Failed>,
}

impl Report {
    /// The outcomes of the runs that ended.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.ended.iter().map(|run| run.outcome.clone()).collect()
    }
}

/// A study with what it is run on.
pub struct Alignment<'a> {
    pub study: &'a Study,
    pub model: &'a Loaded,
    pub images: &'a Images,
    pub device: Device,
}

impl Alignment<'_> {
    /// The trainer of a run at its beginning, and what the noise of its target lets a model reach.
    ///
    /// # Errors
    /// As [`Images::aligner`].
    fn aligner(
        &self,
        (seed, control): (u64, Control),
        cancel: &CancelToken,
    ) -> Result<(Aligner, Option<Ceiling>), AlignError> {
        let mut plan = self.study.plan.with_control(control);
        plan.seed = seed;
        self.images.aligner(plan, self.model, &self.device, cancel)
    }

    /// Whether every run can begin: what is wrong is said before the first step, not after the last.
    ///
    /// # Errors
    /// As [`Images::aligner`].
    pub fn check(&self, cancel: &CancelToken) -> Result<(), AlignError> {
        let mut runs = self.study.runs.iter();
        runs.try_for_each(|run| self.aligner(*run, cancel).map(drop))
    }

    async fn robustness(
        &self,
        model: &Loaded,
        context: &Context<'_, Row>,
    ) -> Result<Vec<Robust>, AlignmentError> {
        let Some(plan) = &self.study.robustness else {
            return Ok(Vec::new());
        };
        let (rest, device, cancel) = (&self.images.rest, &self.device, context.place.cancel);
        let pause = || context.watch.pause();
        Ok(robustness(plan, rest, model, device, cancel, pause).await?)
    }
}

impl Experiment for Alignment<'_> {
    type Plan = Study;
    type Row = Row;
    type Report = Report;
    type Error = AlignmentError;
    const KIND: &'static str = "alignment";

    /// The robustness of the model as it is, then the runs.
    fn units(&self) -> Vec<Unit> {
        let Study { plan, runs, .. } = self.study;
        let run = |(number, (seed, control)): (usize, &(u64, Control))| Unit {
            number,
            label: match runs.iter().all(|(other, _)| other == seed) {
                true => format!("{}, {}", plan.name, control.run()),
                false => format!("{}, {}, seed {seed}", plan.name, control.run()),
            },
            cost: plan.steps as f64,
        };
        let before = Unit {
            number: runs.len(),
            label: format!("Robustness of {}", self.model.name),
            cost: 0.0,
        };
        let runs = runs.iter().enumerate().map(run);
        std::iter::once(before).chain(runs).collect()
    }

    async fn run(
        &self,
        unit: &Unit,
        context: &mut Context<'_, Row>,
    ) -> Result<Vec<Row>, AlignmentError> {
        let Some((seed, control)) = self.study.runs.get(unit.number).copied() else {
            let before = self.robustness(self.model, context).await?;
            return Ok(vec![Row::Before(before)]);
        };
        let row = match self.align((seed, control), context).await {
            Ok(ended) => Row::Ended(Box::new(ended)),
            Err(
                error @ (AlignmentError::Align(_)
                | AlignmentError::Robustness(_)
                | AlignmentError::Weights(_)),
            ) => Row::Failed(Failed {
                seed,
                control,
                reason: error.to_string(),
            }),
            Err(ends_the_run) => return Err(ends_the_run),
        };
        Ok(vec![row])
    }

    fn report(&self, rows: &[Row]) -> Result<Report, AlignmentError> {
        let mut report = Report {
            ended: Vec::new(),
            failed: Vec::new(),
        };
        let mut before = Vec::new();
        for row in rows {
            match row {
                Row::Before(robust) => before.clone_from(robust),
                Row::UnderWay { .. } => {}
                Row::Ended(ended) => report.ended.push((**ended).clone()),
                Row::Failed(failed) => report.failed.push(failed.clone()),
            }
        }
        let place = |seed: u64, control: Control| {
            let mut runs = self.study.runs.iter();
            runs.position(|run| *run == (seed, control))
        };
        report
            .ended
            .sort_by_key(|run| place(run.outcome.seed, run.outcome.control));
        report
            .failed
            .sort_by_key(|run| place(run.seed, run.control));
        for run in &mut report.ended {
            run.outcome.robust_before.clone_from(&before);
        }
        // Thousands of similarities: not for each report of a run under way, none of which shows them.
        if report.ended.len() + report.failed.len() == self.study.runs.len() {
            compare(&mut report.ended)?;
        }
        Ok(report)
    }
}

/// Gives every aligned run its gain over the shuffled run of its seed.
///
/// # Errors
/// Too few held-out stimuli.
fn compare(runs: &mut [Ended]) -> Result<(), SimilarityError> {
    let shuffled: Vec<(u64, Gram)> = runs
        .iter()
        .filter(|run| run.outcome.control == Control::Shuffled)
        .map(|run| (run.outcome.seed, run.network.clone()))
        .collect();
    for run in runs.iter_mut().filter(|run| run.outcome.control.is_none()) {
        let theirs = shuffled.iter().find(|(seed, _)| *seed == run.outcome.seed);
        if let Some((_, theirs)) = theirs {
            run.outcome.gain = Some(Gain::between(&run.network, theirs, &run.responses)?);
        }
    }
    Ok(())
}
