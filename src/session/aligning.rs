//! The bench Align: a plan run for itself and for its controls, and kept as it goes.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::engine::{Attachment, Host, Session, SessionError};
use super::protocol::{AlignOptions, AlignReport, Bytes, Event, Progress, Recorded, Understood};
use super::testing::{Archive, batch, digest, drawn, whole};
use crate::align::aligner::{AlignError, Aligner, Kept, Look};
use crate::align::experiment::{Curve, Ended, Images, Quick, compare, relabelled};
use crate::align::head::with_new_head;
use crate::align::outcome::{Outcome, Robust, rows, table, verdict};
use crate::align::plan::{Control, Plan, Target};
use crate::align::target::Answers;
use crate::clock::Clock;
use crate::compute::description::BackendChoice;
use crate::compute::device::Active;
use crate::image::dataset::{LabelledSet, OpenOptions, encoded, open, quiet};
use crate::measure::chart::{Chart, Curves, Dissimilarities, Figure, Plot, Series};
use crate::measure::robustness::plan::Plan as TestPlan;
use crate::measure::robustness::presets;
use crate::measure::similarity::cka::of_centred;
use crate::measure::similarity::inference::Ceiling;
use crate::measure::similarity::{Gram, rdm};
use crate::model::catalog::TestSet;
use crate::model::classes::LEFT_OUT;
use crate::model::load::Loaded;
use crate::model::probe::Cancelled;
use crate::model::save;
use crate::neural::{self, HeatMaps, Labels};

/// How often the curves are drawn anew while a run goes on, seconds.
const CURVES_EVERY: f32 = 1.0;

/// Places that a run is kept at in turn, so that one is whole whenever the page is closed.
const PLACES: u64 = 2;

/// Which class of the models a folder is, where its name does not say so.
type Classes = BTreeMap<String, String>;

/// What was recorded of the images.
#[derive(Default)]
pub(super) struct Recordings {
    responses: Option<neural::Responses>,
    labels: Option<Labels>,
    heat_maps: Option<HeatMaps>,
    /// Of each file's bytes, in the order of their kinds.
    hashes: [u64; 3],
    names: [String; 3],
}

/// What a kept run begins with: a run of another head is another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    plan: Plan,
    controls: Vec<Control>,
    robustness: usize,
    classes: Classes,
    weights: Vec<String>,
    data: [u64; 4],
    version: String,
    /// Convolutions read weights in 16 bits a number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    half: bool,
}

/// Kernels for pictures: areas before and after, and what the tap makes of pairs of stimuli.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Likeness {
    areas: Vec<String>,
    /// `[areas, areas + 1]`: CKA with each area of the model as it was, and with the target.
    before: Vec<f64>,
    after: Vec<f64>,
    /// Dissimilarities of the held-out stimuli, by class: the tap before, after, and the target.
    rdms: Vec<Gram>,
    classes: Vec<u16>,
}

/// Where a run is: written at every look.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    head: Head,
    /// Counts the times it was written.
    turn: u64,
    /// Of the model as it was.
    robust: Option<Vec<Robust>>,
    ended: Vec<Ended>,
    likeness: Option<Likeness>,
    /// Of the run under way.
    curve: Curve,
    under_way: Option<Kept>,
    seconds: f32,
    /// Bytes of each of the files behind the state.
    lengths: [usize; 4],
}

/// A state with its files: the weights, the optimiser's state and the best weights of the run under
/// way, and the aligned model.
struct Run {
    state: State,
    files: [Vec<u8>; 4],
    /// The name of its journals.
    name: String,
}

/// What all runs of a request share.
struct Work {
    plan: Plan,
    controls: Vec<Control>,
    model: Loaded,
    images: Images,
    test: Option<TestPlan>,
    remarks: Vec<String>,
    /// The names of the recordings in use, in the order of their kinds.
    recorded: [String; 3],
}

impl From<AlignError> for SessionError {
    fn from(error: AlignError) -> Self {
        match error {
            AlignError::Cancelled => Self::Cancelled(Cancelled),
            error => Self::Align(error),
        }
    }
}

impl From<crate::align::plan::PlanError> for SessionError {
    fn from(error: crate::align::plan::PlanError) -> Self {
        Self::Align(error.into())
    }
}

fn said(error: impl std::fmt::Display) -> SessionError {
    SessionError::Attack(error.to_string())
}

impl Session {
    /// Reads what was recorded of the images, or forgets it where there is no file.
    pub(super) fn take_recorded(
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
        let set = self.laboratory.set.as_ref();
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
        host.tell(Event::Understood(Understood {
            kind,
            name: name.to_owned(),
            sentences,
        }));
        Ok(())
    }

    /// Runs an alignment, from where an earlier start of it was.
    pub(super) async fn align(
        &mut self,
        options: &AlignOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let plan = Plan::parse(&options.plan)?;
        let controls = controls(&options.controls)?;
        let active = self.device(host).await;
        let work = match self.work(&plan, &controls, options, &active, host).await {
            Err(error) if is_of_gpu(&error, &active) => {
                self.start(BackendChoice::Cpu, host).await?;
                let active = self.device(host).await;
                self.work(&plan, &controls, options, &active, host).await?
            }
            made => made?,
        };
        let head = self.head(&work, options, active.info.half)?;
        let mut run = Run::open(head, options.fresh, host).await?;
        loop {
            let active = self.device(host).await;
            let ended = work.go(&mut run, &active, host).await;
            match ended {
                // What was kept at the last look goes on.
                Err(error) if is_of_gpu(&error, &active) => {
                    self.start(BackendChoice::Cpu, host).await?;
                }
                ended => return ended,
            }
        }
    }

    fn head(&self, work: &Work, options: &AlignOptions, half: bool) -> Result<Head, SessionError> {
        let mut names = vec![work.plan.model.clone()];
        names.extend(work.plan.target.model().map(|(name, _)| name.to_owned()));
        let models = self.laboratory.chosen(&names)?;
        let [responses, heat_maps, labels] = self.recordings.hashes;
        let images = self.laboratory.set.as_ref().map_or(0, |set| set.hash);
        Ok(Head {
            plan: work.plan.clone(),
            controls: work.controls.clone(),
            robustness: options.robustness,
            classes: options.classes.clone(),
            weights: models.iter().map(|model| model.hash.clone()).collect(),
            data: [images, responses, heat_maps, labels],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            half,
        })
    }

    async fn work(
        &self,
        plan: &Plan,
        controls: &[Control],
        options: &AlignOptions,
        active: &Active,
        host: &dyn Host,
    ) -> Result<Work, SessionError> {
        let archive = self
            .laboratory
            .set
            .as_ref()
            .ok_or(SessionError::Missing("Choose images first."))?;
        let plan = &self.recordings.named(plan, archive);
        // A new head has the images' own classes.
        let mut classes = options.classes.clone();
        if plan.new_head {
            classes.retain(|_, class| class == LEFT_OUT);
        }
        let named = [plan.model.clone()];
        let mut model = self.laboratory.chosen(&named)?[0].clone();
        if plan.new_head {
            let labels = self.recordings.labels.as_ref();
            let all = labels.map_or(&archive.classes, |labels| &labels.classes);
            let head = all.iter().filter(|class| !classes.contains_key(*class));
            let head: Vec<String> = head.cloned().collect();
            model = with_new_head(&model, head, plan.seed).await?;
        }
        let (mut images, mut remarks) = self.recordings.images(plan, archive, &model, &classes)?;
        if let Some((name, tap)) = plan.target.model() {
            let other = self.laboratory.chosen(&[name.to_owned()])?[0];
            let (theirs, _) = self.recordings.images(plan, archive, other, &classes)?;
            host.tell(progress(format!("What {name} answers"), 0, 0, None));
            host.pause().await;
            let device = &active.device;
            let answers = Answers::of(other, tap, &theirs.stimuli, device, host.cancel());
            images.answers = Some(answers.await?);
        }
        if images.rest.is_empty() && images.labelled {
            remarks.push(
                "No image is left to measure accuracy and robustness on: take fewer stimuli, or \
                 bring labelled images without responses."
                    .to_owned(),
            );
        }
        if active.info.half {
            remarks.push("Convolutions read weights in f16.".to_owned());
        }
        let test = test_plan(options.robustness, &model, images.rest.len())?;
        let work = Work {
            plan: plan.clone(),
            controls: controls.to_vec(),
            model,
            images,
            test,
            remarks,
            recorded: self.recordings.names.clone(),
        };
        // A control that cannot run is said before the first step, not after the last.
        for control in controls {
            work.aligner(*control, &active.device, host)?;
        }
        Ok(work)
    }
}

/// A GPU may have failed, and the CPU may do what it did not. An attack's failure is a sentence alone.
fn is_of_gpu(error: &SessionError, active: &Active) -> bool {
    let of_device = matches!(
        error,
        SessionError::Align(AlignError::Device(_))
            | SessionError::Device(_)
            | SessionError::Attack(_)
    );
    of_device && active.info.kind != BackendChoice::Cpu
}

/// The runs by their names, the aligned one first.
fn controls(names: &[String]) -> Result<Vec<Control>, SessionError> {
    let find = |name: &String| {
        Control::named(name).ok_or_else(|| said(format!("There is no control called {name}.")))
    };
    let mut all = vec![Control::None];
    for name in names {
        let control = find(name)?;
        if !all.contains(&control) {
            all.push(control);
        }
    }
    Ok(all)
}

/// The quick look of the bench Test on so many of the images that are no stimuli.
fn test_plan(images: usize, model: &Loaded, rest: usize) -> Result<Option<TestPlan>, SessionError> {
    let images = images.min(rest);
    let quick = presets::find("quick").filter(|_| images > 0);
    let Some(preset) = quick else { return Ok(None) };
    let mut plan = preset.plan(vec![model.name.clone()]);
    plan.images = images;
    plan.batch = batch(model.config.preprocessing.crop, plan.batch);
    plan.check()?;
    Ok(Some(plan))
}

/// What images are called; by number where they have no files.
fn called(names: Vec<String>, images: usize) -> Vec<String> {
    match names.is_empty() {
        true => (0..images).map(|i| i.to_string()).collect(),
        false => names,
    }
}

impl Recordings {
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
    fn named(&self, plan: &Plan, archive: &Archive) -> Plan {
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
        let responses = responses.map_err(|e| said(format!("{name}: {e}")))?;
        // Without images yet, or with others than these, the file is understood by itself.
        let found = neural::understand(&responses, names);
        let mut sentences = match found {
            Ok((understood, _)) => understood.sentences(),
            Err(error) => {
                let (understood, _) = neural::understand(&responses, None)
                    .map_err(|e| said(format!("{name}: {e}")))?;
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
        let labels = labels.map_err(|e| said(format!("{name}: {e}")))?;
        let mut sentences = vec![format!(
            "{} images of {} classes: {}.",
            labels.images.len(),
            labels.classes.len(),
            labels.classes.join(", ")
        )];
        if let Some(names) = names {
            let (_, matched) = labels
                .for_images(names)
                .map_err(|e| said(format!("{name}: {e}")))?;
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
        let maps = maps.map_err(|e| said(format!("{name}: {e}")))?;
        let [count, height, width] = maps.shape;
        let mut sentences = vec![format!("{count} heat maps of {width} × {height} px.")];
        if let Some(names) = names {
            let (_, _, matched) = maps
                .for_images(names)
                .map_err(|e| said(format!("{name}: {e}")))?;
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
    fn images(
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
            let (found, _) = labels.for_images(&names).map_err(said)?;
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
            answers: None,
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
        let (_, aligned) = neural::understand(responses, Some(names)).map_err(said)?;
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
        let (all, has) = maps.of_images(names, side).map_err(said)?;
        let with_map = places.iter().filter(|i| has[**i]).count();
        remarks.push(format!("{with_map} of the stimuli have a heat map."));
        let plane = side * side;
        let map = |i: &usize| &all[i * plane..(i + 1) * plane];
        let values: Vec<f32> = places.iter().flat_map(map).copied().collect();
        Ok(values)
    }
}

impl Work {
    async fn go(
        &self,
        run: &mut Run,
        active: &Active,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        host.tell(self.report(&run.state, None)?);
        if run.state.robust.is_none() {
            run.state.robust = Some(self.robust(&self.model, active, host).await?);
            run.keep(host).await?;
        }
        while let Some(control) = self.controls.get(run.state.ended.len()) {
            self.one(*control, run, active, host).await?;
            host.tell(self.report(&run.state, None)?);
        }
        compare(&mut run.state.ended).map_err(said)?;
        host.tell(self.report(&run.state, Some(&run.files[3]))?);
        Ok(())
    }

    /// A run from where it is to its end.
    async fn one(
        &self,
        control: Control,
        run: &mut Run,
        active: &Active,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let (mut aligner, ceiling) = self.aligner(control, &active.device, host)?;
        run.resume(&mut aligner);
        let mut clock = Clock::start();
        let mut told = Clock::start();
        loop {
            let state = &mut run.state;
            let looked = state.curve.looks.last().map(|look| look.step);
            if aligner.is_look_due() && looked != Some(aligner.steps_done()) {
                match aligner.look().await {
                    Ok(look) => state.curve.looks.push(look),
                    Err(error) => return self.stop(run, &aligner, &clock, error, host).await,
                }
                state.seconds += clock.seconds();
                clock = Clock::start();
                run.keep_with(&aligner, host).await?;
            }
            if told.seconds() > CURVES_EVERY {
                host.tell(self.report(&run.state, None)?);
                told = Clock::start();
            }
            if aligner.is_finished() {
                break;
            }
            host.tell(self.progress(&run.state, &aligner, &clock));
            host.pause().await;
            match aligner.step().await {
                Ok(step) => run.state.curve.steps.push(step),
                // Where memory was short, half of it may be enough.
                Err(AlignError::Device(_)) if aligner.split_further() => {}
                Err(error) => return self.stop(run, &aligner, &clock, error, host).await,
            }
        }
        self.end(control, run, &aligner, ceiling, active, host)
            .await
    }

    /// A run that does not go on for now; one that was cancelled goes on from here.
    async fn stop(
        &self,
        run: &mut Run,
        aligner: &Aligner,
        clock: &Clock,
        error: AlignError,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        if matches!(error, AlignError::Cancelled) {
            run.state.seconds += clock.seconds();
            run.keep_with(aligner, host).await?;
        }
        Err(error.into())
    }

    fn aligner(
        &self,
        control: Control,
        device: &Device,
        host: &dyn Host,
    ) -> Result<(Aligner, Option<Ceiling>), SessionError> {
        let plan = self.plan.with_control(control);
        Ok(self
            .images
            .aligner(plan, &self.model, device, host.cancel())?)
    }

    /// What a finished run comes to.
    async fn end(
        &self,
        control: Control,
        run: &mut Run,
        aligner: &Aligner,
        ceiling: Option<Ceiling>,
        active: &Active,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let curve = run.state.curve.clone();
        let mut ended = Ended::of(aligner, control, ceiling, curve).await?;
        let mut aligned = self.model.clone();
        aligned.name.clone_from(&self.plan.name);
        aligned.weights = save::to_host(&aligner.network()).await?;
        ended.outcome.robust_before = run.state.robust.clone().unwrap_or_default();
        ended.outcome.robust_after = self.robust(&aligned, active, host).await?;
        ended.outcome.seconds = run.state.seconds;
        if control.is_none() {
            run.state.likeness = Some(likeness(aligner).await?);
            let mut file = Vec::new();
            save::write(&aligned, false, &mut file).map_err(said)?;
            run.files[3] = file;
        }
        run.state.ended.push(ended);
        run.state.curve = Curve::default();
        run.state.under_way = None;
        run.state.seconds = 0.0;
        run.files[..3].fill(Vec::new());
        run.keep(host).await
    }

    async fn robust(
        &self,
        model: &Loaded,
        active: &Active,
        host: &dyn Host,
    ) -> Result<Vec<Robust>, SessionError> {
        let Some(plan) = &self.test else {
            return Ok(Vec::new());
        };
        let name = &model.name;
        host.tell(progress(format!("Robustness of {name}"), 0, 0, None));
        let quick = Quick::new(plan, &self.images.rest, model, &active.device)?;
        let pause = || host.pause();
        Ok(quick.run(host.cancel(), Some(&pause)).await?)
    }

    /// Steps over all runs.
    fn steps(&self) -> usize {
        self.plan.steps * self.controls.len()
    }

    fn progress(&self, state: &State, aligner: &Aligner, clock: &Clock) -> Event {
        let (here, all) = (aligner.steps_done(), self.steps());
        let done = self.plan.steps * state.ended.len() + here;
        let seconds = state.seconds + clock.seconds();
        let each = seconds / here.max(1) as f32;
        let left = (here > 0).then_some(each * (all - done) as f32);
        let run = aligner.plan().control.run();
        progress(format!("{}, {run}", self.plan.name), done, all, left)
    }

    fn report(&self, state: &State, weights: Option<&Vec<u8>>) -> Result<Event, SessionError> {
        let outcomes: Vec<Outcome> = state.ended.iter().map(|e| e.outcome.clone()).collect();
        let aligned = outcomes.iter().find(|o| o.control.is_none());
        let (heads, rows) = match outcomes.is_empty() {
            true => Default::default(),
            false => rows(&outcomes),
        };
        let mut remarks = self.remarks.clone();
        let ceiling = aligned.and_then(|o| o.ceiling.as_ref());
        remarks.extend(ceiling.map(|c| {
            format!(
                "Split halves of the responses agree with CKA {:.3}; reliability {:.3}.",
                c.cka, c.reliability
            )
        }));
        let verdict = match (weights, aligned) {
            (Some(_), Some(aligned)) => verdict(aligned),
            _ => String::new(),
        };
        let documents = match weights {
            Some(weights) => self.documents(state, &outcomes, &verdict, weights)?,
            None => Vec::new(),
        };
        let done = self.plan.steps * state.ended.len() + state.curve.steps.len();
        Ok(Event::Aligned(Box::new(AlignReport {
            name: self.plan.name.clone(),
            done: match weights {
                Some(_) => self.steps(),
                None => done,
            },
            steps: self.steps(),
            remarks,
            verdict,
            heads,
            rows,
            charts: self.charts(state).into_iter().map(drawn).collect(),
            documents,
        })))
    }

    /// The curves of every run, the one under way last, and at the end of the aligned one pictures
    /// of its areas.
    fn charts(&self, state: &State) -> Vec<Chart> {
        let ended = state.ended.iter();
        let mut runs: Vec<(&str, &Curve)> =
            ended.map(|e| (e.outcome.control.run(), &e.curve)).collect();
        let under_way = self.controls.get(runs.len());
        runs.extend(under_way.map(|control| (control.run(), &state.curve)));
        if runs.iter().all(|(_, curve)| curve.looks.is_empty()) {
            return Vec::new();
        }
        let over = |look: &dyn Fn(&Look) -> f64, curve: &Curve| {
            let points = curve.looks.iter();
            points.map(|l| (l.step as f64, look(l))).collect()
        };
        let mut similarity: Vec<Series> = Vec::new();
        for (name, curve) in &runs {
            similarity.push(Series {
                name: format!("{name}: held-out stimuli"),
                points: over(&|l| l.held_out_stimuli, curve),
            });
        }
        if let Some((name, curve)) = runs.first() {
            similarity.push(Series {
                name: format!("{name}: training stimuli"),
                points: over(&|l| l.training, curve),
            });
            similarity.push(Series {
                name: format!("{name}: held-out neuroids"),
                points: over(&|l| l.held_out_neuroids, curve),
            });
        }
        let accuracy: Vec<Series> = runs
            .iter()
            .map(|(name, curve)| Series {
                name: (*name).to_owned(),
                points: over(&|l| l.accuracy.map_or(f64::NAN, |a| 100.0 * a), curve),
            })
            .collect();
        let curves = |title: &str, y_label: &str, series: Vec<Series>| {
            let plot = Curves {
                x_label: "optimiser step".to_owned(),
                y_label: y_label.to_owned(),
                series,
                range: None,
                end: self.plan.steps as f64,
            };
            Figure::new("curves", title, Plot::Curves(plot)).draw()
        };
        let title = format!("CKA of {} with the target", self.plan.tap);
        let mut charts = vec![curves(&title, "unbiased linear CKA", similarity)];
        if !self.images.rest.is_empty() {
            let title = "Accuracy on images that are no stimuli";
            charts.push(curves(title, "accuracy, %", accuracy));
        }
        // Of the run under way, and at the end of the aligned one.
        let shown = match under_way {
            Some(_) => runs.last(),
            None => runs.first(),
        };
        if let Some((name, curve)) = shown {
            let title = format!("Terms of the loss, {name}");
            charts.push(curves(&title, "loss", terms(curve)));
        }
        charts.extend(
            state
                .likeness
                .iter()
                .flat_map(|likeness| self.pictures(likeness)),
        );
        charts
    }

    fn pictures(&self, likeness: &Likeness) -> Vec<Chart> {
        let columns: Vec<String> = likeness
            .areas
            .iter()
            .map(|area| format!("{area} before"))
            .chain(["target".to_owned()])
            .collect();
        let tables = [("before", &likeness.before), ("after", &likeness.after)];
        let maps = tables.map(|(when, values)| {
            let title = format!("CKA of areas {when} alignment, held-out stimuli");
            Figure::similarities(&title, &likeness.areas, &columns, values).draw()
        });
        let titles = [
            format!("{} before: dissimilarity of stimuli", self.plan.tap),
            format!("{} after: dissimilarity of stimuli", self.plan.tap),
            "Target: dissimilarity of stimuli".to_owned(),
        ];
        let named = &self.images.stimuli.classes;
        let matrices = titles.iter().zip(&likeness.rdms);
        let matrices = matrices.map(|(title, rdm)| {
            let plot = Dissimilarities {
                rdm: rdm.clone(),
                classes: likeness.classes.clone(),
                names: named.clone(),
            };
            Figure::new("dissimilarities", title, Plot::Dissimilarities(plot)).draw()
        });
        maps.into_iter().chain(matrices).collect()
    }

    fn documents(
        &self,
        state: &State,
        outcomes: &[Outcome],
        verdict: &str,
        weights: &[u8],
    ) -> Result<Vec<(String, Bytes)>, SessionError> {
        let name = &self.plan.name;
        let plan = toml::to_string(&self.plan).map_err(said)?;
        let json = serde_json::json!({ "plan": self.plan, "runs": outcomes });
        let controls: Vec<&str> = self.controls[1..].iter().map(|c| c.name()).collect();
        let images = self.test.as_ref().map(|test| test.images.to_string());
        let [responses, heat_maps, labels] = &self.recorded;
        let folder = (!responses.is_empty()).then_some("FOLDER_OF_THE_IMAGES");
        let flags = [
            ("controls", controls.join(",")),
            ("robustness-images", images.unwrap_or_default()),
            ("data", folder.unwrap_or_default().to_owned()),
            ("labels", labels.clone()),
            ("heat-maps", heat_maps.clone()),
        ];
        let given = flags.iter().filter(|(_, value)| !value.is_empty());
        let again: String = given
            .map(|(flag, value)| format!(" --{flag} {value}"))
            .collect();
        let card = format!(
            "# {name}\n\n{verdict}\n\n{}\n{}\nAligned from {} (weights {}) by Ventral {}, \
             unbiased linear CKA, seed {}.\n\nTo repeat it: `ventral align {name}.toml{again} \
             --output DIR`.\n\n```toml\n{plan}```\n",
            table(outcomes),
            self.remarks.join(" "),
            self.model.name,
            self.model.hash,
            env!("CARGO_PKG_VERSION"),
            self.plan.seed,
        );
        let text = |ending: &str, text: String| {
            let name = format!("{name}.{ending}");
            (name, Bytes::from(text.into_bytes()))
        };
        Ok(vec![
            (format!("{name}.safetensors"), Bytes::from(weights.to_vec())),
            text("md", card),
            text("toml", plan),
            text("json", serde_json::to_string_pretty(&json).map_err(said)?),
            text("csv", curves_csv(&state.ended)),
        ])
    }
}

fn terms(curve: &Curve) -> Vec<Series> {
    let names = curve.steps.first().map(|step| step.terms.keys());
    let names = names.into_iter().flatten();
    names
        .map(|name| {
            let value = |step: &crate::align::aligner::Step| {
                let value = step.terms.get(name).copied();
                (step.step as f64, value.map_or(f64::NAN, f64::from))
            };
            Series {
                name: name.clone(),
                points: curve.steps.iter().map(value).collect(),
            }
        })
        .collect()
}

/// A line for every step and every look of every run.
fn curves_csv(ended: &[Ended]) -> String {
    let mut text = "run,step,what,value\r\n".to_owned();
    let mut line = |run: &str, step: usize, what: &str, value: f64| {
        if value.is_finite() {
            text += &format!("{run},{step},{what},{value}\r\n");
        }
    };
    for Ended { outcome, curve, .. } in ended {
        let run = outcome.control.run();
        for step in &curve.steps {
            line(run, step.step, "rate", step.rate);
            line(run, step.step, "loss", step.loss.into());
            for (term, value) in &step.terms {
                line(run, step.step, term, f64::from(*value));
            }
        }
        for look in &curve.looks {
            line(run, look.step, "CKA training", look.training);
            line(
                run,
                look.step,
                "CKA held-out stimuli",
                look.held_out_stimuli,
            );
            line(
                run,
                look.step,
                "CKA held-out neuroids",
                look.held_out_neuroids,
            );
            line(
                run,
                look.step,
                "accuracy",
                look.accuracy.unwrap_or(f64::NAN),
            );
        }
    }
    text
}

/// What the areas and the tap make of the held-out stimuli, before and after.
async fn likeness(aligner: &Aligner) -> Result<Likeness, SessionError> {
    let after = aligner.network();
    let (areas, before) = aligner.area_kernels(aligner.start()).await?;
    let (_, after_kernels) = aligner.area_kernels(&after).await?;
    let [_, target] = aligner.held_out_kernels(&after).await?;
    let with = |kernels: &[Gram]| -> Vec<f64> {
        let row = |kernel: &Gram| {
            let others = before.iter().chain([&target]);
            let row: Vec<f64> = others.map(|other| of_centred(kernel, other)).collect();
            row
        };
        kernels.iter().flat_map(row).collect()
    };
    let (order, classes) = aligner.held_out_by_class();
    let features = [
        aligner.held_out_features(aligner.start()).await?,
        aligner.held_out_features(&after).await?,
        aligner.held_out_responses()?,
    ];
    let rdms = features.iter().map(|features| {
        let dissimilarity = rdm::Dissimilarity::default();
        rdm::rdm(features, dissimilarity).permuted(&order)
    });
    Ok(Likeness {
        before: with(&before),
        after: with(&after_kernels),
        rdms: rdms.collect(),
        areas,
        classes,
    })
}

fn progress(stage: String, done: usize, total: usize, seconds_left: Option<f32>) -> Event {
    Event::Progress(Progress {
        stage,
        done: done as u64,
        total: total as u64,
        bytes: false,
        seconds_left,
    })
}

impl Run {
    /// The run of this head as it was kept, or a new one.
    async fn open(head: Head, fresh: bool, host: &dyn Host) -> Result<Self, SessionError> {
        let written = serde_json::to_vec(&head).map_err(said)?;
        let name = format!("align-{:016x}", digest(&written));
        let mut found: Option<(State, [Vec<u8>; 4])> = None;
        for place in 0..PLACES {
            let kept = host.open_journal(&format!("{name}-{place}")).await;
            if fresh {
                host.cut_journal(0);
            }
            host.close_journal();
            let sound = read_state(&kept).filter(|(state, _)| state.head == head && !fresh);
            let newer = |(state, _): &(State, _)| {
                let known = found.as_ref();
                known.is_none_or(|(known, _)| known.turn < state.turn)
            };
            if let Some(sound) = sound.filter(newer) {
                found = Some(sound);
            }
        }
        let new = State {
            head,
            turn: 0,
            robust: None,
            ended: Vec::new(),
            likeness: None,
            curve: Curve::default(),
            under_way: None,
            seconds: 0.0,
            lengths: [0; 4],
        };
        let (state, files) = found.unwrap_or((new, Default::default()));
        Ok(Self { state, files, name })
    }

    /// Goes on with the run under way. What cannot be used begins again.
    fn resume(&mut self, aligner: &mut Aligner) {
        let [weights, steps, best, _] = self.files.clone();
        let files = [weights, steps, best];
        let resumed = match &self.state.under_way {
            Some(kept) => aligner.resume(kept, files).is_ok(),
            None => false,
        };
        if resumed {
            // Steps behind the last look that was kept are done again.
            let done = aligner.steps_done();
            self.state.curve.steps.retain(|step| step.step <= done);
            self.state.curve.looks.retain(|look| look.step <= done);
        } else {
            self.state.curve = Curve::default();
        }
    }

    async fn keep_with(&mut self, aligner: &Aligner, host: &dyn Host) -> Result<(), SessionError> {
        let (kept, [weights, steps, best]) = aligner.keep().await?;
        self.state.under_way = Some(kept);
        [self.files[0], self.files[1], self.files[2]] = [weights, steps, best];
        self.keep(host).await
    }

    async fn keep(&mut self, host: &dyn Host) -> Result<(), SessionError> {
        self.state.turn += 1;
        self.state.lengths = [0, 1, 2, 3].map(|i| self.files[i].len());
        let name = format!("{}-{}", self.name, self.state.turn % PLACES);
        let written = write_state(&self.state, &self.files)?;
        // What it held is older than what the other place holds.
        host.open_journal(&name).await;
        host.cut_journal(0);
        host.append_journal(&written);
        host.close_journal();
        Ok(())
    }
}

/// The length of the state, the state, its files, and a hash of all of it.
fn write_state(state: &State, files: &[Vec<u8>; 4]) -> Result<Vec<u8>, SessionError> {
    let state = serde_json::to_vec(state).map_err(said)?;
    let mut bytes = (state.len() as u64).to_le_bytes().to_vec();
    bytes.extend(state);
    files.iter().for_each(|file| bytes.extend(file));
    let hash = digest(&bytes).to_le_bytes();
    bytes.extend(hash);
    Ok(bytes)
}

/// `None` for what was not written to its end.
fn read_state(bytes: &[u8]) -> Option<(State, [Vec<u8>; 4])> {
    let (body, hash) = bytes.split_last_chunk::<8>()?;
    if digest(body) != u64::from_le_bytes(*hash) {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<8>()?;
    let (state, mut rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let state: State = serde_json::from_slice(state).ok()?;
    let mut files: [Vec<u8>; 4] = Default::default();
    for (file, length) in files.iter_mut().zip(state.lengths) {
        let (of_file, others) = rest.split_at_checked(length)?;
        *file = of_file.to_vec();
        rest = others;
    }
    Some((state, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_cut_short_or_damaged_is_none() {
        let state = State {
            head: Head {
                plan: Plan::parse("name='a'\nmodel='m'\nsteps=2\nbatch=4\ntarget={kind='pixels'}")
                    .unwrap(),
                controls: vec![Control::None],
                robustness: 0,
                classes: Classes::new(),
                weights: vec!["w".to_owned()],
                data: [1, 2, 3, 4],
                version: "0".to_owned(),
                half: false,
            },
            turn: 3,
            robust: None,
            ended: Vec::new(),
            likeness: None,
            curve: Curve {
                steps: Vec::new(),
                looks: vec![Look {
                    held_out_neuroids: f64::NAN,
                    ..Look::default()
                }],
            },
            under_way: None,
            seconds: 0.0,
            lengths: [3, 0, 1, 0],
        };
        let files = [vec![1, 2, 3], Vec::new(), vec![4], Vec::new()];
        let written = write_state(&state, &files).unwrap();
        let (read, found) = read_state(&written).expect("it is whole");
        assert_eq!((read.turn, found), (3, files));
        assert!(read.curve.looks[0].held_out_neuroids.is_nan());
        for length in 0..written.len() {
            assert!(read_state(&written[..length]).is_none(), "{length}");
        }
        for place in (0..written.len()).step_by(7) {
            let mut damaged = written.clone();
            damaged[place] ^= 1;
            assert!(read_state(&damaged).is_none(), "{place}");
        }
    }
}
