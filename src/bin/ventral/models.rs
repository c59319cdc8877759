//! `ventral models`.

use ventral::model::catalog::{self, Entry};

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
    if args.json {
        println!("{}", serde_json::to_string_pretty(&entries)?);
        return Ok(());
    }
    println!(
        "{:24} {:34} {:>8} {:>8} {:>9}  at hand",
        "name", "title", "input", "classes", "top-1"
    );
    entries.iter().for_each(print_entry);
    Ok(())
}

fn print_entry(entry: &Entry) {
    let accuracy = entry
        .accuracy
        .map_or("".to_owned(), |a| format!("{:.1} %", 100.0 * a));
    let place = match weights::find(&entry.name) {
        Some(path) => path.display().to_string(),
        None => format!("ventral fetch {}", entry.name),
    };
    println!(
        "{:24} {:34} {:>5} px {:>8} {:>9}  {place}",
        entry.name, entry.title, entry.input, entry.classes, accuracy
    );
}
