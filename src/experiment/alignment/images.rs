//! Images that an alignment trains on and is measured on.

use burn::tensor::Device;

use crate::align::aligner::Aligner;
use crate::align::error::AlignError;
use crate::align::plan::Plan;
use crate::align::stimuli::Stimuli;
use crate::align::target::{Responses, TargetActivations, recorded, responses};
use crate::experiment::journal::digest;
use crate::image::dataset::LabelledSet;
use crate::measure::similarity::inference;
use crate::model::classes::{Unknown, match_classes};
use crate::model::load::Loaded;
use crate::model::probe::CancelToken;

/// What a plan trains on, and is measured on.
#[derive(Default)]
pub struct Images {
    pub stimuli: LabelledSet,
    /// The stimuli's labels are classes of the model.
    pub labelled: bool,
    /// None of them a stimulus.
    pub rest: LabelledSet,
    /// `[stimuli, side, side]`, or none.
    pub heat_maps: Vec<f32>,
    pub recorded: Option<crate::neural::Responses>,
    /// Of the target's model, where it has one.
    pub activations: Option<TargetActivations>,
}

impl Images {
    /// The first images of a set, its classes taking turns, as stimuli and the rest to measure
    /// accuracy on; `stimuli` of 0 takes all.
    pub fn split(set: &LabelledSet, stimuli: usize) -> (LabelledSet, LabelledSet) {
        let count = match stimuli {
            0 => set.len(),
            stimuli => stimuli.min(set.len()),
        };
        (set.slice(0..count), set.slice(count..set.len()))
    }

    /// Of the stimuli, the images that are none and the heat maps; recorded responses and another
    /// model's are named by their files.
    pub fn hashes(&self) -> Vec<String> {
        let heat_maps = self
            .heat_maps
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let parts = [self.stimuli.content(), self.rest.content(), heat_maps];
        parts.map(|bytes| format!("{:016x}", digest(&bytes))).into()
    }

    /// The plan's target, with the plan's seed.
    ///
    /// # Errors
    /// As [`responses`].
    pub fn responses(&self, plan: &Plan) -> Result<Responses, AlignError> {
        let found = self.recorded.as_ref();
        let of_file = found.map(|data| recorded(data, plan.seed)).transpose()?;
        responses(plan, &self.stimuli, self.activations.as_ref(), of_file)
    }
}

impl Images {
    /// A run of `plan` at its beginning, and what the noise of its target lets a model reach.
    ///
    /// # Errors
    /// As [`responses`] and [`Aligner::new`].
    pub fn aligner(
        &self,
        plan: Plan,
        model: &Loaded,
        device: &Device,
        cancel: &CancelToken,
    ) -> Result<(Aligner, Option<inference::Ceiling>), AlignError> {
        let Responses {
            values,
            neuroids,
            ceiling,
        } = self.responses(&plan)?;
        let stimuli = Stimuli {
            images: self.stimuli.clone(),
            labelled: self.labelled,
            responses: values,
            neuroids,
            heat_maps: self.heat_maps.clone(),
        };
        let (rest, device) = (self.rest.clone(), device.clone());
        let aligner = Aligner::new(plan, model, stimuli, rest, device, cancel.clone())?;
        Ok((aligner, ceiling))
    }
}

/// A set whose labels are those of a model, in its order. `named` says which class a folder is where
/// its name does not.
///
/// # Errors
/// The classes of the set that the model does not have.
pub fn relabelled(
    set: &LabelledSet,
    model: &Loaded,
    named: &std::collections::BTreeMap<String, String>,
) -> Result<LabelledSet, Unknown> {
    let classes = match_classes(&set.classes, &model.classes, named)?;
    let mut set = set.clone();
    for label in &mut set.labels {
        let class = classes[usize::from(*label)].unwrap_or_default();
        *label = class as u16;
    }
    set.classes.clone_from(&model.classes);
    Ok(set)
}
