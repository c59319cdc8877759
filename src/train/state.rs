//! The files of a run, from which it resumes after an interruption: from the last finished epoch or
//! from any earlier one that is still kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;

use super::average::Average;
use super::error::TrainError;
use super::metrics::EpochMetrics;
use super::optimiser::Optimiser;
use super::recipe::Recipe;
use crate::measure::chart::{Curves, Figure, Plot, Series};
use crate::measure::draw::side_by_side;
use crate::model::init::initialise;
use crate::model::network::Network;

/// A run between two epochs.
pub struct State {
    /// On the training side of its device.
    pub network: Network,
    pub optimiser: Optimiser,
    /// Where the recipe has a moving average.
    pub average: Option<Average>,
}

/// The folder of a run.
pub struct StateFiles {
    folder: PathBuf,
}

/// The files of the state after an epoch, and their extensions.
const KEPT: [(&str, &str); 3] = [("weights", "bpk"), ("optimiser", "bin"), ("average", "bpk")];

impl StateFiles {
    /// Makes the folder, or checks that the run in it has the same recipe except for `keep`.
    pub fn open(folder: &Path, recipe: &Recipe) -> Result<Self, TrainError> {
        let files = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let path = folder.join("recipe.json");
        let text = serde_json::to_string_pretty(recipe).map_err(|e| failed(&path, e))?;
        match fs::read_to_string(&path) {
            Ok(kept) if !is_same(&kept, &text) => Err(TrainError::OtherRecipe(path)),
            Ok(_) => Ok(files),
            Err(_) => {
                fs::write(&path, text).map_err(|e| failed(&path, e))?;
                Ok(files)
            }
        }
    }

    fn path(&self, (what, extension): (&str, &str), epoch: usize) -> PathBuf {
        self.folder.join(format!("{what}-{epoch}.{extension}"))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("metrics.jsonl")
    }

    /// The finished epochs. A line cut off by a crash does not count.
    fn metrics(&self) -> Vec<EpochMetrics> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The finished epochs that the run continues after: all of them, or those before epoch `from`,
    /// in which case later ones are deleted.
    ///
    /// # Errors
    /// The state before epoch `from` is not kept.
    pub fn begin(&self, from: Option<usize>) -> Result<Vec<EpochMetrics>, TrainError> {
        let mut metrics = self.metrics();
        let finished = metrics.len();
        let Some(from) = from.filter(|from| *from != finished) else {
            return Ok(metrics);
        };
        let is_kept = |epoch: &usize| {
            *epoch == 0 || (*epoch <= finished && self.path(KEPT[0], epoch - 1).is_file())
        };
        if !is_kept(&from) {
            return Err(TrainError::NotKept {
                epoch: from,
                kept: (0..=finished).filter(is_kept).collect(),
            });
        }
        metrics.truncate(from);
        self.write_log(&metrics)?;
        (from..finished).for_each(|epoch| self.forget(epoch));
        Ok(metrics)
    }

    fn write_log(&self, metrics: &[EpochMetrics]) -> Result<(), TrainError> {
        let path = self.log();
        let lines: Result<String, _> = metrics.iter().map(line).collect();
        let lines = lines.map_err(|e| failed(&path, e))?;
        // Written to a second file and renamed: a crash leaves one of the two whole.
        let part = path.with_extension("part");
        fs::write(&part, lines)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|e| failed(&path, e))
    }

    fn forget(&self, epoch: usize) {
        for what in KEPT {
            // A file that cannot be removed, or was never there, is harmless.
            let _ = fs::remove_file(self.path(what, epoch));
        }
    }

    /// The state after so many finished epochs; a new one after none.
    pub fn restore(
        &self,
        recipe: &Recipe,
        epochs: usize,
        device: &Device,
    ) -> Result<State, TrainError> {
        let network = initialise(&recipe.model, recipe.seed, device);
        let network = match &recipe.start {
            // A run that has begun continues from its own weights.
            Some(start) if epochs == 0 => {
                network.try_load_file(start).map_err(|e| failed(start, e))?
            }
            _ => network,
        };
        let network = freeze_filter_bank(network);
        let average = recipe.ema.map(|_| Average::new(network.valid()));
        let fresh = State {
            network,
            optimiser: Optimiser::new(&recipe.optimiser),
            average,
        };
        match epochs.checked_sub(1) {
            Some(last) => self.load(recipe, fresh, last, device),
            None => Ok(fresh),
        }
    }

    fn load(
        &self,
        recipe: &Recipe,
        fresh: State,
        epoch: usize,
        device: &Device,
    ) -> Result<State, TrainError> {
        let [weights, steps, average] = KEPT.map(|what| self.path(what, epoch));
        let read = |network: Network, path: &Path| {
            let read = network.try_load_file(path);
            read.map_err(|e| other(path, &e))
        };
        let kept = match fresh.average {
            Some(fresh) => Some(Average::new(read(fresh.network().valid(), &average)?)),
            None => None,
        };
        let bytes = fs::read(&steps).map_err(|e| other(&steps, &e))?;
        let network = read(fresh.network, &weights)?;
        let optimiser = Optimiser::restore(&recipe.optimiser, &bytes, &device.clone().inner());
        let optimiser = optimiser.filter(|optimiser| optimiser.fits(&network));
        Ok(State {
            optimiser: optimiser
                .ok_or_else(|| other(&steps, &"it is not the state of this recipe's optimiser"))?,
            network,
            average: kept,
        })
    }

    /// Saves the state after an epoch, and the plot of all epochs so far. The metrics line comes last:
    /// an epoch counts once it is written.
    pub fn keep(
        &self,
        recipe: &Recipe,
        state: &State,
        before: &[EpochMetrics],
        now: &EpochMetrics,
    ) -> Result<(), TrainError> {
        let epoch = now.epoch;
        let [weights, steps, average] = KEPT.map(|what| self.path(what, epoch));
        let write = |network: Network, path: &Path| {
            let written = network.save_file(path);
            written.map_err(|e| failed(path, e))
        };
        // `valid` includes the last step's running statistics.
        write(state.network.valid(), &weights)?;
        let bytes = pollster::block_on(state.optimiser.save())
            .map_err(|e| failed(&steps, format!("{e:?}")))?;
        fs::write(&steps, bytes).map_err(|e| failed(&steps, e))?;
        if let Some(kept) = &state.average {
            write(kept.network().clone(), &average)?;
        }
        let metrics = [before, std::slice::from_ref(now)].concat();
        let path = self.folder.join("plot.svg");
        fs::write(&path, plot(recipe, &metrics)).map_err(|e| failed(&path, e))?;
        self.append(now)?;
        let oldest = recipe
            .keep
            .count()
            .and_then(|count| epoch.checked_sub(count));
        oldest.into_iter().for_each(|epoch| self.forget(epoch));
        Ok(())
    }

    fn append(&self, metrics: &EpochMetrics) -> Result<(), TrainError> {
        let path = self.log();
        let text = line(metrics).map_err(|e| failed(&path, e))?;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| failed(&path, e))
    }
}

/// Loss and accuracy after every epoch, side by side, as an SVG document.
fn plot(recipe: &Recipe, metrics: &[EpochMetrics]) -> String {
    let series = |name: &str, value: fn(&EpochMetrics) -> f32| Series {
        name: name.to_owned(),
        points: metrics
            .iter()
            .map(|m| ((m.epoch + 1) as f64, f64::from(value(m))))
            .collect(),
    };
    let figure = |y_label: &str, series: Vec<Series>, range: [f64; 2]| {
        let plot = Curves {
            x_label: "epoch".to_owned(),
            y_label: y_label.to_owned(),
            series,
            range: Some(range),
            end: recipe.epochs as f64,
        };
        let title = format!("{}: {y_label}", recipe.title);
        Figure::new("curves", title, Plot::Curves(plot))
    };
    let loss = vec![series("training", |m| m.train_loss)];
    let accuracy = vec![
        series("training", |m| 100.0 * m.train_accuracy),
        series("test", |m| 100.0 * m.test_accuracy),
    ];
    let figures = [
        figure("Loss", loss, [0.0, 0.0]),
        figure("Accuracy, %", accuracy, [0.0, 100.0]),
    ];
    let title = format!("{}: loss and accuracy by epoch", recipe.title);
    side_by_side(&title, &figures)
}

fn line(metrics: &EpochMetrics) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(metrics)? + "\n")
}

/// Whether two recipes in JSON are equal except for `keep`. The saved one may be of an earlier
/// version, with fewer keys.
fn is_same(kept: &str, now: &str) -> bool {
    // Both are parsed from text, so that their numbers are rounded alike.
    let read = |text: &str| serde_json::from_str::<Recipe>(text).ok();
    let (Some(kept), Some(now)) = (read(kept), read(now)) else {
        return false;
    };
    let keep = now.keep;
    Recipe { keep, ..kept } == now
}

fn other(path: &Path, cause: &dyn std::fmt::Display) -> TrainError {
    TrainError::OtherState {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

fn failed(path: &Path, cause: impl std::fmt::Display) -> TrainError {
    TrainError::State {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// The Gabor bank of a VOneBlock is part of the model and is not trained.
fn freeze_filter_bank(mut network: Network) -> Network {
    if let Some(mut front) = network.front.take() {
        front.vone_block = front.vone_block.freeze();
        network.front = Some(front);
    }
    network
}
