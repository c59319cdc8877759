//! How many directions a population uses.

use super::{Matrix, dot, ratio};

/// Participation ratio `(Σλ)² / Σλ²` of the eigenvalues λ of the covariance of the neuroids: from 1,
/// where one direction has all the variance, to the smaller of neuroids and stimuli − 1, where all
/// have as much (Gao et al. 2017). 0 where nothing varies.
///
/// ```
/// use ventral::measure::similarity::Matrix;
/// use ventral::measure::similarity::dimension::participation_ratio;
///
/// // Two neuroids that vary as much, independently of each other.
/// let responses = Matrix::new(4, 2, vec![1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0])?;
/// assert!((participation_ratio(&responses) - 2.0).abs() < 1e-9);
/// # Ok::<(), ventral::measure::similarity::SimilarityError>(())
/// ```
pub fn participation_ratio(responses: &Matrix) -> f64 {
    // The Gram matrix of the centred responses has the covariance's eigenvalues, but for a factor
    // that cancels; their squares sum to the squares of its entries.
    let gram = responses.centred().gram();
    let trace: f64 = (0..gram.n).map(|i| gram.row(i)[i]).sum();
    ratio(trace * trace, dot(&gram.values, &gram.values))
}
