//! A dissimilarity matrix of stimuli.

use std::fmt::Write;

use svg::Document;
use svg::node::element::{Group as Node, Path, Rectangle};

use super::{TOP, cut, document, empty, line, shade, text, upright};
use crate::measure::chart::{Dissimilarities, number};
use crate::measure::similarity::{Gram, ratio};

/// At most this many stimuli are drawn: more cells would be too small to see and too many to send.
pub(super) const SHOWN: usize = 60;
/// Shades of a cell.
pub(super) const SHADES: usize = 16;
/// Left edge of a matrix and the most of its side, in pixels.
const MATRIX: f64 = 130.0;
const SIDE: f64 = 360.0;
/// Height of a shade in the scale beside it.
const STEP: f64 = 8.0;

pub(super) fn draw(title: &str, plot: &Dissimilarities) -> Document {
    let Dissimilarities {
        rdm,
        classes,
        names,
    } = plot;
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
        None => drawing.add(empty(MATRIX + SIDE / 2.0, "no pairs of stimuli")),
    };
    let by = if sizes.len() > 1 { ", by class" } else { "" };
    let of = match order.len() < rdm.n {
        true => format!("{} of {} stimuli{by}", order.len(), rdm.n),
        false => format!("{} stimuli{by}", rdm.n),
    };
    let middle = MATRIX + side / 2.0;
    drawing.add(text(middle, TOP + side + 26.0, "middle", of))
}

fn called(class: u16, names: &[String]) -> String {
    let name = names.get(usize::from(class)).cloned();
    name.unwrap_or_else(|| class.to_string())
}

/// `count` of the numbers below `of`, evenly spaced.
fn spread(count: usize, of: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (2 * i + 1) * of / (2 * count))
}

/// No more than [`SHOWN`] stimuli of these groups: as many of each as there is room for, so that
/// equal groups stay equal and none that fits is lost.
pub(super) fn shown(groups: &[&[usize]]) -> Vec<Vec<usize>> {
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

/// The 2nd and the 98th percentile of different stimuli, which a few outliers do not move.
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

/// The shade of a value; `None` for NaN, whose cell stays empty.
fn level(value: f64, [low, high]: [f64; 2]) -> Option<usize> {
    let share = ratio(value - low, high - low).clamp(0.0, 1.0);
    value
        .is_finite()
        .then_some((share * (SHADES - 1) as f64).round() as usize)
}

pub(super) fn fill(level: usize) -> String {
    shade(level as f64 / (SHADES - 1) as f64).0
}

/// A path for each shade, with a stroke as wide as a row for each run of equal cells: a rectangle
/// for each cell would take ten times the room.
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
    // Lines around every other cell would hide the cells.
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

/// Ticks left of the matrix and below it.
fn ticks(drawing: Document, at: f64, side: f64) -> Document {
    let (y, x, bottom) = (TOP + at, MATRIX + at, TOP + side);
    drawing
        .add(line("axis", [MATRIX - 6.0, y, MATRIX - 1.0, y]))
        .add(line("axis", [x, bottom + 1.0, x, bottom + 6.0]))
}

/// The scale of the shades, right of the matrix.
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
