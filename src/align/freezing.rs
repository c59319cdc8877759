//! Freezing by stage: which weights an alignment changes.

use burn::module::{Module, ParamGroup};

use crate::model::names;
use crate::model::network::Network;

/// The simulated V1 of a VOneNet, which is never trained.
const FIXED: &str = "vone_block";

/// The stage a parameter belongs to, from its published name: `V4` of `model.V4.conv1.weight`.
/// The norms behind `conv1` of a ResNet belong to its stem, `conv1`.
pub fn stage_of(name: &str) -> &str {
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name.split('.').next().unwrap_or(name) {
        "bn1" => "conv1",
        "fc" | "classifier" => "decoder",
        stage => stage,
    }
}

/// The stages that can be trained, in the order of the signal.
pub fn stages(network: &Network) -> Vec<String> {
    let mut stages: Vec<String> = Vec::new();
    for (name, _) in names::parameters(network) {
        let stage = stage_of(&name);
        if stage != FIXED && !stages.iter().any(|known| known == stage) {
            stages.push(stage.to_owned());
        }
    }
    stages
}

/// A stage to freeze that the model does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no stage `{stage}` to freeze; the model has {}", known.join(", "))]
pub struct UnknownStage {
    pub stage: String,
    pub known: Vec<String>,
}

/// A frozen network with all but `frozen` stages made trainable. Batch norms keep using their
/// running statistics: a small set must not replace those of the data the model was trained on.
///
/// # Errors
/// The name of a stage the network does not have.
pub fn unfreeze(network: Network, frozen: &[String]) -> Result<Network, UnknownStage> {
    let known = stages(&network);
    if let Some(stage) = frozen.iter().find(|stage| !known.contains(stage)) {
        let stage = stage.clone();
        return Err(UnknownStage { stage, known });
    }
    let trained = |name: &str| {
        let stage = stage_of(name);
        stage != FIXED && !frozen.iter().any(|frozen| frozen == stage)
    };
    let parameters = names::parameters(&network);
    let ids = parameters
        .into_iter()
        .filter(|(name, _)| trained(name))
        .map(|(_, id)| id)
        .collect();
    // By their identifiers: the flags of the norms have none of these, and stay unchanged.
    Ok(network.unfreeze_group(ParamGroup::from_ids(ids)))
}
