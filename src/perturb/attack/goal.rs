//! What an attack wants, and the losses that lead there.

use serde::{Deserialize, Serialize};

/// Which prediction counts as success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// Any other class than the given one.
    Leave,
    /// Only the given class.
    Reach,
}

/// The goal for a batch: one class an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    pub aim: Aim,
    /// The class to leave or to reach, an image each.
    pub classes: Vec<usize>,
    /// The probability that the wrong (or the wanted) class must have at least, 0 to 1. At 0 it
    /// only has to be the largest.
    pub confidence: f32,
}

impl Goal {
    pub fn leave(classes: Vec<usize>) -> Self {
        Self {
            aim: Aim::Leave,
            classes,
            confidence: 0.0,
        }
    }

    pub fn reach(classes: Vec<usize>) -> Self {
        Self {
            aim: Aim::Reach,
            ..Self::leave(classes)
        }
    }

    /// The goal of the images `which`.
    pub fn pick(&self, which: &[usize]) -> Self {
        Self {
            classes: which.iter().map(|i| self.classes[*i]).collect(),
            ..*self
        }
    }

    /// Whether image `index` with these logits is a success. A logit that is not a number is not.
    pub fn is_met(&self, index: usize, logits: &[f32]) -> bool {
        let best = argmax(logits);
        let hit = match self.aim {
            Aim::Leave => best != self.classes[index],
            Aim::Reach => best == self.classes[index],
        };
        hit && (self.confidence <= 0.0 || softmax(logits)[best] >= f64::from(self.confidence))
    }

    /// [`is_met`](Self::is_met) of a batch.
    pub fn met(&self, logits: &[f32], classes: usize) -> Vec<bool> {
        let rows = logits.chunks_exact(classes).enumerate();
        rows.map(|(i, row)| self.is_met(i, row)).collect()
    }
}

/// The largest value's place; the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

/// In f64, which a row of logits is worth.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|l| f64::from(l - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// What an attack climbs. Every loss grows towards the goal, whichever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy of the class to leave; minus that of the class to reach.
    #[default]
    CrossEntropy,
    /// Difference of logits ratio (Croce and Hein 2020): does not change when all logits are
    /// scaled. Needs three classes, four for a class to reach.
    Dlr,
    /// The best other logit minus that of the class to leave; the wanted logit minus the best
    /// other (Carlini and Wagner 2017).
    Margin,
}

/// A loss and its derivative with respect to the logits, image by image.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    pub values: Vec<f64>,
    /// `[n, classes]`.
    pub cotangent: Vec<f32>,
}

/// Keeps the ratio of [`Loss::Dlr`] finite.
const DLR_EPSILON: f64 = 1e-12;

impl Loss {
    /// Of `[n, classes]` logits. For [`Loss::Dlr`] towards a class, `labels` are the classes the
    /// images are of; they may be empty otherwise.
    pub fn evaluate(
        self,
        logits: &[f32],
        classes: usize,
        goal: &Goal,
        labels: &[usize],
    ) -> Evaluated {
        let mut values = Vec::new();
        let mut cotangent = Vec::with_capacity(logits.len());
        for (i, row) in logits.chunks_exact(classes).enumerate() {
            let (value, slope) = match (self, goal.aim) {
                (Self::CrossEntropy, aim) => cross_entropy(row, goal.classes[i], aim),
                (Self::Margin, aim) => margin(row, goal.classes[i], aim),
                (Self::Dlr, Aim::Leave) => dlr(row, goal.classes[i]),
                (Self::Dlr, Aim::Reach) => dlr_targeted(row, labels[i], goal.classes[i]),
            };
            values.push(value);
            cotangent.extend(slope.into_iter().map(|s| s as f32));
        }
        Evaluated { values, cotangent }
    }

    /// As it is written in a document.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::Dlr => "dlr",
            Self::Margin => "margin",
        }
    }

    /// Fewest classes a model must have.
    pub fn least_classes(self, aim: Aim) -> usize {
        match (self, aim) {
            (Self::Dlr, Aim::Leave) => 3,
            (Self::Dlr, Aim::Reach) => 4,
            _ => 2,
        }
    }
}

type Row = (f64, Vec<f64>);

fn cross_entropy(row: &[f32], class: usize, aim: Aim) -> Row {
    let mut slope = softmax(row);
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|l| f64::from(l - max).exp()).sum();
    let value = sum.ln() - f64::from(row[class] - max);
    slope[class] -= 1.0;
    match aim {
        Aim::Leave => (value, slope),
        Aim::Reach => (-value, slope.into_iter().map(|s| -s).collect()),
    }
}

/// The best class other than `class`.
pub fn runner_up(row: &[f32], class: usize) -> usize {
    let mut best = usize::from(class == 0);
    for (i, value) in row.iter().enumerate() {
        if i != class && *value > row[best] {
            best = i;
        }
    }
    best
}

fn margin(row: &[f32], class: usize, aim: Aim) -> Row {
    let other = runner_up(row, class);
    let sign = match aim {
        Aim::Leave => 1.0,
        Aim::Reach => -1.0,
    };
    let mut slope = vec![0.0; row.len()];
    slope[other] = sign;
    slope[class] = -sign;
    (sign * f64::from(row[other] - row[class]), slope)
}

/// Places of the logits, largest first.
fn ranked(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order
}

/// `a / b` and its slope, both being sums of logits with weights.
fn ratio(row: &[f32], above: &[(usize, f64)], below: &[(usize, f64)]) -> Row {
    let sum =
        |terms: &[(usize, f64)]| -> f64 { terms.iter().map(|(i, w)| w * f64::from(row[*i])).sum() };
    let (a, b) = (sum(above), sum(below) + DLR_EPSILON);
    let mut slope = vec![0.0; row.len()];
    above.iter().for_each(|(i, w)| slope[*i] += w / b);
    below.iter().for_each(|(i, w)| slope[*i] -= w * a / (b * b));
    (a / b, slope)
}

fn dlr(row: &[f32], class: usize) -> Row {
    let order = ranked(row);
    let other = runner_up(row, class);
    ratio(
        row,
        &[(other, 1.0), (class, -1.0)],
        &[(order[0], 1.0), (order[2], -1.0)],
    )
}

fn dlr_targeted(row: &[f32], label: usize, target: usize) -> Row {
    let order = ranked(row);
    ratio(
        row,
        &[(target, 1.0), (label, -1.0)],
        &[(order[0], 1.0), (order[2], -0.5), (order[3], -0.5)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Every slope against finite differences.
    #[test]
    fn slopes_are_slopes() {
        let mut rng = Rng::from_seed(5);
        for loss in [Loss::CrossEntropy, Loss::Dlr, Loss::Margin] {
            for aim in [Aim::Leave, Aim::Reach] {
                let row: Vec<f32> = (0..6).map(|_| 2.0 * rng.normal_f32()).collect();
                let goal = Goal {
                    aim,
                    ..Goal::leave(vec![2])
                };
                let at = |row: &[f32]| loss.evaluate(row, 6, &goal, &[4]);
                let found = at(&row);
                for class in 0..6 {
                    let step = 1e-2;
                    let moved = |by: f32| {
                        let mut row = row.clone();
                        row[class] += by;
                        at(&row).values[0]
                    };
                    let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
                    let ours = f64::from(found.cotangent[class]);
                    assert!(
                        (slope - ours).abs() < 2e-3,
                        "{loss:?} {aim:?} {class}: {slope} {ours}"
                    );
                }
            }
        }
    }

    #[test]
    fn confidence_asks_for_more_than_the_largest() {
        let mut goal = Goal::leave(vec![0]);
        let logits = [0.0, 0.5, 0.0];
        assert!(goal.is_met(0, &logits));
        goal.confidence = 0.9;
        assert!(!goal.is_met(0, &logits));
        assert!(goal.is_met(0, &[0.0, 9.0, 0.0]));
        assert!(!goal.is_met(0, &[9.0, 0.0, 0.0]));
    }
}
