//! Representational similarity analysis (Kriegeskorte et al. 2008): which pairs of stimuli a
//! population tells apart, compared between populations.

use serde::{Deserialize, Serialize};

use super::{Gram, Matrix, SimilarityError, dot, pearson, ratio, same_stimuli, spearman};

/// How far two stimuli are apart, from the population's answers to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dissimilarity {
    /// 1 − Pearson's correlation over neuroids, 0 to 2.
    #[default]
    Correlation,
    /// 1 − cosine of the angle, 0 to 2.
    Cosine,
    /// Euclidean distance.
    Euclidean,
}

/// How two dissimilarity matrices are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    #[default]
    Spearman,
    Pearson,
    Cosine,
}

/// The dissimilarity of every pair of stimuli, 0 on the diagonal. A stimulus that no neuroid tells
/// from any other has correlation 0 with the rest.
pub fn rdm(responses: &Matrix, dissimilarity: Dissimilarity) -> Gram {
    let n = responses.rows;
    let rows = match dissimilarity {
        Dissimilarity::Correlation => rows_centred(responses),
        _ => responses.clone(),
    };
    let products = rows.gram();
    let squares: Vec<f64> = (0..n).map(|i| products.row(i)[i]).collect();
    let apart = |i: usize, j: usize, product: f64| match dissimilarity {
        _ if i == j => 0.0,
        Dissimilarity::Euclidean => (squares[i] + squares[j] - 2.0 * product).max(0.0).sqrt(),
        _ => 1.0 - ratio(product, (squares[i] * squares[j]).sqrt()),
    };
    let values = products.values.iter().enumerate();
    Gram {
        n,
        values: values.map(|(at, v)| apart(at / n, at % n, *v)).collect(),
    }
}

/// How alike two dissimilarity matrices are over their pairs of different stimuli, −1 to 1.
///
/// # Errors
/// Different numbers of stimuli, or fewer than three.
///
/// ```
/// use ventral::measure::similarity::Matrix;
/// use ventral::measure::similarity::rdm::{Comparison, Dissimilarity, compare, rdm};
///
/// let x = Matrix::new(4, 2, vec![0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 4.0, 1.0])?;
/// let matrix = rdm(&x, Dissimilarity::Euclidean);
/// assert!((compare(&matrix, &matrix, Comparison::Pearson)? - 1.0).abs() < 1e-9);
/// # Ok::<(), ventral::measure::similarity::SimilarityError>(())
/// ```
pub fn compare(a: &Gram, b: &Gram, comparison: Comparison) -> Result<f64, SimilarityError> {
    same_stimuli(a.n, b.n, 3)?;
    let (a, b) = (upper(a), upper(b));
    Ok(match comparison {
        Comparison::Spearman => spearman(&a, &b),
        Comparison::Pearson => pearson(&a, &b),
        Comparison::Cosine => ratio(dot(&a, &b), (dot(&a, &a) * dot(&b, &b)).sqrt()),
    })
}

/// The pairs above the diagonal, row by row.
pub fn upper(rdm: &Gram) -> Vec<f64> {
    let above = |i: usize| rdm.row(i).iter().skip(i + 1).copied();
    (0..rdm.n).flat_map(above).collect()
}

fn rows_centred(responses: &Matrix) -> Matrix {
    let mut rows = responses.clone();
    for row in rows.values.chunks_exact_mut(responses.columns.max(1)) {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        row.iter_mut().for_each(|v| *v -= mean);
    }
    rows
}
