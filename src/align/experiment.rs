//! A plan run for itself and for each control: what the runs share, and what they come to together.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::aligner::{AlignError, Aligner, Gain, Look, Step};
use super::outcome::{Outcome, Robust};
use super::plan::{Control, Plan};
use super::stimuli::Stimuli;
use super::target::recorded;
use super::target::{Answers, Responses, responses};
use crate::image::dataset::LabelledSet;
use crate::experiment::engine::Experiment;
use crate::experiment::journal::Later;
use crate::experiment::robustness::plan::Plan as TestPlan;
use crate::experiment::robustness::run::{Candidate, Robustness, RunError};
use crate::measure::similarity::{Gram, SimilarityError, inference};
use crate::model::classes::match_classes;
use crate::model::load::Loaded;
use crate::model::probe::CancelToken;
use crate::perturb::corruption::Textures;
use crate::rng::Rng;

/// Permutations of the held-out stimuli.
const PERMUTATIONS: usize = 1000;

/// What a plan trains on, and is measured on.
#[derive(Default)]
pub struct Images {
    pub stimuli: LabelledSet,
    /// The stimuli's labels are classes of the model.
    pub labelled: bool,
    /// None of them a stimulus.
    pub rest: LabelledSet,
    /// `[stimuli, side, side]`, or none.
    pub heat_maps: Vec<f32>,
    pub recorded: Option<crate::neural::Responses>,
    /// Of the target's model, where it has one.
    pub answers: Option<Answers>,
}

impl Images {
    /// The first images of a set, its classes taking turns, as stimuli and the rest to measure
    /// accuracy on; `stimuli` of 0 takes all.
    pub fn split(set: &LabelledSet, stimuli: usize) -> (LabelledSet, LabelledSet) {
        let count = match stimuli {
            0 => set.len(),
            stimuli => stimuli.min(set.len()),
        };
        (set.slice(0..count), set.slice(count..set.len()))
    }

    /// The plan's target, with the plan's seed.
    ///
    /// # Errors
    /// As [`responses`].
    pub fn responses(&self, plan: &Plan) -> Result<Responses, AlignError> {
        let of_file = {
            let found = self.recorded.as_ref();
            found.map(|data| recorded(data, plan.seed)).transpose()?
        };
        #[cfg(not(feature = "neural"))]
        let of_file = None;
        responses(plan, &self.stimuli, self.answers.as_ref(), of_file)
    }
}

impl Images {
    /// A run of `plan` at its beginning, and what the noise of its target lets a model reach.
    ///
    /// # Errors
    /// As [`responses`] and [`Aligner::new`].
    pub fn aligner(
        &self,
        plan: Plan,
        model: &Loaded,
        device: &Device,
        cancel: &CancelToken,
    ) -> Result<(Aligner, Option<inference::Ceiling>), AlignError> {
        let Responses {
            values,
            neuroids,
            ceiling,
        } = self.responses(&plan)?;
        let stimuli = Stimuli {
            images: self.stimuli.clone(),
            labelled: self.labelled,
            responses: values,
            neuroids,
            heat_maps: self.heat_maps.clone(),
        };
        let (rest, device) = (self.rest.clone(), device.clone());
        let aligner = Aligner::new(plan, model, stimuli, rest, device, cancel.clone())?;
        Ok((aligner, ceiling))
    }
}

/// A set whose labels are those of a model, in its order. `named` says which class a folder is where
/// its name does not.
///
/// # Errors
/// The classes of the set that the model does not have.
pub fn relabelled(
    set: &LabelledSet,
    model: &Loaded,
    named: &std::collections::BTreeMap<String, String>,
) -> Result<LabelledSet, String> {
    let classes = match_classes(&set.classes, &model.classes, named).map_err(|e| e.to_string())?;
    let mut set = set.clone();
    for label in &mut set.labels {
        let class = classes[usize::from(*label)].unwrap_or_default();
        *label = class as u16;
    }
    set.classes.clone_from(&model.classes);
    Ok(set)
}

/// What a run did, step by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub steps: Vec<Step>,
    pub looks: Vec<Look>,
}

/// A run that has ended, with what is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub curve: Curve,
    /// Centred kernels of the held-out stimuli: the network's, and the responses'.
    pub network: Gram,
    pub responses: Gram,
}

impl Ended {
    /// What a finished run came to, without its robustness and the time it took.
    ///
    /// # Errors
    /// A device that failed.
    pub async fn of(
        aligner: &Aligner,
        control: Control,
        ceiling: Option<inference::Ceiling>,
        curve: Curve,
    ) -> Result<Self, AlignError> {
        let [network, responses] = aligner.held_out_kernels(&aligner.network()).await?;
        let seed = aligner.plan().seed;
        let mut rng = Rng::stream(seed, "permutations");
        let first = curve.looks.first().copied().unwrap_or_default();
        let outcome = Outcome {
            seed,
            control,
            steps: aligner.steps_done(),
            before: first,
            after: curve.looks.last().copied().unwrap_or_default(),
            chance: inference::permutation_test(&network, &responses, PERMUTATIONS, &mut rng),
            ceiling,
            gain: None,
            robust_before: Vec::new(),
            robust_after: Vec::new(),
            seconds: 0.0,
        };
        Ok(Self {
            outcome,
            curve,
            network,
            responses,
        })
    }
}

/// Gives every aligned run its gain over the shuffled run of its seed.
///
/// # Errors
/// Too few held-out stimuli.
pub fn compare(runs: &mut [Ended]) -> Result<(), SimilarityError> {
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
