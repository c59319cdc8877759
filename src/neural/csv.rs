//! Tables as text: comma, semicolon, tab or blanks between the cells.

use std::borrow::Cow;

use ::csv::{ByteRecord, Error, ErrorKind, ReaderBuilder, Trim};

use super::axes::Role;
use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::left_out::LeftOut;
use super::number::{self, Numbers};
use super::recording::Recording;
use super::table::{self, Cells, TableColumn};
use super::text::{self, Separator, Text};
use crate::archive::shorten;

/// Cells line by line, with the line of the file that each began in.
pub(super) type Lines = Vec<(u64, Vec<String>)>;

/// The text of a table by its cells.
pub(super) struct Table {
    pub lines: Lines,
    /// The lines before the first that begin with `#`.
    pub comments: Vec<String>,
    separator: Separator,
    notes: Vec<String>,
}

pub(super) fn responses(
    bytes: &[u8],
    separator: u8,
    options: &ReadOptions,
) -> Result<Recording, NeuralError> {
    let Table {
        mut lines,
        comments,
        separator,
        notes,
    } = read_table(bytes, separator)?;
    let numbers = match separator {
        Separator::Byte(b',') => Numbers::default(),
        _ => Numbers::of(&lines)?,
    };
    let width = lines.first().map_or(0, |(_, cells)| cells.len());
    let header = match is_header(&lines, &numbers) {
        true => Some(lines.remove(0).1),
        false => header_in(comments.last(), separator, width),
    };
    if lines.is_empty() || width == 0 {
        return Err(NeuralError::NoRows);
    }
    let name = |place: usize| header.as_ref().and_then(|names| names.get(place)).cloned();
    let columns: Result<Vec<TableColumn>, NeuralError> = (0..width)
        .map(|place| {
            let name = name(place);
            let is_label = name.as_deref().is_some_and(|name| {
                (place == 0 || !name.is_empty()) && table::is_label(name, options)
            });
            let cells = match is_label {
                true => Cells::Text(column(&lines, place).map(|(_, c)| c.to_owned()).collect()),
                false => cells(&lines, place, name.is_some(), &numbers)?,
            };
            Ok(TableColumn { cells, name })
        })
        .collect();
    let mut found = table::responses(Format::Csv, columns?, options)?;
    found.notes.extend(notes);
    found.notes.extend(numbers.said());
    let said = match &header {
        Some(_) => "the first line was taken for the names of the columns",
        None => "there is no line of column names: the first line holds numbers",
    };
    found.notes.push(said.to_owned());
    if let Some(first) = comments.first() {
        let count = comments.len();
        let reason = format!("{count}, such as “{}”", shorten(first));
        found
            .left_out
            .push(LeftOut::plain("lines that begin with #", reason));
    }
    Ok(found)
}

/// The cells of a column with their lines.
fn column(lines: &Lines, place: usize) -> impl Iterator<Item = (u64, &str)> {
    let cells = lines
        .iter()
        .map(move |(line, cells)| (*line, cells.get(place)));
    cells.map(|(line, cell)| (line, cell.map_or("", String::as_str)))
}

/// Names of columns behind a `#`, as `numpy.savetxt` writes its header: as many as there are columns.
fn header_in(comment: Option<&String>, separator: Separator, width: usize) -> Option<Vec<String>> {
    let text = comment?.trim_start_matches('#').trim();
    let cells: Vec<String> = match separator {
        Separator::Byte(byte) => text
            .split(char::from(byte))
            .map(str::trim)
            .map(str::to_owned)
            .collect(),
        Separator::Blanks => text.split_whitespace().map(str::to_owned).collect(),
    };
    (width > 1 && cells.len() == width).then_some(cells)
}

/// Reads all cells.
///
/// # Errors
/// [`NeuralError::Ragged`], [`NeuralError::Empty`], [`NeuralError::TooMany`],
/// [`NeuralError::Encoding`].
pub(super) fn read_table(bytes: &[u8], separator: u8) -> Result<Table, NeuralError> {
    let Text {
        text,
        start,
        separator,
        notes,
    } = text::table(bytes, separator)?;
    let (text, delimiter) = match separator {
        Separator::Byte(byte) => (text, byte),
        Separator::Blanks => (Cow::Owned(tabbed(&text)), b'\t'),
    };
    let (comments, start) = comments(&text, start);
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .trim(Trim::All)
        .from_reader(text[start..].as_bytes());
    let mut places = Places {
        text: text.as_bytes(),
        at: 0,
        line: 1,
    };
    let (mut lines, mut count) = (Vec::new(), 0);
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => return Err(explain(&error, start, &mut places)),
        }
        count += record.len();
        if count > MOST_VALUES {
            return Err(NeuralError::TooMany {
                values: count as u64,
            });
        }
        let at = record.position().map_or(0, |at| at.byte() as usize);
        // The text is UTF-8, and cells end at letters of one byte.
        let cell = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
        let line = places.line_of(start + at);
        lines.push((line, record.iter().map(cell).collect()));
    }
    Ok(Table {
        lines,
        comments,
        separator,
        notes,
    })
}

/// Each run of blanks as one tab, with the lines as they are.
fn tabbed(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The lines that begin with `#` before the first that does not, and where that begins.
fn comments(text: &str, start: usize) -> (Vec<String>, usize) {
    let mut comments = Vec::new();
    let mut at = start;
    for line in text[start..].split_inclusive(['\n', '\r']) {
        let trimmed = line.trim();
        if trimmed.starts_with('#') {
            comments.push(trimmed.to_owned());
        } else if !trimmed.is_empty() {
            break;
        }
        at += line.len();
    }
    (comments, at)
}

/// Lines of places in a text, which are asked for in their order.
struct Places<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Places<'_> {
    /// The line, from 1, of the first letter at `to` or behind that ends no line.
    fn line_of(&mut self, to: usize) -> u64 {
        let ends_line = |byte: Option<&u8>| matches!(byte, Some(b'\n' | b'\r'));
        while self.at < to || ends_line(self.text.get(self.at)) {
            match (self.text.get(self.at), self.text.get(self.at + 1)) {
                (None, _) => break,
                // One end of a line, counted with its second byte.
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\n' | b'\r'), _) => self.line += 1,
                _ => {}
            }
            self.at += 1;
        }
        self.line
    }
}

fn explain(error: &Error, start: usize, places: &mut Places) -> NeuralError {
    match error.kind() {
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => NeuralError::Ragged {
            line: places.line_of(start + pos.as_ref().map_or(0, |at| at.byte() as usize)),
            found: *len,
            expected: *expected_len,
        },
        _ => NeuralError::Csv(error.to_string()),
    }
}

/// Whether the first line names columns: no cell but the first is a number, or the first cell is a
/// name of a column while the others number the neuroids.
fn is_header(lines: &Lines, style: &Numbers) -> bool {
    let Some((_, first)) = lines.first() else {
        return false;
    };
    let numbers = |cells: &[String]| cells.iter().filter(|c| style.parse(c).is_some()).count();
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
    let without_gaps = rest.iter().filter(|cell| !number::is_missing(cell)).count();
    (without_gaps > 0 && numbers(rest) == 0) || (head.iter().any(is_name) && counts)
}

/// A column's cells: text where it is called so or holds hardly a number, else numbers.
fn cells(
    lines: &Lines,
    place: usize,
    is_named: bool,
    numbers: &Numbers,
) -> Result<Cells, NeuralError> {
    let column = || column(lines, place);
    let is_text = |cell: &str| numbers.parse(cell).is_none() && !number::is_missing(cell);
    let text = column().filter(|(_, cell)| is_text(cell)).count();
    let given = column()
        .filter(|(_, cell)| !number::is_missing(cell))
        .count();
    // Numbers that are written in a way that is not read are no text.
    let written_otherwise = |cell: &str| is_text(cell) && number::is_like_one(cell);
    let as_numbers = place > 0 && column().any(|(_, cell)| written_otherwise(cell));
    // Names may be numbers here and there; a column of numbers may not.
    let may_mix = place == 0;
    let called = is_named || may_mix;
    let is_text = called && text > 0 && (text == given || may_mix && 2 * text > given);
    if is_text && !as_numbers {
        return Ok(Cells::Text(column().map(|(_, c)| c.to_owned()).collect()));
    }
    let value = |(line, cell): (u64, &str)| match numbers.parse(cell) {
        Some(value) => Ok(value),
        None if number::is_missing(cell) => Ok(f32::NAN),
        None => Err(NeuralError::NotANumber {
            text: shorten(cell),
            place: format!("line {line}, column {}", place + 1),
        }),
    };
    let values: Result<Vec<f32>, NeuralError> = column().map(value).collect();
    values.map(Cells::Numbers)
}
