//! Charts of a report, as SVG documents.

use svg::Document;
use svg::node::element::{Group as Node, Polyline, Rectangle, Title};

use super::outcomes::Confusion;
use super::plan::{Condition, PlanError, Treatment};
use super::report::Report;
use super::summary::{Cell, Group, ModelReport};
pub use crate::measure::draw::Chart;
use crate::measure::draw::{
    Fields, LEFT, Labels, RIGHT, WIDTH, colour, document, field_width, legend, line, mark, round,
    slug, text, upright,
};
use crate::model::catalog::Measured;
use crate::perturb::corruption::Category;

impl Report {
    /// Accuracy against the radius of each attack, corruptions by severity for each model and by
    /// category, and how far each area moves.
    ///
    /// # Errors
    /// As [`super::plan::Plan::conditions`].
    pub fn charts(&self) -> Result<Vec<Chart>, PlanError> {
        let conditions = self.plan.conditions()?;
        let mut charts = curves(self, &conditions);
        charts.extend(
            self.models
                .iter()
                .filter_map(|model| heat(model, &conditions)),
        );
        charts.extend(categories(self));
        charts.extend(
            self.models
                .iter()
                .filter_map(|model| sensitivity(model, &conditions)),
        );
        Ok(charts)
    }
}

/// The vertical axis of accuracies: its ends in pixels.
#[derive(Clone, Copy)]
struct Accuracy {
    top: f64,
    bottom: f64,
}

impl Accuracy {
    /// Where a share from 0 to 1 lies.
    fn y(self, share: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * share
    }

    fn draw(self, document: Document) -> Document {
        let tick = |document: Document, step: u8| {
            let share = f64::from(step) / 4.0;
            let y = self.y(share);
            document
                .add(line("grid", [LEFT, y, WIDTH - RIGHT, y]))
                .add(text(
                    LEFT - 8.0,
                    y + 4.0,
                    "end",
                    format!("{:.0}", 100.0 * share),
                ))
        };
        let middle = self.y(0.5);
        (0..=4)
            .fold(document, tick)
            .add(upright(18.0, middle, "accuracy, %"))
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

fn names(report: &Report) -> impl Iterator<Item = &str> {
    report.models.iter().map(|model| model.name.as_str())
}

/// A place of a curve.
struct Place {
    radius: f32,
    /// As it is written.
    label: String,
    condition: String,
}

fn curves(report: &Report, conditions: &[Condition]) -> Vec<Chart> {
    let mut series: Vec<(String, Vec<Place>)> = Vec::new();
    for condition in conditions {
        let Treatment::Attack {
            radius: Some(radius),
            ..
        } = condition.treatment
        else {
            continue;
        };
        let title = condition.title();
        let place = Place {
            radius: radius.value(),
            label: radius.text().to_owned(),
            condition: condition.name(),
        };
        match series.iter_mut().find(|(known, _)| *known == title) {
            Some((_, places)) => places.push(place),
            None => series.push((title, vec![place])),
        }
    }
    let chart = |(title, mut places): (String, Vec<Place>)| {
        places.push(Place {
            radius: 0.0,
            label: "0".to_owned(),
            condition: "clean".to_owned(),
        });
        places.sort_by(|a, b| a.radius.total_cmp(&b.radius));
        curve(report, &title, &places)
    };
    series.into_iter().map(chart).collect()
}

/// The radii stand side by side, the weakest first: published ones double or quadruple from one to
/// the next.
fn curve(report: &Report, title: &str, places: &[Place]) -> Chart {
    let axis = Accuracy {
        top: 36.0,
        bottom: 246.0,
    };
    let step = (WIDTH - LEFT - RIGHT - 30.0) / (places.len() - 1).max(1) as f64;
    let x = |place: usize| LEFT + 15.0 + step * place as f64;
    let height = 300.0 + 18.0 * report.models.len() as f64;
    let mut drawing = axis.draw(document(title, height));
    for (place, Place { label, .. }) in places.iter().enumerate() {
        drawing = drawing
            .add(line(
                "axis",
                [x(place), axis.bottom, x(place), axis.bottom + 4.0],
            ))
            .add(text(x(place), axis.bottom + 18.0, "middle", label.clone()));
    }
    let named = "radius ε, in the norm of pixels from 0 to 1 (evenly spaced)";
    drawing = drawing.add(text(
        (LEFT + WIDTH - RIGHT) / 2.0,
        axis.bottom + 38.0,
        "middle",
        named,
    ));
    for (i, model) in report.models.iter().enumerate() {
        // Models beside each other, so that no interval hides another.
        let aside = 3.0 * (i as f64 - (report.models.len() - 1) as f64 / 2.0);
        let found = places.iter().enumerate();
        let found =
            found.filter_map(|(at, place)| Some((x(at) + aside, model.accuracy(&place.condition)?)));
        let found: Vec<(f64, Measured)> = found.collect();
        let point = |(x, m): &(f64, Measured)| format!("{:.1},{:.1}", x, axis.y(m.value));
        let points: Vec<String> = found.iter().map(point).collect();
        let way = Polyline::new()
            .set("class", "line")
            .set("stroke", colour(i))
            .set("points", points.join(" "));
        drawing = drawing.add(way);
        for (x, m) in found {
            let hint = Title::new(format!("{}: {m} %", model.name));
            drawing = drawing
                .add(axis.whisker(x, &m, colour(i)))
                .add(mark(i, x, axis.y(m.value)).add(hint));
        }
    }
    Chart {
        name: format!("curve-{}", slug(title)),
        title: title.to_owned(),
        svg: legend(drawing, names(report), 306.0).to_string(),
    }
}

fn heat(model: &ModelReport, conditions: &[Condition]) -> Option<Chart> {
    let of = |c: &Condition| matches!(c.treatment, Treatment::Corruption { .. });
    let mut rows: Vec<String> = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for condition in conditions.iter().filter(|c| of(c)) {
        let (row, column) = (condition.title(), condition.strength());
        if !rows.contains(&row) {
            rows.push(row);
        }
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    if rows.is_empty() {
        return None;
    }
    columns.sort_unstable();
    let field = |row: usize, column: usize| {
        let mut own = conditions.iter().filter(|c| of(c));
        let found = own.find(|c| c.title() == rows[row] && c.strength() == columns[column])?;
        let m = model.accuracy(&found.name())?;
        Some((m.value, format!("{:.0}", 100.0 * m.value)))
    };
    let fields = Fields {
        title: format!("{}: accuracy under corruptions, %", model.name),
        across: "severity",
        rows: rows.clone(),
        columns: columns.clone(),
        labels: Labels::Short,
        field: &field,
    };
    Some(Chart {
        name: format!("corruptions-{}", slug(&model.name)),
        svg: fields.draw(),
        title: fields.title,
    })
}

/// How far each area moves: a row for each corruption, the mean over its severities, and for each
/// other condition.
fn sensitivity(model: &ModelReport, conditions: &[Condition]) -> Option<Chart> {
    let mut rows: Vec<(String, Vec<&Cell>)> = Vec::new();
    for condition in conditions {
        let name = condition.name();
        let found = model.cells.iter().find(|cell| cell.condition == name);
        let Some(cell) = found.filter(|cell| !cell.areas.is_empty()) else {
            continue;
        };
        let row = match condition.treatment {
            Treatment::Corruption { .. } => condition.title(),
            _ => name,
        };
        match rows.iter_mut().find(|(known, _)| *known == row) {
            Some((_, cells)) => cells.push(cell),
            None => rows.push((row, vec![cell])),
        }
    }
    let first = rows.first()?.1.first()?;
    let columns: Vec<String> = first.areas.iter().map(|(area, _)| area.clone()).collect();
    let mean = |(_, cells): &(String, Vec<&Cell>), column: usize| {
        let moved = cells.iter().filter_map(|cell| cell.areas.get(column));
        moved.map(|(_, moved)| moved).sum::<f64>() / cells.len() as f64
    };
    let all = rows
        .iter()
        .flat_map(|row| (0..columns.len()).map(move |column| mean(row, column)));
    let most = all.fold(f64::MIN_POSITIVE, f64::max);
    let field = |row: usize, column: usize| {
        let moved = mean(&rows[row], column);
        Some((moved / most, format!("{:.0}", 100.0 * moved)))
    };
    let fields = Fields {
        title: format!("{}: how far each area moves, % of its response", model.name),
        across: "area",
        labels: Labels::fitting(&columns, field_width(columns.len())),
        rows: rows.iter().map(|(row, _)| row.clone()).collect(),
        columns: columns.clone(),
        field: &field,
    };
    Some(Chart {
        name: format!("areas-{}", slug(&model.name)),
        svg: fields.draw(),
        title: fields.title,
    })
}

/// The mean over a category's conditions, as the summary's means are made.
fn categories(report: &Report) -> Option<Chart> {
    let mean = |model: &ModelReport, category: Category| {
        let own = model
            .cells
            .iter()
            .filter(|c| c.group == Group::Corruption(category));
        let shares: Vec<f64> = own.map(|c| c.accuracy.value).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    };
    let is_there = |c: &Category| report.models.iter().any(|m| mean(m, *c).is_some());
    let there: Vec<Category> = Category::ALL.into_iter().filter(is_there).collect();
    if there.is_empty() {
        return None;
    }
    let title = "Accuracy by category of corruption";
    let axis = Accuracy {
        top: 36.0,
        bottom: 216.0,
    };
    let height = 250.0 + 18.0 * report.models.len() as f64;
    let mut drawing = axis.draw(document(title, height));
    let group = (WIDTH - LEFT - RIGHT) / there.len() as f64;
    let bar = (0.7 * group / report.models.len().max(1) as f64).min(48.0);
    for (place, category) in there.iter().enumerate() {
        let middle = LEFT + group * (place as f64 + 0.5);
        drawing = drawing.add(text(middle, axis.bottom + 18.0, "middle", category.title()));
        for (i, model) in report.models.iter().enumerate() {
            let Some(share) = mean(model, *category) else {
                continue;
            };
            let x = middle + bar * (i as f64 - report.models.len() as f64 / 2.0);
            let column = Rectangle::new()
                .set("class", "column")
                .set("x", round(x + 1.0))
                .set("y", round(axis.y(share)))
                .set("width", round(bar - 2.0))
                .set("height", round(axis.bottom - axis.y(share)))
                .set("fill", colour(i))
                .add(Title::new(format!(
                    "{}: {:.1} %",
                    model.name,
                    100.0 * share
                )));
            let words = format!("{:.0}", 100.0 * share);
            drawing =
                drawing
                    .add(column)
                    .add(text(x + bar / 2.0, axis.y(share) - 5.0, "middle", words));
        }
    }
    Some(Chart {
        name: "categories".to_owned(),
        title: title.to_owned(),
        svg: legend(drawing, names(report), 256.0).to_string(),
    })
}

/// Above so many classes a matrix is not readable.
const MOST_CLASSES: usize = 20;

/// What was predicted for each class, in per cent of its images; `None` with too many classes.
/// `names` are the classes', their numbers where there are none.
pub fn confusion(found: &Confusion, names: &[String]) -> Option<Chart> {
    let classes = found.classes();
    if classes > MOST_CLASSES || classes == 0 {
        return None;
    }
    let name = |class: usize| {
        names
            .get(class)
            .cloned()
            .unwrap_or_else(|| class.to_string())
    };
    let field = |label: usize, prediction: usize| {
        let of = found.of(label);
        let count = found.count(label, prediction);
        (of > 0).then(|| {
            let share = count as f64 / of as f64;
            (
                share,
                if count == 0 {
                    String::new()
                } else {
                    format!("{:.0}", 100.0 * share)
                },
            )
        })
    };
    let fields = Fields {
        title: format!(
            "{}, {}: answers, % of a class",
            found.model, found.condition
        ),
        across: "answer",
        rows: (0..classes).map(name).collect(),
        columns: (0..classes).map(name).collect(),
        labels: Labels::Short,
        field: &field,
    };
    Some(Chart {
        name: format!(
            "confusion-{}",
            slug(&format!("{} {}", found.model, found.condition))
        ),
        svg: fields.draw(),
        title: fields.title,
    })
}
