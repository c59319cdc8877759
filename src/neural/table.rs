//! A table of columns, one line a stimulus, whatever file it comes from.

use std::collections::HashSet;

use crate::archive::shorten;

use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, ReadOptions};
use super::layout::{as_given, unnamed};
use super::left_out::LeftOut;
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
    /// Neither, and why.
    Unread(String),
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Self::Text(v) => v.len(),
            Self::Numbers(v) => v.len(),
            Self::Unread(_) => 0,
        }
    }

    fn into_text(self, name: &str) -> Result<Vec<String>, NeuralError> {
        match self {
            Self::Text(v) => Ok(v),
            Self::Numbers(v) => Ok(v.iter().map(f32::to_string).collect()),
            Self::Unread(why) => Err(NeuralError::UnreadColumn {
                name: shorten(name),
                why,
            }),
        }
    }

    /// Whether these are 0, 1, 2, … as pandas numbers its lines, or 1, 2, 3, … as R does.
    fn count_lines(&self) -> bool {
        let counts = |from: usize| match self {
            Self::Text(v) => (from..).zip(v).all(|(i, x)| *x == i.to_string()),
            Self::Numbers(v) => (from..).zip(v).all(|(i, x)| *x == i as f32),
            Self::Unread(_) => false,
        };
        counts(0) || counts(1)
    }
}

/// Names that pandas gives a column that has none.
const UNNAMED: [&str; 4] = ["", "Unnamed: 0", "__index_level_0__", "index"];

/// Whether a column of this name holds labels, so that its cells are text whatever they look like:
/// numbers with many digits would lose some.
pub(super) fn is_label(name: &str, options: &ReadOptions) -> bool {
    let is_index = UNNAMED.contains(&name);
    is_index || options.names.as_deref() == Some(name) || Role::named(name).is_some()
}

/// Sorts columns into names, labels and neuroids.
pub(super) fn responses(
    format: Format,
    columns: Vec<TableColumn>,
    options: &ReadOptions,
) -> Result<Recording, NeuralError> {
    check_names(&columns, options)?;
    let rows = columns.iter().map(|c| c.cells.len()).max().unwrap_or(0);
    let mut found = Recording::new(format, Vec::new(), Vec::new());
    found.by_order = options.by_order;
    let (mut neuroids, mut data, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (place, column) in columns.into_iter().enumerate() {
        let name = column.name.unwrap_or_default();
        let is_unnamed = UNNAMED.contains(&name.as_str());
        let role = match options.names.as_ref() == Some(&name) {
            true => Some(Role::Name),
            false => Role::named(&name),
        };
        match (role, column.cells) {
            (Some(Role::Neuroid), _) => return Err(NeuralError::LongTable(name)),
            (Some(Role::Name), cells) => found.names.push(Column {
                values: cells.into_text(&name)?,
                name,
            }),
            (Some(Role::Repetition), _) => found.presentations = true,
            (Some(Role::Object), cells) => found.objects = Some(cells.into_text(&name)?),
            (Some(Role::BinStart | Role::BinEnd), cells) => {
                times.push((cells.into_text(&name)?, name));
            }
            (Some(Role::Region | Role::Other), _) => {
                let reason = "it says nothing of the responses by its name";
                found.left_out.push(LeftOut::plain(&name, reason));
            }
            (None, cells)
                if is_unnamed && (place == 0 || !name.is_empty()) && cells.count_lines() =>
            {
                let reason = "they count the lines";
                found
                    .left_out
                    .push(LeftOut::plain("the line numbers", reason));
            }
            (None, Cells::Text(values)) if place == 0 || is_unnamed => {
                let name = match is_unnamed {
                    true => "the first column".to_owned(),
                    false => name,
                };
                found.names.insert(0, Column { name, values });
            }
            (None, Cells::Text(values)) => {
                let example = values.iter().find(|cell| !cell.is_empty());
                let example = example.map_or("", String::as_str);
                let reason = format!("text, such as “{}”", shorten(example));
                found.left_out.push(LeftOut::text(&name, reason, values));
            }
            (None, Cells::Unread(why)) => found.left_out.push(LeftOut::may_name(&name, why)),
            (None, Cells::Numbers(values)) => {
                neuroids.push(name);
                data.push(values);
            }
        }
    }
    if data.is_empty() || rows == 0 {
        return Err(NeuralError::NoRows);
    }
    found.sort_names(options);
    for (values, name) in times {
        found.left_out.push(one_bin(&name, &values, &found.names)?);
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

/// # Errors
/// [`NeuralError::NoSuchArray`] where the column of names that the user named is none.
fn check_names(columns: &[TableColumn], options: &ReadOptions) -> Result<(), NeuralError> {
    let Some(wanted) = &options.names else {
        return Ok(());
    };
    let names: Vec<String> = columns.iter().filter_map(|c| c.name.clone()).collect();
    match names.contains(wanted) {
        true => Ok(()),
        false => Err(NeuralError::NoSuchArray {
            name: wanted.clone(),
            found: listed(&names),
        }),
    }
}

/// A column of times, which says nothing where all lines have the same, or each is of another
/// stimulus.
///
/// # Errors
/// [`NeuralError::BinTable`] where lines of one stimulus differ in it: they are no repetitions.
fn one_bin(name: &str, times: &[String], names: &[Column]) -> Result<LeftOut, NeuralError> {
    let alike = times.iter().all(|cell| times.first() == Some(cell));
    let mut stimuli = HashSet::new();
    let repeated = names.first().is_some_and(|column| {
        let mut all = column.values.iter();
        all.any(|name| !stimuli.insert(name))
    });
    match (alike, repeated) {
        (false, true) => Err(NeuralError::BinTable(shorten(name))),
        (true, _) => {
            let time = times.first().map_or("", String::as_str);
            Ok(LeftOut::plain(
                name,
                format!("{} in all lines", shorten(time)),
            ))
        }
        (false, false) => Ok(LeftOut::plain(name, "times")),
    }
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
