//! `ventral report`.

use std::io::Write;
use std::path::{Path, PathBuf};

use ventral::experiment::robustness::report::Report;
use ventral::experiment::table::Style;
use ventral::model::catalog::{Measured, Robustness, parse_robustness};

use crate::output::write_file;
use crate::rows::{self, Head};
use crate::{Failure, recipe};

#[derive(clap::Args)]
pub struct Args {
    /// Folders that `ventral evaluate` has written to: shards of a run, and runs of other models by
    /// the same plan on the same images, which are compared.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Where to write `report.json`, `report.md`, `summary` and `details` as CSV and LaTeX; the
    /// first folder unless given.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Also write the report as one HTML file, with its charts, that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write each chart as SVG into this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// Also take the means over into this file, `static/models/robustness.json`, which the
    /// catalog shows, and into the models' cards beside it.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let report = print(&args.folders, args.output.as_deref())?;
    if args.html.is_some() || args.svg.is_some() {
        draw(&report, args)?;
    }
    match &args.record {
        Some(path) => record(&report, path),
        None => Ok(()),
    }
}

fn draw(report: &Report, args: &Args) -> Result<(), Failure> {
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for chart in report.charts()? {
            save(&folder.join(format!("{}.svg", chart.name)), &chart.svg)?;
        }
    }
    if let Some(path) = &args.html {
        let (head, rows) = rows::read_all(&args.folders)?;
        save(path, &report.html(&rows, &head.classes, &remark(&head))?)?;
    }
    Ok(())
}

/// Takes the report's means over into the file of all models, and into their cards.
fn record(report: &Report, path: &Path) -> Result<(), Failure> {
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| said(&e))?;
    let mut all = parse_robustness(&text).map_err(|e| said(&e))?;
    for model in &report.models {
        let known = all.entry(model.name.clone()).or_default();
        known.merge(&Robustness {
            plan: report.plan.name.clone(),
            clean: model.clean,
            white_box: model.white_box,
            corruption: model.corruption,
            ..Robustness::default()
        });
        let card = path.with_file_name(format!("{}.md", model.name));
        if card.is_file() {
            let text = std::fs::read_to_string(&card).map_err(|e| said(&e))?;
            save(&card, &with_section(&text, known))?;
        }
    }
    recipe::write(path, &all)
}

const SECTION: &str = "\n## Robustness\n";

/// `ventral evaluate` takes no photographs of frost.
const FROST: &str =
    "Corruption: with textures of our own for frost in the place of the published photographs.";

/// A card with its section on robustness, the last, written anew.
fn with_section(card: &str, found: &Robustness) -> String {
    let kept = card.split(SECTION).next().unwrap_or_default();
    let rows = [
        ("clean", found.clean),
        ("white box", found.white_box),
        ("corruption", found.corruption),
    ];
    let row = |(name, measured): (&str, Option<Measured>)| {
        let m = measured?;
        Some(format!("| {name} | {m} | {} |\n", m.images))
    };
    let rows: String = rows.into_iter().filter_map(row).collect();
    format!(
        "{}\n{SECTION}\nOn the shipped test set, in per cent with 95 % intervals. {}.\n{FROST}\n\n\
         | mean | accuracy | images |\n|---|---|---|\n{rows}",
        kept.trim_end(),
        found.plan
    )
}

/// Merges what the folders hold, writes the tables and prints the shortest.
pub fn print(folders: &[PathBuf], output: Option<&Path>) -> Result<Report, Failure> {
    let (head, rows) = rows::read_all(folders)?;
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
    for (name, table) in &report.tables() {
        for (style, ending) in [(Style::Csv, "csv"), (Style::Latex, "tex")] {
            save(
                &output.join(format!("{name}.{ending}")),
                &table.write(style),
            )?;
        }
    }
    let text = report.markdown(&remark(&head));
    save(&output.join("report.md"), &text)?;
    print!("{}", report.summary().write(Style::Markdown));
    if report.rows < report.expected {
        println!(
            "{} of {} rows are there; what is missing leaves gaps",
            report.rows, report.expected
        );
    }
    println!("tables in {}", output.display());
    Ok(report)
}

#[derive(serde::Serialize)]
struct Document<'a> {
    head: &'a Head,
    report: &'a Report,
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    write_file(path, |out| Ok(out.write_all(text.as_bytes())?))
}

/// What the tables are of, in a sentence.
fn remark(head: &Head) -> String {
    let weights = head.plan.models.iter().zip(&head.weights);
    let weights: Vec<String> = weights.map(|(m, hash)| format!("{m} `{hash}`")).collect();
    format!(
        "{} images. {}, {}. Models: {}.",
        head.images,
        head.program,
        head.backend,
        weights.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cards_section_is_written_anew() {
        let found = Robustness {
            plan: "A plan".into(),
            clean: Some(Measured {
                value: 0.5,
                low: 0.4,
                high: 0.6,
                images: 10,
            }),
            ..Robustness::default()
        };
        let once = with_section("# Card\n\ntext\n", &found);
        assert!(
            once.contains("| clean | 50.0 (40.0 to 60.0) | 10 |"),
            "{once}"
        );
        assert_eq!(with_section(&once, &found), once);
        assert_eq!(once.matches("## Robustness").count(), 1);
    }
}
