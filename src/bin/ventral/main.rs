//! The native command line.

mod align;
mod attack;
mod backend;
mod card;
mod corrupt;
mod evaluate;
mod export;
mod fetch;
mod infer;
mod input;
mod interrupt;
mod models;
mod output;
mod progress;
mod recipe;
mod report;
mod responses;
mod rows;
mod serve;
mod shipped;
mod train;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Brain-inspired vision models: see, perturb, test and align the ventral stream.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a model makes of images: logits and any tap, as an `.npz` file.
    Infer(infer::Args),
    /// Corrupt pictures or pixels as ImageNet-C does, at five severities.
    Corrupt(corrupt::Args),
    /// Attack a model: adversarial images, their norms and what the model makes of them.
    #[command(after_long_help = attack::table_of_attacks())]
    Attack(Box<attack::Args>),
    /// Test how robust models are: a plan of corruptions and attacks, resumable, in shards.
    #[command(after_long_help = evaluate::table_of_presets())]
    Evaluate(evaluate::Args),
    /// Merge what `ventral evaluate` left in folders, and write the tables.
    Report(report::Args),
    /// The models at hand and the published ones.
    Models(models::Args),
    /// Download a published model, check it and keep it as f16 safetensors shards.
    Fetch(fetch::Args),
    /// Write a model as ONNX, for other runtimes.
    Export(export::Args),
    /// What a file of neural responses holds, and which pictures its stimuli are.
    #[command(after_long_help = responses::EXAMPLES)]
    Responses(responses::Args),
    /// Serve the built page, compressed, with the headers it needs.
    Serve(serve::Args),
    /// Align a model with the responses of another population, beside its controls.
    Align(align::Args),
    /// Train a model by a recipe; an interrupted run goes on where it was.
    Train(train::Args),
}

/// What a command ends in when it cannot do its work.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Infer(args) => infer::run(args),
        Command::Corrupt(args) => corrupt::run(&args),
        Command::Attack(args) => attack::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Models(args) => models::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Export(args) => export::run(&args),
        Command::Responses(args) => responses::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Align(args) => align::run(&args),
        Command::Train(args) => train::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error.is::<responses::Refused>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}
