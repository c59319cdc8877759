//! `ventral fetch`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use ventral::fetch::{Download, OFFICIAL, Progress, Stage, fetch, official};
use ventral::model::load::Loaded;
use ventral::model::save;

use crate::output::write_file;
use crate::weights::{fetched_folder, load_file};
use crate::{Failure, progress};

#[derive(clap::Args)]
pub struct Args {
    /// `cornet-s`, `voneresnet50`, …; `ventral models` lists them.
    name: String,
    /// A mirror: the file's own address, or a folder's (ending in a slash).
    #[arg(long)]
    from: Option<String>,
    /// Where the shards go.
    #[arg(long)]
    output: Option<PathBuf>,
    /// The largest shard, MB.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    shard: u16,
    /// Keep the published file beside the shards.
    #[arg(long)]
    keep: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let Some(published) = official(&args.name) else {
        let names: Vec<&str> = OFFICIAL.iter().map(|o| o.name).collect();
        let name = &args.name;
        return Err(format!(
            "no model `{name}` was published; there are {}",
            names.join(", ")
        )
        .into());
    };
    let folder = args.output.clone().unwrap_or_else(fetched_folder);
    let url = match &args.from {
        Some(from) => published.at(from),
        None => published.url(),
    };
    println!("{} from {url}", published.title);
    let download = Download::new(url, folder.join(published.file), published.sha256);
    let bar = progress::bar("{msg} {wide_bar} {bytes}/{total_bytes} {eta}", 0);
    let fetched = fetch(&download, &mut |progress| {
        show(&bar, &progress);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    println!("{} bytes, SHA-256 {}", fetched.bytes, fetched.sha256);
    let mut loaded = load_file(&fetched.path)?;
    loaded.name = args.name.clone();
    let files = write_shards(&loaded, &folder, usize::from(args.shard) << 20)?;
    println!(
        "{}: {} parameters in {files} f16 shards in {}",
        loaded.family,
        loaded.parameters(),
        folder.display()
    );
    if !args.keep {
        fs::remove_file(&fetched.path)?;
    }
    Ok(())
}

/// Writes the shards, then their index: an index is there only when all shards are.
fn write_shards(loaded: &Loaded, folder: &Path, limit: usize) -> Result<usize, Failure> {
    let shards = save::shards(loaded, limit);
    let count = shards.len();
    let mut places = BTreeMap::new();
    for (i, names) in shards.iter().enumerate() {
        let file = format!("{}-{:05}-of-{count:05}.safetensors", loaded.name, i + 1);
        write_file(&folder.join(&file), |out| {
            Ok(save::write_shard(loaded, names, out)?)
        })?;
        places.extend(names.iter().map(|name| (*name, file.clone())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": places });
    let file = format!("{}.safetensors.index.json", loaded.name);
    write_file(&folder.join(&file), |out| {
        Ok(serde_json::to_writer_pretty(out, &index)?)
    })?;
    Ok(count)
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(match &progress.stage {
        Stage::Connecting => "connecting".to_owned(),
        Stage::Downloading => "downloading".to_owned(),
        Stage::Checking => "checking".to_owned(),
        Stage::Waiting { reason } => format!("waiting to try again ({reason})"),
    });
}
