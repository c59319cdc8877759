//! `ventral responses`.

use std::fmt;
use std::path::{Path, PathBuf};

use ventral::image::dataset::picture_names;
use ventral::neural::{self, Axis, Interpretation, ReadOptions};

use crate::Failure;
use crate::recipe::file_name;

pub const EXAMPLES: &str = "\
Examples:
  ventral responses it.npz --images pictures/
      Reads the array `responses` [stimuli, repetitions, neuroids] with its `names`, and matches
      the stimuli with the pictures.
  ventral responses assembly.nc --time-bin 2 --json
      A Brain-Score assembly with several time bins.
  ventral responses table.csv --axes neuroid,stimulus
      A table with one line a neuroid.";

#[derive(clap::Args)]
pub struct Args {
    /// Responses as .npy, .npz, .csv, .tsv, .parquet, HDF5 or NetCDF-4.
    file: PathBuf,
    /// The pictures that were shown: a folder, or a .zip or .tar archive. Stimuli are matched with
    /// them by name; without names by order, where there are as many.
    #[arg(long, value_name = "DIR|SET")]
    images: Option<PathBuf>,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

/// What a file of responses leaves open.
#[derive(clap::Args)]
pub struct Reading {
    /// The axes of the array, first to last: stimulus, repetition, neuroid, time_bin. By their
    /// names in the file, or in this order, unless given.
    #[arg(long, value_delimiter = ',')]
    axes: Option<Vec<Axis>>,
    /// The array or variable to take, where a file has several.
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
    /// The time bin to take, from 0.
    #[arg(long, value_name = "NUMBER")]
    time_bin: Option<usize>,
    /// The array, variable or column that names the stimuli.
    #[arg(long, value_name = "NAME")]
    names: Option<String>,
    /// Responses without names are in the order of the pictures, whatever else the file holds.
    #[arg(long)]
    by_order: bool,
}

impl Reading {
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            axes: self.axes.clone(),
            array: self.array.clone(),
            time_bin: self.time_bin,
            names: self.names.clone(),
            by_order: self.by_order,
        }
    }
}

/// Input that cannot be used: a sentence on what to change, and exit code 2.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

pub fn run(args: &Args) -> Result<(), Failure> {
    let interpretation = interpret(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&interpretation)?);
        return Ok(());
    }
    for sentence in interpretation.sentences() {
        println!("{sentence}");
    }
    Ok(())
}

fn interpret(args: &Args) -> Result<Interpretation, Refused> {
    let refused = |e: &dyn fmt::Display| Refused(format!("{}: {e}", args.file.display()));
    let bytes = std::fs::read(&args.file).map_err(|e| refused(&e))?;
    let responses = neural::read(&file_name(&args.file), bytes, &args.reading.options());
    let responses = responses.map_err(|e| refused(&e))?;
    let images = args.images.as_deref().map(images).transpose()?;
    let interpretation = neural::interpret(&responses, images.as_deref());
    Ok(interpretation.map_err(|e| refused(&e))?.0)
}

fn images(path: &Path) -> Result<Vec<String>, Refused> {
    let names = picture_names(path).map_err(|e| Refused(e.to_string()))?;
    match names.is_empty() {
        true => Err(Refused(format!(
            "there is no picture in {}: please give the folder or archive of the pictures that \
             were shown",
            path.display()
        ))),
        false => Ok(names),
    }
}
