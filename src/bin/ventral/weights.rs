//! Where the command line finds weights.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ventral::model::checkpoint::Source;
use ventral::model::load::{self, Loaded};
use ventral::model::probe::CancelToken;

use crate::{Failure, shipped};

/// Which model a command works on.
#[derive(clap::Args)]
pub struct Choice {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    images: TrainedOn,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A checkpoint: `.pth`, `.pth.tar`, `.safetensors`, or the `.index.json` of shards.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// A model by its name in `ventral models`.
    #[arg(long)]
    model: Option<String>,
}

/// What the model's file may leave open: the images it was trained on.
#[derive(clap::Args)]
pub struct TrainedOn {
    /// The side of the images that the model was trained on, px.
    #[arg(long, value_name = "PX")]
    side: Option<usize>,
    /// The mean that was taken from red, green and blue: `0.485,0.456,0.406`.
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    mean: Option<Vec<f32>>,
    /// The deviation that they were divided by then: `0.229,0.224,0.225`.
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    std: Option<Vec<f32>>,
}

impl Choice {
    /// Reads the weights.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let mut loaded = match (&self.which.weights, &self.which.model) {
            (Some(path), _) => read_file(path)?,
            (None, Some(name)) => load_named(name)?,
            (None, None) => return Err("give --weights FILE or --model NAME".into()),
        };
        self.images.set(&mut loaded)?;
        tell(&loaded);
        Ok(loaded)
    }
}

impl TrainedOn {
    fn set(&self, loaded: &mut Loaded) -> Result<(), Failure> {
        let p = &mut loaded.config.preprocessing;
        if let Some(side) = self.side {
            (p.resize, p.crop) = (side, side);
        }
        for (option, given, place) in [
            ("--mean", &self.mean, &mut p.mean),
            ("--std", &self.std, &mut p.std),
        ] {
            let Some(given) = given else { continue };
            *place = given.as_slice().try_into().map_err(|_| {
                format!(
                    "{option} takes three numbers, of red, green and blue, and not {}",
                    given.len()
                )
            })?;
        }
        if p.std.iter().any(|std| !(1e-6..=1e6).contains(std)) {
            return Err("--std takes numbers above 0".into());
        }
        if self.side.is_some() && self.mean.is_some() && self.std.is_some() {
            loaded.remarks.retain(|remark| !remark.contains("Assumed:"));
        }
        match self.side {
            Some(side) => crate::input::check_side(&loaded.config, side),
            None => Ok(()),
        }
    }
}

fn tell(loaded: &Loaded) {
    loaded
        .remarks
        .iter()
        .for_each(|remark| eprintln!("note: {remark}"));
}

fn load_named(name: &str) -> Result<Loaded, Failure> {
    match find(name) {
        Some(path) => read_file(&path),
        None => Err(format!(
            "there is no model `{name}` here; `ventral models` lists those at hand, and \
             `ventral fetch {name}` downloads a published one"
        )
        .into()),
    }
}

/// Reads the weights of a model that a plan names by a path or by its name in the catalog.
pub fn load_path_or_name(name: &str) -> Result<Loaded, Failure> {
    let path = match Path::new(name).is_file() {
        true => PathBuf::from(name),
        false => find(name).ok_or_else(|| {
            format!("there is no model or file `{name}`; `ventral models` lists those at hand")
        })?,
    };
    load_file(&path)
}

/// Where models are kept: fetched ones in the user's cache, then shipped ones.
pub fn folders() -> Vec<PathBuf> {
    let shipped = shipped::folders().into_iter();
    let shipped = shipped.map(|folder| folder.join("models"));
    std::iter::once(fetched_folder()).chain(shipped).collect()
}

/// `$VENTRAL_MODELS`, or `ventral/models` in the user's cache folder.
pub fn fetched_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("VENTRAL_MODELS") {
        return folder.into();
    }
    shipped::cache().join("models")
}

/// The file (or the shards' index) of a model that is at hand.
pub fn find(name: &str) -> Option<PathBuf> {
    let spellings = [
        format!("{name}.safetensors"),
        format!("{name}.safetensors.index.json"),
    ];
    folders()
        .iter()
        .flat_map(|folder| spellings.iter().map(|file| folder.join(file)))
        .find(|path| path.is_file())
}

/// Reads a checkpoint from its file or from the shards its index names, and says what was assumed.
pub fn load_file(path: &Path) -> Result<Loaded, Failure> {
    let loaded = read_file(path)?;
    tell(&loaded);
    Ok(loaded)
}

fn read_file(path: &Path) -> Result<Loaded, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let paths = match name.ends_with(".index.json") {
        true => shards(path)?,
        false => vec![path.to_owned()],
    };
    let sources = paths
        .iter()
        .map(|path| {
            let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(Box::new(BufReader::new(file)) as Box<dyn Source>)
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let loaded = load::read(&name, sources, &CancelToken::default(), |_, _, _| {});
    Ok(loaded.map_err(|e| format!("{}: {e}", path.display()))?)
}

/// The files an index names, each once. The layout is that of Hugging Face's sharded checkpoints.
fn shards(index: &Path) -> Result<Vec<PathBuf>, Failure> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    let parsed: Index = serde_json::from_str(&fs::read_to_string(index)?)
        .map_err(|e| format!("{} is not an index of shards: {e}", index.display()))?;
    let files: std::collections::BTreeSet<&String> = parsed.weight_map.values().collect();
    let outside = files
        .iter()
        .find(|file| Path::new(file).components().count() != 1);
    if let Some(file) = outside {
        return Err(format!(
            "{}: the shard `{file}` lies outside its folder",
            index.display()
        )
        .into());
    }
    Ok(files.into_iter().map(|file| folder.join(file)).collect())
}
