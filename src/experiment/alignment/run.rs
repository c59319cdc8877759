//! One run of an alignment, from where it was kept to its end.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::{Alignment, AlignmentError, Curve, Ended, Pictures, Row};
use crate::align::aligner::Aligner;
use crate::align::error::AlignError;
use crate::align::plan::Control;
use crate::align::state::Kept;
use crate::clock::Clock;
use crate::experiment::engine::Context;
use crate::experiment::journal::JournalError;
use crate::measure::similarity::cka::of_centred;
use crate::measure::similarity::inference::{self, Ceiling};
use crate::measure::similarity::{Gram, rdm};
use crate::model::save;
use crate::rng::Rng;

/// Permutations of the held-out stimuli.
const PERMUTATIONS: usize = 1000;

/// Where a run is. Behind it stand the bytes of the weights, the optimiser's state and the best
/// weights.
#[derive(Serialize, Deserialize)]
struct State {
    kept: Kept,
    curve: Curve,
    seconds: f32,
    /// Bytes of each of the files.
    lengths: [usize; 3],
}

impl State {
    /// The length of the state as JSON, the state, its files.
    fn write(&self, files: &[Vec<u8>; 3]) -> Result<Vec<u8>, serde_json::Error> {
        let state = serde_json::to_vec(self)?;
        let mut bytes = (state.len() as u64).to_le_bytes().to_vec();
        bytes.extend(state);
        files.iter().for_each(|file| bytes.extend(file));
        Ok(bytes)
    }

    /// `None` for a state of another version of the program.
    fn read(bytes: &[u8]) -> Option<(Self, [Vec<u8>; 3])> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (state, mut rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let state: Self = serde_json::from_slice(state).ok()?;
        let mut files: [Vec<u8>; 3] = Default::default();
        for (file, length) in files.iter_mut().zip(state.lengths) {
            let (of_file, others) = rest.split_at_checked(length)?;
            *file = of_file.to_vec();
            rest = others;
        }
        Some((state, files))
    }
}

/// A run on its way.
struct Run {
    aligner: Aligner,
    /// [`Row::UnderWay`], as it is shown.
    row: Row,
    /// Of earlier starts.
    seconds: f32,
    clock: Clock,
}

impl Run {
    fn curve(&mut self) -> &mut Curve {
        match &mut self.row {
            Row::UnderWay { curve, .. } => curve,
            _ => unreachable!("the row of a run on its way is of that kind"),
        }
    }

    /// Goes on from what an earlier start has kept. What cannot be used begins again.
    fn resume(&mut self, bytes: &[u8]) {
        let Some((state, files)) = State::read(bytes) else {
            return;
        };
        if self.aligner.resume(&state.kept, files).is_ok() {
            // Steps after the last evaluation that was kept are done again.
            let done = self.aligner.steps_done();
            let mut curve = state.curve;
            curve.steps.retain(|step| step.step <= done);
            curve
                .evaluations
                .retain(|evaluation| evaluation.step <= done);
            *self.curve() = curve;
            self.seconds = state.seconds;
        }
    }

    fn share(&self) -> f64 {
        self.aligner.steps_done() as f64 / self.aligner.plan().steps as f64
    }

    async fn keep(&mut self, context: &mut Context<'_, Row>) -> Result<(), AlignmentError> {
        let (kept, files) = self.aligner.keep().await?;
        let state = State {
            kept,
            curve: self.curve().clone(),
            seconds: self.seconds + self.clock.seconds(),
            lengths: [0, 1, 2].map(|file: usize| files[file].len()),
        };
        let bytes = state.write(&files).map_err(JournalError::from)?;
        Ok(context.keep(&bytes).await?)
    }

    /// Trains to the last step, with an evaluation wherever one is due.
    async fn train(&mut self, context: &mut Context<'_, Row>) -> Result<(), AlignmentError> {
        loop {
            let evaluated = self
                .curve()
                .evaluations
                .last()
                .map(|evaluation| evaluation.step);
            let here = self.aligner.steps_done();
            if self.aligner.is_evaluation_due() && evaluated != Some(here) {
                let evaluation = self.aligner.evaluate().await?;
                self.curve().evaluations.push(evaluation);
                // A run at its beginning is begun as quickly as it is read.
                if here > 0 && (context.is_keep_due() || self.aligner.is_finished()) {
                    self.keep(context).await?;
                }
            }
            context.show(self.share(), &self.row);
            if self.aligner.is_finished() {
                return Ok(());
            }
            context.pause().await?;
            match self.aligner.step().await {
                Ok(step) => self.curve().steps.push(step),
                // Where memory was short, half of it may be enough.
                Err(AlignError::Device(_)) if self.aligner.split_further() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Alignment<'_> {
    /// A run from where it is to its end. One that is cancelled is kept.
    pub(super) async fn align(
        &self,
        (seed, control): (u64, Control),
        context: &mut Context<'_, Row>,
    ) -> Result<Ended, AlignmentError> {
        let (aligner, ceiling) = self.aligner((seed, control), context.place.cancel)?;
        let curve = Curve::default();
        let mut run = Run {
            aligner,
            row: Row::UnderWay { control, curve },
            seconds: 0.0,
            clock: Clock::start(),
        };
        if let Some(state) = context.state().await {
            run.resume(&state);
            context.resumed(run.share());
        }
        match run.train(context).await {
            Err(error @ AlignmentError::Cancelled(_)) => {
                run.keep(context).await?;
                return Err(error);
            }
            trained => trained?,
        }
        self.end((seed, control), run, ceiling, context).await
    }

    /// What a finished run comes to. Its weights are saved.
    async fn end(
        &self,
        (seed, control): (u64, Control),
        mut run: Run,
        ceiling: Option<Ceiling>,
        context: &Context<'_, Row>,
    ) -> Result<Ended, AlignmentError> {
        let curve = std::mem::take(run.curve());
        let (aligner, seconds) = (run.aligner, run.seconds + run.clock.seconds());
        let [network, responses] = aligner.held_out_kernels(&aligner.network()).await?;
        let mut rng = Rng::stream(seed, "permutations");
        let mut aligned = self.model.clone();
        let weights = save::to_host(&aligner.network()).await;
        aligned.weights = weights.map_err(AlignError::from)?;
        aligned.name = format!(
            "{}-{}",
            self.study.plan.name,
            self.study.run_name((seed, control))
        );
        let mut file = Vec::new();
        save::write(&aligned, false, &mut file).map_err(AlignmentError::Weights)?;
        let name = self.study.run_name((seed, control));
        context.save(&format!("{name}.safetensors"), &file).await?;
        let outcome = Outcome {
            seed,
            control,
            steps: aligner.steps_done(),
            before: curve.evaluations.first().copied().unwrap_or_default(),
            after: curve.evaluations.last().copied().unwrap_or_default(),
            chance: inference::permutation_test(&network, &responses, PERMUTATIONS, &mut rng),
            ceiling,
            gain: None,
            robust_before: Vec::new(),
            robust_after: self.robustness(&aligned, context).await?,
            seconds,
        };
        let pictures = match control.is_none() {
            true => Some(pictures(&aligner).await?),
            false => None,
        };
        Ok(Ended {
            outcome,
            curve,
            network,
            responses,
            pictures,
        })
    }
}

/// What the areas and the tap make of the held-out stimuli, before and after.
async fn pictures(aligner: &Aligner) -> Result<Pictures, AlignError> {
    let after = aligner.network();
    let (areas, before) = aligner.area_kernels(aligner.start()).await?;
    let (_, after_kernels) = aligner.area_kernels(&after).await?;
    let [_, target] = aligner.held_out_kernels(&after).await?;
    let with = |kernels: &[Gram]| -> Vec<f64> {
        let row = |kernel: &Gram| {
            let others = before.iter().chain([&target]);
            let row: Vec<f64> = others.map(|other| of_centred(kernel, other)).collect();
            row
        };
        kernels.iter().flat_map(row).collect()
    };
    let (order, classes) = aligner.held_out_by_class();
    let features = [
        aligner.held_out_features(aligner.start()).await?,
        aligner.held_out_features(&after).await?,
        aligner.held_out_responses()?,
    ];
    let rdms = features.iter().map(|features| {
        let dissimilarity = rdm::Dissimilarity::default();
        rdm::rdm(features, dissimilarity).permuted(&order)
    });
    Ok(Pictures {
        before: with(&before),
        after: with(&after_kernels),
        rdms: rdms.collect(),
        areas,
        classes,
    })
}
