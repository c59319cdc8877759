//! What charts are drawn with, as SVG documents.
//!
//! They hold their own style and ask for nothing from outside: grey text that stands out on light
//! and dark grounds follows the reader's scheme, and series have the colours of Okabe and Ito 2008,
//! which colour-blind readers tell apart, and a mark each beside.

use svg::Document;
use svg::node::element::{Circle, Line, Rectangle, Style, Text, Title};

/// A chart and what to call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// For a file: letters, digits, `-`.
    pub name: String,
    pub title: String,
    /// A whole SVG document.
    pub svg: String,
}

const STYLE: &str = "svg{color:#333;font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}\
text{fill:currentColor}.title{font-size:14px;font-weight:600}.soft{opacity:.75}\
.grid{stroke:currentColor;stroke-opacity:.18}.axis{stroke:currentColor;stroke-opacity:.55}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.column{fill-opacity:.85}\
.dark{fill:#111}.light{fill:#fff}\
@media(prefers-color-scheme:dark){svg{color:#ddd}}@media print{svg{color:#000}}";

/// Okabe and Ito's, without black and yellow, which a ground swallows.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
];

pub(crate) const LEFT: f64 = 62.0;
pub(crate) const RIGHT: f64 = 16.0;
pub(crate) const WIDTH: f64 = 560.0;

/// A file's name out of words.
pub(crate) fn slug(words: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let parts: String = words.replace('∞', "inf").chars().map(plain).collect();
    let parts: Vec<&str> = parts.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

pub(crate) fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

pub(crate) fn text(x: f64, y: f64, anchor: &str, content: impl Into<String>) -> Text {
    Text::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("text-anchor", anchor)
}

/// Text turned by `degrees` about where it starts, ends or has its middle.
pub(crate) fn turned(
    x: f64,
    y: f64,
    degrees: f64,
    anchor: &str,
    content: impl Into<String>,
) -> Text {
    text(0.0, 0.0, anchor, content).set(
        "transform",
        format!("translate({} {}) rotate({degrees})", round(x), round(y)),
    )
}

/// The name of a vertical axis, read from below.
pub(crate) fn upright(x: f64, y: f64, content: impl Into<String>) -> Text {
    turned(x, y, -90.0, "middle", content)
}

/// Tenths of a pixel are fine enough, and short.
pub(crate) fn round(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

pub(crate) fn line(class: &str, [x1, y1, x2, y2]: [f64; 4]) -> Line {
    Line::new()
        .set("class", class)
        .set("x1", round(x1))
        .set("y1", round(y1))
        .set("x2", round(x2))
        .set("y2", round(y2))
}

pub(crate) fn document(title: &str, height: f64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(title))
        .add(Style::new(STYLE))
        .add(text(LEFT, 20.0, "start", title).set("class", "title"))
}

/// A legend below a chart: a row of 18 pixels for each name, the first on the baseline `top`.
pub(crate) fn legend<'n>(
    mut document: Document,
    names: impl IntoIterator<Item = &'n str>,
    top: f64,
) -> Document {
    for (i, name) in names.into_iter().enumerate() {
        let y = top + 18.0 * i as f64;
        document =
            document
                .add(mark(i, LEFT + 6.0, y - 4.0))
                .add(text(LEFT + 18.0, y, "start", name));
    }
    document
}

/// Full for one series and hollow for the next, so that colour is not all that tells them apart.
pub(crate) fn mark(series: usize, x: f64, y: f64) -> Circle {
    let fill = if series.is_multiple_of(2) {
        colour(series)
    } else {
        "none"
    };
    Circle::new()
        .set("cx", round(x))
        .set("cy", round(y))
        .set("r", 3.5)
        .set("fill", fill)
        .set("stroke", colour(series))
        .set("stroke-width", 1.8)
}

/// From light to the first series' blue, and whether text on it is to be light.
pub(crate) fn shade(share: f64) -> (String, &'static str) {
    let mix = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)).round();
    let [r, g, b] = [mix(238.0, 0.0), mix(243.0, 92.0), mix(247.0, 150.0)];
    (
        format!("rgb({r},{g},{b})"),
        if share > 0.5 { "light" } else { "dark" },
    )
}

/// How the names below columns are written.
#[derive(Clone, Copy)]
pub(crate) enum Labels {
    /// Across, no more of them than six letters.
    Short,
    /// Across, whole.
    Whole,
    /// Rising to their column, so that long names pass each other.
    Slanted,
}

/// More letters of a name than these do not fit beside a row.
const LETTERS: usize = 22;

impl Labels {
    /// Whole where the longest name fits into a column's `width`.
    pub fn fitting(columns: &[String], width: f64) -> Self {
        match breadth(columns) < width {
            true => Self::Whole,
            false => Self::Slanted,
        }
    }

    /// What slanted names need below the first line, in pixels.
    fn extra(self, columns: &[String]) -> f64 {
        match self {
            Self::Short | Self::Whole => 0.0,
            Self::Slanted => breadth(columns) * SLANT.to_radians().sin(),
        }
    }

    fn draw(self, x: f64, y: f64, label: &str) -> Text {
        match self {
            Self::Short => text(x, y, "middle", cut(label, 6)),
            Self::Whole => text(x, y, "middle", cut(label, LETTERS)),
            Self::Slanted => turned(x + 4.0, y - 4.0, -SLANT, "end", cut(label, LETTERS)),
        }
    }
}

/// Degrees that slanted names rise by.
const SLANT: f64 = 40.0;

/// About how wide the longest of these names is as it is written, in pixels.
fn breadth(names: &[String]) -> f64 {
    let longest = names.iter().map(|name| name.chars().count()).max();
    6.6 * longest.unwrap_or_default().min(LETTERS) as f64
}

/// The first letters of a name.
pub(crate) fn cut(name: &str, letters: usize) -> String {
    name.chars().take(letters).collect()
}

/// A table of shares as coloured fields.
pub(crate) struct Fields<'a> {
    pub title: String,
    /// What stands below the columns.
    pub across: &'a str,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// How the columns' names are written.
    pub labels: Labels,
    /// The share, 0 to 1, and its text; `None` where there is nothing.
    pub field: &'a dyn Fn(usize, usize) -> Option<(f64, String)>,
}

const FIELDS_LEFT: f64 = 150.0;

/// Of a field among so many columns, in pixels.
pub(crate) fn field_width(columns: usize) -> f64 {
    (WIDTH - FIELDS_LEFT - RIGHT) / columns.max(1) as f64
}

impl Fields<'_> {
    pub fn draw(&self) -> String {
        const ROW: f64 = 22.0;
        let (left, top) = (FIELDS_LEFT, 36.0);
        let width = field_width(self.columns.len());
        let bottom = top + ROW * self.rows.len() as f64;
        let height = bottom + 48.0 + self.labels.extra(&self.columns);
        let mut drawing = document(&self.title, height);
        for (row, label) in self.rows.iter().enumerate() {
            let y = top + ROW * row as f64;
            let short = cut(label, LETTERS);
            drawing = drawing.add(text(left - 8.0, y + 15.0, "end", short));
            for column in 0..self.columns.len() {
                let x = left + width * column as f64;
                let Some((share, words)) = (self.field)(row, column) else {
                    drawing = drawing.add(text(x + width / 2.0, y + 15.0, "middle", "–"));
                    continue;
                };
                let (fill, ink) = shade(share);
                let field = Rectangle::new()
                    .set("x", round(x + 1.0))
                    .set("y", round(y + 1.0))
                    .set("width", round(width - 2.0))
                    .set("height", ROW - 2.0)
                    .set("rx", 2)
                    .set("fill", fill);
                let words = text(x + width / 2.0, y + 15.0, "middle", words);
                drawing = drawing.add(field).add(words.set("class", ink));
            }
        }
        for (column, label) in self.columns.iter().enumerate() {
            let x = left + width * (column as f64 + 0.5);
            drawing = drawing.add(self.labels.draw(x, bottom + 16.0, label));
        }
        let middle = (left + WIDTH - RIGHT) / 2.0;
        drawing
            .add(text(middle, height - 12.0, "middle", self.across))
            .to_string()
    }
}
