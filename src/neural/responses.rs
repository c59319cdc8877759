//! Recorded responses in one order, whatever file they came from.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

use super::axes::{Axis, AxisTaken, numbered};
use super::error::NeuralError;
use super::format::Format;
use super::left_out::LeftOut;
use super::names::{Column, listed, picked};

/// Responses of neuroids to stimuli, f32 row-major `[stimuli, repetitions, neuroids]`, in whatever
/// unit they were recorded. NaN where nothing was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Responses {
    pub(super) shape: [usize; 3],
    pub(super) values: Vec<f32>,
    /// Names of the stimuli; the first column is the identity of a stimulus.
    pub(super) names: Vec<Column>,
    pub(super) neuroids: Option<Vec<String>>,
    pub(super) regions: Option<Vec<String>>,
    pub(super) objects: Option<Vec<String>>,
    pub(super) origin: Origin,
}

/// The origin of responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub format: Format,
    /// The axes of the array as the file has them.
    pub axes: Vec<AxisTaken>,
    /// Sentences on what was left out or chosen.
    pub notes: Vec<String>,
    /// What lies beside the responses in the file and is not used.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// The user says that responses without names are in the order of the pictures.
    #[serde(default)]
    pub by_order: bool,
}

impl Responses {
    /// Responses without names, from values in memory.
    ///
    /// # Errors
    /// [`NeuralError::NoValues`] where their number is 0 or not the product of `shape`.
    pub fn new(shape: [usize; 3], values: Vec<f32>) -> Result<Self, NeuralError> {
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(values.len()) || values.is_empty() {
            return Err(NeuralError::NoValues(shape.to_vec()));
        }
        Ok(Self {
            shape,
            values,
            names: Vec::new(),
            neuroids: None,
            regions: None,
            objects: None,
            origin: Origin {
                format: Format::Memory,
                axes: numbered(
                    &shape,
                    &[Axis::Stimulus, Axis::Repetition, Axis::Neuroid],
                    "you named it so",
                ),
                notes: Vec::new(),
                left_out: Vec::new(),
                by_order: false,
            },
        })
    }

    /// Adds the names of the stimuli.
    ///
    /// # Errors
    /// [`NeuralError::Labels`] where there is not one name a stimulus.
    pub fn with_stimuli(mut self, names: Vec<String>) -> Result<Self, NeuralError> {
        check("names", names.len(), self.shape[0], Axis::Stimulus)?;
        self.names = vec![Column {
            name: "names".to_owned(),
            values: names,
        }];
        Ok(self)
    }

    /// Adds the names of the neuroids.
    ///
    /// # Errors
    /// [`NeuralError::Labels`] where there is not one name a neuroid.
    pub fn with_neuroids(mut self, ids: Vec<String>) -> Result<Self, NeuralError> {
        check("neuroid names", ids.len(), self.shape[2], Axis::Neuroid)?;
        self.neuroids = Some(ids);
        Ok(self)
    }

    /// Adds the region of each neuroid.
    ///
    /// # Errors
    /// [`NeuralError::Labels`] where there is not one region a neuroid.
    pub fn with_regions(mut self, regions: Vec<String>) -> Result<Self, NeuralError> {
        check("regions", regions.len(), self.shape[2], Axis::Neuroid)?;
        self.regions = Some(regions);
        Ok(self)
    }

    /// `[stimuli, repetitions, neuroids]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Row-major, by [`Self::shape`]; NaN where nothing was recorded.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The name of each stimulus.
    pub fn stimuli(&self) -> Option<&[String]> {
        self.names.first().map(|column| column.values.as_slice())
    }

    /// All columns of names: identifiers, file names.
    pub fn names(&self) -> &[Column] {
        &self.names
    }

    /// Ids of the neuroids.
    pub fn neuroids(&self) -> Option<&[String]> {
        self.neuroids.as_deref()
    }

    /// The region of each neuroid.
    pub fn regions(&self) -> Option<&[String]> {
        self.regions.as_deref()
    }

    /// The class of each stimulus, where the file has it.
    pub fn objects(&self) -> Option<&[String]> {
        self.objects.as_deref()
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Means over the repetitions that were recorded, `[stimuli, neuroids]`; NaN where none was.
    pub fn mean(&self) -> Vec<f32> {
        let all: Vec<usize> = (0..self.shape[1]).collect();
        let rows = (0..self.shape[0]).flat_map(|stimulus| self.mean_of(stimulus, &all));
        rows.collect()
    }

    /// Means over two halves of the repetitions, `[stimuli, neuroids]` each: the same halves for
    /// all stimuli, by chance, the second the larger where their number is odd. Where a stimulus
    /// has fewer repetitions than others, its own are halved; NaN where a half has none.
    ///
    /// # Errors
    /// [`NeuralError::OneRepetition`].
    pub fn halves(&self, seed: u64) -> Result<(Vec<f32>, Vec<f32>), NeuralError> {
        let [stimuli, repetitions, neuroids] = self.shape;
        if repetitions < 2 {
            return Err(NeuralError::OneRepetition);
        }
        let mut order: Vec<usize> = (0..repetitions).collect();
        Rng::stream(seed, "neural/halves").shuffle(&mut order);
        let mut first = Vec::with_capacity(stimuli * neuroids);
        let mut second = Vec::with_capacity(stimuli * neuroids);
        for stimulus in 0..stimuli {
            let recorded = |r: &usize| self.row(stimulus, *r).iter().any(|v| v.is_finite());
            let own: Vec<usize> = order.iter().copied().filter(recorded).collect();
            let (one, other) = own.split_at(own.len() / 2);
            first.extend(self.mean_of(stimulus, one));
            second.extend(self.mean_of(stimulus, other));
        }
        Ok((first, second))
    }

    /// The stimuli of these numbers, in this order; numbers beyond the end are left out.
    #[must_use]
    pub fn keep_stimuli(&self, indices: &[usize]) -> Self {
        let [stimuli, repetitions, neuroids] = self.shape;
        let block = repetitions * neuroids;
        let kept: Vec<usize> = indices.iter().copied().filter(|i| *i < stimuli).collect();
        let rows = kept
            .iter()
            .flat_map(|i| &self.values[i * block..(i + 1) * block]);
        let names = self.names.iter().map(|column| Column {
            name: column.name.clone(),
            values: picked(&column.values, &kept),
        });
        Self {
            shape: [kept.len(), repetitions, neuroids],
            values: rows.copied().collect(),
            names: names.collect(),
            neuroids: self.neuroids.clone(),
            regions: self.regions.clone(),
            objects: self.objects.as_deref().map(|all| picked(all, &kept)),
            origin: self.origin.clone(),
        }
    }

    /// The neuroids of these numbers, in this order; numbers beyond the end are left out.
    #[must_use]
    pub fn keep_neuroids(&self, indices: &[usize]) -> Self {
        let [stimuli, repetitions, neuroids] = self.shape;
        let kept: Vec<usize> = indices.iter().copied().filter(|i| *i < neuroids).collect();
        let rows = self.values.chunks_exact(neuroids.max(1));
        let values = rows.flat_map(|row| kept.iter().map(|i| row[*i]));
        Self {
            shape: [stimuli, repetitions, kept.len()],
            values: values.collect(),
            names: self.names.clone(),
            neuroids: self.neuroids.as_deref().map(|all| picked(all, &kept)),
            regions: self.regions.as_deref().map(|all| picked(all, &kept)),
            objects: self.objects.clone(),
            origin: self.origin.clone(),
        }
    }

    /// The neuroids of one region, whatever the case of its name.
    ///
    /// # Errors
    /// [`NeuralError::NoRegion`].
    pub fn region(&self, name: &str) -> Result<Self, NeuralError> {
        let all = self.regions().unwrap_or_default();
        let of_it = |i: &usize| all.get(*i).is_some_and(|r| r.eq_ignore_ascii_case(name));
        let kept: Vec<usize> = (0..self.shape[2]).filter(of_it).collect();
        if kept.is_empty() {
            let mut known: Vec<String> = all.to_vec();
            known.sort();
            known.dedup();
            return Err(NeuralError::NoRegion {
                name: name.to_owned(),
                found: listed(&known),
            });
        }
        Ok(self.keep_neuroids(&kept))
    }

    /// One repetition of one stimulus, `[neuroids]`.
    fn row(&self, stimulus: usize, repetition: usize) -> &[f32] {
        let [_, repetitions, neuroids] = self.shape;
        let start = (stimulus * repetitions + repetition) * neuroids;
        &self.values[start..start + neuroids]
    }

    /// Means of one stimulus over some repetitions, in f64; NaN where none was recorded.
    fn mean_of(&self, stimulus: usize, repetitions: &[usize]) -> Vec<f32> {
        let mut sums = vec![(0.0f64, 0u32); self.shape[2]];
        for &repetition in repetitions {
            for (sum, value) in sums.iter_mut().zip(self.row(stimulus, repetition)) {
                if value.is_finite() {
                    *sum = (sum.0 + f64::from(*value), sum.1 + 1);
                }
            }
        }
        let mean = |(sum, count): (f64, u32)| match count {
            0 => f32::NAN,
            n => (sum / f64::from(n)) as f32,
        };
        sums.into_iter().map(mean).collect()
    }
}

/// # Errors
/// [`NeuralError::Labels`] where there is not one label an entry of the axis.
pub(super) fn check(
    what: &str,
    found: usize,
    expected: usize,
    axis: Axis,
) -> Result<(), NeuralError> {
    match found == expected {
        true => Ok(()),
        false => Err(NeuralError::Labels {
            what: what.to_owned(),
            found,
            expected,
            axis,
        }),
    }
}
