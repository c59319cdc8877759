//! The Jacobian saliency map attack (Papernot et al. 2016): few pixels, changed a lot, two at a
//! time.

use serde::{Deserialize, Serialize};

use super::best_so_far::Clean;
use super::context::{Context, pick};
use super::criterion::{Aim, Criterion, runner_up};
use super::error::{AttackError, require};
use super::method::Method;
use super::oracle::Oracle;

/// The smallest change of a pixel: a level of 8 bits.
const LEAST_CHANGE: f32 = 1.0 / 255.0;

/// An attack with few features: a feature is one channel of one pixel.
///
/// It moves towards a class. To leave one it moves towards the best other class of the clean image,
/// and any other class that wins on the way is a success.
///
/// Slopes are those of the logits, as in the paper, not of the probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jsma {
    /// What a feature changes by in a step, from 1/255 to 1; below 0 to darken, to −1.
    pub theta: f32,
    /// The largest share of features that may change, above 0 and at most 1.
    pub gamma: f32,
}

impl Default for Jsma {
    fn default() -> Self {
        Self {
            theta: 1.0,
            gamma: 0.1,
        }
    }
}

/// One image on its way.
struct Painter {
    image: usize,
    target: usize,
    x: Vec<f32>,
    /// Features that have changed.
    changed: Vec<bool>,
}

/// What a change of one feature in the direction of theta does.
#[derive(Clone, Copy, Debug)]
struct Effect {
    feature: usize,
    /// How much the target's logit rises by.
    gain: f64,
    /// How much the sum of the others falls by.
    fall: f64,
}

impl Jsma {
    pub(super) fn check(&self) -> Result<(), AttackError> {
        require(
            (LEAST_CHANGE..=1.0).contains(&self.theta.abs()),
            "The change of a step of JSMA must be from 1/255 to 1, or from -1 to -1/255 to darken.",
        )?;
        require(
            self.gamma > 0.0 && self.gamma <= 1.0,
            "The share of features that JSMA may change must be above 0 and at most 1.",
        )
    }

    /// Features of an image that may change.
    fn budget(&self, length: usize) -> usize {
        (f64::from(self.gamma) * length as f64) as usize
    }

    /// More than it takes to bring that many features to the end of their range, two at a time.
    fn steps(&self, length: usize) -> usize {
        let each = (1.0 / f64::from(self.theta.abs())).ceil() as usize + 1;
        self.budget(length) * each
    }

    /// Changes a pair of features of each image. Those that find none are dropped; those that
    /// arrived are taken out and returned.
    async fn step<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        painters: &mut Vec<Painter>,
        criterion: &Criterion,
        at: [usize; 2],
    ) -> Result<Vec<Painter>, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let x = stack(painters);
        let slope = |of_target: f32, of_others: f32| {
            let targets: Vec<usize> = painters.iter().map(|p| p.target).collect();
            move |logits: &[f32]| {
                let mut slope = vec![of_others; logits.len()];
                let rows = slope.chunks_exact_mut(classes).zip(&targets);
                rows.for_each(|(row, target)| row[*target] = of_target);
                slope
            }
        };
        let target = context.oracle.gradient(&x, &slope(1.0, 0.0)).await?;
        let others = context.oracle.gradient(&x, &slope(0.0, 1.0)).await?;
        let slopes = target.gradient.chunks_exact(length);
        let mut slopes = slopes.zip(others.gradient.chunks_exact(length));
        let flags = painters.iter_mut().map(|painter| {
            let slopes = slopes.next();
            slopes.is_some_and(|(target, others)| self.paint(painter, target, others))
        });
        let painted: Vec<bool> = flags.collect();
        let kept: Vec<usize> = (0..painted.len()).filter(|i| painted[*i]).collect();
        let mut flags = painted.into_iter();
        painters.retain(|_| flags.next().unwrap_or(false));
        if painters.is_empty() {
            return Ok(Vec::new());
        }
        let images: Vec<usize> = painters.iter().map(|p| p.image).collect();
        let x = stack(painters);
        let met = context.judge(&x, &criterion.pick(&images)).await?;
        context.report_some(&images, at, &pick(&target.logits, classes, &kept), &x);
        let mut met = met.into_iter();
        Ok(painters
            .extract_if(.., |_| met.next().unwrap_or(false))
            .collect())
    }

    /// Changes the best pair of features, if there is one, and says whether there was. `target`
    /// and `others` are the slopes of the target's logit and of the sum of the others.
    fn paint(&self, painter: &mut Painter, target: &[f32], others: &[f32]) -> bool {
        let sign = f64::from(self.theta.signum());
        let changed = painter.changed.iter().filter(|c| **c).count();
        let full = changed + 2 > self.budget(painter.x.len());
        let free = |i: &usize| {
            let room = if sign > 0.0 {
                painter.x[*i] < 1.0
            } else {
                painter.x[*i] > 0.0
            };
            room && (!full || painter.changed[*i])
        };
        let effect = |feature: usize| Effect {
            feature,
            gain: sign * f64::from(target[feature]),
            fall: -sign * f64::from(others[feature]),
        };
        let effects = (0..painter.x.len()).filter(free).map(effect);
        let Some(pair) = best_pair(effects.collect()) else {
            return false;
        };
        for i in pair {
            painter.x[i] = (painter.x[i] + self.theta).clamp(0.0, 1.0);
            painter.changed[i] = true;
        }
        true
    }
}

impl Method for Jsma {
    /// `[n, c, h, w]`; at most `gamma` of an image's features differ from `pixels`, and an image
    /// that did not get there is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut best = pixels.to_vec();
        let begin = |image: &usize| Painter {
            image: *image,
            target: match criterion.aim {
                Aim::Targeted => criterion.classes[*image],
                Aim::Untargeted => {
                    let row = &clean.logits[image * classes..][..classes];
                    runner_up(row, criterion.classes[*image])
                }
            },
            x: pick(pixels, length, &[*image]),
            changed: vec![false; length],
        };
        let mut painters: Vec<Painter> = clean.open.iter().map(begin).collect();
        let steps = self.steps(length);
        for step in 1..=steps {
            if painters.is_empty() {
                break;
            }
            self.step(context, &mut painters, criterion, [step, steps])
                .await?
                .into_iter()
                .for_each(|p| best[p.image * length..][..length].copy_from_slice(&p.x));
        }
        Ok(best)
    }
}

/// The two features that together raise the target and lower the others, with the largest product
/// of both; `None` where no two do.
///
/// Exact, and fast where there are 150,000 features: a feature that two others match in both
/// respects can give way to one of them in any pair, so it need not be looked at. What is left is
/// the outline of the cloud of features.
fn best_pair(mut effects: Vec<Effect>) -> Option<[usize; 2]> {
    effects.retain(|e| e.gain.is_finite() && e.fall.is_finite());
    effects.sort_by(|a, b| {
        let by_fall = || b.fall.total_cmp(&a.fall);
        b.gain.total_cmp(&a.gain).then_with(by_fall)
    });
    // The two largest falls so far, of features that gain at least as much.
    let [mut first, mut second] = [f64::NEG_INFINITY; 2];
    effects.retain(|e| {
        let kept = e.fall > second;
        second = second.max(e.fall.min(first));
        first = first.max(e.fall);
        kept
    });
    let mut best = None;
    let mut largest = 0.0;
    for (i, a) in effects.iter().enumerate() {
        for b in &effects[i + 1..] {
            let (gain, fall) = (a.gain + b.gain, a.fall + b.fall);
            if gain > 0.0 && fall > 0.0 && gain * fall > largest {
                largest = gain * fall;
                best = Some([a.feature, b.feature]);
            }
        }
    }
    best
}

fn stack(painters: &[Painter]) -> Vec<f32> {
    painters.iter().flat_map(|p| p.x.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_model::{TestModel, attack, image};
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_pair_is_the_best_of_all() {
        let mut rng = Rng::from_seed(1);
        let mut none = 0;
        for round in 0..400 {
            // Coarse values tie often; a slope between the two makes the outline long.
            let value = |rng: &mut Rng| match round % 2 {
                0 => rng.below(7) as f64 - 4.0,
                _ => rng.normal_f64() - 0.5,
            };
            let effects: Vec<Effect> = (0..rng.below(30))
                .map(|feature| {
                    let gain = value(&mut rng);
                    let fall = value(&mut rng) - (round % 3) as f64 * 0.5 * gain;
                    Effect {
                        feature,
                        gain,
                        fall,
                    }
                })
                .collect();
            let worth = |[i, j]: [usize; 2]| {
                let (a, b) = (effects[i], effects[j]);
                let (gain, fall) = (a.gain + b.gain, a.fall + b.fall);
                if gain > 0.0 && fall > 0.0 {
                    gain * fall
                } else {
                    0.0
                }
            };
            let n = effects.len();
            let all = (0..n).flat_map(|i| (0..i).map(move |j| [i, j]));
            let best = all.map(worth).fold(0.0, f64::max);
            match best_pair(effects.clone()) {
                None => {
                    assert_eq!(best, 0.0);
                    none += 1;
                }
                Some(pair) => {
                    assert!(pair[0] != pair[1]);
                    assert_eq!(worth(pair), best);
                }
            }
        }
        assert!(none > 10 && none < 300, "{none}");
    }

    /// Two classes of one pixel each and ballast: only those two pixels matter, and only one way.
    #[test]
    fn the_pixels_that_matter_are_the_ones_that_change() {
        let mut model = TestModel::of(
            [1, 2, 3],
            &[
                &[0.0, -1.0, 0.0, -1.0, 0.0, 0.5],
                &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
            ],
        );
        let x = [0.5, 0.0, 0.5, 0.0, 0.5, 1.0];
        let found = |theta: f32, gamma: f32, model: &mut TestModel| {
            let jsma = Attack::Jsma(Jsma { theta, gamma });
            attack(model, &jsma, &x, &Criterion::untargeted(vec![0])).unwrap()
        };
        assert_eq!(found(1.0, 0.4, &mut model), [0.5, 1.0, 0.5, 1.0, 0.5, 1.0]);
        // 0.125 each are on the boundary, one step more is beyond it.
        let small = found(0.125, 0.4, &mut model);
        assert_eq!(small, [0.5, 0.25, 0.5, 0.25, 0.5, 1.0]);
        // A tenth of six features is no pair; darkening helps the wrong class.
        assert_eq!(found(1.0, 0.1, &mut model), x);
        assert_eq!(found(-1.0, 1.0, &mut model), x);
    }

    #[test]
    fn no_more_features_change_than_allowed_and_classes_are_reached() {
        let mut rng = Rng::from_seed(3);
        let mut reached = 0;
        for round in 0..40 {
            let mut model = TestModel::two_layer(&mut rng, [3, 4, 4], 8, 4);
            let x = image(&mut rng, 48);
            let target = (model.class_of(&x) + 1) % 4;
            let jsma = Jsma {
                theta: [1.0, 0.3, -1.0, -0.05][round % 4],
                gamma: 0.05 + 0.9 * rng.uniform_f32(),
            };
            let criterion = Criterion::targeted(vec![target]);
            let found = attack(&mut model, &Attack::Jsma(jsma.clone()), &x, &criterion).unwrap();
            let changed = found.iter().zip(&x).filter(|(a, b)| a != b).count();
            assert!(changed <= jsma.budget(48), "{changed} {jsma:?}");
            match model.class_of(&found) == target {
                true => reached += 1,
                false => assert_eq!(found, x),
            }
        }
        assert!(reached > 10, "{reached}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for theta in [0.0, 0.001, 1.5, -1.5, f32::NAN] {
            let gamma = 0.1;
            assert!(Jsma { theta, gamma }.check().is_err(), "{theta}");
        }
        for gamma in [0.0, -0.1, 1.1, f32::NAN] {
            let theta = 1.0;
            assert!(Jsma { theta, gamma }.check().is_err(), "{gamma}");
        }
        assert!(Jsma::default().check().is_ok());
    }
}
