//! Figures as plain data. [`Figure::draw`] turns one into a [`Chart`].

use serde::{Deserialize, Serialize};

use super::similarity::Gram;
use crate::model::catalog::Measured;

/// A drawn figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// For a file: letters, digits, `-`.
    pub name: String,
    pub title: String,
    /// A whole SVG document; names in it are escaped.
    pub svg: String,
}

/// A figure before it is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// For a file: letters, digits, `-`, as [`slug`] makes them.
    pub name: String,
    pub title: String,
    pub plot: Plot,
}

/// What a figure shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Plot {
    /// Lines over steps or epochs: losses, similarities, accuracies.
    Curves(Curves),
    /// Accuracies with their intervals at conditions in order of strength.
    Intervals(Accuracies<Measured>),
    /// Accuracies, 0 to 1, as bars in groups.
    Bars(Accuracies<f64>),
    /// A table as coloured cells.
    HeatMap(HeatMap),
    /// A dissimilarity matrix of stimuli.
    Dissimilarities(Dissimilarities),
}

/// A line per series over a numeric axis from 0 to `end`, or to the last point if that is later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// `optimiser step`, `epoch`; its last word stands in the hints.
    pub x_label: String,
    pub y_label: String,
    pub series: Vec<Series>,
    /// Low and high end that the vertical axis spans besides the values.
    pub range: Option<[f64; 2]>,
    pub end: f64,
}

/// One line of [`Curves`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    /// Step and value, in the order of the steps; a point that is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// Accuracies of models in conditions, evenly spaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracies<T> {
    /// Below the axis; empty for none.
    pub x_label: String,
    /// Of the conditions.
    pub labels: Vec<String>,
    /// Each model's name and one value per condition; `None` where it was not measured.
    pub series: Vec<(String, Vec<Option<T>>)>,
}

/// Shares as coloured cells with their text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// Below the columns.
    pub x_label: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Column names are cut to six letters; otherwise they are slanted where they do not fit.
    pub short_names: bool,
    /// Rows × columns, row-major: the share, 0 to 1, and its text; a dash stands for `None` and
    /// for a missing cell.
    pub cells: Vec<Option<(f64, String)>>,
}

/// How far apart all pairs of stimuli are, from light to dark between the 2nd and the 98th
/// percentile of different stimuli. Beyond 60 stimuli some are left out, more of larger classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dissimilarities {
    /// Stimuli × stimuli.
    pub rdm: Gram,
    /// The class of each stimulus, sorted so that a class stands together.
    pub classes: Vec<u16>,
    /// The classes' names; their numbers where there are none.
    pub names: Vec<String>,
}

impl Figure {
    /// Named after its kind and its title.
    pub fn new(kind: &str, title: impl Into<String>, plot: Plot) -> Self {
        let title = title.into();
        Self {
            name: format!("{kind}-{}", slug(&title)),
            title,
            plot,
        }
    }

    /// CKA of each of `rows` with each of `columns` as coloured cells. `values` are rows × columns,
    /// row-major, 0 to 1; a dash stands where one is missing or not finite.
    pub fn similarities(title: &str, rows: &[String], columns: &[String], values: &[f64]) -> Self {
        // Narrow cells have no room for a leading zero.
        let narrow = columns.len() > 13;
        let cell = |value: &f64| {
            let text = number(*value, 2);
            let text = match narrow {
                true => text.replacen("0.", ".", 1),
                false => text,
            };
            value.is_finite().then_some((*value, text))
        };
        let plot = HeatMap {
            x_label: "CKA: 1 for the same geometry, 0 for nothing in common".to_owned(),
            rows: rows.to_vec(),
            columns: columns.to_vec(),
            short_names: false,
            cells: values.iter().map(cell).collect(),
        };
        Self::new("similarities", title, Plot::HeatMap(plot))
    }
}

/// Words as a file name.
pub fn slug(words: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let parts: String = words.replace('∞', "inf").chars().map(plain).collect();
    let parts: Vec<&str> = parts.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// A number as it is printed: no negative zero, a real minus, thin spaces from ten thousand on.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let zero = plain.chars().all(|c| matches!(c, '0' | '.'));
    let mut words = String::from(if value < 0.0 && !zero { "−" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && whole.len() > 4 && left.is_multiple_of(3) {
            words.push('\u{202f}');
        }
        words.push(digit);
    }
    words + rest
}
