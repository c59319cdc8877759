//! A table of shares as coloured cells.

use svg::Document;
use svg::node::element::{Rectangle, Text};

use super::{RIGHT, WIDTH, cut, document, round, shade, text, turned};
use crate::measure::chart::HeatMap;

const LEFT: f64 = 150.0;
const TOP: f64 = 36.0;
const ROW: f64 = 22.0;

/// Degrees that slanted names rise by.
const SLANT: f64 = 40.0;

/// More letters of a name than these do not fit beside a row.
const LETTERS: usize = 22;

/// How the names below columns are written.
#[derive(Clone, Copy)]
enum Names {
    /// Across, at most six letters.
    Short,
    /// Across, whole.
    Whole,
    /// Rising to their column, so that long names do not overlap.
    Slanted,
}

impl Names {
    /// As the plot has them, in columns of `width` pixels.
    fn of(plot: &HeatMap, width: f64) -> Self {
        match plot.short_names {
            true => Self::Short,
            false if breadth(&plot.columns) < width => Self::Whole,
            false => Self::Slanted,
        }
    }

    /// The height of slanted names below the first line, in pixels.
    fn extra(self, columns: &[String]) -> f64 {
        match self {
            Self::Short | Self::Whole => 0.0,
            Self::Slanted => breadth(columns) * SLANT.to_radians().sin(),
        }
    }

    fn draw(self, x: f64, y: f64, name: &str) -> Text {
        match self {
            Self::Short => text(x, y, "middle", cut(name, 6)),
            Self::Whole => text(x, y, "middle", cut(name, LETTERS)),
            Self::Slanted => turned(x + 4.0, y - 4.0, -SLANT, "end", cut(name, LETTERS)),
        }
    }
}

/// About the width of the longest name as it is written, in pixels.
fn breadth(names: &[String]) -> f64 {
    let longest = names.iter().map(|name| name.chars().count()).max();
    6.6 * longest.unwrap_or_default().min(LETTERS) as f64
}

pub(super) fn draw(title: &str, plot: &HeatMap) -> Document {
    let columns = &plot.columns;
    let width = (WIDTH - LEFT - RIGHT) / columns.len().max(1) as f64;
    let names = Names::of(plot, width);
    let bottom = TOP + ROW * plot.rows.len() as f64;
    let height = bottom + 48.0 + names.extra(columns);
    let mut drawing = document(title, height);
    for (row, name) in plot.rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        drawing = drawing.add(text(LEFT - 8.0, y + 15.0, "end", cut(name, LETTERS)));
        for column in 0..columns.len() {
            let x = LEFT + width * column as f64;
            let cell = plot.cells.get(row * columns.len() + column);
            drawing = add_cell(drawing, [x, y, width], cell.and_then(Option::as_ref));
        }
    }
    for (column, name) in columns.iter().enumerate() {
        let x = LEFT + width * (column as f64 + 0.5);
        drawing = drawing.add(names.draw(x, bottom + 16.0, name));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    drawing.add(text(middle, height - 12.0, "middle", &plot.x_label))
}

fn add_cell(drawing: Document, [x, y, width]: [f64; 3], cell: Option<&(f64, String)>) -> Document {
    let centred = |words: &str| text(x + width / 2.0, y + 15.0, "middle", words);
    let Some((share, words)) = cell else {
        return drawing.add(centred("–"));
    };
    let (fill, ink) = shade(*share);
    let field = Rectangle::new()
        .set("x", round(x + 1.0))
        .set("y", round(y + 1.0))
        .set("width", round(width - 2.0))
        .set("height", ROW - 2.0)
        .set("rx", 2)
        .set("fill", fill);
    drawing.add(field).add(centred(words).set("class", ink))
}
