//! The saved state of an alignment.

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::aligner::{Aligner, Evaluation};
use super::error::AlignError;
use super::freezing::unfreeze;
use super::loss::similarity::RunningMean;
use super::plan::Plan;
use crate::model::names;
use crate::model::network::Network;
use crate::train::accuracy::read;
use crate::train::optimiser::Optimiser;

/// The header of a saved state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub plan: Plan,
    pub step: usize,
    pub best: Option<Evaluation>,
    pub looks_since_best: usize,
    /// The running mean of the features that similarities are computed about.
    pub mean: Vec<f32>,
}

impl Aligner {
    /// The state to save: a header, the current weights, the optimiser's state, and the best
    /// weights.
    ///
    /// # Errors
    /// A state that cannot be written, a device that failed.
    pub async fn keep(&self) -> Result<(Kept, [Vec<u8>; 3]), AlignError> {
        let kept = Kept {
            plan: self.plan.clone(),
            step: self.step,
            best: self.best.as_ref().map(|(evaluation, _)| *evaluation),
            looks_since_best: self.looks_since_best,
            mean: self.mean.keep().await?,
        };
        let steps = self.optimiser.save().await?;
        let weights = values_of(&self.network.valid()).await?;
        let best = match &self.best {
            Some((_, network)) => values_of(&network.valid()).await?,
            None => Vec::new(),
        };
        Ok((kept, [weights, steps, best]))
    }

    /// Continues from the saved state of a run of the same plan.
    ///
    /// # Errors
    /// A state of another plan or model.
    pub fn resume(&mut self, kept: &Kept, files: [Vec<u8>; 3]) -> Result<(), AlignError> {
        let parts = kept.plan.parts;
        if kept.plan
            != (Plan {
                parts,
                ..self.plan.clone()
            })
        {
            return Err(AlignError::State("it belongs to another plan"));
        }
        let [weights, steps, best] = files;
        let fill = |network: &Network, bytes: &[u8]| {
            let network = filled(network.clone(), bytes)?;
            Ok::<_, AlignError>(unfreeze(network.freeze(), &self.plan.frozen)?)
        };
        let best = match kept.best {
            Some(evaluation) => Some((evaluation, fill(&self.network, &best)?)),
            None => None,
        };
        self.network = fill(&self.network, &weights)?;
        let optimiser = Optimiser::restore(&self.plan.optimiser, &steps, &self.device);
        let cut = || AlignError::State("the optimiser's state is cut short");
        self.optimiser = optimiser.ok_or_else(cut)?;
        let training = self.device.clone().autodiff();
        self.mean = RunningMean::resume(&kept.mean, &training);
        (self.step, self.best, self.looks_since_best) = (kept.step, best, kept.looks_since_best);
        self.plan.parts = parts;
        Ok(())
    }
}

/// All parameters and buffers, f32 little-endian, in the order of the modules.
async fn values_of(network: &Network) -> Result<Vec<u8>, AlignError> {
    let mut tensors = Vec::new();
    names::visit(network, |_, _, flat| tensors.push(flat.tensor()));
    let mut bytes = Vec::new();
    for tensor in tensors {
        bytes.extend(read(tensor).await?.iter().flat_map(|v| v.to_le_bytes()));
    }
    Ok(bytes)
}

/// The network with these values, as [`values_of`] gave them.
fn filled(network: Network, bytes: &[u8]) -> Result<Network, AlignError> {
    let sizes = network.config().tensors();
    let wanted: usize = sizes
        .iter()
        .map(|n| 4 * n.shape.iter().product::<usize>())
        .sum();
    if wanted != bytes.len() {
        return Err(AlignError::State("it belongs to another model"));
    }
    let (quads, _) = bytes.as_chunks::<4>();
    let mut values = quads.iter().map(|quad| f32::from_le_bytes(*quad));
    Ok(names::replace(network, |_, shape| {
        let count = shape.iter().product();
        Some(values.by_ref().take(count).collect())
    }))
}
