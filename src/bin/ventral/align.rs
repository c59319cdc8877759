//! `ventral align`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ventral::align::aligner::Evaluation;
use ventral::align::head::with_new_head;
use ventral::align::plan::{Control, Plan, Target};
use ventral::align::target::TargetActivations;
use ventral::compute::device::Devices;
use ventral::experiment::alignment::documents::curve_lines;
use ventral::experiment::alignment::images::{Images, relabelled};
use ventral::experiment::alignment::outcome::{table, verdict};
use ventral::experiment::alignment::{Alignment, Report, Study};
use ventral::experiment::engine::Experiment;
use ventral::experiment::files::FileStore;
use ventral::experiment::journal::{Head, Journal, JournalStore, Otherwise, digest};
use ventral::experiment::robustness::plan::Plan as TestPlan;
use ventral::image::dataset::{LabelledSet, decode_planar, picture_names};
use ventral::model::load::Loaded;
use ventral::model::probe::CancelToken;
use ventral::neural;

use crate::output::write_file;
use crate::responses::Reading;
use crate::{Failure, evaluate, interrupt, progress, weights};

#[derive(clap::Args)]
pub struct Args {
    /// A plan as TOML or JSON, as the page saves it and as in `plans/align-*.toml`.
    plan: PathBuf,
    /// Seeds, separated by commas, in place of the plan's.
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Runs beside the aligned one, separated by commas: shuffled, gaussian, unaligned.
    #[arg(long, value_delimiter = ',', value_parser = control)]
    controls: Vec<Control>,
    /// A robustness plan, or the name of a preset, that every network is put through before and
    /// after; `none` for none.
    #[arg(long, default_value = "quick")]
    robustness: String,
    /// Images of that plan, in place of its number; none of them is a stimulus.
    #[arg(long)]
    robustness_images: Option<usize>,
    /// Labelled images, in place of the plan's.
    #[arg(long)]
    data: Option<String>,
    /// A table `image,class` that says what recorded pictures are of; without it their folders do.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Where people looked in recorded pictures: an `.npy` or `.npz` array, or a folder of grey
    /// pictures named as they are.
    #[arg(long)]
    heat_maps: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// A folder for the weights, the curves and the table. An interrupted run goes on from what is
    /// there.
    #[arg(long)]
    output: PathBuf,
}

fn control(name: &str) -> Result<Control, String> {
    Control::named(name).ok_or_else(|| {
        format!("there is no control `{name}`; there are shuffled, gaussian and unaligned")
    })
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let text =
        fs::read_to_string(&args.plan).map_err(|e| format!("{}: {e}", args.plan.display()))?;
    let plan = Plan::parse(&text).map_err(|e| format!("{}: {e}", args.plan.display()))?;
    let device = Devices::cpu("", None).device;
    let (study, model, images) = prepare(plan, args, &device)?;
    let alignment = Alignment {
        study: &study,
        model: &model,
        images: &images,
        device,
    };
    alignment.check(&CancelToken::default())?;
    let store = FileStore::new(&args.output)?;
    let name = format!("{}.jsonl", study.plan.name);
    let head = head(&study, &model, &images, args)?;
    let journal = Journal::open(&store, &name, &head, Otherwise::Refuse);
    let journal = pollster::block_on(journal)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = progress::on_threads(&alignment, &alignment.units(), journal, cores)?;
    let report = alignment.report(&rows)?;
    write(&alignment, &report, &args.output)?;
    // Everything in it is in the files now.
    pollster::block_on(store.remove(&name));
    print(&study, &report)
}

/// What is run, in the order of the results: the controls of a seed before the aligned run.
fn prepare(plan: Plan, args: &Args, device: &Device) -> Result<(Study, Loaded, Images), Failure> {
    let is_recorded = matches!(plan.target, Target::Responses { .. });
    if !is_recorded && (args.labels.is_some() || args.heat_maps.is_some()) {
        return Err(
            "--labels and --heat-maps go with recorded responses, whose pictures have names; this \
             plan's target is another"
                .into(),
        );
    }
    let mut model = weights::load_path_or_name(&plan.model)?;
    let named = args.data.as_deref().unwrap_or(&plan.data.images);
    if plan.new_head {
        let classes = classes_of(&plan, named, &model, args)?;
        model = pollster::block_on(with_new_head(&model, classes, plan.seed))?;
    }
    let images = match &plan.target {
        Target::Responses { file } => images_recorded(file, named, &model, args)?,
        _ => images_of_set(&plan, named, &model, args, device)?,
    };
    let seeds = match args.seeds.is_empty() {
        true => vec![plan.seed],
        false => args.seeds.clone(),
    };
    let mut controls = args.controls.clone();
    controls.retain(|control| !control.is_none());
    controls.push(Control::None);
    let runs = seeds
        .iter()
        .flat_map(|seed| controls.iter().map(|control| (*seed, *control)));
    let study = Study {
        runs: runs.collect(),
        robustness: test_plan(args, &model, images.rest.len())?,
        classes: BTreeMap::new(),
        plan,
    };
    Ok((study, model, images))
}

fn head(
    study: &Study,
    model: &Loaded,
    images: &Images,
    args: &Args,
) -> Result<Head<Study>, Failure> {
    let mut data = images.hashes();
    if let Target::Responses { file } = &study.plan.target {
        let bytes = fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        data.push(format!("{:016x}", digest(&bytes)));
        // Read in another way it is another target.
        let reading = args.reading.options();
        if reading != neural::ReadOptions::default() {
            data.push(format!(
                "{:016x}",
                digest(format!("{reading:?}").as_bytes())
            ));
        }
    }
    Ok(Head {
        kind: Alignment::KIND.to_owned(),
        plan: study.clone(),
        images: images.stimuli.len(),
        data,
        weights: vec![model.hash.clone()],
        program: format!("{} {}", env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION")),
        classes: Vec::new(),
        backend: "CPU".to_owned(),
    })
}

/// The curves of each run, the outcomes and the table. The weights are there already.
fn write(alignment: &Alignment, report: &Report, output: &Path) -> Result<(), Failure> {
    let name = &alignment.study.plan.name;
    let save = |ending: &str, text: String| {
        write_file(&output.join(format!("{name}{ending}")), |out| {
            Ok(out.write_all(text.as_bytes())?)
        })
    };
    for run in &report.ended {
        let of = (run.outcome.seed, run.outcome.control);
        let ending = format!("-{}.jsonl", alignment.study.run_name(of));
        save(&ending, curve_lines(&run.curve)?)?;
    }
    let outcomes = serde_json::to_string_pretty(&alignment.outcomes(report))?;
    save(".json", outcomes)?;
    save(".md", table(&report.outcomes(), &report.failed))
}

/// What the runs came to; an error where one failed.
fn print(study: &Study, report: &Report) -> Result<(), Failure> {
    let outcomes = report.outcomes();
    for outcome in &outcomes {
        println!(
            "{}-{}: CKA on held-out stimuli {:.3} to {:.3}, accuracy {} to {} %, {:.0} s",
            study.plan.name,
            study.run_name((outcome.seed, outcome.control)),
            outcome.before.held_out_stimuli,
            outcome.after.held_out_stimuli,
            percent(&outcome.before),
            percent(&outcome.after),
            outcome.seconds
        );
    }
    let aligned = outcomes.iter().filter(|o| o.control.is_none());
    aligned.for_each(|outcome| println!("seed {}: {}", outcome.seed, verdict(outcome)));
    println!("\n{}", table(&outcomes, &report.failed));
    match report.failed.len() {
        0 => Ok(()),
        failed => Err(format!(
            "{failed} of {} runs failed; their rows in the table say why",
            study.runs.len()
        )
        .into()),
    }
}

/// Of a labelled set, and the other model's activations where the target has one.
fn images_of_set(
    plan: &Plan,
    images: &str,
    model: &Loaded,
    args: &Args,
    device: &Device,
) -> Result<Images, Failure> {
    let (stimuli, rest) = images_for(plan, images, model, &args.cache)?;
    let activations = match plan.target.model() {
        Some((name, tap)) => {
            let other = weights::load_path_or_name(name)?;
            // What the images are of does not matter to it.
            let path = evaluate::data(Some(images), model)?;
            let set = evaluate::read_set(&path, &other, &args.cache)?.in_turns(usize::MAX);
            let (images, _) = Images::split(&set, plan.data.stimuli);
            let cancel = interrupt::on_ctrl_c();
            let activations = TargetActivations::of(&other, tap, &images, device, &cancel);
            Some(pollster::block_on(activations)?)
        }
        None => None,
    };
    Ok(Images {
        stimuli,
        labelled: true,
        rest,
        activations,
        ..Images::default()
    })
}

/// Pictures of a folder with recorded responses to them; accuracy is measured on the shipped set,
/// where one has the model's classes.
fn images_recorded(
    file: &str,
    folder: &str,
    model: &Loaded,
    args: &Args,
) -> Result<Images, Failure> {
    let folder = Path::new(folder);
    if !folder.is_dir() {
        return Err(format!(
            "data.images is “{}”, and recorded responses need the folder of the pictures that were \
             shown; give it there or with --data",
            folder.display()
        )
        .into());
    }
    let said = |e: &dyn std::fmt::Display| format!("{file}: {e}");
    let bytes = fs::read(file).map_err(|e| said(&e))?;
    let responses = neural::read(file, bytes, &args.reading.options());
    let responses = responses.map_err(|e| said(&e))?;
    let names = picture_names(folder)?;
    let (understood, aligned) =
        neural::interpret(&responses, Some(&names)).map_err(|e| said(&e))?;
    for sentence in understood.sentences() {
        eprintln!("{sentence}");
    }
    let all = names;
    let names: Vec<String> = aligned.images.iter().map(|i| all[*i].clone()).collect();
    let (stimuli, labelled) = pictures(folder, &names, model, args)?;
    let heat_maps = match &args.heat_maps {
        Some(path) => heat_maps(path, &all, &aligned.images, stimuli.size)?,
        None => Vec::new(),
    };
    // A model of other classes than the shipped set's goes without.
    let shipped = evaluate::data(None, model).ok();
    let rest = shipped.and_then(|path| whole_set(&path, model, &args.cache).ok());
    let rest = rest.unwrap_or_default();
    Ok(Images {
        stimuli,
        labelled,
        rest,
        heat_maps,
        recorded: Some(aligned.responses),
        ..Images::default()
    })
}

/// The classes of the images, for a new head.
fn classes_of(
    plan: &Plan,
    images: &str,
    model: &Loaded,
    args: &Args,
) -> Result<Vec<String>, Failure> {
    if matches!(plan.target, Target::Responses { .. }) {
        if let Some(table) = &args.labels {
            return Ok(read_labels(table)?.classes);
        }
        let names = picture_names(Path::new(images))?;
        return Ok(neural::labels_by_folder(&names)?.classes);
    }
    let path = evaluate::data(Some(images), model)?;
    Ok(evaluate::read_set(&path, model, &args.cache)?.classes)
}

fn percent(evaluation: &Evaluation) -> String {
    evaluation
        .accuracy
        .map_or("–".to_owned(), |a| format!("{:.1}", 100.0 * a))
}

/// The stimuli, and the images left for accuracy, as a model takes them.
fn images_for(
    plan: &Plan,
    images: &str,
    model: &Loaded,
    cache: &Path,
) -> Result<(LabelledSet, LabelledSet), Failure> {
    let path = evaluate::data(Some(images), model)?;
    let set = whole_set(&path, model, cache)?;
    Ok(Images::split(&set, plan.data.stimuli))
}

/// A labelled set as a model takes it, its classes taking turns, its labels those of the model.
fn whole_set(path: &Path, model: &Loaded, cache: &Path) -> Result<LabelledSet, Failure> {
    let set = evaluate::read_set(path, model, cache)?;
    relabelled(&set.in_turns(usize::MAX), model, &BTreeMap::new())
        .map_err(|e| format!("{} and {}: {e}", model.name, path.display()).into())
}

/// Pictures of a folder as a model takes them, and whether their folders are classes of it.
fn pictures(
    folder: &Path,
    names: &[String],
    model: &Loaded,
    args: &Args,
) -> Result<(LabelledSet, bool), Failure> {
    let named = classes_of_pictures(names, args)?;
    let mut set = LabelledSet {
        classes: model.classes.clone(),
        size: model.config.preprocessing.crop,
        ..LabelledSet::default()
    };
    let mut labelled = true;
    for (name, class) in names.iter().zip(named) {
        let bytes = fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        let planes = decode_planar(&bytes, set.size).map_err(|e| format!("{name}: {e}"))?;
        set.images.extend(planes);
        let class = class.and_then(|named| model.classes.iter().position(|class| *class == named));
        labelled &= class.is_some();
        set.labels.push(class.unwrap_or_default() as u16);
    }
    if !labelled {
        eprintln!("the pictures' classes are not the model's: no cross-entropy is computed");
    }
    Ok((set, labelled))
}

/// What pictures are of, by the table or by their folders.
fn classes_of_pictures(names: &[String], args: &Args) -> Result<Vec<Option<String>>, Failure> {
    let Some(path) = &args.labels else {
        let parent = |name: &String| {
            let parent = Path::new(name).parent().and_then(Path::file_name);
            parent.map(|p| p.to_string_lossy().into_owned())
        };
        return Ok(names.iter().map(parent).collect());
    };
    let table = read_labels(path)?;
    let labels = table.for_images(names);
    let (labels, _) = labels.map_err(|e| format!("{}: {e}", path.display()))?;
    let class = |label: u16| table.classes.get(usize::from(label)).cloned();
    Ok(labels.into_iter().map(class).collect())
}

fn read_labels(path: &Path) -> Result<neural::Labels, Failure> {
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = fs::read(path).map_err(|e| said(&e))?;
    let table = neural::labels_from_csv(&path.to_string_lossy(), &bytes);
    Ok(table.map_err(|e| said(&e))?)
}

/// Heat maps of the stimuli, `[stimuli, side, side]`: `places` among all pictures, whose `names` the
/// maps are matched with.
fn heat_maps(
    path: &Path,
    names: &[String],
    places: &[usize],
    side: usize,
) -> Result<Vec<f32>, Failure> {
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let maps = match path.is_dir() {
        true => {
            let files = picture_names(path)?;
            let read = |name: &String| Ok((name.clone(), fs::read(path.join(name))?));
            let pictures: Result<Vec<(String, Vec<u8>)>, std::io::Error> =
                files.iter().map(read).collect();
            let pictures = pictures.map_err(|e| said(&e))?;
            let pictures = pictures.iter().map(|(n, b)| (n.as_str(), b.as_slice()));
            neural::maps_from_pictures(pictures)
        }
        false => neural::read_maps(&fs::read(path).map_err(|e| said(&e))?),
    };
    let maps = maps.map_err(|e| said(&e))?;
    let (values, has) = maps.of_images(names, side).map_err(|e| said(&e))?;
    let with_map = places.iter().filter(|i| has[**i]).count();
    eprintln!("{with_map} of {} stimuli have a heat map", places.len());
    let plane = side * side;
    let map = |i: &usize| &values[i * plane..(i + 1) * plane];
    Ok(places.iter().flat_map(map).copied().collect())
}

fn test_plan(args: &Args, model: &Loaded, images: usize) -> Result<Option<TestPlan>, Failure> {
    if args.robustness == "none" || images == 0 {
        return Ok(None);
    }
    let plan = evaluate::read_plan(&args.robustness)?;
    let images = args.robustness_images.unwrap_or(plan.images).min(images);
    Ok(Some(plan.for_model(&model.name, images)?))
}
