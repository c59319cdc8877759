//! `ventral corrupt`.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;
use ventral::image::{self, Pixels};
use ventral::model::checkpoint::npy::{Array, Data, write_npy};
use ventral::model::probe::CancelToken;
use ventral::perturb::corruption::{Corruption, Image, Setting, Table, Textures, corrupt_numbered};

use crate::input::{self, Listed};
use crate::output::write_file;
use crate::recipe::{self, Hashed, Head, file_name};
use crate::{Failure, interrupt, progress};

#[derive(clap::Args)]
pub struct Args {
    /// `gaussian-noise`, `fog`, …: several separated by commas; `benchmark` is the fifteen of
    /// ImageNet-C, `all` adds the four extra ones.
    #[arg(long)]
    kind: Kinds,
    /// 1 to 5: one, a range `1-5` or a list `1,3,5`.
    #[arg(long)]
    severity: Severities,
    /// The same seed gives the same bytes. Each image draws from a stream of its own number, its
    /// place in the order of the names.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Whose parameters: `imagenet`, `cifar` or `tiny-imagenet`; by each image's shorter side
    /// unless given.
    #[arg(long, value_parser = parse_table)]
    table: Option<Table>,
    /// Pictures that frost is taken from, the first five by name; generated ones unless given.
    #[arg(long)]
    textures: Option<PathBuf>,
    /// Compute pictures in f32 throughout and round them once, when they are written. Otherwise
    /// they are cut to 8 bits where the published sets are.
    #[arg(long = "f32", conflicts_with = "eight_bit")]
    float: bool,
    /// Cut pixels of an `.npy` file to 8 bits where the published sets are; they are f32 otherwise.
    #[arg(long)]
    eight_bit: bool,
    /// A picture, a folder of pictures (its folders are kept), or an `.npy` file of NCHW f32
    /// pixels in [0, 1].
    input: PathBuf,
    /// A `.png` file, a folder, or an `.npy` file, as the input is. With several kinds or
    /// severities, a folder that gets a folder KIND/SEVERITY for each.
    output: PathBuf,
}

/// `gaussian-noise,fog`, `benchmark`, `all`.
#[derive(Clone, Debug, PartialEq)]
struct Kinds(Vec<Corruption>);

/// `3`, `1-5`, `1,3,5`.
#[derive(Clone, Debug, PartialEq)]
struct Severities(Vec<u8>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for name in text.split(',').map(str::trim) {
            match name {
                "all" => kinds.extend(Corruption::ALL),
                "benchmark" => kinds.extend(Corruption::BENCHMARK),
                _ => kinds.push(kind(name)?),
            }
        }
        Ok(Self(without_repetitions(kinds)))
    }
}

fn kind(name: &str) -> Result<Corruption, String> {
    name.replace('-', "_").parse().map_err(|_| {
        let names = Corruption::ALL.map(|c| c.name().replace('_', "-"));
        format!(
            "there is no corruption `{name}`; there are {}, benchmark, all",
            names.join(", ")
        )
    })
}

impl FromStr for Severities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = |text: &str| {
            text.trim()
                .parse::<u8>()
                .ok()
                .filter(|s| (1..=5).contains(s))
        };
        let mut severities: Vec<u8> = Vec::new();
        for part in text.split(',') {
            let ends = part.split_once('-').unwrap_or((part, part));
            match (level(ends.0), level(ends.1)) {
                (Some(first), Some(last)) if first <= last => severities.extend(first..=last),
                _ => return Err("severities go from 1 to 5: `3`, `1-5` or `1,3,5`".to_owned()),
            }
        }
        Ok(Self(without_repetitions(severities)))
    }
}

fn without_repetitions<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

const TABLES: [(&str, Table); 3] = [
    ("imagenet", Table::ImageNet),
    ("cifar", Table::Cifar),
    ("tiny-imagenet", Table::TinyImageNet),
];

fn parse_table(text: &str) -> Result<Table, String> {
    let name = text.replace('_', "-");
    let found = TABLES.into_iter().find(|(known, _)| *known == name);
    let missing = || format!("`{text}` is not one of imagenet, cifar, tiny-imagenet");
    found.map(|(_, table)| table).ok_or_else(missing)
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let job = Job::new(args)?;
    let done = match input::is_npy(&args.input) {
        true => job.array()?,
        false => job.pictures()?,
    };
    let recipe = job.recipe_path();
    recipe::write(&recipe, &job.recipe(&done))?;
    println!(
        "{} x {} written to {}, recipe in {}",
        count(done.images - done.failed.len(), "image"),
        count(job.settings.len(), "corruption"),
        args.output.display(),
        recipe.display()
    );
    done.complain();
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// Everything that decides on the output.
struct Job<'a> {
    args: &'a Args,
    settings: Vec<Setting>,
    textures: Textures,
    texture_files: Vec<Hashed>,
    /// Whether the output is a folder.
    folder: bool,
    cancel: CancelToken,
}

/// What came of it.
struct Done {
    inputs: Vec<Corrupted>,
    failed: Vec<Failed>,
    images: usize,
}

/// An input in the recipe.
#[derive(Serialize)]
struct Corrupted {
    /// Of its stream; an array's first image's.
    number: usize,
    #[serde(flatten)]
    file: Hashed,
    /// Below the output, or below KIND/SEVERITY in it.
    output: String,
}

#[derive(Serialize)]
struct Failed {
    number: usize,
    name: String,
    problem: String,
}

#[derive(Serialize)]
struct Recipe<'a> {
    #[serde(flatten)]
    head: Head,
    seed: u64,
    settings: &'a [Setting],
    /// `generated` or `supplied`.
    textures: &'static str,
    texture_files: &'a [Hashed],
    inputs: &'a [Corrupted],
    failed: &'a [Failed],
}

impl<'a> Job<'a> {
    fn new(args: &'a Args) -> Result<Self, Failure> {
        let eight_bit = match input::is_npy(&args.input) {
            true => args.eight_bit,
            false => !args.float,
        };
        let mut settings = Vec::new();
        for corruption in args.kind.0.iter().copied() {
            settings.extend(args.severity.0.iter().map(|severity| Setting {
                corruption,
                severity: *severity,
                table: args.table,
                seed: args.seed,
                eight_bit,
            }));
        }
        if !args.input.exists() {
            return Err(format!("there is no {}", args.input.display()).into());
        }
        let folder = args.input.is_dir() || settings.len() > 1;
        check_output(args, folder)?;
        let (textures, texture_files) = match &args.textures {
            Some(folder) => read_textures(folder)?,
            None => (Textures::default(), Vec::new()),
        };
        Ok(Self {
            args,
            settings,
            textures,
            texture_files,
            folder,
            cancel: interrupt::on_ctrl_c(),
        })
    }

    /// Where the image of this name goes.
    fn place(&self, setting: &Setting, name: &str) -> PathBuf {
        let output = &self.args.output;
        match (self.folder, self.settings.len()) {
            (false, _) => output.clone(),
            (true, 1) => output.join(name),
            (true, _) => output
                .join(setting.corruption.name())
                .join(setting.severity.to_string())
                .join(name),
        }
    }

    fn recipe_path(&self) -> PathBuf {
        match self.folder {
            true => self.args.output.join("recipe.json"),
            false => self.args.output.with_extension("json"),
        }
    }

    fn recipe<'b>(&'b self, done: &'b Done) -> Recipe<'b> {
        Recipe {
            head: Head::of_this_run(),
            seed: self.args.seed,
            settings: &self.settings,
            textures: self.textures.origin(),
            texture_files: &self.texture_files,
            inputs: &done.inputs,
            failed: &done.failed,
        }
    }

    fn bar(&self, images: usize) -> ProgressBar {
        let length = images * self.settings.len();
        progress::bar(
            "corrupting {wide_bar} {pos}/{len} {per_sec} {eta}",
            length as u64,
        )
    }

    fn pictures(&self) -> Result<Done, Failure> {
        let files = input::pictures(&self.args.input)?;
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let outputs = input::png_names(&names);
        let bar = self.bar(files.len());
        let results: Vec<_> = files
            .par_iter()
            .zip(&outputs)
            .enumerate()
            .map(|(number, (file, output))| self.picture(number, file, output, &bar))
            .collect();
        bar.finish_and_clear();
        self.stopped()?;
        let mut done = Done {
            inputs: Vec::new(),
            failed: Vec::new(),
            images: files.len(),
        };
        for (number, (result, file)) in results.into_iter().zip(&files).enumerate() {
            match result {
                Ok(corrupted) => done.inputs.push(corrupted),
                Err(problem) => done.failed.push(Failed {
                    number,
                    name: file.name.clone(),
                    problem,
                }),
            }
        }
        match (done.inputs.is_empty(), done.failed.first()) {
            (true, Some(first)) => Err(format!(
                "no picture could be corrupted; {}: {}",
                first.name, first.problem
            )
            .into()),
            _ => Ok(done),
        }
    }

    /// An error once the user has stopped the run.
    fn stopped(&self) -> Result<(), Failure> {
        if !self.cancel.is_cancelled() {
            return Ok(());
        }
        // That of an earlier run is no longer true; it may well not be there.
        fs::remove_file(self.recipe_path()).ok();
        Err("stopped; the files that are written are whole, and there is no recipe".into())
    }

    /// Errors are text, for they travel between threads.
    fn picture(
        &self,
        number: usize,
        file: &Listed,
        output: &str,
        bar: &ProgressBar,
    ) -> Result<Corrupted, String> {
        self.cancel.check().map_err(|e| e.to_string())?;
        let bytes = fs::read(&file.path).map_err(|e| e.to_string())?;
        let decoded = image::decode(&bytes).map_err(|e| e.to_string())?;
        let pixels = decoded.picture.to_pixels();
        self.settings.par_iter().try_for_each(|setting| {
            self.cancel.check().map_err(|e| e.to_string())?;
            let place = self.place(setting, output);
            self.write_picture(number, &pixels, setting, &place)
                .map_err(|e| e.to_string())?;
            bar.inc(1);
            Ok::<_, String>(())
        })?;
        Ok(Corrupted {
            number,
            file: Hashed::bytes(&file.name, &bytes).map_err(|e| e.to_string())?,
            output: output.to_owned(),
        })
    }

    fn write_picture(
        &self,
        number: usize,
        pixels: &Pixels,
        setting: &Setting,
        place: &Path,
    ) -> Result<(), Failure> {
        let image = Image {
            pixels: &pixels.data,
            channels: 3,
            height: pixels.height,
            width: pixels.width,
        };
        let corrupted = Pixels {
            data: corrupt_numbered(image, number as u64, setting, &self.textures)?,
            ..*pixels
        };
        let png = image::encode_png(&corrupted.to_picture()?)?;
        make_folder_of(place)?;
        write_file(place, |out| Ok(std::io::Write::write_all(out, &png)?))
    }

    fn array(&self) -> Result<Done, Failure> {
        let path = &self.args.input;
        let pixels = input::pixels(path, &[1, 3])?;
        let [images, channels, height, width] = pixels.shape;
        let length = channels * height * width;
        let bar = self.bar(images);
        let name = file_name(path);
        for setting in &self.settings {
            let one = |(number, (result, original)): (usize, (&mut [f32], &[f32]))| {
                self.cancel.check().map_err(|e| e.to_string())?;
                let image = Image {
                    pixels: original,
                    channels,
                    height,
                    width,
                };
                let corrupted = corrupt_numbered(image, number as u64, setting, &self.textures);
                result.copy_from_slice(&corrupted.map_err(|e| e.to_string())?);
                bar.inc(1);
                Ok::<_, String>(())
            };
            let mut results = vec![0.0; pixels.values.len()];
            let done = results
                .par_chunks_mut(length)
                .zip(pixels.values.par_chunks(length))
                .enumerate()
                .try_for_each(one);
            self.stopped()?;
            done.map_err(|problem| format!("{}: {problem}", path.display()))?;
            let array = Array::new(pixels.shape.to_vec(), Data::F32(results))?;
            let place = self.place(setting, &name);
            make_folder_of(&place)?;
            write_file(&place, |out| Ok(write_npy(out, &array)?))?;
        }
        bar.finish_and_clear();
        let corrupted = Corrupted {
            number: 0,
            file: Hashed::file(path)?,
            output: name,
        };
        Ok(Done {
            inputs: vec![corrupted],
            failed: Vec::new(),
            images,
        })
    }
}

impl Done {
    /// Lists what was left out: the run goes on without it, and succeeds if anything did.
    fn complain(&self) {
        const MOST: usize = 20;
        if self.failed.is_empty() {
            return;
        }
        let files = count(self.failed.len(), "file");
        eprintln!("note: {files} could not be corrupted:");
        for Failed { name, problem, .. } in self.failed.iter().take(MOST) {
            eprintln!("  {name}: {problem}");
        }
        if self.failed.len() > MOST {
            let more = self.failed.len() - MOST;
            eprintln!("  … and {more} more, all in the recipe");
        }
    }
}

/// Refuses an output that the input does not fit.
fn check_output(args: &Args, folder: bool) -> Result<(), Failure> {
    let (input, output) = (&args.input, &args.output);
    input::keep_apart(input, output)?;
    let shown = output.display();
    if folder {
        return match output.is_file() {
            true => Err(format!("{shown} is a file; the output is a folder here").into()),
            false => Ok(()),
        };
    }
    let ending = if input::is_npy(input) { "npy" } else { "png" };
    if output.is_dir() || !input::has_ending(output, ending) {
        return Err(format!("the output {shown} must be a file ending in .{ending} here").into());
    }
    Ok(())
}

fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)
        .map_err(|e| format!("cannot make the folder {}: {e}", folder.display()).into())
}

/// The first five pictures of a folder, which is as many as frost is taken from.
fn read_textures(folder: &Path) -> Result<(Textures, Vec<Hashed>), Failure> {
    const TAKEN: usize = 5;
    let (mut textures, mut files) = (Vec::new(), Vec::new());
    for file in input::pictures(folder)?.iter().take(TAKEN) {
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", file.path.display());
        let bytes = fs::read(&file.path).map_err(|e| said(&e))?;
        let pixels = image::decode(&bytes)
            .map_err(|e| said(&e))?
            .picture
            .to_pixels();
        files.push(Hashed::bytes(&file.name, &bytes)?);
        textures.push((pixels.data, pixels.height, pixels.width));
    }
    Ok((Textures::from_images(textures)?, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_in_either_case() {
        let read = |text: &str| text.parse::<Kinds>().map(|kinds| kinds.0);
        let pair = vec![Corruption::GaussianNoise, Corruption::Fog];
        assert_eq!(read("gaussian-noise,fog"), Ok(pair.clone()));
        assert_eq!(read("gaussian_noise, fog,fog"), Ok(pair));
        assert_eq!(read("benchmark"), Ok(Corruption::BENCHMARK.to_vec()));
        assert_eq!(read("fog,all").map(|kinds| kinds.len()), Ok(19));
        let refused = read("smoke").expect_err("there is no such corruption");
        assert!(refused.contains("`smoke`") && refused.contains("gaussian-noise"));
    }

    #[test]
    fn severities_are_numbers_ranges_and_lists() {
        let read = |text: &str| text.parse::<Severities>().map(|s| s.0).ok();
        let table: [(&str, Option<&[u8]>); 9] = [
            ("3", Some(&[3])),
            ("1-5", Some(&[1, 2, 3, 4, 5])),
            ("1,3,5", Some(&[1, 3, 5])),
            ("4-5,1,4", Some(&[4, 5, 1])),
            ("0", None),
            ("6", None),
            ("5-1", None),
            ("", None),
            ("1,,2", None),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
