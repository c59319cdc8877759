//! `ventral attack`.

mod batches;
mod data;
mod report;
mod settings;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use ventral::model::classes::class_of;
use ventral::model::load::Loaded;
use ventral::perturb::attack::Aim;
use ventral::perturb::attack::plan::Plan;
use ventral::perturb::attack::registry::{self, ATTACKS, AttackInfo};

use crate::backend::Place;
use crate::weights::Choice;
use crate::{Failure, input, interrupt};
use batches::Batches;
use data::Images;
use settings::SettingArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: Choice,
    /// An `.npy` file of NCHW f32 pixels in [0, 1], a picture, or a folder of pictures. Pictures
    /// go through the model's preprocessing; folders in the folder that are named after classes,
    /// or numbered as they are, give the labels.
    #[arg(long)]
    input: PathBuf,
    /// An `.npy` file of one integer an image. Without labels, the class that is left is what the
    /// model says of the clean image.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// `pgd`, `square`, `deepfool`, …: `ventral attack --help` lists them.
    #[arg(long, required_unless_present = "plan", conflicts_with = "plan")]
    attack: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    /// The class to reach, by number or name. Otherwise any class but the label will do.
    #[arg(long)]
    target: Option<String>,
    /// The probability the wrong (or wanted) class must have, 0 to 1; at 0 it need only be the
    /// largest. (The margin of logits of Carlini and Wagner is a setting of a plan.)
    #[arg(long, default_value_t = 0.0)]
    confidence: f32,
    /// The noise of a stochastic front-end: `fresh` at every pass, `off`, or the seed of one
    /// sample for all. Other models have none.
    #[arg(long, default_value = "fresh", value_parser = parse_noise)]
    noise: FrontEnd,
    /// Passes a gradient is averaged over when the noise is fresh (expectation over
    /// transformation).
    #[arg(long, default_value_t = 10)]
    eot: usize,
    /// Fresh passes that judge each image of a stochastic model, of which most must agree; 10
    /// unless given.
    #[arg(long, conflicts_with = "plan")]
    passes: Option<usize>,
    /// Round results to 8 bits a channel, inside the ball, before they are judged.
    #[arg(long, conflicts_with = "plan")]
    eight_bit: bool,
    /// Images attacked together. Attacks and models that draw nothing give the same whatever this
    /// is, up to rounding; what is drawn comes from a stream of the seed and of the number of the
    /// batch's first image.
    #[arg(long, default_value_t = 64, value_parser = parse_batch)]
    batch: usize,
    /// 0 unless given. The same seed gives the same bytes.
    #[arg(long, conflicts_with = "plan")]
    seed: Option<u64>,
    /// Also check on the first batch whether the gradient tells the truth.
    #[arg(long)]
    check: bool,
    /// A plan as JSON, or a recipe that holds one: attack, seed, rounding and passes.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// A folder for the results as PNG pictures. They are exact with --eight-bit only.
    #[arg(long)]
    images: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// An `.npz` file of `adv`, `logits`, `success`, `met_before`, `labels`, `l1`, `l2` and
    /// `linf`, one row an image. The recipe goes beside it, with the ending `.json`.
    #[arg(long)]
    output: PathBuf,
}

/// The noise of a stochastic front-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEnd {
    Off,
    Fresh,
    Seed(u64),
}

fn parse_noise(text: &str) -> Result<FrontEnd, String> {
    let seed = || text.parse().map(FrontEnd::Seed);
    match text {
        "off" => Ok(FrontEnd::Off),
        "fresh" => Ok(FrontEnd::Fresh),
        _ => seed().map_err(|_| format!("`{text}` is neither `off`, `fresh` nor a seed")),
    }
}

fn parse_batch(text: &str) -> Result<usize, String> {
    let batch = text.parse::<usize>().ok().filter(|batch| *batch > 0);
    batch.ok_or_else(|| format!("`{text}` is no number of images; it must be at least 1"))
}

/// The attacks with their norms, steps and papers, for the help.
pub fn table_of_attacks() -> String {
    let row = |attack: &AttackInfo| {
        let norms: Vec<&str> = attack.norms.iter().map(|norm| norm.word()).collect();
        let names = attack.settings.iter().map(|taken| taken.setting.name());
        format!(
            "  {:10} {:12} {:>6}  {:38} {}\n",
            attack.name,
            norms.join(" "),
            attack.steps().map_or(String::new(), |s| s.to_string()),
            names.collect::<Vec<_>>().join(", "),
            attack.paper
        )
    };
    let head = format!(
        "Attacks:\n  {:10} {:12} {:>6}  {:38} paper\n",
        "name", "norms", "steps", "settings"
    );
    ATTACKS.iter().map(row).fold(head, |text, row| text + &row)
}

/// What the attack is to do with every image.
pub struct Request {
    pub plan: Plan,
    pub aim: Aim,
    /// With [`Aim::Targeted`].
    pub target: Option<usize>,
    pub confidence: f32,
    pub noise: FrontEnd,
    pub eot: usize,
    pub batch: usize,
    pub check: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let plan = plan(args)?;
    check_places(args)?;
    let loaded = args.model.load()?;
    let target = args.target.as_deref().map(|text| target(text, &loaded));
    let target = target.transpose()?;
    let request = Request {
        plan,
        aim: target.map_or(Aim::Untargeted, |_| Aim::Targeted),
        target,
        confidence: args.confidence,
        noise: args.noise,
        eot: args.eot,
        batch: args.batch,
        check: args.check,
    };
    let images = Images::read(&args.input, args.labels.as_deref(), &loaded)?;
    input::check_side(&loaded.config, images.side)?;
    report::check_size(&images, loaded.config.classes)?;
    let backend = args.place.device()?;
    let network = loaded.to_network(&backend.device.clone().autodiff());
    let batches = Batches {
        request: &request,
        images: &images,
        network: &network,
        device: backend.device,
        cancel: interrupt::on_ctrl_c(),
    };
    let results = pollster::block_on(batches.run())?;
    let report = report::Report {
        args,
        request: &request,
        loaded: &loaded,
        backend: &backend.info.name,
        images: &images,
        results: &results,
    };
    report.write()?;
    print!("{report}");
    Ok(())
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    if let Some(path) = &args.plan {
        return read_plan(path);
    }
    let name = args.attack.as_deref().unwrap_or_default();
    Ok(Plan {
        attack: registry::by_name(name, &args.settings.0)?,
        seed: args.seed.unwrap_or(0),
        eight_bit: args.eight_bit,
        passes: args.passes.unwrap_or(10),
    })
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let said = |e: &dyn fmt::Display| format!("{} is not a plan: {e}", path.display());
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut document: serde_json::Value = serde_json::from_str(&text).map_err(|e| said(&e))?;
    let inner = document.get_mut("plan").map(serde_json::Value::take);
    Ok(serde_json::from_value(inner.unwrap_or(document)).map_err(|e| said(&e))?)
}

/// What would only come up when the work is done.
fn check_places(args: &Args) -> Result<(), Failure> {
    let output = &args.output;
    let shown = output.display();
    if !input::has_ending(output, "npz") || output.is_dir() {
        return Err(format!("the output {shown} must be a file ending in .npz").into());
    }
    let folder = output.parent().filter(|p| !p.as_os_str().is_empty());
    if !folder.is_none_or(Path::is_dir) {
        return Err(format!("the folder of the output {shown} does not exist").into());
    }
    match &args.images {
        Some(folder) => input::keep_apart(&args.input, folder),
        None => Ok(()),
    }
}

fn target(text: &str, loaded: &Loaded) -> Result<usize, Failure> {
    class_of(text, &loaded.classes).ok_or_else(|| {
        format!(
            "the target `{text}` is no class of this model; it has 0 to {}{}",
            loaded.classes.len().saturating_sub(1),
            named(&loaded.classes)
        )
        .into()
    })
}

/// The names of a few classes, for a sentence.
fn named(classes: &[String]) -> String {
    match classes.len() {
        0..=20 => format!(" ({})", classes.join(", ")),
        _ => String::new(),
    }
}
