//! The attack itself, batch by batch.

use burn::tensor::Device;
use indicatif::ProgressBar;
use ventral::clock::Clock;
use ventral::model::network::Network;
use ventral::model::probe::CancelToken;
use ventral::perturb::attack::context::pick;
use ventral::perturb::attack::masking::{self, Masking};
use ventral::perturb::attack::network::{NetworkOracle, Noise};
use ventral::perturb::attack::plan::{self, Plan};
use ventral::perturb::attack::{AttackError, Context, Criterion, Norm, Predictions, Step};
use ventral::rng::Rng;

use super::data::Images;
use super::{FrontEnd, Request};
use crate::{Failure, interrupt, progress};

/// A model and the images it is attacked with.
pub struct Batches<'a> {
    pub request: &'a Request,
    pub images: &'a Images,
    /// On the autodiff side of `device`.
    pub network: &'a Network,
    pub device: Device,
    pub cancel: CancelToken,
}

/// One row an image, in all of them.
#[derive(Default)]
pub struct Results {
    pub adv: Vec<f32>,
    /// Of `adv`; of a stochastic model, the mean over the passes.
    pub logits: Vec<f32>,
    pub labels: Vec<usize>,
    pub success: Vec<bool>,
    pub met_before: Vec<bool>,
    /// Whether most passes over the clean image give its label.
    pub clean_right: Vec<bool>,
    /// Whether most passes over the attacked image give its label.
    pub right: Vec<bool>,
    /// L1, L2 and L∞ of the perturbation.
    pub norms: [Vec<f32>; 3],
    /// Passes behind each judgement.
    pub passes: usize,
    pub forwards: u64,
    pub backwards: u64,
    pub seconds: f32,
    pub check: Option<Check>,
}

/// The check for gradient masking.
pub struct Check {
    /// Images that were checked.
    pub images: usize,
    pub found: Masking,
}

/// The norms of [`Results::norms`].
pub const NORMS: [Norm; 3] = [Norm::L1, Norm::L2, Norm::Linf];

/// Parts of an image the progress is counted in.
const PARTS: usize = 1000;

impl Batches<'_> {
    pub async fn run(&self) -> Result<Results, Failure> {
        let bar = progress::bar(
            "{msg} {wide_bar} {percent} % {eta}",
            (self.images.len() * PARTS) as u64,
        );
        let clock = Clock::start();
        let mut results = Results::default();
        let ran = self.batches(&mut results, &bar).await;
        bar.finish_and_clear();
        results.seconds = clock.seconds();
        match ran {
            Ok(()) => Ok(results),
            Err(AttackError::Cancelled) => Err(interrupt::STOPPED.into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn batches(&self, results: &mut Results, bar: &ProgressBar) -> Result<(), AttackError> {
        let mut first = 0;
        for pixels in self
            .images
            .pixels
            .chunks(self.request.batch * self.images.stride())
        {
            let plan = self.request.plan.for_batch(first);
            let mut oracle = self.oracle(&plan);
            let one = Batch {
                batches: self,
                plan: &plan,
                first,
                pixels,
            };
            one.attack(&mut oracle, results, bar).await?;
            results.forwards += oracle.forwards;
            results.backwards += oracle.backwards;
            first += pixels.len() / self.images.stride();
        }
        Ok(())
    }

    fn oracle(&self, plan: &Plan) -> NetworkOracle<'_> {
        let noise = match self.request.noise {
            FrontEnd::Off => Noise::Off,
            FrontEnd::Seed(seed) => Noise::Fixed(seed),
            FrontEnd::Fresh => Noise::Fresh {
                rng: Rng::stream(plan.seed, "attack noise"),
                samples: self.request.eot,
            },
        };
        let (device, cancel) = (self.device.clone(), self.cancel.clone());
        let mut oracle = NetworkOracle::new(self.network, device, self.images.side, noise, cancel);
        oracle.batch = self.request.batch;
        oracle
    }
}

/// Images that are attacked together.
struct Batch<'a> {
    batches: &'a Batches<'a>,
    /// With the batch's own seed.
    plan: &'a Plan,
    /// The number of its first image.
    first: usize,
    pixels: &'a [f32],
}

impl Batch<'_> {
    async fn attack(
        &self,
        oracle: &mut NetworkOracle<'_>,
        results: &mut Results,
        bar: &ProgressBar,
    ) -> Result<(), AttackError> {
        let length = self.batches.images.stride();
        let n = self.pixels.len() / length;
        let before = Predictions::of(oracle, self.pixels, self.plan.passes).await?;
        let labels = match &self.batches.images.labels {
            Some(labels) => labels[self.first..][..n].to_vec(),
            None => before.best(),
        };
        let criterion = self.criterion(&labels);
        let mut watch = |step: Step<'_>| self.show(bar, n, &step);
        let before = Some(before);
        let outcome = plan::run(
            self.plan,
            oracle,
            self.pixels,
            &criterion,
            before,
            &mut watch,
        )
        .await?;
        if self.batches.request.check && self.first == 0 {
            results.check = self.check(oracle, &outcome, &criterion, bar).await?;
        }
        let pairs = outcome.pixels.chunks_exact(length);
        for (x, original) in pairs.zip(self.pixels.chunks_exact(length)) {
            for (norm, column) in NORMS.into_iter().zip(&mut results.norms) {
                column.push(norm.distance(x, original) as f32);
            }
        }
        results.success.extend(outcome.success());
        results.clean_right.extend(outcome.before.right(&labels));
        results.right.extend(outcome.after.right(&labels));
        results.labels.extend(labels);
        results.passes = outcome.after.passes();
        results.logits.extend(outcome.after.logits);
        results.met_before.extend(outcome.met_before);
        results.adv.extend(outcome.pixels);
        bar.set_position(((self.first + n) * PARTS) as u64);
        Ok(())
    }

    fn criterion(&self, labels: &[usize]) -> Criterion {
        let request = self.batches.request;
        Criterion {
            aim: request.aim,
            classes: match request.target {
                Some(target) => vec![target; labels.len()],
                None => labels.to_vec(),
            },
            confidence: request.confidence,
            margin: 0.0,
        }
    }

    fn show(&self, bar: &ProgressBar, n: usize, step: &Step<'_>) {
        let (first, last, all) = (self.first + 1, self.first + n, self.batches.images.len());
        let steps = match step.steps {
            0 => String::new(),
            steps => format!(" of {steps}"),
        };
        bar.set_message(format!(
            "images {first} to {last} of {all}, step {}{steps}, {} left",
            step.step,
            step.images.len()
        ));
        // Restarts count from 1 again: the bar only ever goes on.
        let within = n * PARTS * step.step / step.steps.max(step.step).max(1);
        let place = (self.first * PARTS + within) as u64;
        bar.set_position(place.max(bar.position()));
    }

    /// Checks the images that were attacked for gradient masking.
    async fn check(
        &self,
        oracle: &mut NetworkOracle<'_>,
        outcome: &plan::Outcome,
        criterion: &Criterion,
        bar: &ProgressBar,
    ) -> Result<Option<Check>, AttackError> {
        let length = self.batches.images.stride();
        let images: Vec<usize> = (0..outcome.met_before.len())
            .filter(|i| !outcome.met_before[*i])
            .collect();
        if images.is_empty() {
            return Ok(None);
        }
        bar.set_message("checking the gradient");
        let (clean, found) = (
            pick(self.pixels, length, &images),
            pick(&outcome.pixels, length, &images),
        );
        let (ball, criterion) = (self.plan.attack.ball(), criterion.pick(&images));
        let checked = images.len();
        let mut watch = |_: Step<'_>| {};
        let mut context = Context::new(oracle, self.plan.seed, &mut watch, images);
        let found = masking::check(&mut context, &clean, &found, &criterion, ball).await?;
        Ok(Some(Check {
            images: checked,
            found,
        }))
    }
}
