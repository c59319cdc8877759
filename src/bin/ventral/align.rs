//! `ventral align`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use indicatif::ProgressBar;
use ventral::align::aligner::{Look, Step};
use ventral::align::experiment::{Curve, Ended, Images, compare, relabelled, robustness};
use ventral::align::head::with_new_head;
use ventral::align::outcome::{Outcome, Robust, table, verdict};
use ventral::align::plan::{Control, Plan, Target};
use ventral::align::shards::Crew;
use ventral::align::target::Answers;
use ventral::compute::device::Devices;
use ventral::experiment::robustness::plan::Plan as TestPlan;
use ventral::image::dataset::{LabelledSet, decode_planar, picture_names};
use ventral::model::load::Loaded;
use ventral::model::probe::CancelToken;
use ventral::model::save;
use ventral::neural;

use crate::output::write_file;
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
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// A folder for the weights, the curves and the table.
    #[arg(long)]
    output: PathBuf,
}

fn control(name: &str) -> Result<Control, String> {
    Control::named(name).ok_or_else(|| {
        format!("there is no control `{name}`; there are shuffled, gaussian and unaligned")
    })
}

/// What all runs share.
struct Work {
    plan: Plan,
    model: Loaded,
    images: Images,
    test: Option<TestPlan>,
    /// Of the model as it was.
    robust: Vec<Robust>,
    device: Device,
    cancel: CancelToken,
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let text =
        fs::read_to_string(&args.plan).map_err(|e| format!("{}: {e}", args.plan.display()))?;
    let plan = Plan::parse(&text).map_err(|e| format!("{}: {e}", args.plan.display()))?;
    let seeds = match args.seeds.is_empty() {
        true => vec![plan.seed],
        false => args.seeds.clone(),
    };
    let mut controls = args.controls.clone();
    controls.retain(|control| !control.is_none());
    controls.push(Control::None);
    let work = Work::new(plan, args)?;
    let jobs: Vec<(u64, Control)> = seeds
        .iter()
        .flat_map(|seed| controls.iter().map(|control| (*seed, *control)))
        .collect();
    let mut ended = work.run_all(&jobs)?;
    compare(&mut ended)?;
    let outcomes: Vec<Outcome> = ended.into_iter().map(|run| run.outcome).collect();
    work.write(&outcomes)?;
    let aligned = outcomes.iter().filter(|o| o.control.is_none());
    aligned.for_each(|outcome| println!("seed {}: {}", outcome.seed, verdict(outcome)));
    println!("\n{}", table(&outcomes));
    Ok(())
}

/// Of a labelled set, and the other model's answers where the target has one.
fn images_of_set(
    plan: &Plan,
    images: &str,
    model: &Loaded,
    args: &Args,
    device: &Device,
    cancel: &CancelToken,
) -> Result<Images, Failure> {
    let (stimuli, rest) = images_for(plan, images, model, &args.cache)?;
    let answers = match plan.target.model() {
        Some((name, tap)) => {
            let other = weights::load_path_or_name(name)?;
            // What the images are of does not matter to it.
            let path = evaluate::data(Some(images), model)?;
            let set = evaluate::read_set(&path, &other, &args.cache)?.in_turns(usize::MAX);
            let (images, _) = Images::split(&set, plan.data.stimuli);
            let answers = Answers::of(&other, tap, &images, device, cancel);
            Some(pollster::block_on(answers)?)
        }
        None => None,
    };
    Ok(Images {
        stimuli,
        labelled: true,
        rest,
        answers,
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
    let responses = neural::read(file, bytes, &neural::ReadOptions::default());
    let responses = responses.map_err(|e| said(&e))?;
    let names = picture_names(folder)?;
    let (understood, aligned) =
        neural::understand(&responses, Some(&names)).map_err(|e| said(&e))?;
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

impl Work {
    fn new(plan: Plan, args: &Args) -> Result<Self, Failure> {
        let is_recorded = matches!(plan.target, Target::Responses { .. });
        if !is_recorded && (args.labels.is_some() || args.heat_maps.is_some()) {
            return Err(
                "--labels and --heat-maps go with recorded responses, whose pictures have \
                        names; this plan's target is another"
                    .into(),
            );
        }
        let mut model = weights::load_path_or_name(&plan.model)?;
        let (device, cancel) = (Devices::cpu("", None).device, interrupt::on_ctrl_c());
        let named = args.data.as_deref().unwrap_or(&plan.data.images);
        if plan.new_head {
            let classes = classes_of(&plan, named, &model, args)?;
            model = pollster::block_on(with_new_head(&model, classes, plan.seed))?;
        }
        let images = match &plan.target {
            Target::Responses { file } => images_recorded(file, named, &model, args)?,
            _ => images_of_set(&plan, named, &model, args, &device, &cancel)?,
        };
        fs::create_dir_all(&args.output)?;
        let mut work = Self {
            test: test_plan(args, &model, images.rest.len())?,
            plan,
            model,
            images,
            robust: Vec::new(),
            device,
            cancel,
            output: args.output.clone(),
        };
        work.robust = work.robustness(&work.model)?;
        Ok(work)
    }

    /// The runs, a thread each and as many at a time as there are cores; in their order.
    fn run_all(&self, jobs: &[(u64, Control)]) -> Result<Vec<Ended>, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let run = |(seed, control): &(u64, Control)| {
            // An error of another kind cannot pass between threads.
            self.run(*seed, *control).map_err(|e| e.to_string())
        };
        Ok(Crew::new(cores).queue(jobs, run)?)
    }

    fn run(&self, seed: u64, control: Control) -> Result<Ended, Failure> {
        let clock = Instant::now();
        let mut plan = self.plan.with_control(control);
        plan.seed = seed;
        let (mut aligner, ceiling) =
            self.images
                .aligner(plan, &self.model, &self.device, &self.cancel)?;
        let name = format!("{}-{}-seed{seed}", self.plan.name, control.run());
        let mut file = fs::File::create(self.output.join(format!("{name}.jsonl")))?;
        let mut curve = Curve::default();
        let before = pollster::block_on(aligner.look())?;
        writeln!(file, "{}", serde_json::to_string(&before)?)?;
        curve.looks.push(before);
        let bar = progress::bar(
            "{prefix} {wide_bar} {percent} % {eta} {msg}",
            self.plan.steps as u64,
        );
        bar.set_prefix(name.clone());
        let mut after = before;
        while !aligner.is_finished() {
            let step = pollster::block_on(aligner.step())?;
            writeln!(file, "{}", serde_json::to_string(&step)?)?;
            if aligner.is_look_due() {
                after = pollster::block_on(aligner.look())?;
                writeln!(file, "{}", serde_json::to_string(&after)?)?;
                curve.looks.push(after);
            }
            show(&bar, &step, &after);
            curve.steps.push(step);
        }
        bar.finish_and_clear();
        let mut aligned = self.model.clone();
        aligned.weights = pollster::block_on(save::to_host(&aligner.network()))?;
        aligned.name.clone_from(&name);
        write_file(&self.output.join(format!("{name}.safetensors")), |out| {
            Ok(save::write(&aligned, false, out)?)
        })?;
        let mut ended = pollster::block_on(Ended::of(&aligner, control, ceiling, curve))?;
        ended.outcome.robust_before.clone_from(&self.robust);
        ended.outcome.robust_after = self.robustness(&aligned)?;
        ended.outcome.seconds = clock.elapsed().as_secs_f32();
        println!(
            "{name}: CKA on held-out stimuli {:.3} to {:.3}, accuracy {} to {} %, {:.0} s",
            before.held_out_stimuli,
            after.held_out_stimuli,
            percent(&before),
            percent(&after),
            ended.outcome.seconds
        );
        Ok(ended)
    }

    /// The plan's conditions on images that are no stimuli.
    fn robustness(&self, model: &Loaded) -> Result<Vec<Robust>, Failure> {
        let Some(plan) = &self.test else {
            return Ok(Vec::new());
        };
        let (rest, device) = (&self.images.rest, &self.device);
        let run = robustness(plan, rest, model, device, &self.cancel, || Box::pin(ready(())));
        Ok(pollster::block_on(run)?)
    }

    fn write(&self, outcomes: &[Outcome]) -> Result<(), Failure> {
        let path = |ending: &str| self.output.join(format!("{}{ending}", self.plan.name));
        write_file(&path(".json"), |out| {
            let document = serde_json::json!({ "plan": self.plan, "runs": outcomes });
            Ok(serde_json::to_writer_pretty(out, &document)?)
        })?;
        write_file(&path(".md"), |out| {
            Ok(out.write_all(table(outcomes).as_bytes())?)
        })
    }
}

fn percent(look: &Look) -> String {
    look.accuracy
        .map_or("–".to_owned(), |a| format!("{:.1}", 100.0 * a))
}

fn show(bar: &ProgressBar, step: &Step, look: &Look) {
    bar.set_position(step.step as u64);
    bar.set_message(format!(
        "loss {:.3}, CKA {:.3}",
        step.loss, look.held_out_stimuli
    ));
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
    let mut plan = evaluate::read_plan(&args.robustness)?;
    plan.models = vec![model.name.clone()];
    plan.reference = None;
    plan.images = args.robustness_images.unwrap_or(plan.images).min(images);
    plan.check()?;
    Ok(Some(plan))
}
