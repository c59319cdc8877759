//! Files that an alignment leaves behind.

use super::outcome::{table, verdict};
use super::{Alignment, Curve, Ended, Report};

/// The files an alignment was given, for the command that repeats it; empty where there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub responses: String,
    pub heat_maps: String,
    pub labels: String,
}

impl Alignment<'_> {
    /// Everything but weights, by file name: the card, the plan, the outcomes and the curves.
    /// `remarks` are sentences on the data.
    ///
    /// # Errors
    /// A plan that has no written form.
    pub fn documents(
        &self,
        report: &Report,
        remarks: &[String],
        given: &Given,
    ) -> Result<Vec<(String, String)>, DocumentError> {
        let (name, plan) = (&self.study.plan.name, &self.study.plan);
        let toml = toml::to_string(plan)?;
        let card = format!(
            "# {name}\n\n{}\n\n{}\n{}\nAligned from {} (weights {}) by Ventral {}, unbiased linear \
             CKA, seed {}.\n\nTo repeat it: `ventral align {name}.toml{} --output DIR`.\n\n\
             ```toml\n{toml}```\n",
            report.verdict(),
            table(&report.outcomes(), &report.failed),
            remarks.join(" "),
            self.model.name,
            self.model.hash,
            env!("CARGO_PKG_VERSION"),
            plan.seed,
            self.flags(given),
        );
        let document = |ending: &str, text: String| (format!("{name}.{ending}"), text);
        Ok(vec![
            document("md", card),
            document("toml", toml),
            document(
                "json",
                serde_json::to_string_pretty(&self.outcomes(report))?,
            ),
            document("csv", curves_csv(&report.ended)),
        ])
    }

    /// The plan with the outcomes of its runs, as a document.
    pub fn outcomes(&self, report: &Report) -> serde_json::Value {
        let mut document = serde_json::json!({
            "plan": self.study.plan,
            "runs": report.outcomes(),
        });
        if !report.failed.is_empty() {
            document["failed"] = serde_json::json!(report.failed);
        }
        document
    }

    fn flags(&self, given: &Given) -> String {
        let controls = self
            .study
            .runs
            .iter()
            .filter(|(_, control)| !control.is_none());
        let controls: Vec<&str> = controls.map(|(_, control)| control.name()).collect();
        let images = self
            .study
            .robustness
            .as_ref()
            .map(|test| test.images.to_string());
        let folder = (!given.responses.is_empty()).then_some("FOLDER_OF_THE_IMAGES");
        let flags = [
            ("controls", controls.join(",")),
            ("robustness-images", images.unwrap_or_default()),
            ("data", folder.unwrap_or_default().to_owned()),
            ("labels", given.labels.clone()),
            ("heat-maps", given.heat_maps.clone()),
        ];
        let given = flags.iter().filter(|(_, value)| !value.is_empty());
        given
            .map(|(flag, value)| format!(" --{flag} {value}"))
            .collect()
    }
}

impl Report {
    /// Of the first aligned run; empty where there is none.
    pub fn verdict(&self) -> String {
        let mut outcomes = self.ended.iter().map(|run| &run.outcome);
        outcomes
            .find(|o| o.control.is_none())
            .map_or(String::new(), verdict)
    }
}

/// A document without a written form.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("the plan has no written form: {0}")]
    Plan(#[from] toml::ser::Error),
    #[error("a result has no written form: {0}")]
    Result(#[from] serde_json::Error),
}

/// A line of JSON for every step and every evaluation of a run, in their order.
///
/// # Errors
/// A number without a JSON form.
pub fn curve_lines(curve: &Curve) -> serde_json::Result<String> {
    let mut text = String::new();
    let mut evaluations = curve.evaluations.iter().peekable();
    let mut looks_until = |text: &mut String, step: usize| -> serde_json::Result<()> {
        while let Some(evaluation) = evaluations.next_if(|evaluation| evaluation.step <= step) {
            *text += &(serde_json::to_string(evaluation)? + "\n");
        }
        Ok(())
    };
    looks_until(&mut text, 0)?;
    for step in &curve.steps {
        text += &(serde_json::to_string(step)? + "\n");
        looks_until(&mut text, step.step)?;
    }
    Ok(text)
}

/// A line for every step and every evaluation of every run.
fn curves_csv(ended: &[Ended]) -> String {
    let mut text = "run,step,what,value\r\n".to_owned();
    let mut line = |run: &str, step: usize, what: &str, value: f64| {
        if value.is_finite() {
            text += &format!("{run},{step},{what},{value}\r\n");
        }
    };
    for Ended { outcome, curve, .. } in ended {
        let run = outcome.control.run();
        for step in &curve.steps {
            line(run, step.step, "rate", step.rate);
            line(run, step.step, "loss", step.loss.into());
            for (term, value) in &step.terms {
                line(run, step.step, term, f64::from(*value));
            }
        }
        for evaluation in &curve.evaluations {
            let accuracy = evaluation.accuracy.unwrap_or(f64::NAN);
            let values = [
                ("CKA training", evaluation.training),
                ("CKA held-out stimuli", evaluation.held_out_stimuli),
                ("CKA held-out neuroids", evaluation.held_out_neuroids),
                ("accuracy", accuracy),
            ];
            for (what, value) in values {
                line(run, evaluation.step, what, value);
            }
        }
    }
    text
}
