//! A class head for classes the model was not trained on.

use burn::tensor::Device;

use super::error::AlignError;
use super::freezing::stage_of;
use crate::model::init::initialise;
use crate::model::load::Loaded;
use crate::model::save::to_host;

/// The model with these classes instead of its own: its last layer is initialised from `seed`, the
/// rest stays.
///
/// # Errors
/// Fewer than two classes.
pub async fn with_new_head(
    model: &Loaded,
    classes: Vec<String>,
    seed: u64,
) -> Result<Loaded, AlignError> {
    if classes.len() < 2 {
        return Err(AlignError::Data(
            "a new class head needs images of at least two classes; label them by folders or a table"
                .to_owned(),
        ));
    }
    let mut made = model.clone();
    made.config.classes = classes.len();
    let fresh = to_host(&initialise(&made.config, seed, &Device::flex())).await?;
    let of_classes = |name: &str| {
        let old = model.weights.get(name).and_then(|w| w.shape.first());
        stage_of(name) == "decoder" && old == Some(&model.config.classes)
    };
    let drawn = fresh.into_iter().filter(|(name, _)| of_classes(name));
    made.weights.extend(drawn);
    made.classes = classes;
    Ok(made)
}
