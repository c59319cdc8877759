//! `ventral evaluate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::tensor::Device;
use indicatif::ProgressBar;
use ventral::align::shards::Crew;
use ventral::compute::description::{BackendChoice, BackendInfo};
use ventral::image::dataset::{
    DatasetError, LabelledSet, LoadOptions, Opened, Split, load_readable, quiet,
};
use ventral::measure::robustness::plan::{Condition, Plan, Unit};
use ventral::measure::robustness::presets::{self, PRESETS};
use ventral::measure::robustness::run::{Bench, RunError};
use ventral::model::catalog::TestSet;
use ventral::model::classes::{self, match_classes};
use ventral::model::load::Loaded;
use ventral::model::network::Network;
use ventral::model::probe::CancelToken;
use ventral::perturb::corruption::Textures;

use crate::backend::Place;
use crate::recipe::Hashed;
use crate::report;
use crate::store::{Head, Journal, Shard};
use crate::{Failure, interrupt, progress, weights};

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
    let row = |p: &presets::Preset| format!("  {:12} {}\n", p.name, p.title);
    let rows: String = PRESETS.iter().map(row).collect();
    format!("Presets:\n{rows}")
}

/// A model under test.
struct Model {
    loaded: Loaded,
    network: Network,
    set: LabelledSet,
    classes: Vec<usize>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let plan = plan(args)?;
    let conditions = plan.conditions()?;
    let backend = args.place.device()?;
    let is_on_cpu = backend.info.kind == BackendChoice::Cpu;
    let models = models(&plan, args, &backend.device)?;
    let images = models.iter().map(|m| m.set.len()).min().unwrap_or(0);
    for (model, name) in models.iter().zip(&plan.models) {
        check_settings(&conditions, model).map_err(|e| format!("{name}: {e}"))?;
    }
    let units: Vec<Unit> = plan
        .units(conditions.len(), images)
        .into_iter()
        .filter(|unit| args.shard.takes(unit.number))
        .collect();
    if args.dry_run {
        return dry_run(&plan, &conditions, &units, &models);
    }
    // Clap has seen to it that there is one.
    let output = args.output.as_deref().unwrap_or(Path::new("."));
    let head = Head {
        plan: plan.clone(),
        images,
        data: hashes(&models)?,
        weights: models.iter().map(|m| m.loaded.hash.clone()).collect(),
        program: format!("{} {}", env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION")),
        classes: classes::shared(models.iter().map(|m| m.loaded.classes.as_slice())),
        backend: kind_of(&backend.info).to_owned(),
    };
    if let Some(journal) = Journal::open(output, args.shard, head)? {
        let work = Work {
            plan: &plan,
            conditions: &conditions,
            models: &models,
            device: backend.device.clone(),
            textures: &Textures::default(),
            cancel: interrupt::on_ctrl_c(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = args.jobs.unwrap_or(if is_on_cpu { cores } else { 1 });
        work.run(&units, journal, jobs.max(1))?;
    }
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
    match (info.kind, info.half) {
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

fn models(plan: &Plan, args: &Args, device: &Device) -> Result<Vec<Model>, Failure> {
    let model = |name: &String| -> Result<Model, Failure> {
        let loaded = weights::load_path_or_name(name)?;
        let data = data(plan.data.as_deref(), &loaded)?;
        let set = read_set(&data, &loaded, &args.cache)?;
        let classes = match_classes(&set.classes, &loaded.classes, &plan.classes).map_err(|e| {
            format!(
                "{name} and {}: {e}; a table [classes] in the plan says what they are, or leaves \
                 them out with \"\"",
                data.display()
            )
        })?;
        let set = set.keeping(|class| classes[class].is_some());
        let set = set.in_turns(plan.images);
        // No image of a class that is left out is there to be looked up.
        let classes = classes.into_iter().map(Option::unwrap_or_default).collect();
        let network = loaded.to_network(&device.clone().autodiff());
        Ok(Model {
            loaded,
            network,
            set,
            classes,
        })
    };
    plan.models.iter().map(model).collect()
}

/// The test images at `path` as a model takes them; what cannot be read is listed.
pub fn read_set(path: &Path, model: &Loaded, cache: &Path) -> Result<LabelledSet, Failure> {
    let options = LoadOptions {
        size: model.config.preprocessing.crop,
        cache: Some(cache.to_owned()),
    };
    let Opened { set, skipped, .. } = load_readable(path, Split::Test, &options, &mut quiet)?;
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
            .and_then(shipped)
            .ok_or_else(|| format!("there is no set or path `{name}`").into()),
        Some(path) => Ok(path.into()),
        None => {
            let classes = loaded.classes.len();
            let found = TestSet::fitting(classes).and_then(shipped);
            found.ok_or_else(|| {
                let name = &loaded.name;
                format!("no shipped set has the {classes} classes of {name}; give --data").into()
            })
        }
    }
}

/// Where a shipped set lies, if it does.
fn shipped(set: &TestSet) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/testset");
    let folders = ["static/testset".into(), "dist/testset".into(), here];
    let mut places = folders.iter().map(|folder: &PathBuf| folder.join(set.file));
    places.find(|path| path.is_file())
}

/// What would only come up after hours.
fn check_settings(conditions: &[Condition], model: &Model) -> Result<(), Failure> {
    for condition in conditions {
        condition.attack(model.set.size)?;
    }
    crate::input::check_side(&model.loaded.config, model.set.size)
}

fn hashes(models: &[Model]) -> Result<Vec<String>, Failure> {
    let mut hashes: Vec<(usize, String)> = Vec::new();
    for Model { set, .. } in models {
        if hashes.iter().any(|(size, _)| *size == set.size) {
            continue;
        }
        let labels = set.labels.iter().flat_map(|label| label.to_le_bytes());
        let bytes: Vec<u8> = set.images.iter().copied().chain(labels).collect();
        let hash = Hashed::bytes("", &bytes)?.sha256;
        hashes.push((set.size, hash.chars().take(16).collect()));
    }
    Ok(hashes.into_iter().map(|(_, hash)| hash).collect())
}

/// What the units cost, in forward passes of an image.
fn costs(plan: &Plan, conditions: &[Condition], units: &[Unit], models: &[Model]) -> Vec<u64> {
    let cost = |unit: &Unit| {
        let stochastic = models[unit.model].network.is_stochastic();
        let passes = conditions[unit.condition].cost(plan, stochastic);
        (passes * unit.images as f64).ceil() as u64
    };
    units.iter().map(cost).collect()
}

fn dry_run(
    plan: &Plan,
    conditions: &[Condition],
    units: &[Unit],
    models: &[Model],
) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(plan)?);
    let passes: u64 = costs(plan, conditions, units, models).iter().sum();
    println!(
        "{} conditions, {} units, about {passes} forward passes of an image at most (images that \
         have fallen take no more)",
        conditions.len(),
        units.len()
    );
    Ok(())
}

struct Work<'a> {
    plan: &'a Plan,
    conditions: &'a [Condition<'a>],
    models: &'a [Model],
    device: Device,
    textures: &'a Textures,
    cancel: CancelToken,
}

impl Work<'_> {
    fn run(&self, units: &[Unit], journal: Journal, jobs: usize) -> Result<(), Failure> {
        let costs = costs(self.plan, self.conditions, units, self.models);
        let bar = progress::bar(
            "{wide_bar} {percent} % {eta} {msg}",
            costs.iter().sum::<u64>(),
        );
        let open: Vec<(&Unit, u64)> = units.iter().zip(costs).collect();
        for (_, cost) in open.iter().filter(|(unit, _)| journal.has(unit.number)) {
            bar.inc(*cost);
        }
        bar.reset_eta();
        let open: Vec<_> = open
            .into_iter()
            .filter(|(unit, _)| !journal.has(unit.number))
            .collect();
        let journal = Mutex::new(journal);
        let outcome = Crew::new(jobs).queue(&open, |(unit, cost)| {
            let rows = self.unit(unit, &bar).map_err(|e| e.to_string())?;
            // Another thread that panicked has left the journal as it was.
            let mut journal = journal.lock().unwrap_or_else(|e| e.into_inner());
            journal.push(unit.number, rows).map_err(|e| e.to_string())?;
            bar.inc(*cost);
            Ok::<_, String>(())
        });
        bar.finish_and_clear();
        let stopped = self.cancel.check().is_err();
        if stopped {
            return Err("stopped; what is finished is kept, and the same command goes on".into());
        }
        outcome?;
        let journal = journal.into_inner().unwrap_or_else(|e| e.into_inner());
        journal.finish()?;
        Ok(())
    }

    fn unit(
        &self,
        unit: &Unit,
        bar: &ProgressBar,
    ) -> Result<Vec<ventral::measure::robustness::Row>, RunError> {
        let model = &self.models[unit.model];
        let bench = Bench {
            plan: self.plan,
            conditions: self.conditions,
            set: &model.set,
            classes: &model.classes,
            network: &model.network,
            device: self.device.clone(),
            textures: self.textures,
            cancel: self.cancel.clone(),
            pause: None,
        };
        bar.set_message(format!(
            "{}, {}, images {} to {}",
            self.plan.models[unit.model],
            self.conditions[unit.condition].name(),
            unit.first + 1,
            unit.first + unit.images
        ));
        pollster::block_on(bench.run(unit, &mut |_| {}))
    }
}
