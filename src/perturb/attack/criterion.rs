//! When an attack has succeeded.

/// Which prediction counts as success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Any other class than the given one.
    Untargeted,
    /// Only the given class.
    Targeted,
}

/// The criterion for a batch: one class an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    pub aim: Aim,
    /// The class to leave or to reach, an image each.
    pub classes: Vec<usize>,
    /// The probability that the wrong (or the wanted) class must have at least, 0 to 1. At 0 it
    /// only has to be the largest.
    pub confidence: f32,
    /// How far the logit of that class must lie above that of the class to leave (or above any
    /// other), as a share of the largest logit's size. At 0 an image may lie on the boundary, where
    /// the rounding of another program, device or batch decides.
    pub margin: f32,
}

/// The margin that attacks for the smallest perturbation leave: twenty times the largest difference
/// (5e-6) that was measured between this program's logits and those of another runtime with the same
/// weights. It makes a perturbation longer by less than a thousandth.
pub const MARGIN: f32 = 1e-4;

impl Criterion {
    /// Any class but these.
    pub fn untargeted(classes: Vec<usize>) -> Self {
        Self {
            aim: Aim::Untargeted,
            classes,
            confidence: 0.0,
            margin: 0.0,
        }
    }

    /// These classes.
    pub fn targeted(classes: Vec<usize>) -> Self {
        Self {
            aim: Aim::Targeted,
            ..Self::untargeted(classes)
        }
    }

    /// The criterion of the images `which`.
    pub fn pick(&self, which: &[usize]) -> Self {
        Self {
            classes: which.iter().map(|i| self.classes[*i]).collect(),
            ..*self
        }
    }

    /// Whether image `index` with these logits is a success. A logit that is not a number is not.
    pub fn is_met(&self, index: usize, logits: &[f32]) -> bool {
        let best = argmax(logits);
        self.is_met_by(index, best, || softmax(logits)[best]) && self.is_clear(index, logits, best)
    }

    /// Whether the class `best` lies above the class that counts by the margin.
    fn is_clear(&self, index: usize, logits: &[f32], best: usize) -> bool {
        if self.margin <= 0.0 {
            return true;
        }
        let rival = match self.aim {
            Aim::Untargeted => self.classes[index],
            Aim::Targeted => runner_up(logits, best),
        };
        f64::from(logits[best]) - f64::from(logits[rival]) >= self.least_gap(logits)
    }

    /// The margin between these logits, in their own unit.
    pub(super) fn least_gap(&self, logits: &[f32]) -> f64 {
        let size = logits.iter().fold(0.0_f32, |size, l| size.max(l.abs()));
        f64::from(self.margin) * f64::from(size)
    }

    /// Whether image `index` is a success where the model gives `class` this probability; the margin
    /// is not looked at.
    pub fn is_met_by(&self, index: usize, class: usize, probability: impl Fn() -> f64) -> bool {
        let hit = match self.aim {
            Aim::Untargeted => class != self.classes[index],
            Aim::Targeted => class == self.classes[index],
        };
        hit && (self.confidence <= 0.0 || probability() >= f64::from(self.confidence))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_asks_for_more_than_the_largest() {
        let mut criterion = Criterion::untargeted(vec![0]);
        let logits = [0.0, 0.5, 0.0];
        assert!(criterion.is_met(0, &logits));
        criterion.confidence = 0.9;
        assert!(!criterion.is_met(0, &logits));
        assert!(criterion.is_met(0, &[0.0, 9.0, 0.0]));
        assert!(!criterion.is_met(0, &[9.0, 0.0, 0.0]));
    }

    #[test]
    fn a_margin_keeps_a_success_off_the_boundary() {
        let margin = 1e-3;
        let untargeted = Criterion {
            margin,
            ..Criterion::untargeted(vec![0])
        };
        let targeted = Criterion {
            margin,
            ..Criterion::targeted(vec![1])
        };
        // A thousandth of the largest logit, be it of another sign.
        for (logits, left, reached) in [
            ([8.0, 8.007, -1.0], false, false),
            ([8.0, 8.009, -1.0], true, true),
            ([1.0, 1.009, -20.0], false, false),
            ([1.0, 8.0, 7.995], true, false),
            ([8.0, 1.0, 0.0], false, false),
        ] {
            assert_eq!(untargeted.is_met(0, &logits), left, "{logits:?}");
            assert_eq!(targeted.is_met(0, &logits), reached, "{logits:?}");
            let plain = Criterion::untargeted(vec![0]);
            assert_eq!(plain.is_met(0, &logits), logits[1] > logits[0]);
        }
    }
}
