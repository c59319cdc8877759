//! Centred kernel alignment (Kornblith et al. 2019): 1 for populations that differ by rotation and
//! scale alone, near 0 for unrelated ones.

use serde::{Deserialize, Serialize};

use super::{Gram, Matrix, SimilarityError, median, ratio, same_stimuli};

/// How the Hilbert–Schmidt independence criterion is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Gretton et al. 2005. With few stimuli and many neuroids it is high for anything.
    #[default]
    Biased,
    /// Song et al. 2012: 0 on average for unrelated populations; can be negative. Needs four
    /// stimuli.
    Unbiased,
}

impl Estimator {
    fn needs(self) -> usize {
        match self {
            Self::Biased => 2,
            Self::Unbiased => 4,
        }
    }

    /// The kernel as the estimator multiplies it.
    pub fn centre(self, kernel: &Gram) -> Gram {
        match self {
            Self::Biased => centre(kernel),
            Self::Unbiased => centre_unbiased(kernel),
        }
    }
}

/// Which inner product tells how alike two stimuli are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    #[default]
    Linear,
    /// A Gaussian of the distance, its σ this fraction of the square root of the median squared
    /// distance between different stimuli.
    Rbf(f64),
}

impl Kernel {
    pub fn of(self, responses: &Matrix) -> Gram {
        match self {
            // Centring a linear kernel is centring the neuroids, which keeps more digits.
            Self::Linear => responses.centred().gram(),
            Self::Rbf(fraction) => rbf(&responses.gram(), fraction),
        }
    }
}

/// CKA of two populations that saw the same stimuli.
///
/// # Errors
/// Different numbers of stimuli, or fewer than the estimator needs.
///
/// ```
/// use ventral::measure::similarity::Matrix;
/// use ventral::measure::similarity::cka::{Estimator, Kernel, cka};
///
/// let x = Matrix::new(4, 2, vec![0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 4.0, 1.0])?;
/// // The neuroids in another order, twice as strong.
/// let y = Matrix::new(4, 2, vec![2.0, 0.0, 0.0, 4.0, 6.0, 2.0, 2.0, 8.0])?;
/// let similarity = cka(&x, &y, Kernel::Linear, Estimator::Biased)?;
/// assert!((similarity - 1.0).abs() < 1e-9);
/// # Ok::<(), ventral::measure::similarity::SimilarityError>(())
/// ```
pub fn cka(
    x: &Matrix,
    y: &Matrix,
    kernel: Kernel,
    estimator: Estimator,
) -> Result<f64, SimilarityError> {
    same_stimuli(x.rows, y.rows, estimator.needs())?;
    let kernels = [x, y].map(|m| estimator.centre(&kernel.of(m)));
    Ok(of_centred(&kernels[0], &kernels[1]))
}

/// CKA of two kernels that are centred already. Their products need no normalisation: it cancels.
/// 0 where a population does not vary, or where an unbiased estimate of its variance is negative.
pub fn of_centred(k: &Gram, l: &Gram) -> f64 {
    let product = |a: &Gram, b: &Gram| super::dot(&a.values, &b.values);
    let (kk, ll) = (product(k, k), product(l, l));
    ratio(product(k, l), (kk * ll).max(0.0).sqrt())
}

/// Linear CKA from minibatches: the mean of the unbiased estimates over batches of `batch` stimuli
/// in their order, what is left over not counted (Nguyen, Raghu and Kornblith 2021). Its value does
/// not depend on the batch's size but for noise.
///
/// # Errors
/// As [`cka`]; a batch has at least four stimuli.
pub fn minibatch(x: &Matrix, y: &Matrix, batch: usize) -> Result<f64, SimilarityError> {
    let estimator = Estimator::Unbiased;
    same_stimuli(x.rows, y.rows, batch.max(estimator.needs()))?;
    same_stimuli(batch, batch, estimator.needs())?;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    let rows: Vec<usize> = (0..x.rows).collect();
    for rows in rows.chunks_exact(batch) {
        let [k, l] = [x, y].map(|m| {
            let kernel = Kernel::Linear.of(&m.select_rows(rows));
            estimator.centre(&kernel)
        });
        xy += super::dot(&k.values, &l.values);
        xx += super::dot(&k.values, &k.values);
        yy += super::dot(&l.values, &l.values);
    }
    Ok(ratio(xy, (xx * yy).max(0.0).sqrt()))
}

/// CKA of every population of `rows` with every one of `columns`, row-major: the heat map of two
/// models' areas, or of one model's with itself.
///
/// # Errors
/// As [`cka`].
pub fn matrix(
    rows: &[Matrix],
    columns: &[Matrix],
    kernel: Kernel,
    estimator: Estimator,
) -> Result<Vec<f64>, SimilarityError> {
    let stimuli = rows.first().map_or(0, |m| m.rows);
    for population in rows.iter().chain(columns) {
        same_stimuli(stimuli, population.rows, estimator.needs())?;
    }
    let centred = |m: &Matrix| estimator.centre(&kernel.of(m));
    let columns: Vec<Gram> = columns.iter().map(centred).collect();
    let row = |m: &Matrix| {
        let k = centred(m);
        columns
            .iter()
            .map(move |l| of_centred(&k, l))
            .collect::<Vec<f64>>()
    };
    Ok(rows.iter().flat_map(row).collect())
}

/// `H K H`: row and column means taken out.
fn centre(kernel: &Gram) -> Gram {
    let n = kernel.n.max(1) as f64;
    let means: Vec<f64> = (0..kernel.n)
        .map(|i| kernel.row(i).iter().sum::<f64>() / n)
        .collect();
    let mean = means.iter().sum::<f64>() / n;
    with(kernel, |i, j, v| v - means[i] - means[j] + mean)
}

/// U-centring (Székely and Rizzo 2014): the diagonal is left out and what it leaves is made up for,
/// so that the sum of products is the unbiased estimate but for a factor.
fn centre_unbiased(kernel: &Gram) -> Gram {
    let n = kernel.n as f64;
    let means: Vec<f64> = (0..kernel.n)
        .map(|i| {
            let row = kernel.row(i);
            let diagonal = row.get(i).copied().unwrap_or_default();
            (row.iter().sum::<f64>() - diagonal) / (n - 2.0)
        })
        .collect();
    let mean = means.iter().sum::<f64>() / (n - 1.0);
    with(kernel, |i, j, v| match i == j {
        true => 0.0,
        false => v - means[i] - means[j] + mean,
    })
}

fn with(kernel: &Gram, f: impl Fn(usize, usize, f64) -> f64) -> Gram {
    let n = kernel.n;
    let values = kernel.values.iter().enumerate();
    Gram {
        n,
        values: values.map(|(at, v)| f(at / n, at % n, *v)).collect(),
    }
}

fn rbf(gram: &Gram, fraction: f64) -> Gram {
    let n = gram.n;
    let squares: Vec<f64> = (0..n).map(|i| gram.row(i)[i]).collect();
    let distances = with(gram, |i, j, v| match i == j {
        true => 0.0,
        false => (squares[i] + squares[j] - 2.0 * v).max(0.0),
    });
    let pairs = |i: usize| distances.row(i).iter().skip(i + 1).copied();
    let scale = fraction * fraction * median((0..n).flat_map(pairs).collect());
    with(&distances, |_, _, d| match scale > 0.0 {
        true => (-d / (2.0 * scale)).exp(),
        // Most stimuli answered alike: only equal ones are near.
        false => f64::from(u8::from(d == 0.0)),
    })
}
