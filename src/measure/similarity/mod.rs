//! Similarity of the responses of two populations to the same stimuli.
//!
//! A population is a [`Matrix`] of responses, stimuli × neuroids. Everything here is f64 on the
//! CPU: these are the numbers of tables. The losses that alignment minimises are tensors.

pub mod cka;
pub mod dimension;
pub mod inference;
pub mod rdm;

use serde::{Deserialize, Serialize};

/// Responses, stimuli × neuroids, row-major.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f64>,
}

/// Why two populations cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimilarityError {
    #[error("{values} values do not fill a matrix of {rows} x {columns}")]
    Shape {
        rows: usize,
        columns: usize,
        values: usize,
    },
    #[error(
        "one population has responses to {0} stimuli and the other to {1}; both need the \
         same stimuli, in the same order"
    )]
    Stimuli(usize, usize),
    #[error("{needed} stimuli are needed and there are {stimuli}")]
    TooFew { stimuli: usize, needed: usize },
    #[error("a response is not a number (NaN or infinite)")]
    NotFinite,
}

impl Matrix {
    /// # Errors
    /// [`SimilarityError::Shape`], [`SimilarityError::NotFinite`].
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Self, SimilarityError> {
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(SimilarityError::Shape {
                rows,
                columns,
                values: values.len(),
            });
        }
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(Self {
                rows,
                columns,
                values,
            }),
            false => Err(SimilarityError::NotFinite),
        }
    }

    /// From f32, the type of activations.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Result<Self, SimilarityError> {
        let values = values.iter().map(|v| f64::from(*v)).collect();
        Self::new(rows, columns, values)
    }

    /// The responses to stimulus `row`; empty beyond the last.
    pub fn row(&self, row: usize) -> &[f64] {
        let start = row.saturating_mul(self.columns);
        self.values
            .get(start..start + self.columns)
            .unwrap_or_default()
    }

    pub fn column(&self, column: usize) -> Vec<f64> {
        let rows = (0..self.rows).filter_map(|row| self.row(row).get(column));
        rows.copied().collect()
    }

    /// These rows, in this order.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self {
            rows: rows.len(),
            columns: self.columns,
            values: rows
                .iter()
                .flat_map(|row| self.row(*row))
                .copied()
                .collect(),
        }
    }

    /// These columns, in this order.
    pub fn select_columns(&self, columns: &[usize]) -> Self {
        let pick = |row: usize| {
            let row = self.row(row);
            columns
                .iter()
                .filter_map(move |column| row.get(*column).copied())
        };
        Self {
            rows: self.rows,
            columns: columns.len(),
            values: (0..self.rows).flat_map(pick).collect(),
        }
    }

    /// Every column minus its mean.
    pub fn centred(&self) -> Self {
        let mut means = vec![0.0; self.columns];
        for row in self.values.chunks_exact(self.columns.max(1)) {
            add(&mut means, row);
        }
        means.iter_mut().for_each(|m| *m /= self.rows.max(1) as f64);
        let mut centred = self.clone();
        for row in centred.values.chunks_exact_mut(self.columns.max(1)) {
            row.iter_mut().zip(&means).for_each(|(v, m)| *v -= m);
        }
        centred
    }

    /// Inner products of all pairs of rows.
    pub fn gram(&self) -> Gram {
        let n = self.rows;
        let mut values = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let product = dot(self.row(i), self.row(j));
                values[i * n + j] = product;
                values[j * n + i] = product;
            }
        }
        Gram { n, values }
    }
}

/// A symmetric matrix over pairs of stimuli: inner products, or another kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gram {
    /// Stimuli.
    pub n: usize,
    /// `[n, n]`, row-major.
    pub values: Vec<f64>,
}

impl Gram {
    pub fn row(&self, row: usize) -> &[f64] {
        let start = row.saturating_mul(self.n);
        self.values.get(start..start + self.n).unwrap_or_default()
    }

    /// The same kernel of the stimuli in another order.
    pub fn permuted(&self, order: &[usize]) -> Self {
        let pick = |i: &usize| {
            let row = self.row(*i);
            order.iter().filter_map(move |j| row.get(*j).copied())
        };
        Self {
            n: order.len(),
            values: order.iter().flat_map(pick).collect(),
        }
    }
}

fn add(sums: &mut [f64], row: &[f64]) {
    sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
}

/// Eight sums at a time, so that the compiler can keep them in lanes.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Pearson's correlation; 0 where a side does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    if n == 0 {
        return 0.0;
    }
    let (a, b) = (&a[..n], &b[..n]);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ratio(ab, (aa * bb).sqrt())
}

/// Spearman's rank correlation; ties share the mean of their ranks.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    pearson(&ranks(a), &ranks(b))
}

/// Ranks from 1, ties sharing the mean of theirs.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    // −0 and 0 tie, which `total_cmp` alone would part.
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
        start += tied.len();
    }
    ranks
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => values[half],
        (_, half) => (values[half - 1] + values[half]) / 2.0,
    }
}

/// 0 where nothing varies and there is no ratio.
pub(crate) fn ratio(over: f64, under: f64) -> f64 {
    match under > 0.0 {
        true => over / under,
        false => 0.0,
    }
}

pub(crate) fn same_stimuli(a: usize, b: usize, needed: usize) -> Result<(), SimilarityError> {
    if a != b {
        return Err(SimilarityError::Stimuli(a, b));
    }
    match a >= needed {
        true => Ok(()),
        false => Err(SimilarityError::TooFew { stimuli: a, needed }),
    }
}
