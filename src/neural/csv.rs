//! Tables as text: comma, semicolon or tab between the cells.

use ::csv::{ByteRecord, ErrorKind, ReaderBuilder, Trim};

use super::axes::Role;
use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::recording::Recording;
use super::table::{self, Cells, TableColumn};
use crate::archive::shorten;

/// Cells without a value, in any case of letters.
const MISSING: [&str; 8] = ["", "na", "n/a", "nan", "null", "none", "-", "."];

/// Cells line by line, with the line of the file that each began in.
pub(super) struct Lines {
    pub lines: Vec<(u64, Vec<String>)>,
}

pub(super) fn responses(
    bytes: &[u8],
    separator: u8,
    options: &ReadOptions,
) -> Result<Recording, NeuralError> {
    let Lines { mut lines } = read_lines(bytes, separator)?;
    let header = match is_header(&lines) {
        true => Some(lines.remove(0).1),
        false => None,
    };
    let width = lines.first().map_or(0, |(_, cells)| cells.len());
    if lines.is_empty() || width == 0 {
        return Err(NeuralError::NoRows);
    }
    let name = |place: usize| header.as_ref().and_then(|names| names.get(place)).cloned();
    let columns: Result<Vec<TableColumn>, NeuralError> = (0..width)
        .map(|place| {
            Ok(TableColumn {
                cells: cells(&lines, place, name(place).as_deref())?,
                name: name(place),
            })
        })
        .collect();
    let mut found = table::responses(Format::Csv, columns?, options)?;
    let said = match header {
        Some(_) => "the first line was taken for the names of the columns",
        None => "there is no line of column names: the first line holds numbers",
    };
    found.notes.push(said.to_owned());
    Ok(found)
}

/// Reads all cells.
///
/// # Errors
/// [`NeuralError::Ragged`], [`NeuralError::Empty`], [`NeuralError::TooMany`].
pub(super) fn read_lines(bytes: &[u8], separator: u8) -> Result<Lines, NeuralError> {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if text.trim_ascii().is_empty() {
        return Err(NeuralError::Empty);
    }
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(used_separator(text, separator))
        .trim(Trim::All)
        .comment(Some(b'#'))
        .from_reader(text);
    let (mut lines, mut count) = (Vec::new(), 0);
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(explain)? {
        count += record.len();
        if count > MOST_VALUES {
            return Err(NeuralError::TooMany {
                values: count as u64,
            });
        }
        let line = record.position().map_or(0, |at| at.line());
        let cell = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
        lines.push((line, record.iter().map(cell).collect()));
    }
    Ok(Lines { lines })
}

/// The separator that the first line of cells has where the expected one does not occur in it.
fn used_separator(text: &[u8], expected: u8) -> u8 {
    let mut lines = text.split(|byte| *byte == b'\n');
    let has_cells = |line: &&[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#");
    let first = lines.find(has_cells).unwrap_or(text);
    let used = [expected, b'\t', b';', b','];
    let found = used.into_iter().find(|separator| first.contains(separator));
    found.unwrap_or(expected)
}

fn explain(error: ::csv::Error) -> NeuralError {
    match error.kind() {
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => NeuralError::Ragged {
            line: pos.as_ref().map_or(0, |at| at.line()),
            found: *len,
            expected: *expected_len,
        },
        _ => NeuralError::Csv(error.to_string()),
    }
}

/// Whether the first line names columns: no cell but the first is a number, or the first cell is a
/// name of a column while the others number the neuroids.
fn is_header(lines: &[(u64, Vec<String>)]) -> bool {
    let Some((_, first)) = lines.first() else {
        return false;
    };
    let numbers = |cells: &[String]| cells.iter().filter(|c| number(c).is_some()).count();
    let (head, rest) = first.split_at(1.min(first.len()));
    if rest.is_empty() {
        let below = lines.get(1).map_or(0, |(_, second)| numbers(second));
        return numbers(head) == 0 && below == 1;
    }
    let is_name = |cell: &String| cell.is_empty() || Role::named(cell).is_some();
    let counts = rest
        .iter()
        .enumerate()
        .all(|(i, cell)| *cell == i.to_string() || *cell == (i + 1).to_string());
    let without_gaps = rest.iter().filter(|cell| !is_missing(cell)).count();
    (without_gaps > 0 && numbers(rest) == 0) || (head.iter().any(is_name) && counts)
}

fn is_missing(cell: &str) -> bool {
    MISSING.iter().any(|known| known.eq_ignore_ascii_case(cell))
}

fn number(cell: &str) -> Option<f32> {
    cell.parse().ok()
}

/// A column's cells: text where it is called so or holds hardly a number, else numbers.
fn cells(
    lines: &[(u64, Vec<String>)],
    place: usize,
    name: Option<&str>,
) -> Result<Cells, NeuralError> {
    let column = || {
        let cells = lines.iter().map(|(line, cells)| (*line, cells.get(place)));
        cells.map(|(line, cell)| (line, cell.map_or("", String::as_str)))
    };
    let is_text = |cell: &str| number(cell).is_none() && !is_missing(cell);
    let text = column().filter(|(_, cell)| is_text(cell)).count();
    let given = column().filter(|(_, cell)| !is_missing(cell)).count();
    let is_label = name.is_some_and(|name| Role::named(name).is_some());
    // Names may be numbers here and there; a column of numbers may not.
    let may_mix = place == 0;
    let called = name.is_some() || may_mix;
    if is_label || (called && text > 0 && (text == given || may_mix && 2 * text > given)) {
        return Ok(Cells::Text(column().map(|(_, c)| c.to_owned()).collect()));
    }
    let value = |(line, cell): (u64, &str)| match number(cell) {
        Some(value) => Ok(value),
        None if is_missing(cell) => Ok(f32::NAN),
        None => Err(NeuralError::NotANumber {
            text: shorten(cell),
            place: format!("line {line}, column {}", place + 1),
        }),
    };
    let values: Result<Vec<f32>, NeuralError> = column().map(value).collect();
    values.map(Cells::Numbers)
}
