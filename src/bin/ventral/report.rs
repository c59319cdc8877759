//! `ventral report`.

use std::io::Write;
use std::path::{Path, PathBuf};

use ventral::measure::robustness::report::{Report, Style};

use crate::output::write_file;
use crate::store::{self, Head};
use crate::{Failure, recipe};

#[derive(clap::Args)]
pub struct Args {
    /// Folders that `ventral evaluate` has written to.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Where to write `report.json`, `report.md`, `summary` and `details` as CSV and LaTeX; the
    /// first folder unless given.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    print(&args.folders, args.output.as_deref())
}

/// Merges what the folders hold, writes the tables and prints the shortest.
pub fn print(folders: &[PathBuf], output: Option<&Path>) -> Result<(), Failure> {
    let (head, rows) = store::read_all(folders)?;
    let report = Report::new(&head.plan, &rows, head.images)?;
    let output = output.or(folders.first().map(PathBuf::as_path));
    let output = output.unwrap_or(Path::new("."));
    std::fs::create_dir_all(output).map_err(|e| format!("{}: {e}", output.display()))?;
    recipe::write(
        &output.join("report.json"),
        &Document {
            head: &head,
            report: &report,
        },
    )?;
    let tables = [("summary", report.summary()), ("details", report.details())];
    for (name, table) in &tables {
        for (style, ending) in [(Style::Csv, "csv"), (Style::Latex, "tex")] {
            save(
                &output.join(format!("{name}.{ending}")),
                &table.write(style),
            )?;
        }
    }
    let text = markdown(&head, &report);
    save(&output.join("report.md"), &text)?;
    print!("{}", report.summary().write(Style::Markdown));
    if report.rows < report.expected {
        println!(
            "{} of {} rows are there; what is missing leaves gaps",
            report.rows, report.expected
        );
    }
    println!("tables in {}", output.display());
    Ok(())
}

#[derive(serde::Serialize)]
struct Document<'a> {
    head: &'a Head,
    report: &'a Report,
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    write_file(path, |out| Ok(out.write_all(text.as_bytes())?))
}

fn markdown(head: &Head, report: &Report) -> String {
    let plan = &report.plan;
    let weights = plan.models.iter().zip(&head.weights);
    let weights: Vec<String> = weights.map(|(m, hash)| format!("{m} `{hash}`")).collect();
    let mut comparisons = String::new();
    for c in &report.comparisons {
        comparisons += &format!(
            "| {} | {} | {} | {} | {} | {:.2e} |\n",
            c.condition, c.model, c.only_model, c.reference, c.only_reference, c.p
        );
    }
    if !comparisons.is_empty() {
        comparisons = format!(
            "\n## On the same images\n\nMcNemar's exact test, of the first seed: images that only \
             the one model gets right, and only the other.\n\n\
             | condition | model | only it | reference | only it | p |\n|---|---|---|---|---|---|\n\
             {comparisons}"
        );
    }
    format!(
        "# {}\n\nAccuracy in per cent with 95 % intervals. {} images, seeds {:?}; stochastic models: \
         {} passes judge an image (n), {} samples a gradient (k). {}, {}. Models: {}.\n\n{}\n\
         ## Every condition\n\n{}{comparisons}",
        plan.name,
        head.images,
        plan.seeds,
        plan.passes,
        plan.eot,
        head.program,
        head.backend,
        weights.join(", "),
        report.summary().write(Style::Markdown),
        report.details().write(Style::Markdown),
    )
}
