//! From rows to tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Row;
use super::corruption_error::Errors;
use super::plan::{Condition, Plan, PlanError, Treatment};
use super::summary::{Cell, Comparison, Group, ModelReport};
use crate::experiment::table::{Style, Table, csv_field};
use crate::measure::interval::{mcnemar, wilson};
use crate::model::catalog::Measured;
use crate::perturb::attack::Norm;
use crate::perturb::attack::autoattack::Part;

/// Everything a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub plan: Plan,
    pub models: Vec<ModelReport>,
    pub comparisons: Vec<Comparison>,
    /// The relative mCE, a model each: the mean over corruptions of what its error rises by beside
    /// what the reference's rises by. `None` where there is none.
    #[serde(default)]
    pub relative_mce: Vec<Option<f64>>,
    /// What AutoAttack's parts brought down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Brought>,
    /// Rows there are, and rows there will be when all images of the plan are done.
    pub rows: usize,
    pub expected: usize,
}

/// Images that a part of AutoAttack brought down, those that the parts before it left standing; of
/// all seeds together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    pub condition: String,
    pub model: String,
    pub part: Part,
    pub images: usize,
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
        // Of a model alone it says nothing.
        let at = at.filter(|_| models.len() > 1);
        let errors = at.map(|at| Errors::of(&models[at]));
        for model in &mut models {
            model.mce = errors
                .as_ref()
                .and_then(|errors| Errors::of(model).relative_to(errors));
        }
        let above = at.and_then(|at| Errors::above_clean(&models[at]));
        let relative = |model| Errors::above_clean(model)?.relative_to(above.as_ref()?);
        let relative_mce = models.iter().map(relative).collect();
        let comparisons = match reference {
            Some(reference) => comparisons(plan, reference, &conditions, &table),
            None => Vec::new(),
        };
        let each = plan.images.min(images) * plan.seeds.len();
        Ok(Self {
            plan: plan.clone(),
            models,
            comparisons,
            relative_mce,
            parts: parts(plan, &conditions, &table),
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
    Some(Cell {
        group: condition.group(),
        in_mean: condition.in_mean(),
        accuracy: mean(&[Some(column)])?,
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
/// an image's own mean over the conditions and the seeds is one observation, for the same image
/// with other draws says little that is new. Only what all conditions have counts; `None` where a
/// condition has none at all.
fn mean(columns: &[Option<&Column>]) -> Option<Measured> {
    let columns: Vec<&Column> = columns.iter().copied().collect::<Option<_>>()?;
    let mut seeds: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for key in columns.first()?.keys() {
        let rows: Option<Vec<_>> = columns.iter().map(|c| c.get(key)).collect();
        if let Some(rows) = rows {
            let sum: f64 = rows.iter().map(|row| f64::from(row.right)).sum();
            let of_image = seeds.entry(key.1).or_default();
            of_image.push(sum / columns.len() as f64);
        }
    }
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let means: Vec<f64> = seeds.values().map(mean).collect();
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

fn parts(plan: &Plan, conditions: &[Condition], rows: &Rows) -> Vec<Brought> {
    let mut all = Vec::new();
    for condition in conditions {
        let name = condition.name();
        for model in &plan.models {
            let column = rows.column(model, &name);
            let brought = |part: Part| Brought {
                condition: name.clone(),
                model: model.clone(),
                part,
                images: column.map_or(0, |column| {
                    let rows = column.values();
                    rows.filter(|row| row.part == Some(part)).count()
                }),
            };
            let found: Vec<Brought> = Part::ALL.map(brought).into();
            // Another attack has no parts.
            if found.iter().any(|part| part.images > 0) {
                all.extend(found);
            }
        }
    }
    all
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
type Entry = fn(&Report, &ModelReport) -> Option<String>;

impl Report {
    /// A line a model: overall, perturbation, white box, corruption, clean, in per cent, as the
    /// table of the VOneNet paper has them, and mCE and relative mCE where there are any.
    pub fn summary(&self) -> Table {
        let columns: [(&str, Entry); 7] = [
            ("overall", |_, m| m.overall.map(percent)),
            ("perturbation", |_, m| m.perturbation.map(percent)),
            ("white box", |_, m| m.white_box.map(|s| s.to_string())),
            ("corruption", |_, m| m.corruption.map(|s| s.to_string())),
            ("clean", |_, m| m.clean.map(|s| s.to_string())),
            ("mCE", |_, m| m.mce.map(percent)),
            ("relative mCE", |report, m| {
                let at = report
                    .models
                    .iter()
                    .position(|model| model.name == m.name)?;
                (*report.relative_mce.get(at)?).map(percent)
            }),
        ];
        let kept: Vec<_> = columns
            .into_iter()
            .filter(|(_, of)| self.models.iter().any(|m| of(self, m).is_some()))
            .collect();
        let mut head = vec!["model".to_owned()];
        head.extend(kept.iter().map(|(title, _)| (*title).to_owned()));
        let line = |model: &ModelReport| {
            let mut line = vec![model.name.clone()];
            line.extend(
                kept.iter()
                    .map(|(_, of)| of(self, model).unwrap_or_default()),
            );
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
        let parts = match self.parts.is_empty() {
            true => String::new(),
            false => format!(
                "\n## What brought images down\n\nAutoAttack's parts run one after the other, each \
                 on the images that those before it left standing.\n\n{}",
                self.brought().write(Style::Markdown)
            ),
        };
        format!(
            "# {}\n\nAccuracy in per cent with 95 % intervals. Seeds {:?}; stochastic models: {} \
             passes judge an image (n), {} samples a gradient (k). {remark}\n\n{}\n\
             ## Every condition\n\n{}{parts}{comparisons}",
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

    /// The tables that are saved as files of their own, by name; that of AutoAttack's parts where it
    /// ran.
    pub fn tables(&self) -> Vec<(&'static str, Table)> {
        let mut tables = vec![
            ("summary", self.summary()),
            ("details", self.details()),
            ("areas", self.moved()),
        ];
        if !self.parts.is_empty() {
            tables.push(("parts", self.brought()));
        }
        tables
    }

    /// How many images each part of AutoAttack brought down, a line a condition and model.
    pub(super) fn brought(&self) -> Table {
        let mut head = vec!["condition".to_owned(), "model".to_owned()];
        head.extend(Part::ALL.map(|part| part.title().to_owned()));
        let line = |parts: &[Brought]| {
            let mut line = vec![parts[0].condition.clone(), parts[0].model.clone()];
            line.extend(parts.iter().map(|part| part.images.to_string()));
            line
        };
        Table {
            head,
            rows: self.parts.chunks_exact(Part::ALL.len()).map(line).collect(),
        }
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
        "model,seed,condition,image,label,prediction,right,passes,l1,l2,linf,areas,part\n"
            .to_owned();
    for r in rows {
        let model = csv_field(&r.model);
        text += &format!(
            "{model},{},{},{},{},{},{},{},{},{},{},{},{}\n",
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
            moved(&r.areas),
            r.part.map_or("", Part::word)
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
            part: None,
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
        // No corruption costs the reference anything: nothing to be relative to.
        assert_eq!(report.relative_mce, [None, None]);
        assert_eq!((report.rows, report.expected), (64, 64));
        // Rows that come twice count once.
        let twice = [rows.clone(), rows].concat();
        assert_eq!(Report::new(&plan, &twice, 100), Ok(report));
    }

    /// 50 images with four seeds: 50 observations, 81 to 97, where 200 would give 87.4 to 95.0.
    #[test]
    fn an_image_is_one_observation_however_many_seeds_there_are() {
        let plan = Plan {
            seeds: vec![0, 1, 2, 3],
            images: 50,
            ..plan()
        };
        let row = |seed: u64, condition: &str, image: u32| Row {
            seed,
            ..row("a", condition, image, f32::from(u8::from(image >= 4)))
        };
        let mut rows = Vec::new();
        for condition in plan.conditions().expect("it is sound") {
            for (seed, image) in (0..4).flat_map(|seed| (0..50).map(move |image| (seed, image))) {
                rows.push(row(seed, &condition.name(), image));
            }
        }
        let report = Report::new(&plan, &rows, 50).expect("it is sound");
        let model = &report.models[0];
        let white_box = model.white_box.expect("every row is there");
        let corruption = model.corruption.expect("every row is there");
        let clean = model.clean.expect("every row is there");
        for measured in [model.cells[0].accuracy, clean, white_box] {
            assert_eq!(measured.images, 50);
            assert!((measured.value - 0.92).abs() < 1e-9);
            assert!((measured.low - 0.812).abs() < 5e-4, "{measured:?}");
            assert!((measured.high - 0.968).abs() < 5e-4, "{measured:?}");
        }
        // Of several conditions: from the spread of the images' means, 0.92 ± 1.96 · 0.27405 / √50.
        assert_eq!(corruption.images, 50);
        let half = 1.96 * (0.92_f64 * 0.08 * 50.0 / 49.0 / 50.0).sqrt();
        assert!(
            (corruption.low - (0.92 - half)).abs() < 1e-9,
            "{corruption:?}"
        );
        assert!(
            (corruption.high - (0.92 + half)).abs() < 1e-9,
            "{corruption:?}"
        );
        // Seeds that disagree are averaged first.
        for row in rows.iter_mut().filter(|row| row.image == 0 && row.seed < 2) {
            row.right = 1.0;
        }
        let report = Report::new(&plan, &rows, 50).expect("it is sound");
        let clean = report.models[0].clean.expect("every row is there");
        assert!(
            (clean.value - 0.93).abs() < 1e-9 && clean.images == 50,
            "{clean:?}"
        );
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

    /// By hand: the reference goes from 0 to 1 and 2 wrong of 4 under both corruptions, the other
    /// from 2 to 3 and 4 under fog and stays at 2 under snow. (1/4 + 2/4) / (1/4 + 2/4) and 0.
    #[test]
    fn the_relative_mce_is_of_what_the_error_rises_by() {
        let plan = plan();
        let wrong = |model: &str, condition: &str| match (model, condition.rsplit_once(' ')) {
            ("a", Some(("fog" | "snow", severity))) => severity.parse().expect("a number"),
            ("a", _) => 0,
            ("b", Some(("fog", severity))) => 2 + severity.parse::<u32>().expect("a number"),
            _ => 2,
        };
        let mut rows = rows(&plan);
        for row in &mut rows {
            let stands = row.image >= wrong(&row.model, &row.condition);
            row.right = f32::from(u8::from(stands));
        }
        let report = Report::new(&plan, &rows, 4).expect("it is sound");
        assert_eq!(report.relative_mce, [Some(1.0), Some(0.5)]);
        // The mCE itself: 7/3 under fog, 4/3 under snow.
        let mce = report.models[1].mce.expect("every row is there");
        assert!((mce - 11.0 / 6.0).abs() < 1e-12, "{mce}");
        let head = "| model | overall | perturbation | white box | corruption | clean | mCE | relative mCE |";
        assert!(report.summary().write(Style::Markdown).starts_with(head));
    }

    #[test]
    fn what_autoattacks_parts_brought_down_is_counted() {
        let plan = plan();
        let mut rows = rows(&plan);
        assert!(
            Report::new(&plan, &rows, 4)
                .expect("it is sound")
                .parts
                .is_empty()
        );
        for row in &mut rows {
            if row.condition == "pgd linf 0.5" && row.model == "b" {
                row.part = [
                    Some(Part::ApgdCe),
                    Some(Part::Square),
                    None,
                    Some(Part::ApgdCe),
                ][row.image as usize];
            }
        }
        let report = Report::new(&plan, &rows, 4).expect("it is sound");
        let table = report.brought().write(Style::Csv);
        let expected = "condition,model,APGD-CE,\"APGD-DLR, targeted\",\"FAB, targeted\",Square\n\
                        pgd linf 0.5,b,2,0,0,1\n";
        assert_eq!(table, expected);
        assert!(report.markdown("").contains("## What brought images down"));
        assert!(rows_csv(&rows).contains(",square\n"));
        assert_eq!(report.tables().len(), 4);
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
