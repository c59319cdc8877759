//! Charts of an alignment, as SVG documents: curves over its steps, how alike areas are, and which
//! stimuli a population tells apart.

use std::fmt::Write;

use svg::Document;
use svg::node::element::{Group as Node, Path, Polyline, Rectangle, Text, Title};

use super::draw::{
    Chart, Fields, LEFT, Labels, RIGHT, WIDTH, colour, cut, document, field_width, line, mark,
    shade, slug, text, upright,
};
use super::similarity::{Gram, ratio};

/// One line of [`curves`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub name: String,
    /// Step and value, in the order of the steps; a point that is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// Upper and lower end of the curves, in pixels.
const TOP: f64 = 36.0;
const BOTTOM: f64 = 246.0;

/// Together with six colours, thirty kinds of lines.
const DASHES: [&str; 5] = ["none", "7 4", "2 3", "11 3 2 3", "11 3 2 3 2 3"];

/// So many points of a line have a mark each; more would hide it.
const MARKED: usize = 24;

/// A line per series over optimiser steps, 0 to `steps` or the last point if that is later. The
/// vertical axis spans the values and, if given, `range`, its ends low and high.
pub fn curves(
    title: &str,
    y_label: &str,
    series: &[Series],
    range: Option<[f64; 2]>,
    steps: usize,
) -> Chart {
    let found: Vec<Vec<(f64, f64)>> = series.iter().map(finite).collect();
    let across = found.iter().flatten().map(|point| point.0);
    let up = found.iter().flatten().map(|point| point.1);
    let frame = Frame {
        x: Scale::over(extent(across.chain([0.0, steps.max(1) as f64]))).whole(),
        y: Scale::over(extent(up.chain(range.into_iter().flatten()))).rounded(),
    };
    let key = Key::of(series);
    let empty = found.iter().all(Vec::is_empty);
    let mut drawing = frame.draw(document(title, 298.0 + key.height()), y_label);
    if empty {
        drawing = drawing.add(nothing((LEFT + WIDTH - RIGHT) / 2.0, "no values"));
    }
    for (i, points) in found.iter().enumerate() {
        drawing = drawing
            .add(frame.curve(i, &series[i].name, points))
            .add(key.entry(i, &series[i].name, points.len()));
    }
    Chart {
        name: format!("curves-{}", slug(title)),
        title: title.to_owned(),
        svg: drawing.to_string(),
    }
}

/// Beyond this the span of an axis could overflow.
const LARGEST: f64 = 1e300;

fn finite(series: &Series) -> Vec<(f64, f64)> {
    let sound = |v: f64| v.abs() < LARGEST;
    let points = series.points.iter().copied();
    points.filter(|(x, y)| sound(*x) && sound(*y)).collect()
}

/// The least and the most; 0 to 1 of nothing.
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
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

/// Multiples are not exact, and 0.3 is to count as three times 0.1.
const SLACK: f64 = 1e-9;

impl Scale {
    /// About five steps of 1, 2 or 5 times a power of ten.
    fn over([low, high]: [f64; 2]) -> Self {
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
    fn rounded(self) -> Self {
        let Self { low, high, step } = self;
        Self {
            low: (low / step + SLACK).floor() * step,
            high: (high / step - SLACK).ceil() * step,
            step,
        }
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.step - SLACK).ceil();
        let last = (self.high / self.step + SLACK).floor();
        (0..=(last - first) as usize).map(move |tick| (first + tick as f64) * self.step)
    }

    /// 0 at the low end, 1 at the high one.
    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick with as many decimals as its neighbours need.
    fn label(self, tick: f64) -> String {
        let size = self.low.abs().max(self.high.abs());
        let decimals = (-(self.step.log10() + SLACK).floor()).max(0.0) as usize;
        match (1e-3..1e7).contains(&size) {
            true => number(tick, decimals),
            false => format!("{tick:.1e}").replace('-', "−"),
        }
    }
}

/// A number as it is printed: no negative zero, a real minus, thin spaces from ten thousand on.
fn number(value: f64, decimals: usize) -> String {
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

/// What stands in the middle of an empty chart.
fn nothing(x: f64, words: &str) -> Text {
    text(x, (TOP + BOTTOM) / 2.0, "middle", words).set("class", "soft")
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

    fn draw(&self, mut drawing: Document, y_label: &str) -> Document {
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
            .add(text(middle, BOTTOM + 38.0, "middle", "optimiser step"))
            .add(upright(14.0, (TOP + BOTTOM) / 2.0, y_label))
    }

    fn curve(&self, series: usize, name: &str, points: &[(f64, f64)]) -> Node {
        let places: Vec<[f64; 2]> = points.iter().map(|point| self.place(*point)).collect();
        let mut node = Node::new().add(Title::new(name));
        if places.len() > 1 {
            node = node.add(way(series, &thinned(&places)));
        }
        if places.len() > MARKED {
            return node;
        }
        let hint = |(x, y): &(f64, f64)| Title::new(format!("{name}, step {x}: {y:.4}"));
        let marks = places.iter().zip(points);
        marks.fold(node, |node, ([x, y], point)| {
            node.add(mark(series, *x, *y).add(hint(point)))
        })
    }
}

fn way(series: usize, places: &[[f64; 2]]) -> Polyline {
    let point = |[x, y]: &[f64; 2]| format!("{x:.1},{y:.1}");
    let points: Vec<String> = places.iter().map(point).collect();
    Polyline::new()
        .set("class", "line")
        .set("stroke", colour(series))
        .set("stroke-dasharray", DASHES[series % DASHES.len()])
        .set("points", points.join(" "))
}

/// No more than the ends of what falls on a column of pixels, which is all that can be seen there.
fn thinned(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let columns = places.chunk_by(|a, b| a[0].floor() == b[0].floor());
    columns.flat_map(ends).collect()
}

/// The highest and the lowest, in the order in which they come.
fn ends(column: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if column.len() < 3 {
        return column.to_vec();
    }
    let by_height = |a: &usize, b: &usize| column[*a][1].total_cmp(&column[*b][1]);
    let low = (0..column.len()).min_by(by_height).unwrap_or_default();
    let high = (0..column.len()).max_by(by_height).unwrap_or_default();
    vec![column[low.min(high)], column[low.max(high)]]
}

/// The legend of curves: how many names stand side by side, how many rows they take.
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

    /// A piece of the line as it is drawn, and its name.
    fn entry(&self, series: usize, name: &str, points: usize) -> Node {
        let column = (series % self.columns) as f64;
        let x = LEFT + column * (WIDTH - LEFT - RIGHT) / self.columns as f64;
        let y = 306.0 + 18.0 * (series / self.columns) as f64;
        let mut node = Node::new();
        if points != 1 {
            node = node.add(way(series, &[[x, y - 4.0], [x + 30.0, y - 4.0]]));
        }
        if (1..=MARKED).contains(&points) {
            node = node.add(mark(series, x + 15.0, y - 4.0));
        }
        node.add(text(x + 38.0, y, "start", cut(name, 68)))
    }
}

/// CKA of each of `rows` with each of `columns` as coloured fields, the number in each with two
/// decimals. `values` are rows × columns, row-major, 0 to 1; a dash stands where one is missing or
/// not finite.
pub fn similarities(title: &str, rows: &[String], columns: &[String], values: &[f64]) -> Chart {
    let width = field_width(columns.len());
    let field = |row: usize, column: usize| {
        let value = *values.get(row * columns.len() + column)?;
        let words = number(value, 2);
        // A leading zero is what narrow fields can do without.
        let words = match width < 30.0 {
            true => words.replacen("0.", ".", 1),
            false => words,
        };
        value.is_finite().then_some((value, words))
    };
    let fields = Fields {
        title: title.to_owned(),
        across: "CKA: 1 for the same geometry, 0 for nothing in common",
        rows: rows.to_vec(),
        columns: columns.to_vec(),
        labels: Labels::fitting(columns, width),
        field: &field,
    };
    Chart {
        name: format!("similarities-{}", slug(title)),
        svg: fields.draw(),
        title: fields.title,
    }
}

/// So many stimuli are drawn: more fields would be too small to see and too many to send.
const SHOWN: usize = 60;
/// Shades of a field.
const SHADES: usize = 16;
/// Left edge of a matrix and the most of its side, in pixels.
const MATRIX: f64 = 130.0;
const SIDE: f64 = 360.0;
/// Height of a shade in the scale beside it.
const STEP: f64 = 8.0;

/// How far apart all pairs of stimuli are, from light to dark between the 2nd and the 98th
/// percentile of different stimuli. `rdm` is stimuli × stimuli; `classes` has the class of each, so
/// sorted that a class stands together; `names` are the classes', their numbers where there are
/// none. Beyond 60 stimuli some are left out, more of the classes that have more.
pub fn dissimilarities(title: &str, rdm: &Gram, classes: &[u16], names: &[String]) -> Chart {
    let all: Vec<usize> = (0..rdm.n).collect();
    let class = |stimulus: usize| classes.get(stimulus).copied();
    let groups: Vec<&[usize]> = all.chunk_by(|a, b| class(*a) == class(*b)).collect();
    let groups = shown(&groups);
    let order = groups.concat();
    let matrix = rdm.permuted(&order);
    let mut sizes = Vec::with_capacity(groups.len());
    for group in &groups {
        let number = group.first().and_then(|stimulus| class(*stimulus));
        sizes.push((number.map(|number| called(number, names)), group.len()));
    }
    let cell = (SIDE / order.len().max(1) as f64).floor();
    let side = cell * order.len() as f64;
    let drawing = document(title, TOP + side.max(STEP * SHADES as f64) + 40.0);
    let drawing = match percentiles(&matrix) {
        Some(range) => {
            let drawing = drawing.add(shades(&matrix, range, cell));
            scale(borders(drawing, &sizes, cell), range)
        }
        None => drawing.add(nothing(MATRIX + SIDE / 2.0, "no pairs of stimuli")),
    };
    let by = if sizes.len() > 1 { ", by class" } else { "" };
    let of = match order.len() < rdm.n {
        true => format!("{} of {} stimuli{by}", order.len(), rdm.n),
        false => format!("{} stimuli{by}", rdm.n),
    };
    let middle = MATRIX + side / 2.0;
    Chart {
        name: format!("dissimilarities-{}", slug(title)),
        title: title.to_owned(),
        svg: drawing
            .add(text(middle, TOP + side + 26.0, "middle", of))
            .to_string(),
    }
}

fn called(class: u16, names: &[String]) -> String {
    let name = names.get(usize::from(class)).cloned();
    name.unwrap_or_else(|| class.to_string())
}

/// So many of 0 to `of`, evenly spaced.
fn spread(count: usize, of: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (2 * i + 1) * of / (2 * count))
}

/// No more than [`SHOWN`] stimuli of these groups: as many of each as there is room for, so that
/// equal groups stay equal and none that fits is lost.
fn shown(groups: &[&[usize]]) -> Vec<Vec<usize>> {
    let kept: Vec<&[usize]> = spread(groups.len().min(SHOWN), groups.len())
        .map(|group| groups[group])
        .collect();
    let fits = |most: &usize| kept.iter().map(|g| g.len().min(*most)).sum::<usize>() <= SHOWN;
    let most = (1..=SHOWN).rev().find(fits).unwrap_or(1);
    let thin = |group: &&[usize]| {
        let picked = spread(group.len().min(most), group.len());
        picked.map(|i| group[i]).collect()
    };
    kept.iter().map(thin).collect()
}

/// The 2nd and the 98th of different stimuli, which a few outliers do not move.
fn percentiles(matrix: &Gram) -> Option<[f64; 2]> {
    let different = |i: usize| {
        let row = matrix.row(i).iter().enumerate();
        row.filter(move |(j, _)| *j != i).map(|(_, v)| *v)
    };
    let mut values: Vec<f64> = (0..matrix.n).flat_map(different).collect();
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some([0.02, 0.98].map(|share| values[(share * last as f64).round() as usize]))
}

/// `None` for what is not a number, which stays empty.
fn level(value: f64, [low, high]: [f64; 2]) -> Option<usize> {
    let share = ratio(value - low, high - low).clamp(0.0, 1.0);
    value
        .is_finite()
        .then_some((share * (SHADES - 1) as f64).round() as usize)
}

fn fill(level: usize) -> String {
    shade(level as f64 / (SHADES - 1) as f64).0
}

/// A path for each shade, with a stroke as wide as a row for each run of equal fields: a rectangle
/// for each field would take ten times the room.
fn shades(matrix: &Gram, range: [f64; 2], cell: f64) -> Node {
    let mut paths = vec![String::new(); SHADES];
    for row in 0..matrix.n {
        let levels: Vec<_> = matrix.row(row).iter().map(|v| level(*v, range)).collect();
        let mut column = 0;
        for run in levels.chunk_by(|a, b| a == b) {
            if let Some(level) = run[0] {
                // Writing to a string does not fail.
                let _ = write!(paths[level], "M{column} {row}h{}", run.len());
            }
            column += run.len();
        }
    }
    let top = TOP + cell / 2.0;
    let node = Node::new()
        .set(
            "transform",
            format!("translate({MATRIX} {top}) scale({cell})"),
        )
        .set("fill", "none")
        .set("shape-rendering", "crispEdges");
    let drawn = paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.is_empty());
    drawn.fold(node, |node, (level, path)| {
        node.add(
            Path::new()
                .set("stroke", fill(level))
                .set("d", path.as_str()),
        )
    })
}

/// Frame, lines between groups with ticks outside, and the groups' names where they are high
/// enough for one.
fn borders(mut drawing: Document, groups: &[(Option<String>, usize)], cell: f64) -> Document {
    let count: usize = groups.iter().map(|(_, size)| size).sum();
    let side = cell * count as f64;
    // Lines around every other field would hide the fields.
    let parted = 2 * groups.len() <= count;
    let mut at = 0.0;
    for (name, size) in groups {
        let high = cell * *size as f64;
        let middle = TOP + at + high / 2.0;
        if let Some(name) = name.as_ref().filter(|_| high >= 12.0) {
            drawing = drawing.add(text(MATRIX - 9.0, middle + 4.0, "end", cut(name, 18)));
        }
        if parted && at > 0.0 {
            let across = [MATRIX, TOP + at, MATRIX + side, TOP + at];
            let down = [MATRIX + at, TOP, MATRIX + at, TOP + side];
            let white = |ends| line("", ends).set("stroke", "#fff");
            drawing = drawing.add(white(across)).add(white(down));
        }
        at += high;
        drawing = match groups.len() {
            1 => drawing,
            _ => ticks(drawing, at - high, side),
        };
    }
    let frame = Rectangle::new()
        .set("class", "axis")
        .set("x", MATRIX - 0.5)
        .set("y", TOP - 0.5)
        .set("width", side + 1.0)
        .set("height", side + 1.0)
        .set("fill", "none");
    ticks(drawing, side, side).add(frame)
}

/// Where a group starts or the last one ends, left of the matrix and below it.
fn ticks(drawing: Document, at: f64, side: f64) -> Document {
    let (y, x, bottom) = (TOP + at, MATRIX + at, TOP + side);
    drawing
        .add(line("axis", [MATRIX - 6.0, y, MATRIX - 1.0, y]))
        .add(line("axis", [x, bottom + 1.0, x, bottom + 6.0]))
}

/// What the shades stand for, right of the matrix.
fn scale(drawing: Document, [low, high]: [f64; 2]) -> Document {
    let (x, top) = (MATRIX + SIDE + 18.0, TOP + 18.0);
    let bottom = top + STEP * SHADES as f64;
    let end = |words: String, y| text(x + 7.0, y, "middle", words);
    let bar = |drawing: Document, level: usize| {
        let field = Rectangle::new()
            .set("x", x)
            .set("y", bottom - STEP * (level + 1) as f64)
            .set("width", 14)
            .set("height", STEP)
            .set("fill", fill(level));
        drawing.add(field.set("shape-rendering", "crispEdges"))
    };
    (0..SHADES)
        .fold(drawing, bar)
        .add(end(format!("≥ {}", brief(high)), TOP + 10.0))
        .add(end(format!("≤ {}", brief(low)), bottom + 16.0))
        .add(upright(x + 30.0, (top + bottom) / 2.0, "dissimilarity"))
}

/// Three digits or so.
fn brief(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if !(1e-2..1e4).contains(&size) => format!("{value:.0e}").replace('-', "−"),
        _ if size < 10.0 => number(value, 2),
        _ => number(value, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series {
            name: name.to_owned(),
            points: points.to_vec(),
        }
    }

    fn words(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// As many elements end as begin, and nothing that would not be read.
    fn sound(chart: &Chart) {
        let svg = &chart.svg;
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
        let ends = svg.matches("</").count() + svg.matches("/>").count();
        assert_eq!(
            2 * ends,
            svg.matches('<').count() + svg.matches("/>").count()
        );
        assert!(svg.contains("<title>") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    /// What stands in the texts, in order.
    fn texts(chart: &Chart) -> Vec<String> {
        let pieces = chart.svg.split("<text").skip(1);
        let inside = pieces.filter_map(|piece| piece.split_once('>')?.1.split_once("</text"));
        inside.map(|(text, _)| text.trim().to_owned()).collect()
    }

    /// Classes of `of` stimuli each, 0.2 apart within and 0.9 between.
    fn blocks(classes: u16, of: usize) -> (Gram, Vec<u16>) {
        let labels: Vec<u16> = (0..classes).flat_map(|c| vec![c; of]).collect();
        let apart = |i: usize, j: usize| match (i == j, labels[i] == labels[j]) {
            (true, _) => 0.0,
            (_, true) => 0.2,
            (_, false) => 0.9,
        };
        let n = labels.len();
        let values = (0..n * n).map(|at| apart(at / n, at % n)).collect();
        (Gram { n, values }, labels)
    }

    #[test]
    fn curves_skip_what_is_no_number() {
        let all = [
            series("a <b>", &[(0.0, 0.25), (50.0, f64::NAN), (100.0, 0.75)]),
            series("alone", &[(100.0, 0.5)]),
            series("none", &[(0.0, f64::INFINITY)]),
        ];
        let chart = curves("CKA <with> IT", "CKA", &all, Some([0.0, 1.0]), 100);
        sound(&chart);
        assert_eq!(chart.name, "curves-cka-with-it");
        assert!(chart.svg.contains("a &lt;b&gt;") && !chart.svg.contains("<b>"));
        // From a quarter to three quarters of the height, straight over the gap.
        assert!(chart.svg.contains("\"62.0,193.5 544.0,88.5\""));
        // Alone: a mark, and one in the legend.
        assert_eq!(chart.svg.matches("stroke=\"#d55e00\"").count(), 2);
        let texts = texts(&chart);
        for label in ["0.0", "0.2", "1.0", "20", "100", "optimiser step", "CKA"] {
            assert!(texts.iter().any(|t| t == label), "{label} in {texts:?}");
        }
    }

    #[test]
    fn lines_differ_in_more_than_colour() {
        let all: Vec<Series> = (0..8)
            .map(|i| series(&format!("s{i}"), &[(0.0, 0.0), (9.0, f64::from(i))]))
            .collect();
        let chart = curves("t", "loss", &all, None, 9);
        sound(&chart);
        let kind = |piece: &str| {
            let dash = piece.split("stroke-dasharray=\"").nth(1)?;
            let colour = piece.split("stroke=\"").nth(1)?;
            Some((dash.split('"').next()?.to_owned(), colour[..7].to_owned()))
        };
        let mut kinds: Vec<_> = chart.svg.split("<polyline").filter_map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 8);
    }

    #[test]
    fn long_runs_stay_small_and_keep_their_spikes() {
        let noise = |i: u32| (f64::from(i), f64::from(i * 7919 % 1000) / 1000.0);
        let mut points: Vec<(f64, f64)> = (0..50_000).map(noise).collect();
        points[25_000].1 = 5.0;
        let chart = curves("loss", "loss", &[series("a", &points)], None, 50_000);
        sound(&chart);
        assert!(chart.svg.len() < 20_000, "{}", chart.svg.len());
        assert!(chart.svg.contains(",36.0 "), "the spike is at the top");
        assert!(texts(&chart).contains(&"50\u{202f}000".to_owned()));
    }

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |low, high| -> Vec<String> {
            let scale = Scale::over([low, high]).rounded();
            scale.ticks().map(|tick| scale.label(tick)).collect()
        };
        assert_eq!(labels(0.0, 0.3), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(0.0, 100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(
            labels(-0.03, 0.02),
            ["−0.03", "−0.02", "−0.01", "0.00", "0.01", "0.02"]
        );
        assert_eq!(labels(2.0, 2.0).first(), Some(&"1.0".to_owned()));
        assert_eq!(labels(0.0, 0.0).last(), Some(&"1.0".to_owned()));
        for ends in [
            [1e16, 1e16 + 2.0],
            [-9e299, 9e299],
            [0.0, 5e-324],
            [1e-9, 2e-9],
        ] {
            let count = labels(ends[0], ends[1]).len();
            assert!((2..12).contains(&count), "{ends:?}: {count}");
        }
    }

    #[test]
    fn fields_have_the_numbers_given() {
        let (rows, columns) = (words(&["V1", "<V4>"]), words(&["a", "b", "c"]));
        let values = [0.123, 1.0, 0.0, -0.001, f64::NAN, 0.987];
        let chart = similarities("CKA & more", &rows, &columns, &values);
        sound(&chart);
        assert!(chart.svg.contains("&lt;V4&gt;") && chart.svg.contains("CKA &amp; more"));
        let written = texts(&chart);
        let fields = [
            "V1",
            "0.12",
            "1.00",
            "0.00",
            "&lt;V4&gt;",
            "0.00",
            "–",
            "0.99",
        ];
        assert_eq!(written[1..9], fields);
        assert_eq!(written[9..12], ["a", "b", "c"]);
        let long = words(&["a layer with a long name"; 16]);
        let narrow = similarities("t", &rows, &long, &[0.5; 32]);
        sound(&narrow);
        assert!(narrow.svg.contains("rotate(-40)"));
        assert_eq!(texts(&narrow)[2], ".50");
    }

    #[test]
    fn blocks_have_shades_of_their_own() {
        let (matrix, classes) = blocks(3, 4);
        let names = words(&["cat", "<dog>"]);
        let chart = dissimilarities("RDM", &matrix, &classes, &names);
        sound(&chart);
        // Within, the first block's second row; between, from that block to the end of the row.
        let shade_of = |run: &str| {
            let path = chart.svg.split("<path").find(|path| path.contains(run));
            let path = path.unwrap_or_else(|| panic!("{run} in {}", chart.svg));
            let colour = path.split("stroke=\"").nth(1).expect("it has a stroke");
            colour.split('"').next().map(str::to_owned)
        };
        assert_eq!(
            shade_of("M0 0h4"),
            Some(fill(0)),
            "one run, diagonal and all"
        );
        assert_eq!(shade_of("M4 0h8"), Some(fill(SHADES - 1)));
        let texts = texts(&chart);
        for label in [
            "cat",
            "&lt;dog&gt;",
            "2",
            "≥ 0.90",
            "≤ 0.20",
            "12 stimuli, by class",
        ] {
            assert!(texts.iter().any(|t| t == label), "{label} in {texts:?}");
        }
    }

    #[test]
    fn a_large_matrix_is_thinned_evenly_and_stays_small() {
        let n = 240;
        // Nothing alike beside each other, which is the worst for runs.
        let value = |at: usize| ((at * 2_654_435_761) % 1009) as f64;
        let matrix = Gram {
            n,
            values: (0..n * n).map(value).collect(),
        };
        let classes: Vec<u16> = (0..240).map(|i| i / 60).collect();
        let chart = dissimilarities("RDM", &matrix, &classes, &[]);
        sound(&chart);
        assert!(chart.svg.len() < 40_000, "{}", chart.svg.len());
        assert!(texts(&chart).contains(&"60 of 240 stimuli, by class".to_owned()));
    }

    #[test]
    fn thinning_keeps_classes() {
        let all: Vec<usize> = (0..1200).collect();
        let sizes = |groups: &[&[usize]]| -> Vec<usize> {
            let shown = shown(groups);
            assert!(shown.concat().is_sorted());
            shown.iter().map(Vec::len).collect()
        };
        let equal: Vec<&[usize]> = all.chunks(120).collect();
        assert_eq!(sizes(&equal), [6; 10]);
        assert_eq!(
            sizes(&[&all[..500], &all[500..503], &all[503..]]),
            [28, 3, 28]
        );
        let single: Vec<&[usize]> = all.chunks(1).collect();
        assert_eq!(sizes(&single), [1; SHOWN]);
        assert!(sizes(&[]).is_empty());
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let gram = |n: usize, value: f64| Gram {
            n,
            values: vec![value; n * n],
        };
        let charts = [
            curves("", "", &[], None, 0),
            curves("t", "y", &[series("a", &[])], Some([f64::NAN, 1.0]), 0),
            curves("t", "y", &[series("a", &[(0.0, 3.0)])], None, 0),
            similarities("", &[], &[], &[]),
            similarities("t", &words(&["a"]), &words(&["b"]), &[]),
            dissimilarities("", &gram(0, 0.0), &[], &[]),
            dissimilarities("t", &gram(1, 0.0), &[7], &[]),
            dissimilarities("t", &gram(2, 0.0), &[], &[]),
            dissimilarities("t", &gram(3, f64::NAN), &[0, 1, 2], &[]),
            // Fewer values and classes than stimuli.
            dissimilarities(
                "t",
                &Gram {
                    n: 3,
                    values: vec![0.5; 4],
                },
                &[0],
                &[],
            ),
        ];
        charts.iter().for_each(sound);
        assert!(charts[0].svg.contains("no values"));
        assert!(charts[5].svg.contains("no pairs of stimuli"));
    }
}
