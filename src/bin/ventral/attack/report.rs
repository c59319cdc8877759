//! The output of an attack: arrays, pictures, a recipe and a table.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;
use ventral::image::{self, Pixels};
use ventral::model::checkpoint::npy::{Array, Data, NpzWriter};
use ventral::model::load::Loaded;
use ventral::perturb::attack::masking::{Flag, Masking};
use ventral::perturb::attack::plan::Plan;

use super::batches::Results;
use super::data::Images;
use super::{Args, FrontEnd, Request};
use crate::Failure;
use crate::output::write_file;
use crate::recipe::{self, Hashed, Head};

/// A run and its results.
pub struct Report<'a> {
    pub args: &'a Args,
    pub request: &'a Request,
    pub loaded: &'a Loaded,
    pub backend: &'a str,
    pub images: &'a Images,
    pub results: &'a Results,
}

#[derive(Serialize)]
struct Recipe<'a> {
    #[serde(flatten)]
    head: Head,
    plan: &'a Plan,
    target: Option<usize>,
    confidence: f32,
    noise: FrontEnd,
    eot: usize,
    batch: usize,
    model: Model<'a>,
    backend: &'a str,
    inputs: &'a [Hashed],
    labelled_by: &'a str,
    label_file: Option<&'a Hashed>,
    summary: Summary,
    check: Option<Checked<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    family: &'a str,
    /// First 16 digits of the file's SHA-256.
    hash: &'a str,
}

/// Shares go from 0 to 1.
#[derive(Serialize)]
struct Summary {
    images: usize,
    /// Of the images, how many the model gives their labels.
    clean_accuracy: f64,
    /// The same of the attacked images.
    robust_accuracy: f64,
    success: f64,
    met_before: usize,
    /// Medians over the successes that were not met before; `None` where there are none.
    median_l1: Option<f32>,
    median_l2: Option<f32>,
    median_linf: Option<f32>,
    /// Passes behind each judgement.
    passes: usize,
    /// Images passed forward and backward, the checks included.
    forwards: u64,
    backwards: u64,
    seconds: f32,
}

#[derive(Serialize)]
struct Checked<'a> {
    images: usize,
    #[serde(flatten)]
    found: &'a Masking,
}

/// Refuses what would not fit into the output, before the work rather than after.
pub fn check_size(images: &Images, classes: usize) -> Result<(), Failure> {
    // An archive is at most 4 GiB; the other arrays take less than 64 bytes an image.
    const MOST: usize = (4 << 30) - (1 << 20);
    let bytes = images.len() * (4 * (images.stride() + classes) + 64);
    if bytes <= MOST {
        return Ok(());
    }
    let most = MOST / (bytes / images.len());
    Err(format!(
        "{} images of {} px do not fit into one .npz file of 4 GiB; attack at most {most} at a time",
        images.len(),
        images.side
    )
    .into())
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}

/// The mean of the two in the middle, where there are two.
fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    let (below, above) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[below] + values[above]) / 2.0)
}

impl Report<'_> {
    /// Writes the pictures, the arrays and the recipe.
    pub fn write(&self) -> Result<(), Failure> {
        if let Some(folder) = &self.args.images {
            self.write_pictures(folder)?;
        }
        self.write_arrays()?;
        recipe::write(&self.args.output.with_extension("json"), &self.recipe())
    }

    fn write_pictures(&self, folder: &Path) -> Result<(), Failure> {
        let side = self.images.side;
        let images = self.results.adv.chunks_exact(self.images.stride());
        for (pixels, name) in images.zip(&self.images.names) {
            let picture = Pixels {
                width: side,
                height: side,
                data: pixels.to_vec(),
            };
            let png = image::encode_png(&picture.to_picture()?)?;
            let place = folder.join(name);
            fs::create_dir_all(place.parent().unwrap_or(folder))?;
            write_file(&place, |out| Ok(std::io::Write::write_all(out, &png)?))?;
        }
        Ok(())
    }

    fn write_arrays(&self) -> Result<(), Failure> {
        let (n, side, results) = (self.images.len(), self.images.side, self.results);
        let [l1, l2, linf] = results.norms.clone().map(Data::F32);
        let labels = results.labels.iter().map(|label| *label as i64).collect();
        let columns = [
            ("success", Data::Bool(results.success.clone())),
            ("met_before", Data::Bool(results.met_before.clone())),
            ("labels", Data::I64(labels)),
            ("l1", l1),
            ("l2", l2),
            ("linf", linf),
        ];
        write_file(&self.args.output, |out| {
            let mut npz = NpzWriter::new(out);
            let adv = Data::F32(results.adv.clone());
            npz.add("adv", &Array::new(vec![n, 3, side, side], adv)?)?;
            let logits = Data::F32(results.logits.clone());
            let classes = self.loaded.config.classes;
            npz.add("logits", &Array::new(vec![n, classes], logits)?)?;
            for (name, column) in columns {
                npz.add(name, &Array::new(vec![n], column)?)?;
            }
            npz.finish()?;
            Ok(())
        })
    }

    fn recipe(&self) -> Recipe<'_> {
        let request = self.request;
        Recipe {
            head: Head::of_this_run(),
            plan: &request.plan,
            target: request.target,
            confidence: request.confidence,
            noise: request.noise,
            eot: request.eot,
            batch: request.batch,
            model: Model {
                name: &self.loaded.name,
                family: &self.loaded.family,
                hash: &self.loaded.hash,
            },
            backend: self.backend,
            inputs: &self.images.inputs,
            labelled_by: &self.images.labelled_by,
            label_file: self.images.label_file.as_ref(),
            summary: self.summary(),
            check: self.results.check.as_ref().map(|check| Checked {
                images: check.images,
                found: &check.found,
            }),
        }
    }

    fn summary(&self) -> Summary {
        let results = self.results;
        let [l1, l2, linf] = results.norms.each_ref().map(|norms| {
            let flags = results.success.iter().zip(&results.met_before);
            let counted = norms.iter().zip(flags);
            let counted = counted.filter(|(_, (success, before))| **success && !**before);
            median(counted.map(|(norm, _)| *norm).collect())
        });
        Summary {
            images: self.images.len(),
            clean_accuracy: share(&results.clean_right),
            robust_accuracy: share(&results.right),
            success: share(&results.success),
            met_before: results.met_before.iter().filter(|met| **met).count(),
            median_l1: l1,
            median_l2: l2,
            median_linf: linf,
            passes: results.passes,
            forwards: results.forwards,
            backwards: results.backwards,
            seconds: results.seconds,
        }
    }

    fn flags(&self) -> Option<String> {
        if !self.request.check {
            return None;
        }
        let Some(check) = &self.results.check else {
            return Some("not done: the criterion was met before the attack everywhere".to_owned());
        };
        let sentences: Vec<&str> = check
            .found
            .flags
            .iter()
            .map(|f: &Flag| f.sentence())
            .collect();
        let found = match sentences.is_empty() {
            true => "no sign of a masked gradient.".to_owned(),
            false => sentences.join(" "),
        };
        let images = check.images;
        Some(format!("{found} (Seen on {images} of the images.)"))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (summary, n) = (self.summary(), self.images.len());
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let norm = |value: Option<f32>| value.map_or("none".to_owned(), |v| format!("{v:.5}"));
        let attack = serde_json::to_string(&self.request.plan.attack).map_err(|_| fmt::Error)?;
        let criterion = match self.request.target {
            Some(target) => format!("reach class {target}"),
            None => "leave the label".to_owned(),
        };
        let fell = (summary.success * n as f64).round();
        let passes = |count: u64| count / n as u64;
        let rows = [
            (
                "model",
                format!("{} ({})", self.loaded.name, self.loaded.hash),
            ),
            ("attack", attack),
            ("criterion", criterion),
            ("images", n.to_string()),
            ("labels", self.images.labelled_by.clone()),
            ("clean accuracy", percent(summary.clean_accuracy)),
            ("robust accuracy", percent(summary.robust_accuracy)),
            (
                "success",
                format!(
                    "{fell} of {n}, {} of them before the attack",
                    summary.met_before
                ),
            ),
            (
                "median norms",
                format!(
                    "L∞ {}, L2 {}, L1 {}",
                    norm(summary.median_linf),
                    norm(summary.median_l2),
                    norm(summary.median_l1)
                ),
            ),
            (
                "passes",
                format!(
                    "{} forward and {} backward an image, {} a judgement",
                    passes(summary.forwards),
                    passes(summary.backwards),
                    summary.passes
                ),
            ),
        ];
        let check = self.flags().map(|flags| ("check", flags));
        for (name, value) in rows.into_iter().chain(check) {
            writeln!(f, "{name:16} {value}")?;
        }
        writeln!(
            f,
            "{:16} {}, recipe in {}",
            "written",
            self.args.output.display(),
            self.args.output.with_extension("json").display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_none_one_and_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }
}
