//! `ventral train`.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use burn::tensor::Device;
use indicatif::ProgressBar;
use ventral::align::recipe::Recipe;
use ventral::align::trainer::{EpochMetrics, TrainEvent, evaluate, train};
use ventral::image::dataset::{LabelledSet, Split, load_cifar10};

use crate::card::{self, Finished};
use crate::{Failure, progress};

#[derive(clap::Args)]
pub struct Args {
    /// A recipe, as in `recipes/`.
    #[arg(long)]
    recipe: PathBuf,
    /// The data set: a `.tar.xz` archive, a folder of class folders, or CIFAR-10's binary files.
    #[arg(long)]
    data: PathBuf,
    /// Where the run keeps its state; `runs/NAME` unless given. An interrupted run with the same
    /// recipe goes on from here.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Where decoded data sets are kept.
    #[arg(long, default_value = ".ventral/cache")]
    cache: PathBuf,
    /// Train on this many images only, for a quick look at a recipe.
    #[arg(long)]
    limit: Option<usize>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let recipe = Recipe::parse(&fs::read_to_string(&args.recipe)?)?;
    if recipe.data.set != "cifar10" {
        return Err(format!(
            "the data set `{}` is not known; use cifar10",
            recipe.data.set
        )
        .into());
    }
    let folder = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let mut images = load(&args, Split::Train)?;
    if let Some(limit) = args.limit {
        images = images.slice(0..limit);
    }
    let test = load(&args, Split::Test)?;
    println!(
        "{}: {} training and {} test images, {} epochs, state in {}",
        recipe.name,
        images.len(),
        test.len(),
        recipe.epochs,
        folder.display()
    );
    let bar = progress::bar("{prefix} {wide_bar} {pos}/{len} {msg} {eta}", 0);
    let device = Device::flex();
    let (network, metrics) = train(&recipe, &images, &test, &folder, &device, |event| {
        show(&bar, event)
    })?;
    bar.finish_and_clear();
    let finished = Finished {
        recipe: &recipe,
        recipe_path: &args.recipe,
        network: &network,
        metrics: &metrics,
        classes: &images.classes,
        test_images: test.len(),
    };
    let exported = card::export(&finished, &folder)?;
    let accuracy = evaluate(&exported.to_network(&device), &test, 250, &device);
    card::write(&finished, &exported, accuracy, &folder)?;
    println!(
        "test accuracy {:.2} % (f16), weights and card in {}",
        100.0 * accuracy,
        folder.display()
    );
    Ok(())
}

fn load(args: &Args, split: Split) -> Result<LabelledSet, Failure> {
    let cache = Some(args.cache.clone());
    let set = load_cifar10(&args.data, split, cache.as_deref(), &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(set)
}

fn show(bar: &ProgressBar, event: TrainEvent) {
    match event {
        TrainEvent::Step {
            epoch,
            step,
            steps,
            loss,
            images_per_second,
        } => {
            // A log file has no bar to redraw: a line now and then.
            if bar.is_hidden() && (step + 1) % 50 == 0 {
                println!(
                    "epoch {epoch:3}  step {:4}/{steps}  loss {loss:.3}  {images_per_second:.0} images/s",
                    step + 1
                );
            }
            bar.set_length(steps as u64);
            bar.set_position(step as u64 + 1);
            bar.set_prefix(format!("epoch {epoch}"));
            bar.set_message(format!("loss {loss:.3} {images_per_second:.0} images/s"));
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
