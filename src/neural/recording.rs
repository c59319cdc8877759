//! An array of responses as a file has it, before its axes are in the order of [`Responses`].

use std::collections::HashMap;

use crate::archive::gather;

use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::left_out::{LeftOut, said};
use super::names::{Column, picked};
use super::responses::{Origin, Responses, check};

/// An array with its axes in the file's own order, and the labels of their entries.
#[derive(Debug)]
pub(super) struct Recording {
    pub format: Format,
    /// Row-major, by `axes`.
    pub values: Vec<f32>,
    pub axes: Vec<AxisTaken>,
    /// Names of the stimuli or presentations; the first column tells which are the same stimulus.
    pub names: Vec<Column>,
    /// Presentations of the same stimulus are its repetitions, however many each has.
    pub presentations: bool,
    pub neuroids: Option<Vec<String>>,
    pub regions: Option<Vec<String>>,
    /// The class of each stimulus or presentation.
    pub objects: Option<Vec<String>>,
    /// The time bins as text, `70 to 170`; may be empty.
    pub bins: Vec<String>,
    /// The time bin to take.
    pub time_bin: Option<usize>,
    /// Sentences on what was chosen.
    pub notes: Vec<String>,
    /// What lies beside the responses and is not used.
    pub left_out: Vec<LeftOut>,
    /// Responses without names are in the order of the pictures, whatever else the file holds.
    pub by_order: bool,
}

impl Recording {
    pub fn new(format: Format, values: Vec<f32>, axes: Vec<AxisTaken>) -> Self {
        Self {
            format,
            values,
            axes,
            names: Vec::new(),
            presentations: false,
            neuroids: None,
            regions: None,
            objects: None,
            bins: Vec::new(),
            time_bin: None,
            notes: Vec::new(),
            left_out: Vec::new(),
            by_order: false,
        }
    }

    /// Keeps the column of names that the user named, or sorts them, the most trusted first: it tells
    /// which rows are the same stimulus.
    pub fn sort_names(&mut self, options: &ReadOptions) {
        let trust = |column: &Column| {
            let names = Role::Name.names();
            let is_it = |known: &&str| known.eq_ignore_ascii_case(&column.name);
            match options.names.as_ref() == Some(&column.name) {
                true => 0,
                false => 1 + names.iter().position(is_it).unwrap_or(0),
            }
        };
        self.names.sort_by_key(trust);
        if self.names.first().is_some_and(|first| trust(first) == 0) {
            self.names.truncate(1);
        }
    }

    /// Reorders the axes to `[stimuli, repetitions, neuroids]` and folds presentations of the same
    /// stimulus into repetitions.
    ///
    /// # Errors
    /// Axes that are there twice or not at all, labels that do not fit them, no values, several
    /// time bins, names that stand there unevenly often.
    pub fn into_responses(mut self) -> Result<Responses, NeuralError> {
        let (shape, values) = self.in_order()?;
        self.check_labels(shape)?;
        let names = std::mem::take(&mut self.names);
        self.notes.extend(said(&self.left_out));
        let flat = Responses {
            shape,
            values,
            names,
            neuroids: self.neuroids,
            regions: self.regions,
            objects: self.objects,
            origin: Origin {
                format: self.format,
                axes: self.axes,
                notes: self.notes,
                left_out: self.left_out,
                by_order: self.by_order,
            },
        };
        fold(flat, self.presentations)
    }

    /// The values as `[stimuli, repetitions, neuroids]`.
    fn in_order(&mut self) -> Result<([usize; 3], Vec<f32>), NeuralError> {
        let sizes: Vec<usize> = self.axes.iter().map(|axis| axis.size).collect();
        let count = sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(self.values.len()) || self.values.is_empty() {
            return Err(NeuralError::NoValues(sizes));
        }
        let axes = self.axes.clone();
        let (mut shape, mut steps, mut start) = ([1; 3], [0; 3], 0);
        let mut seen = Vec::new();
        for (taken, stride) in axes.iter().zip(strides(&sizes)) {
            if seen.contains(&taken.axis) {
                return Err(NeuralError::AxisTwice(taken.axis));
            }
            seen.push(taken.axis);
            match place(taken.axis) {
                Some(place) => (shape[place], steps[place]) = (taken.size, stride),
                None => start = self.bin(taken.size)? * stride as usize,
            }
        }
        if !seen.contains(&Axis::Stimulus) {
            return Err(NeuralError::AxisMissing(Axis::Stimulus));
        }
        let values = std::mem::take(&mut self.values);
        // Values in this order already are not moved.
        let lies_right = steps == [(shape[1] * shape[2]) as u64, shape[2] as u64, 1];
        let values = match lies_right && shape.iter().product::<usize>() == values.len() {
            true => values,
            false => gather(&values[start..], &shape, &steps, shape.iter().product()),
        };
        Ok((shape, values))
    }

    /// The time bin to take of so many.
    fn bin(&mut self, size: usize) -> Result<usize, NeuralError> {
        self.bins.resize(size, String::new());
        let label = |bin: usize| match self.bins.get(bin).map(String::as_str) {
            None | Some("") => bin.to_string(),
            Some(label) => format!("{bin} ({label})"),
        };
        let bins = self.bins.clone();
        match (self.time_bin, size) {
            (Some(index), _) if index < size => {
                let note = format!("of {size} time bins, number {} was taken", label(index));
                self.notes.push(note);
                Ok(index)
            }
            (Some(index), _) => Err(NeuralError::NoTimeBin { index, bins }),
            (None, 1) => {
                let note = format!("there is one time bin, {}", label(0));
                self.notes.push(note);
                Ok(0)
            }
            (None, _) => Err(NeuralError::TimeBins { bins }),
        }
    }

    fn check_labels(&self, [stimuli, _, neuroids]: [usize; 3]) -> Result<(), NeuralError> {
        let names = self.names.iter().map(|c| (c.name.as_str(), c.values.len()));
        let by_stimulus = names.chain(count("classes", self.objects.as_ref()));
        let by_neuroid = count("neuroid names", self.neuroids.as_ref())
            .into_iter()
            .chain(count("regions", self.regions.as_ref()));
        let all = by_stimulus
            .map(|(what, found)| (what, found, stimuli, Axis::Stimulus))
            .chain(by_neuroid.map(|(what, found)| (what, found, neuroids, Axis::Neuroid)));
        for (what, found, expected, axis) in all {
            check(what, found, expected, axis)?;
        }
        Ok(())
    }
}

fn count<'a>(what: &'a str, labels: Option<&Vec<String>>) -> Option<(&'a str, usize)> {
    labels.map(|labels| (what, labels.len()))
}

fn place(axis: Axis) -> Option<usize> {
    match axis {
        Axis::Stimulus => Some(0),
        Axis::Repetition => Some(1),
        Axis::Neuroid => Some(2),
        Axis::TimeBin => None,
    }
}

fn strides(sizes: &[usize]) -> Vec<u64> {
    let mut strides: Vec<u64> = sizes
        .iter()
        .rev()
        .scan(1, |stride, size| {
            let this = *stride;
            *stride *= *size as u64;
            Some(this)
        })
        .collect();
    strides.reverse();
    strides
}

/// Folds rows of the same name into repetitions of one stimulus.
fn fold(flat: Responses, presentations: bool) -> Result<Responses, NeuralError> {
    let Some(names) = flat.names.first().map(|column| &column.values) else {
        return Ok(flat);
    };
    let rows = group(names);
    let most = rows.iter().map(Vec::len).max().unwrap_or_default();
    if most <= 1 {
        return Ok(flat);
    }
    if !presentations {
        check_even(names, &rows)?;
    }
    let [_, inner, neuroids] = flat.shape;
    let repetitions = most.saturating_mul(inner);
    let values = [rows.len(), repetitions, neuroids]
        .iter()
        .fold(1u64, |n, d| n.saturating_mul(*d as u64));
    if values > MOST_VALUES as u64 {
        return Err(NeuralError::RaggedRepetitions {
            repetitions,
            values,
        });
    }
    let block = inner * neuroids;
    let mut folded = Vec::with_capacity(rows.len() * most * block);
    for showings in &rows {
        for row in showings {
            folded.extend_from_slice(&flat.values[row * block..(row + 1) * block]);
        }
        let missing = (most - showings.len()) * block;
        folded.extend(std::iter::repeat_n(f32::NAN, missing));
    }
    let first: Vec<usize> = rows.iter().filter_map(|r| r.first().copied()).collect();
    let mut responses = Responses {
        shape: [rows.len(), repetitions, neuroids],
        values: folded,
        ..flat
    };
    for column in &mut responses.names {
        column.values = picked(&column.values, &first);
    }
    responses.objects = responses.objects.map(|objects| picked(&objects, &first));
    for left in &mut responses.origin.left_out {
        left.entries = left.entries.take().map(|all| picked(&all, &first));
    }
    let name = responses.names.first().map_or("", |c| c.name.as_str());
    let note = format!(
        "rows of the same `{name}` were taken for repetitions of one stimulus: {} rows, {} stimuli",
        rows.iter().map(Vec::len).sum::<usize>(),
        rows.len()
    );
    responses.origin.notes.push(note);
    Ok(responses)
}

/// The rows of each name, in the order in which names first stand there.
fn group(names: &[String]) -> Vec<Vec<usize>> {
    let mut place: HashMap<&str, usize> = HashMap::new();
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for (row, name) in names.iter().enumerate() {
        let at = *place.entry(name).or_insert_with(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        rows[at].push(row);
    }
    rows
}

/// In a table without numbered repetitions, a name that occurs more often than others is a mistake.
fn check_even(names: &[String], rows: &[Vec<usize>]) -> Result<(), NeuralError> {
    let least = rows.iter().map(Vec::len).min().unwrap_or_default();
    match rows.iter().find(|rows| rows.len() > least) {
        None => Ok(()),
        Some(rows) => Err(NeuralError::Duplicate {
            name: rows
                .first()
                .and_then(|row| names.get(*row))
                .cloned()
                .unwrap_or_default(),
            times: rows.len(),
            other: least,
        }),
    }
}
