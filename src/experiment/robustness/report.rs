//! From rows to tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Row;
use super::plan::{Condition, Plan, PlanError, Treatment};
use super::summary::{Cell, Comparison, Group, ModelReport};
use crate::experiment::table::{Style, Table, csv_field};
use crate::measure::interval::{mcnemar, wilson};
use crate::model::catalog::Measured;
use crate::perturb::attack::Norm;
use crate::perturb::corruption::Corruption;

/// Everything a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub plan: Plan,
    pub models: Vec<ModelReport>,
    pub comparisons: Vec<Comparison>,
    /// Rows there are, and rows there will be when all images of the plan are done.
    pub rows: usize,
    pub expected: usize,
}

/// The rows of one model in one condition, by seed and image.
type Column<'r> = BTreeMap<(u64, u32), &'r Row>;

/// The rows of a run, each once, where they belong.
struct Rows<'r> {
    /// By model and condition.
    columns: BTreeMap<&'r str, BTreeMap<&'r str, Column<'r>>>,
}

impl<'r> Rows<'r> {
    fn of(rows: &'r [Row]) -> Self {
        let mut columns: BTreeMap<_, BTreeMap<_, Column>> = BTreeMap::new();
        for row in rows {
            columns
                .entry(row.model.as_str())
                .or_default()
                .entry(row.condition.as_str())
                .or_default()
                .insert((row.seed, row.image), row);
        }
        Self { columns }
    }

    fn column(&self, model: &str, condition: &str) -> Option<&Column<'r>> {
        self.columns.get(model)?.get(condition)
    }

    fn len(&self) -> usize {
        let columns = self.columns.values().flat_map(BTreeMap::values);
        columns.map(BTreeMap::len).sum()
    }
}

impl Report {
    /// The tables of what has been run so far. Rows that come twice count once. `images` is how
    /// many images the set has.
    ///
    /// # Errors
    /// A [`PlanError`], where the plan itself makes no sense.
    pub fn new(plan: &Plan, rows: &[Row], images: usize) -> Result<Self, PlanError> {
        let conditions = plan.conditions()?;
        let table = Rows::of(rows);
        let mut models: Vec<ModelReport> = plan
            .models
            .iter()
            .map(|name| model_report(name, &conditions, &table))
            .collect();
        let reference = plan.reference.as_ref().or(plan.models.first());
        let at = reference.and_then(|r| plan.models.iter().position(|m| m == r));
        let errors = at.map(|at| corruption_errors(&models[at]));
        // Of a model alone it says nothing.
        if let Some(errors) = errors.filter(|_| models.len() > 1) {
            for model in &mut models {
                model.mce = relative_error(&corruption_errors(model), &errors);
            }
        }
        let comparisons = match reference {
            Some(reference) => comparisons(plan, reference, &conditions, &table),
            None => Vec::new(),
        };
        let each = plan.images.min(images) * plan.seeds.len();
        Ok(Self {
            plan: plan.clone(),
            models,
            comparisons,
            rows: table.len(),
            expected: each * conditions.len() * plan.models.len(),
        })
    }
}

fn model_report(name: &str, conditions: &[Condition], rows: &Rows) -> ModelReport {
    let cells = conditions
        .iter()
        .filter_map(|condition| cell(name, condition, rows))
        .collect();
    let of = |wanted: &dyn Fn(Group) -> bool| {
        let counted: Vec<_> = conditions
            .iter()
            .filter(|c| c.in_mean() && wanted(c.group()))
            .map(|c| rows.column(name, &c.name()))
            .collect();
        mean(&counted)
    };
    let clean = of(&|group| group == Group::Clean);
    let white_box = of(&|group| group == Group::WhiteBox);
    let corruption = of(&|group| matches!(group, Group::Corruption(_)));
    let both = |a: Option<f64>, b: Option<f64>| Some((a? + b?) / 2.0);
    let value = |share: Option<Measured>| share.map(|s| s.value);
    let perturbation = both(value(white_box), value(corruption));
    ModelReport {
        name: name.to_owned(),
        cells,
        clean,
        white_box,
        corruption,
        perturbation,
        overall: both(perturbation, value(clean)),
        mce: None,
    }
}

fn cell(model: &str, condition: &Condition, rows: &Rows) -> Option<Cell> {
    let name = condition.name();
    let column = rows.column(model, &name)?;
    let images = column.len();
    let sum: f64 = column.values().map(|row| f64::from(row.right)).sum();
    let value = sum / images as f64;
    let (low, high) = wilson(value, images);
    Some(Cell {
        group: condition.group(),
        in_mean: condition.in_mean(),
        accuracy: Measured {
            value,
            low,
            high,
            images,
        },
        median_size: match condition.treatment {
            Treatment::Attack { norm, .. } => median_size(
                column,
                rows.column(model, "clean"),
                norm.unwrap_or(Norm::L2),
            ),
            _ => None,
        },
        areas: areas(column),
        condition: name,
    })
}

/// The mean of how far each area moved, over the rows that say it.
fn areas(column: &Column) -> Vec<(String, f64)> {
    let rows: Vec<&Row> = column
        .values()
        .copied()
        .filter(|row| !row.areas.is_empty())
        .collect();
    let named = rows.first().map_or(&[][..], |row| &row.areas);
    let mean = |(place, (area, _)): (usize, &(String, f32))| {
        let moved = rows.iter().filter_map(|row| row.areas.get(place));
        let sum: f64 = moved.map(|(_, moved)| f64::from(*moved)).sum();
        (area.clone(), sum / rows.len() as f64)
    };
    named.iter().enumerate().map(mean).collect()
}

/// Half of the images that were right when clean fall to a perturbation of at most this size.
fn median_size(column: &Column, clean: Option<&Column>, norm: Norm) -> Option<f64> {
    let was_right = |key: &(u64, u32)| clean?.get(key).map(|row| row.right >= 0.5);
    let mut sizes: Vec<f64> = column
        .iter()
        .filter(|(key, _)| was_right(key).unwrap_or(true))
        .map(|(_, row)| match row.right < 0.5 {
            true => f64::from(match norm {
                Norm::Linf => row.linf,
                Norm::L2 => row.l2,
                Norm::L1 => row.l1,
            }),
            false => f64::INFINITY,
        })
        .collect();
    sizes.sort_by(f64::total_cmp);
    let middle = sizes.len().checked_sub(1)? / 2;
    Some(sizes[middle]).filter(|size| size.is_finite())
}

/// The mean over conditions, each with the same weight, with an interval from how images differ:
/// an image's own mean over the conditions is one observation. Only images that all conditions
/// have count; `None` where a condition has none at all.
fn mean(columns: &[Option<&Column>]) -> Option<Measured> {
    let columns: Vec<&Column> = columns.iter().copied().collect::<Option<_>>()?;
    let first = columns.first()?;
    let means: Vec<f64> = first
        .keys()
        .filter_map(|key| {
            let rows: Option<Vec<_>> = columns.iter().map(|c| c.get(key)).collect();
            let sum: f64 = rows?.iter().map(|row| f64::from(row.right)).sum();
            Some(sum / columns.len() as f64)
        })
        .collect();
    if means.is_empty() {
        return None;
    }
    let n = means.len() as f64;
    let value = means.iter().sum::<f64>() / n;
    if columns.len() == 1 {
        let (low, high) = wilson(value, means.len());
        return Some(Measured {
            value,
            low,
            high,
            images: means.len(),
        });
    }
    let spread: f64 = means.iter().map(|m| (m - value).powi(2)).sum();
    let half = 1.96 * (spread / (n - 1.0).max(1.0) / n).sqrt();
    Some(Measured {
        value,
        low: (value - half).max(0.0),
        high: (value + half).min(1.0),
        images: means.len(),
    })
}

/// The error of each benchmark corruption, summed over severities.
fn corruption_errors(model: &ModelReport) -> BTreeMap<&'static str, (usize, f64)> {
    let mut errors = BTreeMap::new();
    for corruption in Corruption::BENCHMARK {
        let name = corruption.name();
        let own = |cell: &&Cell| {
            cell.condition
                .rsplit_once(' ')
                .is_some_and(|(c, _)| c == name)
        };
        for cell in model.cells.iter().filter(own) {
            let (count, sum): &mut (usize, f64) = errors.entry(name).or_default();
            *count += 1;
            *sum += 1.0 - cell.accuracy.value;
        }
    }
    errors
}

fn relative_error(
    errors: &BTreeMap<&'static str, (usize, f64)>,
    reference: &BTreeMap<&'static str, (usize, f64)>,
) -> Option<f64> {
    let ratios: Option<Vec<f64>> = reference
        .iter()
        .map(|(name, (count, sum))| {
            let (own_count, own) = errors.get(name)?;
            (own_count == count && *sum > 0.0).then(|| own / sum)
        })
        .collect();
    let ratios = ratios?;
    match ratios.len() {
        0 => None,
        n => Some(ratios.iter().sum::<f64>() / n as f64),
    }
}

fn comparisons(
    plan: &Plan,
    reference: &str,
    conditions: &[Condition],
    rows: &Rows,
) -> Vec<Comparison> {
    let others = plan.models.iter().filter(|m| *m != reference);
    let seed = plan.seeds.first().copied().unwrap_or(0);
    let mut all = Vec::new();
    for model in others {
        for condition in conditions {
            let name = condition.name();
            let columns = rows.column(model, &name).zip(rows.column(reference, &name));
            let Some((ours, theirs)) = columns else {
                continue;
            };
            let (mut only_model, mut only_reference) = (0, 0);
            for (key, row) in ours.iter().filter(|((s, _), _)| *s == seed) {
                let Some(other) = theirs.get(key) else {
                    continue;
                };
                match (row.right >= 0.5, other.right >= 0.5) {
                    (true, false) => only_model += 1,
                    (false, true) => only_reference += 1,
                    _ => {}
                }
            }
            all.push(Comparison {
                condition: name,
                model: model.clone(),
                reference: reference.to_owned(),
                only_model,
                only_reference,
                p: mcnemar(only_model, only_reference),
            });
        }
    }
    all
}

/// A model's entry in a column of the summary.
type Entry = fn(&ModelReport) -> Option<String>;

impl Report {
    /// A line a model: overall, perturbation, white box, corruption, clean, in per cent, as the
    /// table of the VOneNet paper has them, and mCE where there is one.
    pub fn summary(&self) -> Table {
        let columns: [(&str, Entry); 6] = [
            ("overall", |m| m.overall.map(percent)),
            ("perturbation", |m| m.perturbation.map(percent)),
            ("white box", |m| m.white_box.map(|s| s.to_string())),
            ("corruption", |m| m.corruption.map(|s| s.to_string())),
            ("clean", |m| m.clean.map(|s| s.to_string())),
            ("mCE", |m| m.mce.map(percent)),
        ];
        let kept: Vec<_> = columns
            .into_iter()
            .filter(|(_, of)| self.models.iter().any(|m| of(m).is_some()))
            .collect();
        let mut head = vec!["model".to_owned()];
        head.extend(kept.iter().map(|(title, _)| (*title).to_owned()));
        let line = |model: &ModelReport| {
            let mut line = vec![model.name.clone()];
            line.extend(kept.iter().map(|(_, of)| of(model).unwrap_or_default()));
            line
        };
        Table {
            head,
            rows: self.models.iter().map(line).collect(),
        }
    }

    /// A line a condition, a column a model.
    pub fn details(&self) -> Table {
        let mut head = vec!["condition".to_owned()];
        head.extend(self.models.iter().map(|m| m.name.clone()));
        let mut seen = BTreeSet::new();
        let names = self.models.iter().flat_map(|m| &m.cells);
        let names: Vec<&str> = names
            .map(|cell| cell.condition.as_str())
            .filter(|name| seen.insert(*name))
            .collect();
        let line = |name: &str| {
            let mut line = vec![name.to_owned()];
            line.extend(self.models.iter().map(|model| {
                let found = model.cells.iter().find(|cell| cell.condition == name);
                found.map_or(String::new(), Cell::text)
            }));
            line
        };
        Table {
            head,
            rows: names.into_iter().map(line).collect(),
        }
    }
}

impl Report {
    /// All tables as one document. `remark` says what they are of: images, program, weights.
    pub fn markdown(&self, remark: &str) -> String {
        let plan = &self.plan;
        let comparisons = match self.comparisons.is_empty() {
            true => String::new(),
            false => format!(
                "\n## On the same images\n\nMcNemar's exact test, of the first seed: images that \
                 only the one model gets right, and only the other.\n\n{}",
                self.compared().write(Style::Markdown)
            ),
        };
        format!(
            "# {}\n\nAccuracy in per cent with 95 % intervals. Seeds {:?}; stochastic models: {} \
             passes judge an image (n), {} samples a gradient (k). {remark}\n\n{}\n\
             ## Every condition\n\n{}{comparisons}",
            plan.name,
            plan.seeds,
            plan.passes,
            plan.eot,
            self.summary().write(Style::Markdown),
            self.details().write(Style::Markdown),
        )
    }

    /// How far each area moved, a line for each condition, model and area.
    pub fn moved(&self) -> Table {
        let mut rows = Vec::new();
        for model in &self.models {
            for cell in &model.cells {
                rows.extend(cell.areas.iter().map(|(area, moved)| {
                    vec![
                        cell.condition.clone(),
                        model.name.clone(),
                        area.clone(),
                        format!("{moved:.4}"),
                    ]
                }));
            }
        }
        let head = ["condition", "model", "area", "relative change"];
        Table {
            head: head.map(str::to_owned).into(),
            rows,
        }
    }

    /// The tables that are saved as files of their own, by name.
    pub fn tables(&self) -> [(&'static str, Table); 3] {
        [
            ("summary", self.summary()),
            ("details", self.details()),
            ("areas", self.moved()),
        ]
    }

    /// A line for each condition and pair of models.
    pub(super) fn compared(&self) -> Table {
        let head = ["condition", "model", "only it", "reference", "only it", "p"];
        let line = |c: &Comparison| {
            vec![
                c.condition.clone(),
                c.model.clone(),
                c.only_model.to_string(),
                c.reference.clone(),
                c.only_reference.to_string(),
                format!("{:.2e}", c.p),
            ]
        };
        Table {
            head: head.map(str::to_owned).into(),
            rows: self.comparisons.iter().map(line).collect(),
        }
    }
}

/// Every row, as CSV.
pub fn rows_csv(rows: &[Row]) -> String {
    let mut text =
        "model,seed,condition,image,label,prediction,right,passes,l1,l2,linf,areas\n".to_owned();
    for r in rows {
        let model = csv_field(&r.model);
        text += &format!(
            "{model},{},{},{},{},{},{},{},{},{},{},{}\n",
            r.seed,
            r.condition,
            r.image,
            r.label,
            r.prediction,
            r.right,
            r.passes,
            r.l1,
            r.l2,
            r.linf,
            moved(&r.areas)
        );
    }
    text
}

/// `V1=0.25;V2=0.5`.
fn moved(areas: &[(String, f32)]) -> String {
    let one = |(area, moved): &(String, f32)| format!("{area}={moved}");
    areas.iter().map(one).collect::<Vec<_>>().join(";")
}

impl Cell {
    fn text(&self) -> String {
        let size = self.median_size.filter(|_| self.group == Group::Minimal);
        match size {
            Some(size) => format!("{} at {size:.3}", self.accuracy),
            None => self.accuracy.to_string(),
        }
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({} to {})",
            percent(self.value),
            percent(self.low),
            percent(self.high)
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::super::presets;
    use super::*;

    fn row(model: &str, condition: &str, image: u32, right: f32) -> Row {
        Row {
            model: model.to_owned(),
            seed: 0,
            condition: condition.to_owned(),
            image,
            label: 1,
            prediction: u16::from(right >= 0.5),
            right,
            passes: 1,
            l1: 3.0,
            l2: 2.0,
            linf: 1.0,
            areas: Vec::new(),
        }
    }

    fn plan() -> Plan {
        let text = r#"
            version = 1
            name = "test"
            models = ["a", "b"]
            images = 4
            [[corruptions]]
            kinds = ["fog", "snow"]
            severities = [1, 2]
            [[attacks]]
            attack = "pgd"
            eps = ["1/255", 0.5]
            in-mean = 1
            [[attacks]]
            attack = "deepfool"
        "#;
        Plan::parse(text).expect("it is sound")
    }

    /// Model `a` is right on all images but the first; `b` on half of them.
    fn rows(plan: &Plan) -> Vec<Row> {
        let mut rows = Vec::new();
        for condition in plan.conditions().expect("it is sound") {
            for image in 0..4 {
                let a = f32::from(u8::from(image > 0));
                rows.push(row("a", &condition.name(), image, a));
                let b = f32::from(u8::from(image % 2 == 1));
                rows.push(row("b", &condition.name(), image, b));
            }
        }
        rows
    }

    #[test]
    fn means_are_as_the_protocol_has_them() {
        let plan = plan();
        let mut rows = rows(&plan);
        // A strong attack beyond the two weakest does not count; one that counts does.
        for row in &mut rows {
            if row.condition == "pgd linf 0.5" {
                row.right = 0.0;
            }
            if row.condition == "pgd linf 1/255" && row.model == "a" {
                row.right = 0.25;
            }
        }
        let report = Report::new(&plan, &rows, 100).expect("it is sound");
        let [a, b] = &report.models[..] else {
            panic!("two models")
        };
        assert_eq!(a.clean.map(|s| s.value), Some(0.75));
        assert_eq!(a.white_box.map(|s| s.value), Some(0.25));
        assert_eq!(a.corruption.map(|s| s.value), Some(0.75));
        assert_eq!(a.perturbation, Some(0.5));
        assert_eq!(a.overall, Some(0.625));
        // `a` is the reference; `b` errs twice as often under each corruption.
        assert_eq!((a.mce, b.mce), (Some(1.0), Some(2.0)));
        assert_eq!((report.rows, report.expected), (64, 64));
        // Rows that come twice count once.
        let twice = [rows.clone(), rows].concat();
        assert_eq!(Report::new(&plan, &twice, 100), Ok(report));
    }

    #[test]
    fn what_is_missing_leaves_no_mean() {
        let plan = plan();
        let rows: Vec<Row> = rows(&plan)
            .into_iter()
            .filter(|r| r.condition != "fog 2")
            .collect();
        let report = Report::new(&plan, &rows, 100).expect("it is sound");
        assert_eq!(report.models[0].corruption, None);
        assert_eq!(report.models[0].overall, None);
        assert!(report.models[0].white_box.is_some());
        let empty = Report::new(&plan, &[], 100).expect("it is sound");
        assert_eq!(empty.rows, 0);
        assert!(empty.summary().rows.iter().all(|row| row.len() == 1));
    }

    #[test]
    fn models_are_compared_on_the_same_images() {
        let plan = plan();
        let report = Report::new(&plan, &rows(&plan), 100).expect("it is sound");
        let clean = &report.comparisons[0];
        assert_eq!((clean.model.as_str(), clean.reference.as_str()), ("b", "a"));
        assert_eq!((clean.only_model, clean.only_reference), (0, 1));
        assert_eq!(clean.p, 1.0);
    }

    #[test]
    fn the_median_perturbation_counts_failures_as_endless() {
        let plan = plan();
        let mut rows = rows(&plan);
        for row in &mut rows {
            if row.condition == "deepfool l2" {
                row.right = 0.0;
                row.l2 = row.image as f32;
            }
        }
        let of = |rows: &[Row]| {
            let report = Report::new(&plan, rows, 100).expect("it is sound");
            let cells = &report.models[0].cells;
            cells.last().expect("DeepFool is last").median_size
        };
        // Image 0 was wrong when clean; 1, 2 and 3 fell.
        assert_eq!(of(&rows), Some(2.0));
        for row in &mut rows {
            if row.condition == "deepfool l2" && row.image > 1 {
                row.right = 1.0;
            }
        }
        assert_eq!(of(&rows), None);
    }

    #[test]
    fn tables_are_written_for_people_and_papers() {
        let plan = plan();
        let report = Report::new(&plan, &rows(&plan), 100).expect("it is sound");
        let summary = report.summary();
        let head = "| model | overall | perturbation | white box | corruption | clean | mCE |";
        assert!(summary.write(Style::Markdown).starts_with(head));
        let details = report.details().write(Style::Csv);
        assert!(
            details.starts_with("condition,a,b\nclean,75.0 (30.1 to 95.4),50.0"),
            "{details}"
        );
    }

    #[test]
    fn a_plan_is_run_coarse_first() {
        let plan = presets::find("vonenet")
            .expect("it is there")
            .plan(vec!["a".into()]);
        let conditions = plan.conditions().expect("it is sound").len();
        let units = plan.batches(conditions, 120);
        assert_eq!(units.len(), conditions * 3);
        assert!(
            units[..conditions]
                .iter()
                .all(|u| u.first == 0 && u.images == 50)
        );
        assert!(
            units[2 * conditions..]
                .iter()
                .all(|u| u.first == 100 && u.images == 20)
        );
    }
}
