//! `ventral train`.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use indicatif::{HumanDuration, ProgressBar};
use ventral::compute::device::Active;
use ventral::image::dataset::{
    Classes, LabelledSet, LoadOptions, Split, load_cifar10, load_classes, load_tiny_imagenet,
};
use ventral::model::cost::multiply_adds;
use ventral::train::metrics::EpochMetrics;
use ventral::train::recipe::{DataSet, Recipe};
use ventral::train::trainer::{Run, TrainEvent, evaluate};

use crate::backend::Place;
use crate::card::{self, Finished};
use crate::{Failure, progress};

/// A whole run as one bar, with the remaining time in the message.
const BAR: &str = "{prefix} {wide_bar} {percent:>3} % {msg}";

#[derive(clap::Args)]
pub struct Args {
    /// A recipe, as in `recipes/`.
    #[arg(long)]
    recipe: PathBuf,
    /// The data set: a `.tar.xz` archive, a folder of class folders, or the binary files of CIFAR-10
    /// or CIFAR-100.
    #[arg(long)]
    data: PathBuf,
    /// Where the run keeps its state; `runs/NAME` unless given. An interrupted run with the same
    /// recipe continues from here.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Go back to the beginning of this epoch, counted from 0, and train again from there. The
    /// recipe's `keep` says which epochs that is possible for.
    #[arg(long, value_name = "N")]
    from_epoch: Option<usize>,
    #[command(flatten)]
    place: Place,
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// Train on this many images only, of all classes, to try a recipe.
    #[arg(long)]
    limit: Option<usize>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let text =
        fs::read_to_string(&args.recipe).map_err(|e| format!("{}: {e}", args.recipe.display()))?;
    let recipe = Recipe::parse(&text)?;
    let folder = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let Active { device, info } = args.place.device()?;
    let mut images = load(&args, &recipe, Split::Train)?;
    if let Some(limit) = args.limit {
        images = images.thinned(limit);
    }
    let test = load(&args, &recipe, Split::Test)?;
    println!(
        "{}: {} training and {} test images of {} classes, {} epochs, {:.1} million multiply-adds \
         an image, on {}, state in {}",
        recipe.name,
        images.len(),
        test.len(),
        images.classes.len(),
        recipe.epochs,
        multiply_adds(&recipe.model, recipe.side()) as f64 / 1e6,
        info.name,
        folder.display()
    );
    let run = Run {
        recipe: &recipe,
        training: &images,
        test: &test,
        folder: &folder,
        device: &device,
        from_epoch: args.from_epoch,
    };
    let bar = progress::bar(BAR, 0);
    let (network, metrics) = run.go(|event| show(&bar, recipe.epochs, event))?;
    bar.finish_and_clear();
    let finished = Finished {
        recipe: &recipe,
        recipe_path: &args.recipe,
        network: &network,
        metrics: &metrics,
        classes: &images.classes,
        test_images: test.len(),
        device: &info.name,
    };
    let exported = card::export(&finished, &folder)?;
    let accuracy = evaluate(&exported.to_network(&device), &test, 250, &device);
    card::write(&finished, &exported, accuracy, &folder)?;
    println!(
        "test accuracy {:.2} % (f16), weights, card and plot in {}",
        100.0 * accuracy,
        folder.display()
    );
    Ok(())
}

fn load(args: &Args, recipe: &Recipe, split: Split) -> Result<LabelledSet, Failure> {
    let options = LoadOptions {
        size: recipe.side(),
        cache: Some(args.cache.clone()),
    };
    let only = &recipe.data.classes;
    let wanted = Classes {
        only: only.clone(),
        ..Classes::default()
    };
    let path = &args.data;
    let bar = progress::bar(BAR, 0);
    let report = &mut |progress: ventral::image::dataset::Progress| {
        bar.set_prefix(format!("{} the {} part", progress.stage, split.name()));
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        ControlFlow::Continue(())
    };
    let set = match recipe.data.set {
        // All ten at their own size are checked to be CIFAR-10.
        DataSet::Cifar10 if only.is_empty() && options.size == 32 => {
            load_cifar10(path, split, options.cache.as_deref(), report)
        }
        DataSet::Cifar10 | DataSet::Folder => load_classes(path, split, &options, &wanted, report),
        DataSet::TinyImagenet => load_tiny_imagenet(path, split, &options, only, report),
    };
    bar.finish_and_clear();
    Ok(set?)
}

fn show(bar: &ProgressBar, epochs: usize, event: TrainEvent) {
    match event {
        TrainEvent::Step {
            epoch,
            step,
            steps,
            loss,
            images_per_second,
            done,
            total,
        } => {
            if bar.length() != Some(total) {
                bar.set_length(total);
                // Steps of an earlier start say nothing about the speed of this one.
                bar.set_position(done);
                bar.reset_eta();
            }
            bar.set_position(done);
            let eta = HumanDuration(bar.eta());
            // A log file has no bar to redraw: a line now and then.
            if bar.is_hidden() && (step + 1) % 50 == 0 {
                println!(
                    "epoch {epoch:3}  step {:4}/{steps}  loss {loss:.3}  {images_per_second:.0} images/s  {eta} to go",
                    step + 1
                );
            }
            bar.set_prefix(format!("epoch {epoch} of {epochs}"));
            bar.set_message(format!(
                "loss {loss:.3}, {images_per_second:.0} images/s, {eta} to go"
            ));
        }
        TrainEvent::Epoch(metrics) => bar.suspend(|| print_epoch(metrics)),
    }
}

fn print_epoch(m: &EpochMetrics) {
    println!(
        "epoch {:3}  loss {:.4}  train {:.2} %  test {:.2} %  rate {:.4}  {:.0} s",
        m.epoch,
        m.train_loss,
        100.0 * m.train_accuracy,
        100.0 * m.test_accuracy,
        m.learning_rate,
        m.seconds
    );
}
