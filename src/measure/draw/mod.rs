//! Draws figures as SVG documents.
//!
//! The documents hold their own style and need nothing from outside: grey text that is readable on
//! light and dark grounds follows the reader's scheme. Series have the colours of Okabe and Ito
//! 2008, which colour-blind readers can distinguish, and a different mark or dash each.

mod accuracies;
mod curves;
mod dissimilarities;
mod heat_map;
#[cfg(test)]
mod tests;

use svg::Document;
use svg::node::element::{Circle, Line, Style, Text, Title};

use super::chart::{Chart, Figure, Plot};

impl Figure {
    /// The figure as an SVG document.
    pub fn draw(&self) -> Chart {
        Chart {
            name: self.name.clone(),
            title: self.title.clone(),
            svg: self.document().to_string(),
        }
    }

    fn document(&self) -> Document {
        match &self.plot {
            Plot::Curves(plot) => curves::draw(&self.title, plot),
            Plot::Intervals(plot) => accuracies::intervals(&self.title, plot),
            Plot::Bars(plot) => accuracies::bars(&self.title, plot),
            Plot::HeatMap(plot) => heat_map::draw(&self.title, plot),
            Plot::Dissimilarities(plot) => dissimilarities::draw(&self.title, plot),
        }
    }
}

/// Figures of one size side by side in one SVG document with a title.
#[cfg(feature = "cli")]
pub fn side_by_side(title: &str, figures: &[Figure]) -> String {
    const PANEL: f64 = 340.0;
    let width = WIDTH * figures.len() as f64;
    let panels = figures.iter().zip(0..);
    let page = Document::new()
        .set("viewBox", (0, 0, width, PANEL))
        .set("width", width)
        .set("height", PANEL)
        .set("role", "img")
        .add(Title::new(title));
    let add = |page: Document, (figure, column): (&Figure, u32)| {
        page.add(figure.document().set("x", WIDTH * f64::from(column)))
    };
    panels.fold(page, add).to_string()
}

const STYLE: &str = "svg{color:#333;font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}\
text{fill:currentColor}.title{font-size:14px;font-weight:600}.soft{opacity:.75}\
.grid{stroke:currentColor;stroke-opacity:.18}.axis{stroke:currentColor;stroke-opacity:.55}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.column{fill-opacity:.85}\
.dark{fill:#111}.light{fill:#fff}\
@media(prefers-color-scheme:dark){svg{color:#ddd}}@media print{svg{color:#000}}";

/// Okabe and Ito's, without black and yellow, which have too little contrast with a ground.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
];

const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const WIDTH: f64 = 560.0;
/// Upper and lower end of curves, in pixels.
const TOP: f64 = 36.0;
const BOTTOM: f64 = 246.0;

fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

fn text(x: f64, y: f64, anchor: &str, content: impl Into<String>) -> Text {
    Text::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("text-anchor", anchor)
}

/// Text turned by `degrees` about its anchor.
fn turned(x: f64, y: f64, degrees: f64, anchor: &str, content: impl Into<String>) -> Text {
    text(0.0, 0.0, anchor, content).set(
        "transform",
        format!("translate({} {}) rotate({degrees})", round(x), round(y)),
    )
}

/// The name of a vertical axis, read from below.
fn upright(x: f64, y: f64, content: impl Into<String>) -> Text {
    turned(x, y, -90.0, "middle", content)
}

/// The words in the middle of an empty figure.
fn empty(x: f64, words: &str) -> Text {
    text(x, (TOP + BOTTOM) / 2.0, "middle", words).set("class", "soft")
}

/// Tenths of a pixel are fine enough, and short.
fn round(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

fn line(class: &str, [x1, y1, x2, y2]: [f64; 4]) -> Line {
    Line::new()
        .set("class", class)
        .set("x1", round(x1))
        .set("y1", round(y1))
        .set("x2", round(x2))
        .set("y2", round(y2))
}

fn document(title: &str, height: f64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(title))
        .add(Style::new(STYLE))
        .add(text(LEFT, 20.0, "start", title).set("class", "title"))
}

/// Full for one series and hollow for the next, so that they differ in more than colour.
fn mark(series: usize, x: f64, y: f64) -> Circle {
    let fill = match series.is_multiple_of(2) {
        true => colour(series),
        false => "none",
    };
    Circle::new()
        .set("cx", round(x))
        .set("cy", round(y))
        .set("r", 3.5)
        .set("fill", fill)
        .set("stroke", colour(series))
        .set("stroke-width", 1.8)
}

/// From light to the first series' blue, and the class of text on it.
fn shade(share: f64) -> (String, &'static str) {
    let mix = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)).round();
    let [r, g, b] = [mix(238.0, 0.0), mix(243.0, 92.0), mix(247.0, 150.0)];
    let ink = if share > 0.5 { "light" } else { "dark" };
    (format!("rgb({r},{g},{b})"), ink)
}

/// The first letters of a name.
fn cut(name: &str, letters: usize) -> String {
    name.chars().take(letters).collect()
}
