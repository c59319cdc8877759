//! What gradient attacks climb: losses of the logits that lead towards a criterion.

use serde::{Deserialize, Serialize};

use super::criterion::{Aim, Criterion, runner_up, softmax};

/// What an attack climbs. Every loss grows towards the criterion, whichever it is.
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
        criterion: &Criterion,
        labels: &[usize],
    ) -> Evaluated {
        let mut values = Vec::new();
        let mut cotangent = Vec::with_capacity(logits.len());
        for (i, row) in logits.chunks_exact(classes).enumerate() {
            let (value, slope) = match (self, criterion.aim) {
                (Self::CrossEntropy, aim) => cross_entropy(row, criterion.classes[i], aim),
                (Self::Margin, aim) => margin(row, criterion.classes[i], aim),
                (Self::Dlr, Aim::Untargeted) => dlr(row, criterion.classes[i]),
                (Self::Dlr, Aim::Targeted) => dlr_targeted(row, labels[i], criterion.classes[i]),
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
            (Self::Dlr, Aim::Untargeted) => 3,
            (Self::Dlr, Aim::Targeted) => 4,
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
        Aim::Untargeted => (value, slope),
        Aim::Targeted => (-value, slope.into_iter().map(|s| -s).collect()),
    }
}

fn margin(row: &[f32], class: usize, aim: Aim) -> Row {
    let other = runner_up(row, class);
    let sign = match aim {
        Aim::Untargeted => 1.0,
        Aim::Targeted => -1.0,
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
            for aim in [Aim::Untargeted, Aim::Targeted] {
                let row: Vec<f32> = (0..6).map(|_| 2.0 * rng.normal_f32()).collect();
                let criterion = Criterion {
                    aim,
                    ..Criterion::untargeted(vec![2])
                };
                let at = |row: &[f32]| loss.evaluate(row, 6, &criterion, &[4]);
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
}
