//! `ventral evaluate`.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ventral::compute::description::{BackendChoice, BackendInfo};
use ventral::experiment::engine::{Experiment, Unit};
use ventral::experiment::files::FileStore;
use ventral::experiment::robustness::plan::Plan;
use ventral::experiment::robustness::presets;
use ventral::experiment::robustness::run::{Candidate, Robustness};
use ventral::experiment::robustness::summary::{PRESETS, Preset};
use ventral::experiment::shard::Shard;
use ventral::image::dataset::{
    DatasetError, LabelledSet, LoadOptions, Opened, Split, load_readable, quiet,
};
use ventral::model::catalog::TestSet;
use ventral::model::classes::{self, Unknown, match_classes};
use ventral::model::load::Loaded;
use ventral::perturb::corruption::Textures;

use crate::backend::Place;
use crate::recipe::Hashed;
use crate::rows::{self, Head};
use crate::{Failure, progress, report, shipped, weights};

#[derive(clap::Args)]
pub struct Args {
    /// A plan as TOML or JSON, or the name of a preset; `--help` lists them.
    plan: String,
    /// Models by name or path, separated by commas, in place of the plan's.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Labelled images, in place of the plan's: a folder of class folders or a .zip, .tar, .tar.gz
    /// or .tar.xz of them, an .npz of images and labels, the binary files of CIFAR-10 or -100, or
    /// the name of a shipped set (cifar10-1000, tiny40-400). What cannot be read is listed and left
    /// out.
    #[arg(long)]
    data: Option<String>,
    /// How many of them, in place of the plan's number.
    #[arg(long)]
    images: Option<usize>,
    /// Seeds, separated by commas, in place of the plan's.
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Only this part of the work: `2/4` for the second of four. Each part can run on a machine of
    /// its own; `ventral report` merges them.
    #[arg(long, default_value = "1/1")]
    shard: Shard,
    #[command(flatten)]
    place: Place,
    /// Units computed at a time, a thread each; as many as there are cores unless given, and one on a
    /// GPU.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print the plan as JSON, with what it will take, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// A folder for the results. An interrupted run goes on from what is there.
    #[arg(long, required_unless_present = "dry_run")]
    output: Option<PathBuf>,
}

/// The presets, for the help.
pub fn table_of_presets() -> String {
    let row = |p: &Preset| format!("  {:12} {}\n", p.name, p.heading);
    let rows: String = PRESETS.iter().map(row).collect();
    format!("Presets:\n{rows}")
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let plan = plan(args)?;
    let backend = args.place.device()?;
    let (loaded, candidates) = models(&plan, args, &backend.device)?;
    let textures = Textures::default();
    let test = Robustness::new(&plan, &candidates, &backend.device, &textures)?;
    let mut units = test.units();
    units.retain(|unit| args.shard.takes(unit.number));
    if args.dry_run {
        return dry_run(&test, &units);
    }
    // Clap has seen to it that there is one.
    let output = args.output.as_deref().unwrap_or(Path::new("."));
    let head = Head {
        kind: Robustness::KIND.to_owned(),
        plan: plan.clone(),
        images: test.images(),
        data: hashes(&candidates)?,
        weights: loaded.iter().map(|model| model.hash.clone()).collect(),
        program: format!("{} {}", env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION")),
        classes: classes::shared(loaded.iter().map(|model| model.classes.as_slice())),
        backend: kind_of(&backend.info).to_owned(),
    };
    let is_on_cpu = backend.info.kind == BackendChoice::Cpu;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(if is_on_cpu { cores } else { 1 });
    let store = FileStore::new(output)?;
    rows::finish_shard((output, &store), args.shard, &head, |journal| {
        progress::on_threads(&test, &units, journal, jobs.max(1))
    })?;
    if args.shard.count == 1 {
        report::print(&[output.to_owned()], None)?;
        return Ok(());
    }
    println!(
        "shard {} of {} is done; `ventral report {}` merges the shards that are there",
        args.shard.index,
        args.shard.count,
        output.display()
    );
    Ok(())
}

/// What a run is begun on. Its shards may be computed on several machines, and so on several adapters.
fn kind_of(info: &BackendInfo) -> &'static str {
    match (info.kind, info.f16_weights) {
        (BackendChoice::Cpu, _) => "CPU",
        (_, false) => "GPU",
        (_, true) => "GPU, weights in f16",
    }
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let mut plan = read_plan(&args.plan)?;
    if !args.models.is_empty() {
        plan.models.clone_from(&args.models);
        // The plan's own may not be among them.
        plan.reference = plan.reference.filter(|r| args.models.contains(r));
    }
    if !args.seeds.is_empty() {
        plan.seeds.clone_from(&args.seeds);
    }
    plan.images = args.images.unwrap_or(plan.images);
    plan.data = args.data.clone().or(plan.data);
    plan.check()?;
    match plan.models.is_empty() {
        true => Err("the plan names no model; give --models NAME,PATH,…".into()),
        false => Ok(plan),
    }
}

/// A plan from its file, or the preset of that name.
pub fn read_plan(name: &str) -> Result<Plan, Failure> {
    if let Some(preset) = presets::find(name) {
        return Ok(preset.plan(Vec::new()));
    }
    let text = fs::read_to_string(name).map_err(|e| {
        let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
        format!(
            "{name}: {e}; it is also none of the presets {}",
            names.join(", ")
        )
    })?;
    Ok(Plan::parse(&text)?)
}

/// The plan's models, with the images each takes.
fn models(
    plan: &Plan,
    args: &Args,
    device: &Device,
) -> Result<(Vec<Loaded>, Vec<Candidate>), Failure> {
    let (mut models, mut candidates) = (Vec::new(), Vec::new());
    for name in &plan.models {
        let loaded = weights::load_path_or_name(name)?;
        let data = data(plan.data.as_deref(), &loaded)?;
        let set = read_set(&data, &loaded, &args.cache)?;
        crate::input::check_side(&loaded.config, set.size).map_err(|e| format!("{name}: {e}"))?;
        let said = |e: Unknown| {
            format!(
                "{name} and {}: {e}; a table [classes] in the plan says what they are, or leaves \
                 them out with \"\"",
                data.display()
            )
        };
        let classes = match_classes(&set.classes, &loaded.classes, &plan.classes).map_err(said)?;
        let set = set.keeping(|class| classes[class].is_some());
        let set = set.in_turns(plan.images);
        let candidate = Candidate::new(&loaded, set, &plan.classes, device);
        candidates.push(candidate.map_err(said)?);
        models.push(loaded);
    }
    Ok((models, candidates))
}

/// The test images at `path` as a model takes them; what cannot be read is listed.
pub fn read_set(path: &Path, model: &Loaded, cache: &Path) -> Result<LabelledSet, Failure> {
    let options = LoadOptions {
        size: model.config.preprocessing.crop,
        cache: Some(cache.to_owned()),
    };
    let Opened {
        set, skipped, part, ..
    } = load_readable(path, Split::Test, &options, &mut quiet)?;
    if let Some(part) = part {
        let path = path.display();
        eprintln!("note: of {path} the images in the folder `{part}` are taken");
    }
    list(&skipped);
    Ok(set)
}

/// Unreadable files that are named.
const MOST_LISTED: usize = 10;

fn list(skipped: &[(String, DatasetError)]) {
    if skipped.is_empty() {
        return;
    }
    eprintln!(
        "{} files could not be read and are left out:",
        skipped.len()
    );
    for (name, why) in skipped.iter().take(MOST_LISTED) {
        eprintln!("  {name}: {}", why.reason());
    }
}

/// The set's path: as given, or, where that is nothing, the shipped one that fits.
pub fn data(given: Option<&str>, loaded: &Loaded) -> Result<PathBuf, Failure> {
    match given.filter(|name| !name.is_empty()) {
        Some(name) if !Path::new(name).exists() => TestSet::find(name)
            .and_then(shipped_set)
            .ok_or_else(|| format!("there is no set or path `{name}`").into()),
        Some(path) => Ok(path.into()),
        None => {
            let classes = loaded.classes.len();
            let found = TestSet::fitting(classes).and_then(shipped_set);
            found.ok_or_else(|| {
                let name = &loaded.name;
                format!("no shipped set has the {classes} classes of {name}; give --data").into()
            })
        }
    }
}

/// Where a shipped set lies, if it does.
fn shipped_set(set: &TestSet) -> Option<PathBuf> {
    let folders = shipped::folders().into_iter();
    let mut places = folders.map(|folder| folder.join("testset").join(set.file));
    places.find(|path| path.is_file())
}

fn hashes(candidates: &[Candidate]) -> Result<Vec<String>, Failure> {
    let mut hashes: Vec<(usize, String)> = Vec::new();
    for set in candidates.iter().map(Candidate::set) {
        if hashes.iter().any(|(size, _)| *size == set.size) {
            continue;
        }
        let hash = Hashed::bytes("", &set.content())?.sha256;
        hashes.push((set.size, hash.chars().take(16).collect()));
    }
    Ok(hashes.into_iter().map(|(_, hash)| hash).collect())
}

fn dry_run(test: &Robustness, units: &[Unit]) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(test.plan())?);
    let passes: u64 = units
        .iter()
        .map(|unit| test.passes(unit).ceil() as u64)
        .sum();
    println!(
        "{} conditions, {} units, about {passes} forward passes of an image at most (images that \
         have fallen take no more)",
        test.conditions().len(),
        units.len()
    );
    Ok(())
}
