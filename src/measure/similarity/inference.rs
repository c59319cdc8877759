//! The certainty of a similarity: chance levels, ceilings and intervals.

use serde::{Deserialize, Serialize};

use super::cka::{Estimator, Kernel, cka, of_centred};
use super::{Gram, Matrix, SimilarityError, median, pearson, ratio};
use crate::rng::Rng;

/// A similarity and its chance level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permuted {
    pub observed: f64,
    /// Mean over permutations of the stimuli of one side.
    pub chance: f64,
    /// Share of permutations that come as high, the observed one counted among them: never 0.
    pub p: f64,
    pub permutations: usize,
}

/// Permutation test of CKA between kernels centred by one estimator: the stimuli of `l` are permuted,
/// which keeps the structure of each population and breaks the relation between them.
pub fn permutation_test(k: &Gram, l: &Gram, permutations: usize, rng: &mut Rng) -> Permuted {
    let observed = of_centred(k, l);
    let mut order: Vec<usize> = (0..l.n).collect();
    let (mut sum, mut as_high) = (0.0, 0);
    for _ in 0..permutations {
        rng.shuffle(&mut order);
        let by_chance = of_centred(k, &l.permuted(&order));
        sum += by_chance;
        as_high += usize::from(by_chance >= observed);
    }
    Permuted {
        observed,
        chance: ratio(sum, permutations as f64),
        p: (1 + as_high) as f64 / (1 + permutations) as f64,
        permutations,
    }
}

/// Responses with repetitions, `[repetitions, stimuli, neuroids]`.
#[derive(Clone, Copy, Debug)]
pub struct Repeated<'a> {
    pub repetitions: usize,
    pub stimuli: usize,
    pub neuroids: usize,
    pub values: &'a [f32],
}

impl Repeated<'_> {
    /// The mean over these repetitions.
    pub fn mean(&self, repetitions: &[usize]) -> Matrix {
        let size = self.stimuli * self.neuroids;
        let mut values = vec![0.0; size];
        for repetition in repetitions {
            let of_one = self.values.chunks_exact(size.max(1)).nth(*repetition);
            for (sum, v) in values.iter_mut().zip(of_one.unwrap_or_default()) {
                *sum += f64::from(*v);
            }
        }
        let count = repetitions.len().max(1) as f64;
        values.iter_mut().for_each(|v| *v /= count);
        Matrix {
            rows: self.stimuli,
            columns: self.neuroids,
            values,
        }
    }

    /// The means over two halves of the repetitions drawn at random; an odd one is left out. `None`
    /// with fewer than two repetitions.
    pub fn halves(&self, rng: &mut Rng) -> Option<[Matrix; 2]> {
        let half = self.repetitions / 2;
        let mut order: Vec<usize> = (0..self.repetitions).collect();
        rng.shuffle(&mut order);
        (half > 0).then(|| [self.mean(&order[..half]), self.mean(&order[half..2 * half])])
    }
}

/// The ceiling that the noise of the data sets for any model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Reliability: correlation of two halves, for the full number of repetitions
    /// (Spearman–Brown), the median over neuroids, the mean over splits.
    pub reliability: f64,
    /// Unbiased linear CKA between the means of two halves, the mean over splits. A lower bound:
    /// all repetitions together are less noisy.
    pub cka: f64,
    pub splits: usize,
}

/// Split-half ceilings over `splits` random halves. `None` with fewer than two repetitions.
///
/// # Errors
/// As [`cka`].
pub fn ceiling(
    data: Repeated,
    splits: usize,
    rng: &mut Rng,
) -> Result<Option<Ceiling>, SimilarityError> {
    ceiling_of(splits, |_| data.halves(rng))
}

/// Ceilings from the halves of each of `splits` splits. `None` where a split has none.
///
/// # Errors
/// As [`cka`].
pub fn ceiling_of(
    splits: usize,
    mut halves: impl FnMut(usize) -> Option<[Matrix; 2]>,
) -> Result<Option<Ceiling>, SimilarityError> {
    let (mut reliability, mut alike) = (0.0, 0.0);
    for split in 0..splits {
        let Some([a, b]) = halves(split) else {
            return Ok(None);
        };
        reliability += median(reliabilities(&a, &b));
        alike += cka(&a, &b, Kernel::Linear, Estimator::Unbiased)?;
    }
    Ok((splits > 0).then(|| Ceiling {
        reliability: reliability / splits as f64,
        cka: alike / splits as f64,
        splits,
    }))
}

/// Per neuroid, the correlation of two halves as it would be with all repetitions in each:
/// `2r / (1 + r)` (Spearman 1910, Brown 1910).
pub fn reliabilities(a: &Matrix, b: &Matrix) -> Vec<f64> {
    let columns = 0..a.columns.min(b.columns);
    columns
        .map(|c| spearman_brown(pearson(&a.column(c), &b.column(c))))
        .collect()
}

/// The reliability of a test of double length.
pub fn spearman_brown(r: f64) -> f64 {
    2.0 * r / (1.0 + r)
}

/// The difference in similarity to the responses of two networks, with the interval of the jackknife
/// over held-out stimuli (Tukey 1958).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    pub ours: f64,
    pub theirs: f64,
    /// `ours − theirs`.
    pub gain: f64,
    /// 95 % interval.
    pub low: f64,
    pub high: f64,
}

impl Gain {
    /// Of kernels over the same stimuli, uncentred or centred alike: two networks' and the
    /// responses'.
    ///
    /// # Errors
    /// Fewer than five stimuli.
    pub fn between(ours: &Gram, theirs: &Gram, responses: &Gram) -> Result<Self, SimilarityError> {
        let n = responses.n;
        if n < 5 {
            return Err(SimilarityError::TooFew {
                stimuli: n,
                needed: 5,
            });
        }
        let similarity = |k: &Gram, l: &Gram| {
            let [k, l] = [k, l].map(|kernel| Estimator::Unbiased.centre(kernel));
            of_centred(&k, &l)
        };
        let (a, b) = (similarity(ours, responses), similarity(theirs, responses));
        let left_out: Vec<f64> = (0..n)
            .map(|i| {
                let rest: Vec<usize> = (0..n).filter(|j| *j != i).collect();
                let [ours, theirs, responses] =
                    [ours, theirs, responses].map(|kernel| kernel.permuted(&rest));
                similarity(&ours, &responses) - similarity(&theirs, &responses)
            })
            .collect();
        let mean = left_out.iter().sum::<f64>() / n as f64;
        let squares: f64 = left_out.iter().map(|v| (v - mean).powi(2)).sum();
        let error = (squares * (n - 1) as f64 / n as f64).sqrt();
        Ok(Self {
            ours: a,
            theirs: b,
            gain: a - b,
            low: a - b - 1.96 * error,
            high: a - b + 1.96 * error,
        })
    }
}
