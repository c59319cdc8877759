//! The files of a run: what it takes to go on after an interruption, from the last finished epoch
//! or from any earlier one that is still kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;

use super::average::Average;
use super::metrics::EpochMetrics;
use super::optimise::optimiser;
use super::recipe::Recipe;
use super::trainer::TrainError;
use crate::measure::chart::{Curves, Figure, Plot, Series};
use crate::measure::draw::side_by_side;
use crate::model::init::initialise;
use crate::model::network::Network;

/// A run between two epochs.
pub struct State {
    /// On the training side of its device.
    pub network: Network,
    pub optimiser: ModuleOptimizer,
    /// Where the recipe has a moving average.
    pub average: Option<Average>,
}

/// The folder of a run.
pub struct StateFiles {
    folder: PathBuf,
}

/// What is kept of an epoch, a file each.
const KEPT: [&str; 3] = ["weights", "optimiser", "average"];

impl StateFiles {
    /// Makes the folder, or checks that the run in it follows the same recipe but for what it
    /// keeps.
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

    fn path(&self, what: &str, epoch: usize) -> PathBuf {
        self.folder.join(format!("{what}-{epoch}.bpk"))
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

    /// The finished epochs that the run goes on from: all of them, or those before epoch `from`;
    /// what came after that is then forgotten.
    ///
    /// # Errors
    /// When the state before epoch `from` is not kept.
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
        // Beside its place first: a crash leaves one of the two whole.
        let part = path.with_extension("part");
        fs::write(&part, lines)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|e| failed(&path, e))
    }

    fn forget(&self, epoch: usize) {
        for what in KEPT {
            // A file that cannot be removed is harmless, and one that was never there even more so.
            let _ = fs::remove_file(self.path(what, epoch));
        }
    }

    /// The state after `epochs` finished ones; fresh after none.
    pub fn restore(
        &self,
        recipe: &Recipe,
        epochs: usize,
        device: &Device,
    ) -> Result<State, TrainError> {
        let network = initialise(&recipe.model, recipe.seed, device);
        let network = match &recipe.start {
            // A run that has begun goes on from its own weights.
            Some(start) if epochs == 0 => {
                network.try_load_file(start).map_err(|e| failed(start, e))?
            }
            _ => network,
        };
        let network = freeze_filter_bank(network);
        let average = recipe.ema.map(|_| Average::new(network.valid()));
        let fresh = State {
            network,
            optimiser: optimiser(&recipe.optimiser),
            average,
        };
        match epochs.checked_sub(1) {
            Some(last) => self.load(fresh, last),
            None => Ok(fresh),
        }
    }

    fn load(&self, fresh: State, epoch: usize) -> Result<State, TrainError> {
        let [weights, steps, average] = KEPT.map(|what| self.path(what, epoch));
        let read = |network: Network, path: &Path| {
            let read = network.try_load_file(path);
            read.map_err(|e| failed(path, e))
        };
        let kept = match fresh.average {
            Some(fresh) => Some(Average::new(read(fresh.network().valid(), &average)?)),
            None => None,
        };
        let optimiser = fresh.optimiser.load(&steps);
        Ok(State {
            network: read(fresh.network, &weights)?,
            optimiser: optimiser.map_err(|e| failed(&steps, e))?,
            average: kept,
        })
    }

    /// Keeps the state after an epoch, and the plot of all so far. The metrics line comes last: it
    /// is what makes an epoch count.
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
        // This side of the network has taken in the last step's running statistics.
        write(state.network.valid(), &weights)?;
        let written = state.optimiser.save(&steps);
        written.map_err(|e| failed(&steps, e))?;
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

/// Whether two recipes in JSON are the same but for what they keep. The kept one may be of an
/// earlier version, with fewer keys.
fn is_same(kept: &str, now: &str) -> bool {
    // Both from their texts, so that both numbers took the same way.
    let read = |text: &str| serde_json::from_str::<Recipe>(text).ok();
    let (Some(kept), Some(now)) = (read(kept), read(now)) else {
        return false;
    };
    let keep = now.keep;
    Recipe { keep, ..kept } == now
}

fn failed(path: &Path, cause: impl std::fmt::Display) -> TrainError {
    TrainError::State {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// The Gabor bank of a VOneBlock is part of the model, not of what is learnt.
fn freeze_filter_bank(mut network: Network) -> Network {
    if let Some(mut front) = network.front.take() {
        front.vone_block = front.vone_block.freeze();
        network.front = Some(front);
    }
    network
}
