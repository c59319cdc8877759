//! `ventral export`.

use std::path::PathBuf;

use ventral::model::graph::Graph;
use ventral::model::onnx;

use crate::Failure;
use crate::output::write_file;
use crate::weights::Choice;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: Choice,
    /// Where the file goes. Its input `pixels` is `[n, 3, side, side]` in [0, 1], its output `logits`.
    #[arg(long)]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let loaded = args.model.load()?;
    let graph = Graph::of(&loaded)?;
    write_file(&args.output, |out| Ok(onnx::write(&graph, out)?))?;
    println!(
        "{}: {} operations, {} px, {} classes, {}",
        args.output.display(),
        graph.nodes.len(),
        graph.side,
        graph.classes,
        match loaded.config.front {
            Some(_) => "without the front-end's noise",
            None => "as it is read here",
        }
    );
    Ok(())
}
