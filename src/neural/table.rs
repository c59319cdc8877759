//! A table of columns, one line a stimulus, whatever file it comes from.

use crate::archive::shorten;

use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, ReadOptions};
use super::layout::{as_given, unnamed};
use super::names::{Column, listed};
use super::recording::Recording;

/// A column and what the file calls it.
#[derive(Debug, PartialEq)]
pub(super) struct TableColumn {
    pub name: Option<String>,
    pub cells: Cells,
}

#[derive(Debug, PartialEq)]
pub(super) enum Cells {
    Text(Vec<String>),
    /// NaN where a cell is empty.
    Numbers(Vec<f32>),
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Self::Text(v) => v.len(),
            Self::Numbers(v) => v.len(),
        }
    }

    fn into_text(self) -> Vec<String> {
        match self {
            Self::Text(v) => v,
            Self::Numbers(v) => v.iter().map(f32::to_string).collect(),
        }
    }

    /// Whether these are 0, 1, 2, … as pandas numbers its lines.
    fn count_lines(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Numbers(v) => v.iter().enumerate().all(|(i, x)| *x == i as f32),
        }
    }
}

/// Names that pandas gives a column that has none.
const UNNAMED: [&str; 4] = ["", "Unnamed: 0", "__index_level_0__", "index"];

/// Sorts columns into names, labels and neuroids.
pub(super) fn responses(
    format: Format,
    columns: Vec<TableColumn>,
    options: &ReadOptions,
) -> Result<Recording, NeuralError> {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut found = Recording::new(format, Vec::new(), Vec::new());
    let (mut left_out, mut neuroids, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (place, column) in columns.into_iter().enumerate() {
        let name = column.name.unwrap_or_default();
        let is_unnamed = UNNAMED.contains(&name.as_str());
        match (Role::named(&name), column.cells) {
            (Some(Role::Neuroid), _) => return Err(NeuralError::LongTable(name)),
            (Some(Role::Name), cells) => found.names.push(Column {
                name,
                values: cells.into_text(),
            }),
            (Some(Role::Repetition), _) => found.presentations = true,
            (Some(Role::Object), cells) => found.objects = Some(cells.into_text()),
            (Some(_), _) => left_out.push(name),
            (None, cells) if place == 0 && is_unnamed && cells.count_lines() => {
                left_out.push("the line numbers".to_owned());
            }
            (None, Cells::Text(values)) if place == 0 || is_unnamed => {
                let name = match is_unnamed {
                    true => "the first column".to_owned(),
                    false => name,
                };
                found.names.insert(0, Column { name, values });
            }
            (None, Cells::Text(_)) => left_out.push(name),
            (None, Cells::Numbers(values)) => {
                neuroids.push(name);
                data.push(values);
            }
        }
    }
    if data.is_empty() || rows == 0 {
        return Err(NeuralError::NoRows);
    }
    found.sort_names();
    if !left_out.is_empty() {
        let note = format!("columns left out: {}", listed(&left_out));
        found.notes.push(note);
    }
    found.values = (0..rows)
        .flat_map(|row| data.iter().map(move |column| column[row]))
        .collect();
    if neuroids.iter().any(|name| !name.is_empty()) {
        let short = neuroids.iter().map(|name| shorten(name));
        found.neuroids = Some(short.collect());
    }
    found.axes = axes(rows, data.len(), options)?;
    turned(found)
}

fn axes(rows: usize, columns: usize, options: &ReadOptions) -> Result<Vec<AxisTaken>, NeuralError> {
    let shape = [rows, columns];
    let mut axes = match options.axes.as_deref() {
        Some(given) => as_given(&shape, given)?,
        None => {
            let mut axes = unnamed(&shape, None)?;
            for axis in &mut axes {
                axis.why = "a table has one line a stimulus and one column a neuroid".to_owned();
            }
            axes
        }
    };
    for (axis, name) in axes.iter_mut().zip(["lines", "columns"]) {
        axis.name = name.to_owned();
    }
    Ok(axes)
}

/// In a table that lies the other way round, the header names stimuli and the first column
/// neuroids.
fn turned(mut found: Recording) -> Result<Recording, NeuralError> {
    let first = found.axes.first().map(|axis| axis.axis);
    if first != Some(Axis::Neuroid) {
        return Ok(found);
    }
    let stimuli = found.neuroids.take();
    let neuroids = found.names.drain(..).next();
    found.neuroids = neuroids.map(|column| column.values);
    found.names = stimuli
        .map(|values| Column {
            name: "the header".to_owned(),
            values,
        })
        .into_iter()
        .collect();
    found.objects = None;
    Ok(found)
}
