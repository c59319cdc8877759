//! Figures of an alignment.

use super::{Alignment, Curve, Pictures, Report, Row};
use crate::align::aligner::{Evaluation, Step};
use crate::measure::chart::{Chart, Curves, Dissimilarities, Figure, Plot, Series};

impl Alignment<'_> {
    /// The curves of every run, the one under way last, and of the aligned run pictures of its
    /// areas.
    pub fn charts(&self, report: &Report, under_way: Option<&Row>) -> Vec<Chart> {
        let plan = &self.study.plan;
        let ended = report.ended.iter();
        let mut runs: Vec<(&str, &Curve)> =
            ended.map(|e| (e.outcome.control.run(), &e.curve)).collect();
        if let Some(Row::UnderWay { control, curve }) = under_way {
            runs.push((control.run(), curve));
        }
        if runs.iter().all(|(_, curve)| curve.evaluations.is_empty()) {
            return Vec::new();
        }
        let curves = |title: &str, y_label: &str, series: Vec<Series>| {
            let plot = Curves {
                x_label: "optimiser step".to_owned(),
                y_label: y_label.to_owned(),
                series,
                range: None,
                end: plan.steps as f64,
            };
            Figure::new("curves", title, Plot::Curves(plot)).draw()
        };
        let title = format!("CKA of {} with the target", plan.tap);
        let mut charts = vec![curves(&title, "unbiased linear CKA", similarity(&runs))];
        if !self.images.rest.is_empty() {
            let accuracy = |(name, curve): &(&str, &Curve)| {
                series(name, curve, |l| l.accuracy.map_or(f64::NAN, |a| 100.0 * a))
            };
            let title = "Accuracy on images that are no stimuli";
            charts.push(curves(
                title,
                "accuracy, %",
                runs.iter().map(accuracy).collect(),
            ));
        }
        // Of the run under way, and at the end of the aligned one.
        let shown = match under_way {
            Some(_) => runs.last(),
            None => runs.first(),
        };
        if let Some((name, curve)) = shown {
            let title = format!("Terms of the loss, {name}");
            charts.push(curves(&title, "loss", terms(curve)));
        }
        let pictures = report.ended.iter().find_map(|run| run.pictures.as_ref());
        charts.extend(pictures.into_iter().flat_map(|found| self.pictures(found)));
        charts
    }

    fn pictures(&self, found: &Pictures) -> Vec<Chart> {
        let columns: Vec<String> = found
            .areas
            .iter()
            .map(|area| format!("{area} before"))
            .chain(["target".to_owned()])
            .collect();
        let tables = [("before", &found.before), ("after", &found.after)];
        let maps = tables.map(|(when, values)| {
            let title = format!("CKA of areas {when} alignment, held-out stimuli");
            Figure::similarities(&title, &found.areas, &columns, values).draw()
        });
        let tap = &self.study.plan.tap;
        let titles = [
            format!("{tap} before: dissimilarity of stimuli"),
            format!("{tap} after: dissimilarity of stimuli"),
            "Target: dissimilarity of stimuli".to_owned(),
        ];
        let matrices = titles.iter().zip(&found.rdms).map(|(title, rdm)| {
            let plot = Dissimilarities {
                rdm: rdm.clone(),
                classes: found.classes.clone(),
                names: self.images.stimuli.classes.clone(),
            };
            Figure::new("dissimilarities", title, Plot::Dissimilarities(plot)).draw()
        });
        maps.into_iter().chain(matrices).collect()
    }
}

fn series(name: &str, curve: &Curve, value: impl Fn(&Evaluation) -> f64) -> Series {
    let points = curve.evaluations.iter();
    Series {
        name: name.to_owned(),
        points: points
            .map(|evaluation| (evaluation.step as f64, value(evaluation)))
            .collect(),
    }
}

fn similarity(runs: &[(&str, &Curve)]) -> Vec<Series> {
    let held_out = |(name, curve): &(&str, &Curve)| {
        let name = format!("{name}: held-out stimuli");
        series(&name, curve, |l| l.held_out_stimuli)
    };
    let mut all: Vec<Series> = runs.iter().map(held_out).collect();
    if let Some((name, curve)) = runs.first() {
        let training = format!("{name}: training stimuli");
        all.push(series(&training, curve, |l| l.training));
        let neuroids = format!("{name}: held-out neuroids");
        all.push(series(&neuroids, curve, |l| l.held_out_neuroids));
    }
    all
}

fn terms(curve: &Curve) -> Vec<Series> {
    let names = curve.steps.first().map(|step| step.terms.keys());
    let names = names.into_iter().flatten();
    names
        .map(|name| {
            let value = |step: &Step| {
                let value = step.terms.get(name).copied();
                (step.step as f64, value.map_or(f64::NAN, f64::from))
            };
            Series {
                name: name.clone(),
                points: curve.steps.iter().map(value).collect(),
            }
        })
        .collect()
}
