//! Tables in HDF5: compound types, as h5py writes structured arrays, and the two forms of pandas.

use hdf5_pure::Datatype;

use super::values::{Value, value};
use super::{Variable, Variables};
use crate::neural::error::NeuralError;
use crate::neural::format::{Format, ReadOptions};
use crate::neural::recording::Recording;
use crate::neural::table::{self, Cells, TableColumn};

/// Where a table lies.
#[derive(Clone, Copy)]
pub(super) enum Table<'a> {
    /// A data set of records.
    Records(&'a Variable),
    /// The group of a pandas frame in the format `fixed`.
    Frame(&'a str),
}

impl Table<'_> {
    pub fn path(&self) -> &str {
        match self {
            Self::Records(variable) => &variable.path,
            Self::Frame(group) => group,
        }
    }
}

/// Responses from a table.
pub(super) fn responses(
    table: Table,
    variables: &Variables,
    options: &ReadOptions,
    size: u64,
) -> Result<Recording, NeuralError> {
    let columns = match table {
        Table::Records(variable) => records(variable, size)?,
        Table::Frame(group) => frame(group, variables, size)?,
    };
    let mut found = table::responses(Format::Hdf5, columns, options)?;
    found
        .notes
        .push(format!("the table `{}` was taken", table.path()));
    Ok(found)
}

/// A record's field as columns: one, or one for each entry of an array.
fn records(variable: &Variable, size: u64) -> Result<Vec<TableColumn>, NeuralError> {
    variable.check(size)?;
    let Datatype::Compound {
        size: width,
        members,
    } = variable.dataset.datatype()?
    else {
        return Err(NeuralError::NoRows);
    };
    let bytes = variable.dataset.read_raw()?;
    let mut columns = Vec::new();
    for member in members {
        let (element, count) = match &member.datatype {
            Datatype::Array {
                base_type,
                dimensions,
            } => (base_type.as_ref(), entries(dimensions)),
            other => (other, 1),
        };
        let step = element.type_size() as usize;
        let end = count.saturating_mul(step);
        if end.saturating_add(member.byte_offset as usize) > width as usize {
            let name = crate::archive::shorten(&member.name);
            return Err(NeuralError::Hdf5(format!(
                "its field `{name}` is larger than its records"
            )));
        }
        let names = variable.entry_names(&member.name, count);
        for (entry, name) in names.into_iter().enumerate() {
            let start = member.byte_offset as usize + entry * step;
            let each = bytes.chunks_exact((width as usize).max(1));
            let values = each.map(|record| value(element, record.get(start..start + step)?));
            columns.push(TableColumn {
                cells: cells(values.collect()),
                name: Some(name),
            });
        }
    }
    Ok(columns)
}

/// Entries of an array of these dimensions.
fn entries(dimensions: &[u32]) -> usize {
    let sizes = dimensions.iter();
    sizes.fold(1, |count: usize, size| count.saturating_mul(*size as usize))
}

fn cells(values: Option<Vec<Value>>) -> Cells {
    let Some(values) = values else {
        return Cells::Unread("neither numbers nor text".to_owned());
    };
    let numbers: Option<Vec<f32>> = values
        .iter()
        .map(|value| match value {
            Value::Number(number) => Some(*number as f32),
            Value::Text(_) => None,
        })
        .collect();
    let text = |value: &Value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
    };
    match numbers {
        Some(numbers) => Cells::Numbers(numbers),
        None => Cells::Text(values.iter().map(text).collect()),
    }
}

impl Variable {
    /// Names for the entries of an array in a field: its own for one entry, and for several those that
    /// pandas keeps, or numbered ones.
    fn entry_names(&self, field: &str, count: usize) -> Vec<String> {
        if count == 1 {
            return vec![field.to_owned()];
        }
        let kept = self.text(&format!("{field}_kind")).map(pickled_strings);
        match kept.filter(|names| names.len() == count) {
            Some(names) => names,
            None => (0..count).map(|i| format!("{field}[{i}]")).collect(),
        }
    }
}

/// The strings of a list that Python has pickled as text (protocol 0): each stands in a line of its
/// own behind a `V`.
fn pickled_strings(text: &str) -> Vec<String> {
    let lines = text.lines();
    let string = |line: &str| {
        let line = line.strip_prefix('a').unwrap_or(line);
        line.strip_prefix('V').map(str::to_owned)
    };
    lines.filter_map(string).collect()
}

/// A frame's index and columns, in the order of the frame: pandas keeps columns of one type together.
fn frame(group: &str, variables: &Variables, size: u64) -> Result<Vec<TableColumn>, NeuralError> {
    let find = |name: &str| variables.at(&format!("{group}/{name}"));
    let strings = |name: &str| match find(name) {
        Some(variable) => variable.strings(size),
        None => Err(NeuralError::Hdf5(format!("`{group}/{name}` is missing"))),
    };
    let mut blocks = Vec::new();
    for number in 0.. {
        let Some(values) = find(&format!("block{number}_values")) else {
            break;
        };
        let names = strings(&format!("block{number}_items"))?;
        let block = match values.is_numeric() {
            true => Some(values.numbers(size)?),
            false => None,
        };
        for (place, name) in names.iter().enumerate() {
            let cells = match &block {
                Some(block) => {
                    let column = block.iter().skip(place).step_by(names.len());
                    Cells::Numbers(column.copied().collect())
                }
                None => Cells::Unread("Python objects".to_owned()),
            };
            blocks.push(TableColumn {
                name: Some(name.clone()),
                cells,
            });
        }
    }
    let mut columns = vec![index(find("axis1"), size)];
    for name in strings("axis0")? {
        let place = blocks.iter().position(|c| c.name.as_ref() == Some(&name));
        columns.extend(place.map(|place| blocks.remove(place)));
    }
    columns.append(&mut blocks);
    Ok(columns)
}

/// The frame's index, whose name pandas keeps as an attribute.
fn index(axis: Option<&Variable>, size: u64) -> TableColumn {
    let name = axis.and_then(|axis| axis.text("name")).unwrap_or_default();
    // "N." is nothing, pickled.
    let name = if name == "N." { "" } else { name };
    let cells = match axis.map(|axis| axis.strings(size)) {
        Some(Ok(values)) => Cells::Text(values),
        Some(Err(error)) => Cells::Unread(error.to_string()),
        None => Cells::Unread("an index of several levels".to_owned()),
    };
    TableColumn {
        name: Some(name.to_owned()),
        cells,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_found_in_what_pandas_pickles() {
        let text = "(lp0\nVn0\np1\naVunit 2\np2\na.";
        assert_eq!(pickled_strings(text), ["n0", "unit 2"]);
    }
}
