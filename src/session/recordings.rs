//! What was recorded of images: responses, labels, heat maps.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::{Attachment, Host, Session};
use super::error::SessionError;
use super::protocol::{Event, Recorded, RecordingInfo};
use super::test::{Archive, whole};
use crate::align::plan::{Plan, Target};
use crate::experiment::alignment::documents::Given;
use crate::experiment::alignment::images::{Images, relabelled};
use crate::experiment::journal::digest;
use crate::image::dataset::{LabelledSet, OpenOptions, encoded, open, quiet};
use crate::model::catalog::TestSet;
use crate::model::classes::LEFT_OUT;
use crate::model::load::Loaded;
use crate::neural::{self, HeatMaps, Labels, NeuralError};

/// Which class of the models a folder is, where its name does not say so.
pub(super) type Classes = BTreeMap<String, String>;

/// What was recorded of the images.
#[derive(Default)]
pub(super) struct Recordings {
    responses: Option<neural::Responses>,
    pub labels: Option<Labels>,
    heat_maps: Option<HeatMaps>,
    /// Of each file's bytes, in the order of their kinds.
    hashes: [u64; 3],
    names: [String; 3],
}

/// What is wrong with a recorded file.
fn recorded(name: &str) -> impl Fn(NeuralError) -> SessionError {
    |cause| SessionError::Recorded {
        name: name.to_owned(),
        cause,
    }
}

/// What images are called; by number where they have no files.
fn called(names: Vec<String>, images: usize) -> Vec<String> {
    match names.is_empty() {
        true => (0..images).map(|i| i.to_string()).collect(),
        false => names,
    }
}

impl Session {
    /// Reads what was recorded of the images, or forgets it where there is no file.
    pub(super) fn read_recording(
        &mut self,
        kind: Recorded,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let recordings = &mut self.recordings;
        // What cannot be read does not leave the file before it in use.
        recordings.forget(kind);
        if attachment.is_none() {
            return Ok(());
        }
        let bytes = whole(attachment)?;
        let set = self.inputs.set.as_ref();
        let (hash, names) = (
            digest(&bytes),
            set.map(|set| called(set.names.clone(), set.images)),
        );
        let names = names.as_deref();
        let sentences = match kind {
            Recorded::Responses => recordings.take_responses(name, bytes, names),
            Recorded::Labels => recordings.take_labels(name, &bytes, names),
            Recorded::HeatMaps => recordings.take_maps(name, &bytes, names),
        }?;
        recordings.hashes[kind as usize] = hash;
        recordings.names[kind as usize] = name.to_owned();
        host.tell(Event::Recording(RecordingInfo {
            kind,
            name: name.to_owned(),
            sentences,
        }));
        Ok(())
    }
}

impl Recordings {
    /// Hashes of the responses, the heat maps and the labels.
    pub fn hashes(&self) -> [u64; 3] {
        self.hashes
    }

    /// The names of the files.
    pub fn given(&self) -> Given {
        let [responses, heat_maps, labels] = self.names.clone();
        Given {
            responses,
            heat_maps,
            labels,
        }
    }

    fn forget(&mut self, kind: Recorded) {
        self.hashes[kind as usize] = 0;
        self.names[kind as usize].clear();
        match kind {
            Recorded::Responses => self.responses = None,
            Recorded::HeatMaps => self.heat_maps = None,
            Recorded::Labels => self.labels = None,
        }
    }

    /// The plan with the data that is in use: what is saved of a run names it.
    pub fn named(&self, plan: &Plan, archive: &Archive) -> Plan {
        let mut plan = plan.clone();
        let shipped = TestSet::find(&archive.name).map(|set| set.name.to_owned());
        plan.data.images = shipped.unwrap_or_else(|| archive.name.clone());
        if let Target::Responses { file } = &mut plan.target {
            file.clone_from(&self.names[Recorded::Responses as usize]);
        }
        plan
    }

    fn take_responses(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        names: Option<&[String]>,
    ) -> Result<Vec<String>, SessionError> {
        let responses = neural::read(name, bytes, &neural::ReadOptions::default());
        let responses = responses.map_err(recorded(name))?;
        // Without images yet, or with others than these, the file is understood by itself.
        let found = neural::interpret(&responses, names);
        let mut sentences = match found {
            Ok((understood, _)) => understood.sentences(),
            Err(error) => {
                let (understood, _) =
                    neural::interpret(&responses, None).map_err(recorded(name))?;
                let mut sentences = understood.sentences();
                sentences.push(format!(
                    "With the images chosen now it does not go: {error}. Choose the images that \
                     were shown, then run."
                ));
                sentences
            }
        };
        if names.is_none() {
            sentences.push("The images that were shown are still to be chosen.".to_owned());
        }
        self.responses = Some(responses);
        Ok(sentences)
    }

    fn take_labels(
        &mut self,
        name: &str,
        bytes: &[u8],
        names: Option<&[String]>,
    ) -> Result<Vec<String>, SessionError> {
        let labels = neural::labels_from_csv(name, bytes);
        let labels = labels.map_err(recorded(name))?;
        let mut sentences = vec![format!(
            "{} images of {} classes: {}.",
            labels.images.len(),
            labels.classes.len(),
            labels.classes.join(", ")
        )];
        if let Some(names) = names {
            let (_, matched) = labels.for_images(names).map_err(recorded(name))?;
            sentences.push(format!("{} of the chosen images have one.", matched.count));
        }
        self.labels = Some(labels);
        Ok(sentences)
    }

    fn take_maps(
        &mut self,
        name: &str,
        bytes: &[u8],
        names: Option<&[String]>,
    ) -> Result<Vec<String>, SessionError> {
        let is_array = bytes.starts_with(b"\x93NUMPY") || name.to_lowercase().ends_with(".npz");
        let maps = match is_array {
            true => neural::read_maps(bytes),
            false => {
                let pictures = encoded(bytes, name)?;
                let pictures = pictures.iter().map(|(n, b)| (n.as_str(), b.as_slice()));
                neural::maps_from_pictures(pictures)
            }
        };
        let maps = maps.map_err(recorded(name))?;
        let [count, height, width] = maps.shape;
        let mut sentences = vec![format!("{count} heat maps of {width} × {height} px.")];
        if let Some(names) = names {
            let (_, _, matched) = maps.for_images(names).map_err(recorded(name))?;
            sentences.push(format!(
                "{} of the {} chosen images have one; the others take no part in the harmonizer.",
                matched.count,
                names.len()
            ));
        }
        self.heat_maps = Some(maps);
        Ok(sentences)
    }

    /// The stimuli and the other images as a model takes them, and what there is to say of them.
    pub fn images(
        &self,
        plan: &Plan,
        archive: &Archive,
        model: &Loaded,
        classes: &Classes,
    ) -> Result<(Images, Vec<String>), SessionError> {
        let side = model.config.preprocessing.crop;
        let left_out = classes.iter().filter(|(_, class)| *class == LEFT_OUT);
        let options = OpenOptions {
            size: side,
            images: usize::MAX,
            without: left_out.map(|(name, _)| name.clone()).collect(),
            flat: true,
            // What has no names of its own goes by the order of the images.
            in_order: true,
        };
        let opened = open(&archive.bytes, &archive.name, &options, &mut quiet)?;
        let names = called(opened.names, opened.set.len());
        let (mut set, mut remarks) = (opened.set, Vec::new());
        if let Some(labels) = &self.labels {
            let (found, _) = labels.for_images(&names)?;
            set.labels = found;
            set.classes.clone_from(&labels.classes);
        }
        let (set, labelled) = match relabelled(&set, model, classes) {
            Ok(set) => (set, true),
            Err(unknown) => {
                remarks.push(format!(
                    "The images' classes are not those of {} ({unknown}): no cross-entropy is \
                     computed, and no accuracy.",
                    model.name
                ));
                (set, false)
            }
        };
        let (places, recorded) = self.stimuli(plan, &set, &names)?;
        let stimuli: BTreeSet<usize> = places.iter().copied().collect();
        let mut rest = set.turns();
        rest.retain(|i| !stimuli.contains(i));
        let stimuli = set.picked(places.iter().copied());
        let heat_maps = self.maps_of(&places, &names, side, &mut remarks)?;
        let rest = match labelled {
            true => set.picked(rest),
            false => LabelledSet::default(),
        };
        remarks.insert(
            0,
            format!(
                "{} stimuli; accuracy on {} other images.",
                stimuli.len(),
                rest.len()
            ),
        );
        let images = Images {
            stimuli,
            labelled,
            rest,
            heat_maps,
            recorded,
            activations: None,
        };
        Ok((images, remarks))
    }

    /// Which images are stimuli: those with responses, or the first ones, the classes taking turns.
    fn stimuli(
        &self,
        plan: &Plan,
        set: &LabelledSet,
        names: &[String],
    ) -> Result<(Vec<usize>, Option<neural::Responses>), SessionError> {
        if !matches!(plan.target, Target::Responses { .. }) {
            let count = match plan.data.stimuli {
                0 => names.len(),
                stimuli => stimuli.min(names.len()),
            };
            let mut places = set.turns();
            places.truncate(count);
            return Ok((places, None));
        }
        let responses = self.responses.as_ref().ok_or(SessionError::Missing(
            "Choose a file of responses first, or another target.",
        ))?;
        let (_, aligned) = neural::interpret(responses, Some(names))?;
        Ok((aligned.images, Some(aligned.responses)))
    }

    /// `[stimuli, side, side]`, 0 where a stimulus has no map.
    fn maps_of(
        &self,
        places: &[usize],
        names: &[String],
        side: usize,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<f32>, SessionError> {
        let Some(maps) = &self.heat_maps else {
            return Ok(Vec::new());
        };
        let (all, has) = maps.of_images(names, side)?;
        let with_map = places.iter().filter(|i| has[**i]).count();
        remarks.push(format!("{with_map} of the stimuli have a heat map."));
        let plane = side * side;
        let map = |i: &usize| &all[i * plane..(i + 1) * plane];
        let values: Vec<f32> = places.iter().flat_map(map).copied().collect();
        Ok(values)
    }
}
