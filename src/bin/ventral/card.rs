//! The results of `ventral train`: weights as safetensors, and a model card.

use std::path::Path;

use ventral::measure::interval::wilson;
use ventral::model::cost::multiply_adds;
use ventral::model::load::Loaded;
use ventral::model::network::Network;
use ventral::model::save;
use ventral::train::metrics::EpochMetrics;
use ventral::train::recipe::Recipe;

use crate::Failure;
use crate::output::write_file;
use crate::weights::load_file;

/// A finished run.
pub struct Finished<'a> {
    pub recipe: &'a Recipe,
    /// The recipe's own path, for the command in the card.
    pub recipe_path: &'a Path,
    pub network: &'a Network,
    pub metrics: &'a [EpochMetrics],
    pub classes: &'a [String],
    pub test_images: usize,
    /// Where it was trained, for people.
    pub device: &'a str,
}

/// Writes `NAME.safetensors` (f16) and returns it as read back, so that the accuracy in the card is
/// that of the rounded weights.
pub fn export(finished: &Finished, folder: &Path) -> Result<Loaded, Failure> {
    let name = &finished.recipe.name;
    let loaded = Loaded {
        name: name.clone(),
        family: String::new(),
        config: finished.recipe.model.clone(),
        classes: finished.classes.to_vec(),
        weights: pollster::block_on(save::to_host(finished.network))?,
        hash: String::new(),
        remarks: Vec::new(),
        milliseconds: 0.0,
    };
    let file = format!("{name}.safetensors");
    write_file(&folder.join(&file), |out| {
        Ok(save::write(&loaded, true, out)?)
    })?;
    load_file(&folder.join(file))
}

/// Writes `NAME.md` beside the weights. `accuracy` is that of the f16 file on the whole test set.
pub fn write(
    finished: &Finished,
    exported: &Loaded,
    accuracy: f32,
    folder: &Path,
) -> Result<(), Failure> {
    let Finished { recipe, .. } = finished;
    let name = &recipe.name;
    let (low, high) = wilson(f64::from(accuracy), finished.test_images);
    let seconds: f32 = finished.metrics.iter().map(|m| m.seconds).sum();
    let size = std::fs::metadata(folder.join(format!("{name}.safetensors")))?.len();
    let text = format!(
        "# {title}\n\n\
         | | |\n|---|---|\n\
         | family | {family} |\n\
         | parameters | {parameters} |\n\
         | multiply-adds | {cost:.1} million an image of {side} px |\n\
         | file | `{name}.safetensors`, f16, {size} bytes |\n\
         | SHA-256 (first 16 digits) | `{hash}` |\n\
         | data | {data}, {images} test images |\n\
         | test accuracy (the f16 file, top-1) | {accuracy:.2} % (95 % interval {low:.2} to {high:.2}, Wilson) |\n\
         | seed | {seed} |\n\
         | training | {epochs} epochs in {minutes:.0} minutes on {device}{average} |\n\
         | licence | MIT OR Apache-2.0 |\n\n\
         Repeat it:\n\n```\nventral train --recipe {path} --data PATH-TO-{set}\n```\n\n\
         Accuracy after each epoch (full precision):\n\n\
         | epoch | loss | training accuracy | test accuracy |\n|---|---|---|---|\n{epoch_rows}\n\
         Recipe:\n\n```toml\n{toml}```\n",
        title = recipe.title,
        family = exported.family,
        parameters = exported.parameters(),
        hash = exported.hash,
        cost = multiply_adds(&recipe.model, recipe.side()) as f64 / 1e6,
        side = recipe.side(),
        data = data(recipe, finished.classes),
        images = finished.test_images,
        accuracy = 100.0 * accuracy,
        low = 100.0 * low,
        high = 100.0 * high,
        seed = recipe.seed,
        epochs = recipe.epochs,
        minutes = seconds / 60.0,
        device = finished.device,
        average = match recipe.ema {
            Some(_) => ", averaged weights",
            None => "",
        },
        path = finished.recipe_path.display(),
        set = recipe.data.set.name().to_uppercase(),
        epoch_rows = epoch_rows(finished.metrics),
        toml = toml::to_string(recipe)?,
    );
    write_file(&folder.join(format!("{name}.md")), |out| {
        Ok(std::io::Write::write_all(out, text.as_bytes())?)
    })
}

/// The set, and how much of it.
fn data(recipe: &Recipe, classes: &[String]) -> String {
    let name = recipe.data.set.name();
    match recipe.data.classes.is_empty() {
        true => name.to_owned(),
        false => format!("{} classes of {name}", classes.len()),
    }
}

fn epoch_rows(metrics: &[EpochMetrics]) -> String {
    metrics
        .iter()
        .map(|m| {
            format!(
                "| {} | {:.4} | {:.2} % | {:.2} % |\n",
                m.epoch,
                m.train_loss,
                100.0 * m.train_accuracy,
                100.0 * m.test_accuracy
            )
        })
        .collect()
}
