//! Figures of a report.

use super::outcomes::Confusion;
use super::plan::{Condition, PlanError, Treatment};
use super::report::Report;
use super::summary::{Cell, Group, ModelReport};
use crate::measure::chart::{Accuracies, Chart, Figure, HeatMap, Plot, slug};
use crate::perturb::corruption::Category;

impl Report {
    /// Accuracy against the radius of each attack, corruptions by severity for each model and by
    /// category, and how far each area moves.
    ///
    /// # Errors
    /// As [`super::plan::Plan::conditions`].
    pub fn charts(&self) -> Result<Vec<Chart>, PlanError> {
        let conditions = self.plan.conditions()?;
        let of_models = |figure: fn(&ModelReport, &[Condition]) -> Option<Figure>| {
            self.models
                .iter()
                .filter_map(|model| figure(model, &conditions))
                .collect::<Vec<_>>()
        };
        let mut figures = curves(self, &conditions);
        figures.extend(of_models(corruptions));
        figures.extend(categories(self));
        figures.extend(of_models(sensitivity));
        Ok(figures.iter().map(Figure::draw).collect())
    }
}

/// A place of a curve.
struct Place {
    radius: f32,
    /// As it is written.
    label: String,
    condition: String,
}

fn curves(report: &Report, conditions: &[Condition]) -> Vec<Figure> {
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
    let figure = |(title, mut places): (String, Vec<Place>)| {
        places.push(Place {
            radius: 0.0,
            label: "0".to_owned(),
            condition: "clean".to_owned(),
        });
        places.sort_by(|a, b| a.radius.total_cmp(&b.radius));
        curve(report, &title, places)
    };
    series.into_iter().map(figure).collect()
}

fn curve(report: &Report, title: &str, places: Vec<Place>) -> Figure {
    let values = |model: &ModelReport| {
        let value = |place: &Place| model.accuracy(&place.condition);
        (model.name.clone(), places.iter().map(value).collect())
    };
    let plot = Accuracies {
        x_label: "radius ε, in the norm of pixels from 0 to 1 (evenly spaced)".to_owned(),
        series: report.models.iter().map(values).collect(),
        labels: places.into_iter().map(|place| place.label).collect(),
    };
    Figure::new("curve", title, Plot::Intervals(plot))
}

fn corruptions(model: &ModelReport, conditions: &[Condition]) -> Option<Figure> {
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
    let value = |row: &String, column: &String| {
        let mut own = conditions.iter().filter(|c| of(c));
        let found = own.find(|c| c.title() == *row && c.strength() == *column)?;
        let m = model.accuracy(&found.name())?;
        Some((m.value, format!("{:.0}", 100.0 * m.value)))
    };
    Some(Figure {
        name: format!("corruptions-{}", slug(&model.name)),
        title: format!("{}: accuracy under corruptions, %", model.name),
        plot: Plot::HeatMap(HeatMap {
            x_label: "severity".to_owned(),
            cells: table(&rows, &columns, value),
            rows,
            columns,
            short_names: true,
        }),
    })
}

/// Cells of a table, row-major.
fn table<R, C, T>(rows: &[R], columns: &[C], cell: impl Fn(&R, &C) -> T) -> Vec<T> {
    let row = |row| columns.iter().map(|column| cell(row, column)).collect();
    rows.iter().flat_map::<Vec<T>, _>(row).collect()
}

/// How far each area moves: a row for each corruption, the mean over its severities, and for each
/// other condition.
fn sensitivity(model: &ModelReport, conditions: &[Condition]) -> Option<Figure> {
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
    let mean = |(_, cells): &(String, Vec<&Cell>), column: &usize| {
        let moved = cells.iter().filter_map(|cell| cell.areas.get(*column));
        moved.map(|(_, moved)| moved).sum::<f64>() / cells.len() as f64
    };
    let places: Vec<usize> = (0..columns.len()).collect();
    let means = table(&rows, &places, mean);
    let most = means.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let value = |moved: &f64| Some((moved / most, format!("{:.0}", 100.0 * moved)));
    Some(Figure {
        name: format!("areas-{}", slug(&model.name)),
        title: format!("{}: how far each area moves, % of its response", model.name),
        plot: Plot::HeatMap(HeatMap {
            x_label: "area".to_owned(),
            rows: rows.into_iter().map(|(row, _)| row).collect(),
            columns,
            short_names: false,
            cells: means.iter().map(value).collect(),
        }),
    })
}

/// The mean over a category's conditions, as the summary's means are made.
fn categories(report: &Report) -> Option<Figure> {
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
    let shares = |model: &ModelReport| {
        let shares = there.iter().map(|category| mean(model, *category));
        (model.name.clone(), shares.collect())
    };
    let titles = there.iter().map(|category| category.title().to_owned());
    Some(Figure {
        name: "categories".to_owned(),
        title: "Accuracy by category of corruption".to_owned(),
        plot: Plot::Bars(Accuracies {
            x_label: String::new(),
            labels: titles.collect(),
            series: report.models.iter().map(shares).collect(),
        }),
    })
}

/// Above so many classes a matrix is not readable.
const MOST_CLASSES: usize = 20;

/// Predictions for each class, in per cent of its images; `None` with too many classes. `names` are
/// the classes' names; their numbers stand where there are none.
pub fn confusion(found: &Confusion, names: &[String]) -> Option<Chart> {
    let classes = found.classes();
    if classes > MOST_CLASSES || classes == 0 {
        return None;
    }
    let all: Vec<usize> = (0..classes).collect();
    let name = |class: &usize| names.get(*class).cloned().unwrap_or(class.to_string());
    let share = |label: &usize, prediction: &usize| {
        let of = found.of(*label);
        let count = found.count(*label, *prediction);
        let share = count as f64 / of.max(1) as f64;
        let text = match count {
            0 => String::new(),
            _ => format!("{:.0}", 100.0 * share),
        };
        (of > 0).then_some((share, text))
    };
    let names: Vec<String> = all.iter().map(name).collect();
    let figure = Figure {
        name: format!(
            "confusion-{}",
            slug(&format!("{} {}", found.model, found.condition))
        ),
        title: format!(
            "{}, {}: answers, % of a class",
            found.model, found.condition
        ),
        plot: Plot::HeatMap(HeatMap {
            x_label: "answer".to_owned(),
            rows: names.clone(),
            columns: names,
            short_names: true,
            cells: table(&all, &all, share),
        }),
    };
    Some(figure.draw())
}
