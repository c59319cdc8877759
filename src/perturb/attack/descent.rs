//! One loop for FGSM, PGD, BIM, MI-FGSM and sparse descent in L1: a step along the gradient's
//! direction, then back into the ball. The norm says what a direction and a ball are.

use serde::{Deserialize, Serialize};

use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm, Projection, sign};
use super::oracle::Oracle;

/// Descent at a fixed radius. [`Descent::fgsm`] and its siblings are the published settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Descent {
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1]: 4/255 is 0.0157 in L∞.
    pub eps: f32,
    /// At least 1.
    pub steps: usize,
    /// Step length as a fraction of `eps`.
    pub rel_step: f32,
    /// Start from a random point of the ball.
    pub random_start: bool,
    /// Weight of the gradients of the steps before (Dong et al. 2018); 0 for none.
    pub momentum: f32,
    /// In L1: move only the pixels whose gradient is above this quantile, and project to the
    /// nearest point (Tramèr and Boneh 2019). `None`: all pixels, in proportion.
    pub quantile: Option<f32>,
    pub loss: Loss,
}

impl Default for Descent {
    /// PGD as the VOneNet paper ran it: L∞, 64 steps of ε/4, no random start.
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 1.0 / 255.0,
            steps: 64,
            rel_step: 0.25,
            random_start: false,
            momentum: 0.0,
            quantile: None,
            loss: Loss::CrossEntropy,
        }
    }
}

impl Descent {
    /// The fast gradient (sign) method (Goodfellow et al. 2015): one step as long as the radius.
    pub fn fgsm(norm: Norm, eps: f32) -> Self {
        Self {
            norm,
            eps,
            steps: 1,
            rel_step: 1.0,
            ..Self::default()
        }
    }

    /// The basic iterative method (Kurakin et al. 2017): ten steps of ε/5.
    pub fn bim(norm: Norm, eps: f32) -> Self {
        Self {
            norm,
            eps,
            steps: 10,
            rel_step: 0.2,
            ..Self::default()
        }
    }

    /// The momentum iterative method in L∞ (Dong et al. 2018).
    pub fn mi_fgsm(eps: f32) -> Self {
        Self {
            momentum: 1.0,
            ..Self::bim(Norm::Linf, eps)
        }
    }

    /// Sparse descent in L1 (Tramèr and Boneh 2019): the largest percent of the gradient.
    pub fn sparse(eps: f32) -> Self {
        Self {
            quantile: Some(0.99),
            ..Self::bim(Norm::L1, eps)
        }
    }

    fn check(&self) -> Result<(), AttackError> {
        let numbers = [self.eps, self.rel_step, self.momentum];
        require(
            numbers.iter().all(|v| v.is_finite() && *v >= 0.0),
            "The radius, the step and the momentum of an attack must be numbers of at least 0.",
        )?;
        require(self.steps > 0, "An attack needs at least one step.")?;
        require(
            self.quantile.is_none_or(|q| (0.0..1.0).contains(&q)),
            "The quantile of a sparse attack must be at least 0 and below 1.",
        )
    }

    fn projection(&self) -> Projection {
        match self.quantile {
            Some(_) => Projection::Nearest,
            None => Projection::Scale,
        }
    }

    fn ball_about<'a>(&self, centre: &'a [f32]) -> Ball<'a> {
        Ball {
            norm: self.norm,
            eps: self.eps,
            centre,
        }
    }

    fn start<O: Oracle>(
        &self,
        context: &Context<'_, O>,
        pixels: &[f32],
        length: usize,
    ) -> Vec<f32> {
        let mut x = pixels.to_vec();
        if !self.random_start {
            return x;
        }
        let centres = pixels.chunks_exact(length).enumerate();
        for (x, (image, centre)) in x.chunks_exact_mut(length).zip(centres) {
            let mut rng = context.stream("descent", image);
            let offset = self.norm.random_point(length, self.eps, &mut rng);
            x.iter_mut().zip(offset).for_each(|(x, o)| *x += o);
            self.ball_about(centre).project(x, self.projection());
        }
        x
    }

    fn direction(&self, x: &[f32], slope: &[f32], memory: &mut [f32]) -> Vec<f32> {
        if let Some(quantile) = self.quantile {
            return sparse_direction(x, slope, quantile);
        }
        if self.momentum == 0.0 {
            return self.norm.direction(slope);
        }
        // Steps are of one size before they are summed: directions in the attack's norm, as
        // Foolbox has it. The paper sums gradients of length 1 in L1.
        let slope = self.norm.direction(slope);
        for (memory, slope) in memory.iter_mut().zip(slope) {
            *memory = self.momentum * *memory + slope;
        }
        self.norm.direction(memory)
    }
}

impl Method for Descent {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    /// `[n, c, h, w]` within `eps` of `pixels`; the last step's images, success or not.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let classes = context.oracle.classes();
        let mut x = self.start(context, pixels, length);
        let mut memory = vec![0.0_f32; x.len()];
        for step in 1..=self.steps {
            let loss = |logits: &[f32]| {
                self.loss
                    .evaluate(logits, classes, criterion, &[])
                    .cotangent
            };
            let found = context.oracle.gradient(&x, &loss).await?;
            let images = x.chunks_exact_mut(length).zip(pixels.chunks_exact(length));
            let slopes = found.gradient.chunks_exact(length);
            let memories = memory.chunks_exact_mut(length);
            for (((x, centre), slope), memory) in images.zip(slopes).zip(memories) {
                let direction = self.direction(x, slope, memory);
                let stride = self.rel_step * self.eps;
                x.iter_mut()
                    .zip(direction)
                    .for_each(|(x, d)| *x += stride * d);
                self.ball_about(centre).project(x, self.projection());
            }
            context.report(step, self.steps, &found.logits, &x);
        }
        Ok(x)
    }
}

/// Signs of the largest slopes, together of length 1 in L1. A pixel at the end of its range does
/// not count when it would have to go further.
fn sparse_direction(x: &[f32], slope: &[f32], quantile: f32) -> Vec<f32> {
    let free: Vec<f32> = x
        .iter()
        .zip(slope)
        .map(
            |(x, s)| match (*x <= 0.0 && *s < 0.0) || (*x >= 1.0 && *s > 0.0) {
                true => 0.0,
                false => *s,
            },
        )
        .collect();
    let sizes: Vec<f32> = free.iter().map(|s| s.abs()).collect();
    let least = self::quantile(&sizes, quantile);
    let kept = free
        .iter()
        .map(|s| if s.abs() >= least { sign(*s) } else { 0.0 });
    let kept: Vec<f32> = kept.collect();
    Norm::L1.direction(&kept)
}

/// With linear interpolation between the two nearest values.
fn quantile(values: &[f32], q: f32) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let place = f64::from(q) * (sorted.len().saturating_sub(1)) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len().saturating_sub(1));
    let (Some(a), Some(b)) = (sorted.get(below), sorted.get(above)) else {
        return 0.0;
    };
    (f64::from(*a) + (f64::from(*b) - f64::from(*a)) * (place - place.floor())) as f32
}
