//! Lines over steps or epochs.

use svg::Document;
use svg::node::element::{Group as Node, Polyline, Title};

use super::{
    BOTTOM, LEFT, RIGHT, TOP, WIDTH, colour, cut, document, empty, line, mark, text, upright,
};
use crate::measure::chart::{Curves, Series, number};

/// Together with six colours, thirty kinds of lines.
const DASHES: [&str; 5] = ["none", "7 4", "2 3", "11 3 2 3", "11 3 2 3 2 3"];

/// Lines of at most this many points have a mark at each; more would hide the line.
const MARKED: usize = 24;

pub(super) fn draw(title: &str, curves: &Curves) -> Document {
    let series = &curves.series;
    let found: Vec<Vec<(f64, f64)>> = series.iter().map(finite).collect();
    let xs = found.iter().flatten().map(|point| point.0);
    let ys = found.iter().flatten().map(|point| point.1);
    let frame = Frame {
        x: Scale::over(extent(xs.chain([0.0, curves.end.max(1.0)]))).whole(),
        y: Scale::over(extent(ys.chain(curves.range.into_iter().flatten()))).rounded(),
    };
    let key = Key::of(series);
    let mut drawing = frame.draw(document(title, 298.0 + key.height()), curves);
    if found.iter().all(Vec::is_empty) {
        drawing = drawing.add(empty((LEFT + WIDTH - RIGHT) / 2.0, "no values"));
    }
    let unit = curves.x_label.rsplit(' ').next().unwrap_or_default();
    for (i, points) in found.iter().enumerate() {
        drawing = drawing
            .add(frame.curve(i, &series[i].name, unit, points))
            .add(key.entry(i, &series[i].name, points.len()));
    }
    drawing
}

/// Beyond this the span of an axis could overflow.
const LARGEST: f64 = 1e300;

fn finite(series: &Series) -> Vec<(f64, f64)> {
    let sound = |v: f64| v.abs() < LARGEST;
    let points = series.points.iter().copied();
    points.filter(|(x, y)| sound(*x) && sound(*y)).collect()
}

/// The least and the largest value; 0 and 1 where there are none.
fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let sound = values.filter(|v| v.abs() < LARGEST);
    let ends = sound.fold(None, |ends: Option<[f64; 2]>, v| {
        let [low, high] = ends.unwrap_or([v, v]);
        Some([low.min(v), high.max(v)])
    });
    ends.unwrap_or([0.0, 1.0])
}

/// The span of an axis and the step between its ticks, which are multiples of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

/// Multiples are not exact, and 0.3 is to count as three times 0.1.
const SLACK: f64 = 1e-9;

impl Scale {
    /// About five steps of 1, 2 or 5 times a power of ten.
    pub(super) fn over([low, high]: [f64; 2]) -> Self {
        let size = low.abs().max(high.abs());
        let flat = high - low <= 1e-12 * size.max(1e-200);
        let (low, high) = match flat {
            true if size < 1e-200 => (0.0, 1.0),
            true => (low - size / 2.0, high + size / 2.0),
            false => (low, high),
        };
        let raw = (high - low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let fits = |times: &f64| times * power >= raw * (1.0 - SLACK);
        let times = [1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0);
        Self {
            low,
            high,
            step: times * power,
        }
    }

    /// With ticks at whole numbers only.
    fn whole(self) -> Self {
        Self {
            step: self.step.max(1.0),
            ..self
        }
    }

    /// From tick to tick.
    pub(super) fn rounded(self) -> Self {
        let Self { low, high, step } = self;
        Self {
            low: (low / step + SLACK).floor() * step,
            high: (high / step - SLACK).ceil() * step,
            step,
        }
    }

    pub(super) fn ticks(self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.step - SLACK).ceil();
        let last = (self.high / self.step + SLACK).floor();
        (0..=(last - first) as usize).map(move |tick| (first + tick as f64) * self.step)
    }

    /// 0 at the low end, 1 at the high one.
    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick with as many decimals as its neighbours need.
    pub(super) fn label(self, tick: f64) -> String {
        let size = self.low.abs().max(self.high.abs());
        let decimals = (-(self.step.log10() + SLACK).floor()).max(0.0) as usize;
        match (1e-3..1e7).contains(&size) {
            true => number(tick, decimals),
            false => format!("{tick:.1e}").replace('-', "−"),
        }
    }
}

/// Both axes of curves.
struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> [f64; 2] {
        [
            LEFT + (WIDTH - RIGHT - LEFT) * self.x.share(x),
            BOTTOM - (BOTTOM - TOP) * self.y.share(y),
        ]
    }

    fn draw(&self, mut drawing: Document, curves: &Curves) -> Document {
        for tick in self.y.ticks() {
            let [_, y] = self.place((self.x.low, tick));
            drawing = drawing
                .add(line("grid", [LEFT, y, WIDTH - RIGHT, y]))
                .add(text(LEFT - 8.0, y + 4.0, "end", self.y.label(tick)));
        }
        for tick in self.x.ticks() {
            let [x, _] = self.place((tick, self.y.low));
            drawing = drawing
                .add(line("axis", [x, BOTTOM, x, BOTTOM + 4.0]))
                .add(text(x, BOTTOM + 18.0, "middle", self.x.label(tick)));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        drawing
            .add(line("axis", [LEFT, BOTTOM, WIDTH - RIGHT, BOTTOM]))
            .add(text(middle, BOTTOM + 38.0, "middle", &curves.x_label))
            .add(upright(14.0, (TOP + BOTTOM) / 2.0, &curves.y_label))
    }

    fn curve(&self, series: usize, name: &str, unit: &str, points: &[(f64, f64)]) -> Node {
        let places: Vec<[f64; 2]> = points.iter().map(|point| self.place(*point)).collect();
        let mut node = Node::new().add(Title::new(name));
        if places.len() > 1 {
            node = node.add(polyline(series, &thinned(&places)));
        }
        if places.len() > MARKED {
            return node;
        }
        let hint = |(x, y): &(f64, f64)| Title::new(format!("{name}, {unit} {x}: {y:.4}"));
        let marks = places.iter().zip(points);
        marks.fold(node, |node, ([x, y], point)| {
            node.add(mark(series, *x, *y).add(hint(point)))
        })
    }
}

fn polyline(series: usize, places: &[[f64; 2]]) -> Polyline {
    let point = |[x, y]: &[f64; 2]| format!("{x:.1},{y:.1}");
    let points: Vec<String> = places.iter().map(point).collect();
    Polyline::new()
        .set("class", "line")
        .set("stroke", colour(series))
        .set("stroke-dasharray", DASHES[series % DASHES.len()])
        .set("points", points.join(" "))
}

/// At most the highest and the lowest point of each column of pixels; more cannot be seen.
fn thinned(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let columns = places.chunk_by(|a, b| a[0].floor() == b[0].floor());
    columns.flat_map(ends).collect()
}

/// The highest and the lowest point, in their order.
fn ends(column: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if column.len() < 3 {
        return column.to_vec();
    }
    let by_height = |a: &usize, b: &usize| column[*a][1].total_cmp(&column[*b][1]);
    let low = (0..column.len()).min_by(by_height).unwrap_or_default();
    let high = (0..column.len()).max_by(by_height).unwrap_or_default();
    vec![column[low.min(high)], column[low.max(high)]]
}

/// The legend of curves: its columns and rows of names.
struct Key {
    columns: usize,
    rows: usize,
}

impl Key {
    /// Two columns of many short names.
    fn of(series: &[Series]) -> Self {
        let short = series.iter().all(|s| s.name.chars().count() <= 30);
        let columns = if short && series.len() > 3 { 2 } else { 1 };
        Self {
            columns,
            rows: series.len().div_ceil(columns),
        }
    }

    fn height(&self) -> f64 {
        18.0 * self.rows as f64
    }

    /// A piece of the line and its name.
    fn entry(&self, series: usize, name: &str, points: usize) -> Node {
        let column = (series % self.columns) as f64;
        let x = LEFT + column * (WIDTH - LEFT - RIGHT) / self.columns as f64;
        let y = 306.0 + 18.0 * (series / self.columns) as f64;
        let mut node = Node::new();
        if points != 1 {
            node = node.add(polyline(series, &[[x, y - 4.0], [x + 30.0, y - 4.0]]));
        }
        if (1..=MARKED).contains(&points) {
            node = node.add(mark(series, x + 15.0, y - 4.0));
        }
        node.add(text(x + 38.0, y, "start", cut(name, 68)))
    }
}
