//! `ventral align`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use indicatif::ProgressBar;
use ventral::align::aligner::{Aligner, Gain, Look, Step};
use ventral::align::outcome::{Outcome, Robust, table, verdict};
use ventral::align::plan::{Control, Plan, Target};
use ventral::align::shards::Crew;
use ventral::align::stimuli::Stimuli;
use ventral::align::target::{Answers, Responses, recorded as recorded_target, responses};
use ventral::compute::device::Devices;
use ventral::image::dataset::{LabelledSet, decode_planar, picture_names};
use ventral::measure::robustness::plan::Plan as TestPlan;
use ventral::measure::robustness::run::Bench;
use ventral::measure::similarity::Gram;
use ventral::measure::similarity::inference::permutation_test;
use ventral::model::classes::match_classes;
use ventral::model::load::Loaded;
use ventral::model::probe::CancelToken;
use ventral::model::save;
use ventral::neural;
use ventral::perturb::corruption::Textures;
use ventral::rng::Rng;

use crate::output::write_file;
use crate::{Failure, evaluate, interrupt, progress, weights};

/// Permutations of the held-out stimuli.
const PERMUTATIONS: usize = 1000;

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
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// A folder for the weights, the curves and the table.
    #[arg(long)]
    output: PathBuf,
}

fn control(name: &str) -> Result<Control, String> {
    let named = Control::ALL.into_iter().find(|c| c.name() == name);
    named.ok_or_else(|| {
        format!("there is no control `{name}`; there are shuffled, gaussian and unaligned")
    })
}

/// What a plan trains on, and is measured on.
struct Images {
    stimuli: LabelledSet,
    /// The stimuli's labels are classes of the model.
    labelled: bool,
    /// None of them a stimulus.
    rest: LabelledSet,
    recorded: Option<neural::Responses>,
    answers: Option<Answers>,
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

/// A run that has ended, with what is compared.
struct Ended {
    outcome: Outcome,
    network: Gram,
    responses: Gram,
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

/// Gives every aligned run its gain over the shuffled run of its seed.
fn compare(runs: &mut [Ended]) -> Result<(), Failure> {
    let shuffled: Vec<(u64, Gram)> = runs
        .iter()
        .filter(|run| run.outcome.control == Control::Shuffled)
        .map(|run| (run.outcome.seed, run.network.clone()))
        .collect();
    for run in runs.iter_mut().filter(|run| run.outcome.control.is_none()) {
        let theirs = shuffled.iter().find(|(seed, _)| *seed == run.outcome.seed);
        if let Some((_, theirs)) = theirs {
            run.outcome.gain = Some(Gain::between(&run.network, theirs, &run.responses)?);
        }
    }
    Ok(())
}

impl Images {
    /// Of a labelled set, and the other model's answers where the target has one.
    fn of_set(
        plan: &Plan,
        images: &str,
        model: &Loaded,
        args: &Args,
        device: &Device,
        cancel: &CancelToken,
    ) -> Result<Self, Failure> {
        let (stimuli, rest) = images_for(plan, images, model, &args.cache)?;
        let answers = match plan.target.model() {
            Some((name, tap)) => {
                let other = weights::load_path_or_name(name)?;
                let (images, _) = images_for(plan, images, &other, &args.cache)?;
                let answers = Answers::of(&other, tap, &images, device, cancel);
                Some(pollster::block_on(answers)?)
            }
            None => None,
        };
        Ok(Self {
            stimuli,
            labelled: true,
            rest,
            recorded: None,
            answers,
        })
    }

    /// Pictures of a folder with recorded responses to them; accuracy is measured on the shipped
    /// set, where one has the model's classes.
    fn recorded(file: &str, folder: &str, model: &Loaded, args: &Args) -> Result<Self, Failure> {
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
        let names: Vec<String> = aligned.images.iter().map(|i| names[*i].clone()).collect();
        let (stimuli, labelled) = pictures(folder, &names, model)?;
        let rest = match evaluate::data(None, model) {
            Ok(path) => whole_set(&path, model, &args.cache)?,
            Err(_) => LabelledSet::default(),
        };
        Ok(Self {
            stimuli,
            labelled,
            rest,
            recorded: Some(aligned.responses),
            answers: None,
        })
    }
}

impl Work {
    fn new(plan: Plan, args: &Args) -> Result<Self, Failure> {
        let model = weights::load_path_or_name(&plan.model)?;
        let (device, cancel) = (Devices::cpu("", None).device, interrupt::on_ctrl_c());
        let named = args.data.as_deref().unwrap_or(&plan.data.images);
        let images = match &plan.target {
            Target::Responses { file } => Images::recorded(file, named, &model, args)?,
            _ => Images::of_set(&plan, named, &model, args, &device, &cancel)?,
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
        let Responses {
            values,
            neuroids,
            ceiling,
        } = self.responses(&plan)?;
        let stimuli = Stimuli {
            images: self.images.stimuli.clone(),
            labelled: self.images.labelled,
            responses: values,
            neuroids,
            heat_maps: Vec::new(),
        };
        let mut aligner = Aligner::new(
            plan,
            &self.model,
            stimuli,
            self.images.rest.clone(),
            self.device.clone(),
            self.cancel.clone(),
        )?;
        let name = format!("{}-{}-seed{seed}", self.plan.name, control.run());
        let mut curve = fs::File::create(self.output.join(format!("{name}.jsonl")))?;
        let before = pollster::block_on(aligner.look())?;
        writeln!(curve, "{}", serde_json::to_string(&before)?)?;
        let bar = progress::bar(
            "{prefix} {wide_bar} {percent} % {eta} {msg}",
            self.plan.steps as u64,
        );
        bar.set_prefix(name.clone());
        let mut after = before;
        while !aligner.is_finished() {
            let step = pollster::block_on(aligner.step())?;
            writeln!(curve, "{}", serde_json::to_string(&step)?)?;
            if aligner.is_look_due() {
                after = pollster::block_on(aligner.look())?;
                writeln!(curve, "{}", serde_json::to_string(&after)?)?;
            }
            show(&bar, &step, &after);
        }
        bar.finish_and_clear();
        let network = aligner.network();
        let [kernel, responses] = pollster::block_on(aligner.held_out_kernels(&network))?;
        let mut rng = Rng::stream(seed, "permutations");
        let chance = permutation_test(&kernel, &responses, PERMUTATIONS, &mut rng);
        let mut aligned = self.model.clone();
        aligned.weights = save::to_host(&network);
        aligned.name.clone_from(&name);
        write_file(&self.output.join(format!("{name}.safetensors")), |out| {
            Ok(save::write(&aligned, false, out)?)
        })?;
        let outcome = Outcome {
            seed,
            control,
            steps: aligner.steps_done(),
            before,
            after,
            chance,
            ceiling,
            gain: None,
            robust_before: self.robust.clone(),
            robust_after: self.robustness(&aligned)?,
            seconds: clock.elapsed().as_secs_f32(),
        };
        println!(
            "{name}: CKA on held-out stimuli {:.3} to {:.3}, accuracy {} to {} %, {:.0} s",
            before.held_out_stimuli,
            after.held_out_stimuli,
            percent(&before),
            percent(&after),
            outcome.seconds
        );
        Ok(Ended {
            outcome,
            network: kernel,
            responses,
        })
    }

    fn responses(&self, plan: &Plan) -> Result<Responses, Failure> {
        let Images {
            stimuli,
            recorded,
            answers,
            ..
        } = &self.images;
        let recorded = recorded.as_ref();
        let recorded = recorded.map(|data| recorded_target(data, plan.seed));
        Ok(responses(
            plan,
            stimuli,
            answers.as_ref(),
            recorded.transpose()?,
        )?)
    }

    /// The plan's conditions on images that are no stimuli.
    fn robustness(&self, model: &Loaded) -> Result<Vec<Robust>, Failure> {
        let Some(plan) = &self.test else {
            return Ok(Vec::new());
        };
        let conditions = plan.conditions()?;
        let set = self.images.rest.in_turns(plan.images);
        let classes: Vec<usize> = (0..set.classes.len()).collect();
        let network = model.to_network(&self.device.clone().autodiff());
        let bench = Bench {
            plan,
            conditions: &conditions,
            set: &set,
            classes: &classes,
            network: &network,
            device: self.device.clone(),
            textures: &Textures::default(),
            cancel: self.cancel.clone(),
            pause: None,
        };
        let mut rows = Vec::new();
        for unit in plan.units(conditions.len(), set.len()) {
            rows.extend(pollster::block_on(bench.run(&unit, &mut |_| {}))?);
        }
        let mut found: Vec<Robust> = conditions
            .iter()
            .map(|condition| Robust {
                condition: condition.name(),
                right: 0,
                images: 0,
            })
            .collect();
        for row in rows {
            if let Some(of) = found.iter_mut().find(|r| r.condition == row.condition) {
                of.images += 1;
                of.right += usize::from(row.prediction == row.label);
            }
        }
        Ok(found)
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
    let count = match plan.data.stimuli {
        0 => set.len(),
        stimuli => stimuli.min(set.len()),
    };
    Ok((set.slice(0..count), set.slice(count..set.len())))
}

/// A labelled set as a model takes it, its classes taking turns, its labels those of the model.
fn whole_set(path: &Path, model: &Loaded, cache: &Path) -> Result<LabelledSet, Failure> {
    let set = evaluate::read_set(path, model, cache)?;
    let named = std::collections::BTreeMap::new();
    let classes = match_classes(&set.classes, &model.classes, &named)
        .map_err(|e| format!("{} and {}: {e}", model.name, path.display()))?;
    let mut set = set.in_turns(usize::MAX);
    for label in &mut set.labels {
        let class = classes[usize::from(*label)].unwrap_or_default();
        *label = class as u16;
    }
    set.classes.clone_from(&model.classes);
    Ok(set)
}

/// Pictures of a folder as a model takes them, and whether their folders are classes of it.
fn pictures(
    folder: &Path,
    names: &[String],
    model: &Loaded,
) -> Result<(LabelledSet, bool), Failure> {
    let mut set = LabelledSet {
        classes: model.classes.clone(),
        size: model.config.preprocessing.crop,
        ..LabelledSet::default()
    };
    let mut labelled = true;
    for name in names {
        let bytes = fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        let planes = decode_planar(&bytes, set.size).map_err(|e| format!("{name}: {e}"))?;
        set.images.extend(planes);
        let parent = Path::new(name).parent().and_then(Path::file_name);
        let parent = parent.map(|p| p.to_string_lossy().into_owned());
        let class = parent.and_then(|p| model.classes.iter().position(|class| *class == p));
        labelled &= class.is_some();
        set.labels.push(class.unwrap_or_default() as u16);
    }
    if !labelled {
        eprintln!(
            "the pictures' folders are not the model's classes: no cross-entropy is computed"
        );
    }
    Ok((set, labelled))
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
