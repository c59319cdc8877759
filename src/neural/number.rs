//! Numbers as text: what is none, and decimal commas.

use super::csv::Lines;
use super::error::NeuralError;
use crate::archive::shorten;

/// Cells without a value, in any case of letters.
const MISSING: [&str; 8] = ["", "na", "n/a", "nan", "null", "none", "-", "."];

pub(super) fn is_missing(cell: &str) -> bool {
    MISSING.iter().any(|known| known.eq_ignore_ascii_case(cell))
}

/// Whether a cell that is not read as a number is meant as one: `1,234.5`, `12 %`, `3 Hz`, `1 000`.
pub(super) fn is_like_one(cell: &str) -> bool {
    let mut words = cell.split_whitespace();
    let first = words.next().unwrap_or_default();
    let number = first.trim_end_matches('%');
    let digits = number.trim_start_matches(['+', '-', '<', '>', '~', '±', '$', '€']);
    let part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '\'' | '’');
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(part);
    // A unit, or more digits behind a space between thousands.
    is_number && words.all(|word| word.len() <= 8) && cell.split_whitespace().count() <= 3
}

/// How a table writes its numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// A comma is a decimal one.
    comma: bool,
}

/// A number with a comma or points in it.
enum Mark {
    /// It can only be a decimal one.
    Decimal,
    /// It may stand between thousands.
    Either,
}

impl Numbers {
    /// # Errors
    /// [`NeuralError::CommaOrThousands`] where every comma, or beside decimal commas every point, may
    /// stand between thousands as well.
    pub fn of(lines: &Lines) -> Result<Self, NeuralError> {
        let commas = Marks::of(lines, ',');
        if commas.first.is_none() {
            return Ok(Self::default());
        }
        let points = Marks::of(lines, '.');
        let unclear = [&commas, &points]
            .into_iter()
            .find(|m| !m.decimal && m.first.is_some());
        match unclear.and_then(|marks| marks.first.as_ref()) {
            Some((line, place, cell)) => Err(NeuralError::CommaOrThousands {
                text: shorten(cell),
                place: format!("line {line}, column {}", place + 1),
            }),
            None => Ok(Self { comma: true }),
        }
    }

    pub fn parse(&self, cell: &str) -> Option<f32> {
        match self.comma && cell.contains(',') {
            true if mark(cell, ',').is_none() => None,
            true => cell.replace(',', ".").parse().ok(),
            false => cell.parse().ok(),
        }
    }

    /// A clause for the notes.
    pub fn said(&self) -> Option<String> {
        let said = "commas in numbers were taken for decimal commas";
        self.comma.then(|| said.to_owned())
    }
}

/// The numbers with one mark in a table.
struct Marks {
    /// One can only be decimal.
    decimal: bool,
    /// The first, its line and its column.
    first: Option<(u64, usize, String)>,
}

impl Marks {
    fn of(lines: &Lines, sign: char) -> Self {
        let mut found = Self {
            decimal: false,
            first: None,
        };
        for (line, cells) in lines {
            for (place, cell) in cells.iter().enumerate() {
                let Some(mark) = mark(cell, sign) else {
                    continue;
                };
                found.decimal |= matches!(mark, Mark::Decimal);
                if found.first.is_none() {
                    found.first = Some((*line, place, cell.clone()));
                }
            }
        }
        found
    }
}

/// What a cell's mark can be; `None` where it is no number with just one.
fn mark(cell: &str, sign: char) -> Option<Mark> {
    let number = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let (whole, rest) = number.split_once(sign)?;
    let (part, exponent) = match rest.split_once(['e', 'E']) {
        Some((part, exponent)) => (part, Some(exponent)),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fits = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_fits = exponent.is_none_or(|e| e.parse::<i32>().is_ok());
    if !fits || !exponent_fits {
        return None;
    }
    let thousands = part.len() == 3
        && exponent.is_none()
        && (1..=3).contains(&whole.len())
        && !whole.starts_with('0');
    Some(if thousands {
        Mark::Either
    } else {
        Mark::Decimal
    })
}
