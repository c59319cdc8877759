//! `ventral models`.

use ventral::model::catalog::{self, Entry, Robustness};
use ventral::model::recognise::family_names;

use crate::Failure;
use crate::weights;

#[derive(clap::Args)]
pub struct Args {
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let entries = catalog::entries();
    let found = catalog::parse_robustness(catalog::ROBUSTNESS)?;
    if args.json {
        let with = |entry| Line {
            entry,
            robustness: found.get(&entry.name),
        };
        let lines: Vec<Line> = entries.iter().map(with).collect();
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    println!(
        "{:24} {:34} {:>8} {:>8} {:>9} {:>9} {:>10}  at hand",
        "name", "title", "input", "classes", "top-1", "white box", "corruption"
    );
    for entry in &entries {
        print_entry(entry, found.get(&entry.name));
    }
    println!(
        "Families that --weights recognises: {}",
        family_names().join(", ")
    );
    Ok(())
}

/// An entry of the catalog with what is known of its robustness.
#[derive(serde::Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    robustness: Option<&'a Robustness>,
}

fn print_entry(entry: &Entry, robustness: Option<&Robustness>) {
    let percent =
        |share: Option<f64>| share.map_or(String::new(), |a| format!("{:.1} %", 100.0 * a));
    let accuracy = percent(entry.accuracy.map(f64::from));
    let white = percent(robustness.and_then(|r| r.white_box).map(|m| m.value));
    let corruption = percent(robustness.and_then(|r| r.corruption).map(|m| m.value));
    let place = match weights::find(&entry.name) {
        Some(path) => path.display().to_string(),
        None => format!("ventral fetch {}", entry.name),
    };
    println!(
        "{:24} {:34} {:>5} px {:>8} {:>9} {:>9} {:>10}  {place}",
        entry.name, entry.title, entry.input, entry.classes, accuracy, white, corruption
    );
}
