//! Accuracies of models in conditions: lines with intervals, or bars.

use svg::Document;
use svg::node::element::{Group as Node, Polyline, Rectangle, Title};

use super::{LEFT, RIGHT, TOP, WIDTH, colour, document, line, mark, round, text, upright};
use crate::measure::chart::Accuracies;
use crate::model::catalog::Measured;

/// The vertical axis: the pixel of accuracy 0.
#[derive(Clone, Copy)]
struct Axis {
    bottom: f64,
}

impl Axis {
    /// The pixel of a share from 0 to 1.
    fn y(self, share: f64) -> f64 {
        self.bottom - (self.bottom - TOP) * share
    }

    fn draw(self, document: Document) -> Document {
        let tick = |document: Document, step: u8| {
            let share = f64::from(step) / 4.0;
            let y = self.y(share);
            let percent = format!("{:.0}", 100.0 * share);
            document
                .add(line("grid", [LEFT, y, WIDTH - RIGHT, y]))
                .add(text(LEFT - 8.0, y + 4.0, "end", percent))
        };
        let label = upright(18.0, self.y(0.5), "accuracy, %");
        (0..=4).fold(document, tick).add(label)
    }

    /// An interval as a line with its ends.
    fn whisker(self, x: f64, share: &Measured, colour: &str) -> Node {
        let (low, high) = (self.y(share.low), self.y(share.high));
        let part = |ends| {
            line("", ends)
                .set("stroke", colour)
                .set("stroke-width", 1.2)
        };
        Node::new()
            .add(part([x, low, x, high]))
            .add(part([x - 3.0, low, x + 3.0, low]))
            .add(part([x - 3.0, high, x + 3.0, high]))
    }
}

/// Conditions evenly spaced in their order: published radii double or quadruple from one to the
/// next.
pub(super) fn intervals(title: &str, plot: &Accuracies<Measured>) -> Document {
    let axis = Axis {
        bottom: super::BOTTOM,
    };
    let step = (WIDTH - LEFT - RIGHT - 30.0) / plot.labels.len().saturating_sub(1).max(1) as f64;
    let x = |place: usize| LEFT + 15.0 + step * place as f64;
    let height = 300.0 + 18.0 * plot.series.len() as f64;
    let mut drawing = axis.draw(document(title, height));
    for (place, label) in plot.labels.iter().enumerate() {
        let tick = [x(place), axis.bottom, x(place), axis.bottom + 4.0];
        let label = text(x(place), axis.bottom + 18.0, "middle", label);
        drawing = drawing.add(line("axis", tick)).add(label);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    drawing = drawing.add(text(middle, axis.bottom + 38.0, "middle", &plot.x_label));
    for (i, (name, values)) in plot.series.iter().enumerate() {
        // Models beside each other, so that no interval hides another.
        let aside = 3.0 * (i as f64 - (plot.series.len() - 1) as f64 / 2.0);
        let found = values.iter().enumerate();
        let found = found.filter_map(|(at, value)| Some((x(at) + aside, value.as_ref()?)));
        let found: Vec<(f64, &Measured)> = found.collect();
        let point = |(x, m): &(f64, &Measured)| format!("{:.1},{:.1}", x, axis.y(m.value));
        let points: Vec<String> = found.iter().map(point).collect();
        let polyline = Polyline::new()
            .set("class", "line")
            .set("stroke", colour(i))
            .set("points", points.join(" "));
        drawing = drawing.add(polyline);
        for (x, m) in found {
            let hint = Title::new(format!("{name}: {m} %"));
            drawing = drawing
                .add(axis.whisker(x, m, colour(i)))
                .add(mark(i, x, axis.y(m.value)).add(hint));
        }
    }
    legend(drawing, plot, 306.0)
}

pub(super) fn bars(title: &str, plot: &Accuracies<f64>) -> Document {
    let axis = Axis { bottom: 216.0 };
    let height = 250.0 + 18.0 * plot.series.len() as f64;
    let mut drawing = axis.draw(document(title, height));
    let group = (WIDTH - LEFT - RIGHT) / plot.labels.len() as f64;
    let bar = (0.7 * group / plot.series.len().max(1) as f64).min(48.0);
    for (place, label) in plot.labels.iter().enumerate() {
        let middle = LEFT + group * (place as f64 + 0.5);
        drawing = drawing.add(text(middle, axis.bottom + 18.0, "middle", label));
        for (i, (name, values)) in plot.series.iter().enumerate() {
            let Some(share) = values.get(place).copied().flatten() else {
                continue;
            };
            let x = middle + bar * (i as f64 - plot.series.len() as f64 / 2.0);
            let hint = Title::new(format!("{name}: {:.1} %", 100.0 * share));
            let column = Rectangle::new()
                .set("class", "column")
                .set("x", round(x + 1.0))
                .set("y", round(axis.y(share)))
                .set("width", round(bar - 2.0))
                .set("height", round(axis.bottom - axis.y(share)))
                .set("fill", colour(i))
                .add(hint);
            let percent = format!("{:.0}", 100.0 * share);
            let percent = text(x + bar / 2.0, axis.y(share) - 5.0, "middle", percent);
            drawing = drawing.add(column).add(percent);
        }
    }
    legend(drawing, plot, 256.0)
}

/// A row of 18 pixels for each model below the figure, the first on the baseline `top`.
fn legend<T>(drawing: Document, plot: &Accuracies<T>, top: f64) -> Document {
    let entry = |drawing: Document, (i, (name, _)): (usize, &(String, _))| {
        let y = top + 18.0 * i as f64;
        drawing
            .add(mark(i, LEFT + 6.0, y - 4.0))
            .add(text(LEFT + 18.0, y, "start", name))
    };
    plot.series.iter().enumerate().fold(drawing, entry)
}
