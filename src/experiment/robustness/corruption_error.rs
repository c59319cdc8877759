//! Corruption errors beside a reference's (Hendrycks and Dietterich 2019).

use std::collections::BTreeMap;

use super::summary::{Cell, ModelReport};
use crate::perturb::corruption::Corruption;

/// What each corruption of the benchmark costs a model: severities it was measured at, and the
/// error summed over them.
pub struct Errors(BTreeMap<&'static str, (usize, f64)>);

impl Errors {
    /// The errors themselves.
    pub fn of(model: &ModelReport) -> Self {
        Self::beyond(model, 0.0)
    }

    /// What they are above the error on clean images; `None` without these.
    pub fn above_clean(model: &ModelReport) -> Option<Self> {
        Some(Self::beyond(model, 1.0 - model.clean?.value))
    }

    fn beyond(model: &ModelReport, clean: f64) -> Self {
        let mut errors = BTreeMap::new();
        for corruption in Corruption::BENCHMARK {
            let name = corruption.name();
            let own = |cell: &&Cell| {
                cell.condition
                    .rsplit_once(' ')
                    .is_some_and(|(c, _)| c == name)
            };
            for cell in model.cells.iter().filter(own) {
                let (count, sum): &mut (usize, f64) = errors.entry(name).or_default();
                *count += 1;
                *sum += 1.0 - cell.accuracy.value - clean;
            }
        }
        Self(errors)
    }

    /// The mean over corruptions of these errors, each as a multiple of the reference's. `None` where
    /// one is missing, and where a corruption costs the reference nothing.
    pub fn relative_to(&self, reference: &Self) -> Option<f64> {
        let ratios: Option<Vec<f64>> = reference
            .0
            .iter()
            .map(|(name, (count, sum))| {
                let (own_count, own) = self.0.get(name)?;
                (own_count == count && *sum > 0.0).then(|| own / sum)
            })
            .collect();
        let ratios = ratios?;
        match ratios.len() {
            0 => None,
            n => Some(ratios.iter().sum::<f64>() / n as f64),
        }
    }
}
