//! What the page knows, and everything it can ask for.

mod align;
mod lab;
mod run;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::compute::description::{BackendChoice, BackendInfo};
use ventral::perturb::attack::masking::Masking;
use ventral::session::protocol::*;
use wasm_bindgen::prelude::*;
use web_sys::File;

use crate::bridge::{self, Signal};
use crate::catalog::{self, Entry, Robustness, Sample};
use crate::link::{self, Link};
use crate::paint::Palette;
use crate::{dom, files, numbers};

pub use align::{Aligning, CONTROLS, Choice, FORMS, Form, KINDS, NUMBERS, OPTIMISERS, Setting};
pub use lab::{Lab, PLANS};
pub use types::*;

/// Slower models than this (milliseconds a pass) are not attacked while a slider moves.
const LIVE_LIMIT_MS: f32 = 400.0;

/// Changes of the Perturb bench that can be taken back.
const MOST_HISTORY: usize = 60;

/// About how many passes the check of a gradient takes, and how long it may take unasked.
const CHECK_PASSES: f32 = 150.0;
const CHECK_LIMIT_MS: f32 = 8_000.0;

/// How long each picture of an attack's way is shown.
const FRAME_MS: i32 = 180;

/// Every signal of the page. A copy is a handle to the same signals.
#[derive(Clone, Copy)]
pub struct App {
    pub bench: RwSignal<Bench>,
    pub theme: RwSignal<Theme>,
    pub engine: RwSignal<Engine>,
    pub backend_choice: RwSignal<BackendChoice>,
    pub backend: RwSignal<Option<BackendInfo>>,
    pub catalog: RwSignal<Vec<Entry>>,
    /// How robust the catalog's models were found to be, by their names.
    pub robustness: RwSignal<BTreeMap<String, Robustness>>,
    pub samples: RwSignal<Vec<Sample>>,
    /// The catalog's name of the model in use or on its way; none for the visitor's own file.
    pub model_name: RwSignal<Option<String>>,
    source: RwSignal<Option<Source>, LocalStorage>,
    pub model: RwSignal<Option<Arc<ModelInfo>>>,
    pub sample_name: RwSignal<Option<String>>,
    pub image: RwSignal<Option<Arc<Shown>>>,
    pub channels: RwSignal<usize>,
    /// The model's own noise when only looking.
    pub see_noise: RwSignal<bool>,
    pub analysis: RwSignal<Option<Arc<Analysis>>>,
    /// A newer analysis is on its way.
    pub stale: RwSignal<bool>,
    pub knobs: RwSignal<Knobs>,
    pub perturbed: RwSignal<Option<Arc<Perturbed>>>,
    /// The settings `perturbed` was made with.
    pub perturbed_knobs: RwSignal<Option<Knobs>>,
    pub attack_steps: RwSignal<Vec<AttackStep>>,
    /// Settings before the ones in use, the latest last.
    history: RwSignal<Vec<Knobs>>,
    /// The settings at the beginning of a drag.
    drag_from: StoredValue<Option<Knobs>>,
    pub difference_view: RwSignal<DifferenceView>,
    /// The picture of the attack's way that is shown; none: the end.
    pub frame: RwSignal<Option<usize>>,
    pub playing: RwSignal<bool>,
    pub masking: RwSignal<Option<Arc<Masking>>>,
    pub transfers: RwSignal<Vec<Transferred>>,
    /// Requests about the last perturbation: they give way to everything else.
    asides: StoredValue<Vec<u32>>,
    /// The visitor's pictures of frost, encoded, kept for a worker that has to be restarted.
    textures: StoredValue<Vec<Vec<u8>>>,
    see_running: StoredValue<Option<u32>>,
    see_wanted: StoredValue<bool>,
    perturb_running: StoredValue<Option<u32>>,
    /// What to send when the running perturbation has ended; `true`: coarse.
    perturb_next: StoredValue<Option<bool>>,
    perturb_wanted: StoredValue<bool>,
    pub tasks: RwSignal<Vec<Task>>,
    pub problems: RwSignal<Vec<Problem>>,
    problem_count: StoredValue<u32>,
    /// Milliseconds from the opening of the page to the first prediction.
    pub first_prediction: RwSignal<Option<f64>>,
    /// What a screen reader is told.
    pub status: RwSignal<String>,
    pub palette: RwSignal<Palette>,
    /// One scale for an area's maps over time, rather than one for each map.
    pub shared_scale: RwSignal<bool>,
    pub spot: RwSignal<Option<Spot>>,
    pub dialog: RwSignal<Option<Dialog>>,
    pub lab: Lab,
    pub align: Aligning,
}

impl App {
    /// The state of a page just opened.
    pub fn new() -> App {
        let link = link::read();
        App {
            bench: RwSignal::new(link.bench.unwrap_or_default()),
            theme: RwSignal::new(Theme::read()),
            engine: RwSignal::new(Engine::Loading {
                done: 0.0,
                total: 0.0,
            }),
            backend_choice: RwSignal::new(link.backend.unwrap_or_default()),
            backend: RwSignal::new(None),
            catalog: RwSignal::new(Vec::new()),
            robustness: RwSignal::new(BTreeMap::new()),
            samples: RwSignal::new(Vec::new()),
            model_name: RwSignal::new(link.model),
            source: RwSignal::new_local(None),
            model: RwSignal::new(None),
            sample_name: RwSignal::new(link.sample),
            image: RwSignal::new(None),
            channels: RwSignal::new(12),
            see_noise: RwSignal::new(false),
            analysis: RwSignal::new(None),
            stale: RwSignal::new(true),
            knobs: RwSignal::new(link.knobs.unwrap_or_default()),
            perturbed: RwSignal::new(None),
            perturbed_knobs: RwSignal::new(None),
            attack_steps: RwSignal::new(Vec::new()),
            history: RwSignal::new(Vec::new()),
            drag_from: StoredValue::new(None),
            difference_view: RwSignal::new(DifferenceView::default()),
            frame: RwSignal::new(None),
            playing: RwSignal::new(false),
            masking: RwSignal::new(None),
            transfers: RwSignal::new(Vec::new()),
            asides: StoredValue::new(Vec::new()),
            textures: StoredValue::new(Vec::new()),
            see_running: StoredValue::new(None),
            see_wanted: StoredValue::new(true),
            perturb_running: StoredValue::new(None),
            perturb_next: StoredValue::new(None),
            perturb_wanted: StoredValue::new(true),
            tasks: RwSignal::new(Vec::new()),
            problems: RwSignal::new(Vec::new()),
            problem_count: StoredValue::new(0),
            first_prediction: RwSignal::new(None),
            status: RwSignal::new("Starting".to_owned()),
            palette: RwSignal::new(Palette::default()),
            shared_scale: RwSignal::new(false),
            spot: RwSignal::new(None),
            dialog: RwSignal::new(None),
            lab: Lab::new(),
            align: Aligning::new(),
        }
    }

    /// Starts the worker, the default model and the first picture.
    pub fn start(self) {
        let device = link::backend_word(self.backend_choice.get_untracked());
        bridge::connect(device, move |signal| self.on_signal(signal));
        self.start_backend();
        spawn_local(async move { self.read_catalog().await });
        spawn_local(async move { self.read_samples().await });
        spawn_local(async move {
            // A decoration of the picker: without it the models are there all the same.
            match catalog::read_robustness().await {
                Ok(found) => self.robustness.set(found),
                Err(cause) => leptos::logging::warn!("{cause}"),
            }
        });
        self.keep_address();
        self.keep_align_ready();
    }

    async fn read_catalog(self) {
        match catalog::read::<Entry>("models/catalog.json").await {
            Ok(entries) => {
                self.catalog.set(entries);
                self.lab.chosen.set(self.wanted().into_iter().collect());
                if self.source.with_untracked(Option::is_none) {
                    self.load_wanted();
                }
            }
            Err(cause) => self.problem(
                "The list of models could not be read. You can still drop a weights file.",
                &cause,
            ),
        }
    }

    /// The model the address names, or the catalog's default.
    fn wanted(self) -> Option<String> {
        let wanted = self.model_name.get_untracked();
        self.catalog.with_untracked(|all| {
            let named = all
                .iter()
                .find(|e| e.file.is_some() && Some(&e.name) == wanted.as_ref());
            let mut at_hand = all.iter().filter(|e| e.file.is_some());
            let usual = || at_hand.clone().find(|e| e.default).or(at_hand.next());
            named.or_else(usual).map(|e| e.name.clone())
        })
    }

    fn load_wanted(self) {
        if let Some(name) = self.wanted() {
            self.load(Source::Catalog(name));
        }
    }

    async fn read_samples(self) {
        match catalog::read::<Sample>("samples/samples.json").await {
            Ok(samples) => {
                self.samples.set(samples.clone());
                let wanted = self.sample_name.get_untracked();
                let named = samples.iter().find(|s| Some(&s.file) == wanted.as_ref());
                if let (true, Some(first)) = (
                    self.image.with_untracked(Option::is_none),
                    named.or(samples.first()),
                ) {
                    self.set_sample(first.clone());
                }
            }
            Err(cause) => self.problem(
                "The sample pictures could not be read. You can still open your own.",
                &cause,
            ),
        }
    }

    /// Writes the address whenever what it holds changes, and follows it when it is edited.
    fn keep_address(self) {
        Effect::new(move |_| {
            link::write(&Link {
                bench: Some(self.bench.get()),
                model: self.model_name.get(),
                sample: self.sample_name.get(),
                backend: Some(self.backend_choice.get()),
                knobs: Some(self.knobs.get()),
            });
        });
        let follow = Closure::<dyn Fn()>::new(move || self.follow(link::read()));
        // Without the listener the page works; only editing the address by hand does not.
        let _ = dom::window()
            .add_event_listener_with_callback("hashchange", follow.as_ref().unchecked_ref());
        follow.forget();
    }

    fn follow(self, link: Link) {
        if let Some(choice) = link
            .backend
            .filter(|b| *b != self.backend_choice.get_untracked())
        {
            self.choose_backend(choice);
        }
        if link.model.is_some() && link.model != self.model_name.get_untracked() {
            self.model_name.set(link.model);
            self.load_wanted();
        }
        if link.sample.is_some() && link.sample != self.sample_name.get_untracked() {
            let samples = self.samples.get_untracked();
            let named = samples
                .into_iter()
                .find(|s| Some(&s.file) == link.sample.as_ref());
            if let Some(sample) = named {
                self.set_sample(sample);
            }
        }
        if let Some(knobs) = link.knobs {
            self.turn(false, |k| *k = knobs);
        }
        if let Some(bench) = link.bench {
            self.go(bench);
        }
    }

    fn on_signal(self, signal: Signal) {
        match signal {
            Signal::Loading { done, total } => self.engine.set(Engine::Loading { done, total }),
            Signal::Ready => self.engine.set(Engine::Ready),
            Signal::Replaced => self.send_everything(),
            Signal::Crashed(cause) => {
                self.engine.set(Engine::Crashed);
                self.status.set("The compute worker stopped".to_owned());
                self.add_problem(
                    "The compute worker stopped. Restart it to go on; your model and image are kept.",
                    &cause,
                    true,
                );
            }
        }
    }

    /// Starts a fresh worker and gives it the backend, the model and the picture again.
    pub fn restart(self) {
        self.problems.update(|all| all.retain(|p| !p.restart));
        bridge::restart();
        self.send_everything();
    }

    fn send_everything(self) {
        self.lab.forget_worker();
        self.align.forget_worker();
        self.engine.set(Engine::Loading {
            done: 0.0,
            total: 0.0,
        });
        self.start_backend();
        match self.source.get_untracked() {
            Some(source) => self.load(source),
            None => self.load_wanted(),
        }
        if self.textures.with_value(|t| !t.is_empty()) {
            self.send_textures();
        }
        if let Some(shown) = self.image.get_untracked() {
            self.send_image(shown);
        }
        if self.bench.get_untracked() == Bench::Align {
            self.prepare_align();
        }
    }

    /// Sends a request. Progress, the device and failures are handled here, for every request;
    /// `then` hears all events.
    fn ask(
        self,
        label: &str,
        request: Request,
        files: Vec<File>,
        then: impl Fn(Event) + 'static,
    ) -> u32 {
        self.make_way(&request);
        let id = bridge::next_id();
        let task = Task {
            id,
            label: label.to_owned(),
            progress: None,
            cancelling: false,
        };
        self.tasks.update(|tasks| tasks.push(task));
        bridge::ask(id, request, files, move |event| {
            match &event {
                Event::Backend(info) => self.backend.set(Some(info.clone())),
                Event::Progress(progress) => self.tasks.update(|tasks| {
                    let task = tasks.iter_mut().find(|t| t.id == id);
                    task.into_iter()
                        .for_each(|t| t.progress = Some(progress.clone()));
                }),
                Event::Failed(failure) => self.problem(&failure.sentence, &failure.cause),
                _ => {}
            }
            if ends(&event) {
                self.tasks.update(|tasks| tasks.retain(|t| t.id != id));
            }
            let ended = ends(&event);
            then(event);
            if ended {
                self.go_on_when_idle();
            }
        });
        id
    }

    /// A request just sent, unless it has failed already, on its way out.
    fn under_way(self, id: u32) -> Option<u32> {
        self.tasks
            .with_untracked(|tasks| tasks.iter().any(|t| t.id == id))
            .then_some(id)
    }

    /// Gives up a request because the visitor said so.
    pub fn cancel(self, id: u32) {
        self.perturb_next.set_value(None);
        self.tasks.update(|tasks| {
            tasks
                .iter_mut()
                .filter(|t| t.id == id)
                .for_each(|t| t.cancelling = true);
        });
        self.status.set("Cancelled".to_owned());
        // A step of an alignment takes its time, and ends in a state that can be gone on with.
        match self.align.run.id.get_untracked() == Some(id) {
            true => bridge::cancel(id),
            false => bridge::cancel_now(id),
        }
    }

    /// Shows a problem with a sentence for the visitor and a cause for the log.
    pub fn problem(self, sentence: &str, cause: &str) {
        self.add_problem(sentence, cause, false);
    }

    fn add_problem(self, sentence: &str, cause: &str, restart: bool) {
        leptos::logging::warn!("{sentence} {cause}");
        self.problem_count.update_value(|n| *n += 1);
        let problem = Problem {
            id: self.problem_count.get_value(),
            sentence: sentence.to_owned(),
            cause: cause.to_owned(),
            restart,
        };
        self.problems.update(|all| {
            all.retain(|p| p.sentence != problem.sentence);
            all.push(problem);
            // The newest three are enough to read.
            let surplus = all.len().saturating_sub(3);
            all.drain(..surplus);
        });
    }

    /// Takes a problem off the page.
    pub fn dismiss(self, id: u32) {
        self.problems.update(|all| all.retain(|p| p.id != id));
    }

    fn start_backend(self) {
        let request = Request::Start {
            backend: self.backend_choice.get_untracked(),
        };
        self.ask(
            "Choosing a device",
            request,
            Vec::new(),
            move |event| match event {
                // The model has moved to the new device.
                Event::Model(info) => self.on_model(*info),
                Event::Done => self.refresh(),
                _ => {}
            },
        );
    }

    /// Changes the device, and with it the worker: one owns the GPU, another all of the CPU.
    pub fn choose_backend(self, choice: BackendChoice) {
        self.backend_choice.set(choice);
        bridge::set_device(link::backend_word(choice));
        self.restart();
    }

    /// Loads a model.
    pub fn load(self, source: Source) {
        self.give_way();
        let (label, request, files, name) = match &source {
            Source::Catalog(name) => {
                let request = Request::LoadModel { name: name.clone() };
                ("Loading the model", request, Vec::new(), Some(name.clone()))
            }
            Source::File(file) => {
                let request = Request::LoadFile {
                    file_name: file.name(),
                };
                ("Reading the weights", request, vec![file.clone()], None)
            }
            Source::Url(url) => (
                "Fetching the weights",
                Request::LoadUrl { url: url.clone() },
                Vec::new(),
                None,
            ),
        };
        self.ask(label, request, files, move |event| match event {
            Event::Model(info) => {
                self.source.set(Some(source.clone()));
                self.model_name.set(name.clone());
                self.on_model(*info);
            }
            event if ends(&event) => self.refresh_if_idle(),
            _ => {}
        });
    }

    fn on_model(self, info: ModelInfo) {
        self.status.set(format!("{} loaded", info.name));
        let classes = info.classes.len();
        if self
            .knobs
            .with_untracked(|k| k.target.is_some_and(|t| t >= classes))
        {
            self.knobs.update(|k| k.target = None);
        }
        self.spot.set(None);
        self.forget_perturbed();
        self.model.set(Some(Arc::new(info)));
        self.want_all();
    }

    /// Takes a file the visitor dropped, pasted or chose: a picture or weights.
    pub fn take_file(self, file: File) {
        spawn_local(async move {
            let name = file.name();
            match files::kind(&file).await {
                files::Kind::Weights => self.load(Source::File(file)),
                files::Kind::Unknown => self.problem(
                    &format!("“{name}” is neither a picture nor a weights file. Pictures are JPEG, PNG, WebP, BMP, GIF or TIFF; weights are .safetensors, .pth or .pth.tar."),
                    "the file's first bytes and its name match no known format",
                ),
                _ if file.size() > files::LARGEST_PICTURE => self.problem(
                    &format!("“{name}” is larger than {}. Make it smaller first.", numbers::bytes(files::LARGEST_PICTURE)),
                    &format!("{} bytes", file.size()),
                ),
                files::Kind::Picture => self.take_picture(name, files::bytes(&file).await),
                files::Kind::BrowserPicture => self.take_picture(name, files::recode(&file).await),
            }
        });
    }

    fn take_picture(self, name: String, bytes: Result<Vec<u8>, String>) {
        match bytes {
            Ok(bytes) => self.set_picture(name, bytes),
            Err(cause) => self.problem(&format!("“{name}” could not be read."), &cause),
        }
    }

    /// Makes encoded bytes the picture in use.
    pub fn set_picture(self, name: String, bytes: Vec<u8>) {
        let url = files::object_url(&bytes, "").unwrap_or_default();
        let alt = format!("Your picture {name}");
        let bytes = Arc::new(bytes);
        self.send_image(Arc::new(Shown {
            name,
            sample: None,
            alt,
            url,
            bytes,
            info: None,
        }));
    }

    /// Makes one of the page's own pictures the one in use.
    pub fn set_sample(self, sample: Sample) {
        spawn_local(async move {
            let url = sample.url();
            match dom::fetch_bytes(&url).await {
                Ok(bytes) => self.send_image(Arc::new(Shown {
                    name: sample.title.clone(),
                    sample: Some(sample.file),
                    alt: sample.alt,
                    url,
                    bytes: Arc::new(bytes),
                    info: None,
                })),
                Err(cause) => {
                    self.problem(
                        &format!("The sample “{}” could not be read.", sample.title),
                        &cause,
                    );
                }
            }
        });
    }

    /// Sends a picture to the worker; it becomes the one in use when the worker has decoded it.
    fn send_image(self, shown: Arc<Shown>) {
        self.give_way();
        if self.image.with_untracked(Option::is_none) {
            self.image.set(Some(shown.clone()));
        }
        let request = Request::SetImage {
            name: shown.name.clone(),
            bytes: Bytes::from(shown.bytes.to_vec()),
        };
        self.ask(
            "Decoding the picture",
            request,
            Vec::new(),
            move |event| match event {
                Event::Image(info) => {
                    let old = self.image.get_untracked();
                    old.filter(|old| old.url != shown.url)
                        .iter()
                        .for_each(|o| files::release(&o.url));
                    self.sample_name.set(shown.sample.clone());
                    self.image.set(Some(Arc::new(Shown {
                        info: Some(info),
                        ..(*shown).clone()
                    })));
                    self.want_all();
                }
                event if ends(&event) => self.refresh_if_idle(),
                _ => {}
            },
        );
    }

    fn want_all(self) {
        self.stale.set(true);
        self.see_wanted.set_value(true);
        self.perturb_wanted.set_value(true);
    }

    /// Lets the requests that only look make way for one that changes what they look at.
    fn give_way(self) {
        self.perturb_next.set_value(None);
        self.drop_asides();
        let running = [
            self.see_running.get_value(),
            self.perturb_running.get_value(),
        ];
        running.into_iter().flatten().for_each(bridge::cancel);
    }

    /// Everything has to be computed again.
    fn refresh(self) {
        self.want_all();
        self.refresh_if_idle();
    }

    fn refresh_if_idle(self) {
        if bridge::queue_is_empty() {
            self.run_bench();
        }
    }

    /// Goes to a bench.
    pub fn go(self, bench: Bench) {
        self.bench.set(bench);
        self.run_bench();
    }

    /// Sends what the bench in view still lacks.
    fn run_bench(self) {
        let (Some(_), Some(shown)) = (self.model.get_untracked(), self.image.get_untracked())
        else {
            return;
        };
        if shown.info.is_none() {
            return;
        }
        // One pass comes first on every bench: it gives the prediction soonest, and says how
        // much the sliders may ask of this model on this device.
        if self.see_wanted.get_value() {
            self.see();
        }
        if self.bench.get_untracked() == Bench::Perturb && self.perturb_wanted.get_value() {
            self.perturb(false);
        }
    }

    /// Changes how many channels come back, or the model's noise, and looks again.
    pub fn look_again(self) {
        self.refresh();
    }

    fn see(self) {
        self.see_wanted.set_value(false);
        if let Some(running) = self.see_running.get_value() {
            bridge::cancel(running);
        }
        let seed = self.knobs.with_untracked(|k| k.seed);
        let options = SeeOptions {
            noise: front_end(self.see_noise.get_untracked(), seed),
            channels: self.channels.get_untracked(),
        };
        let id = self.ask(
            "Looking",
            Request::See(options),
            Vec::new(),
            move |event| match event {
                Event::Analysis(analysis) => self.on_analysis(*analysis),
                Event::Cancelled => self.see_wanted.set_value(true),
                _ => {}
            },
        );
        self.see_running.set_value(Some(id));
    }

    fn on_analysis(self, analysis: Analysis) {
        if self.first_prediction.with_untracked(Option::is_none) {
            self.first_prediction.set(Some(dom::now()));
        }
        if let Some(best) = analysis.top.first() {
            self.status.set(format!(
                "{}: {}, {}, in {}",
                analysis.image,
                best.label,
                numbers::percent(best.probability),
                numbers::duration(analysis.milliseconds),
            ));
        }
        self.analysis.set(Some(Arc::new(analysis)));
        self.stale.set(false);
    }

    /// Changes the settings of the Perturb bench and shows what comes of it. `dragging`: more
    /// changes are about to follow.
    pub fn turn(self, dragging: bool, change: impl FnOnce(&mut Knobs)) {
        let old = self.knobs.get_untracked();
        self.remember(old, dragging);
        self.turn_silently(dragging, change);
    }

    /// A whole drag is one change to take back.
    fn remember(self, old: Knobs, dragging: bool) {
        let from = self.drag_from.get_value();
        if dragging {
            self.drag_from.set_value(Some(from.unwrap_or(old)));
            return;
        }
        self.drag_from.set_value(None);
        self.history.update(|all| {
            all.push(from.unwrap_or(old));
            let surplus = all.len().saturating_sub(MOST_HISTORY);
            all.drain(..surplus);
        });
    }

    /// Whether there is a change to take back.
    pub fn can_undo(self) -> bool {
        self.history.with(|all| !all.is_empty())
    }

    /// Takes the last change back.
    pub fn undo(self) {
        let now = self.knobs.get_untracked();
        let before = self.history.try_update(|all| {
            // Settings that were set again as they were are no change.
            while let Some(last) = all.pop() {
                if last != now {
                    return Some(last);
                }
            }
            None
        });
        if let Some(knobs) = before.flatten() {
            self.turn_silently(false, |k| *k = knobs);
        }
    }

    /// Keeps the stage being set and begins another one on top of it.
    pub fn keep_stage(self) {
        self.turn(false, |k| {
            let stage = Knobs {
                kept: Vec::new(),
                ..k.clone()
            };
            k.kept.push(stage);
            *k = std::mem::take(k).rested();
        });
    }

    fn turn_silently(self, dragging: bool, change: impl FnOnce(&mut Knobs)) {
        self.knobs.update(change);
        self.perturb_wanted.set_value(true);
        let slow = self
            .analysis
            .with_untracked(|a| a.as_ref().is_some_and(|a| a.milliseconds > LIVE_LIMIT_MS));
        let lengthy = self.knobs.with_untracked(Knobs::is_lengthy);
        let ready = self.model.with_untracked(Option::is_some)
            && self
                .image
                .with_untracked(|i| i.as_ref().is_some_and(|i| i.info.is_some()));
        let live = !(dragging && (slow || lengthy));
        if ready && self.bench.get_untracked() == Bench::Perturb && live {
            self.perturb(dragging);
        }
    }

    /// Side of the images the model takes, px.
    pub fn side(self) -> usize {
        let model = self.model.get_untracked();
        model.map_or(224, |m| m.preprocessing.crop)
    }

    fn perturb(self, coarse: bool) {
        self.drop_asides();
        if let Some(running) = self.perturb_running.get_value() {
            self.perturb_next.set_value(Some(coarse));
            bridge::cancel(running);
            return;
        }
        self.perturb_wanted.set_value(coarse);
        let knobs = self.knobs.get_untracked();
        if knobs.at_rest() {
            self.forget_perturbed();
            self.attack_steps.set(Vec::new());
            return;
        }
        let request = Request::Perturb(knobs.options(coarse, self.side()));
        self.attack_steps.set(Vec::new());
        let label = match (knobs.eps > 0.0, knobs.corruption) {
            (true, _) => "Attacking",
            (false, Some(_)) => "Corrupting",
            (false, None) => "Adding noise",
        };
        let id = self.ask(label, request, Vec::new(), move |event| match event {
            Event::Step(step) => self.attack_steps.update(|steps| steps.push(step)),
            Event::Perturbed(result) => self.on_perturbed(*result, knobs.clone(), coarse),
            event if ends(&event) => self.after_perturb(&event),
            _ => {}
        });
        self.perturb_running.set_value(self.under_way(id));
    }

    fn on_perturbed(self, result: Perturbed, knobs: Knobs, coarse: bool) {
        if let (false, Some(before), Some(after)) =
            (coarse, result.before.first(), result.after.first())
        {
            self.status.set(format!(
                "{} {} becomes {} {}",
                before.label,
                numbers::percent(before.probability),
                after.label,
                numbers::percent(after.probability),
            ));
        }
        self.attack_steps.set(result.trajectory.clone());
        self.forget_perturbed();
        self.perturbed.set(Some(Arc::new(result)));
        self.perturbed_knobs.set(Some(knobs.clone()));
        let quick = self.analysis.with_untracked(|a| {
            a.as_ref()
                .is_some_and(|a| a.milliseconds * CHECK_PASSES < CHECK_LIMIT_MS)
        });
        if !coarse && knobs.eps > 0.0 && quick {
            self.check_gradient();
        }
    }

    /// What was said of a perturbation goes with it.
    fn forget_perturbed(self) {
        self.playing.set(false);
        self.frame.set(None);
        self.masking.set(None);
        self.transfers.set(Vec::new());
        self.perturbed.set(None);
    }

    /// Asks whether the gradient told the truth in the attack on show.
    pub fn check_gradient(self) {
        let id = self.ask(
            "Checking the gradient",
            Request::CheckGradient,
            Vec::new(),
            move |event| {
                if let Event::Masking(found) = event {
                    self.masking.set(Some(Arc::new(*found)));
                }
            },
        );
        self.asides.update_value(|all| all.push(id));
    }

    /// Shows the perturbation to every other model that is at hand.
    pub fn transfer_to_all(self) {
        let own = self.model_name.get_untracked();
        let names: Vec<String> = self.catalog.with_untracked(|all| {
            all.iter()
                .filter(|e| e.file.is_some() && Some(&e.name) != own.as_ref())
                .map(|e| e.name.clone())
                .collect()
        });
        for name in names {
            self.transfer(Request::Transfer { name }, Vec::new());
        }
    }

    /// Shows the perturbation to the model of a weights file.
    pub fn transfer_to_file(self, file: File) {
        let request = Request::TransferFile {
            file_name: file.name(),
        };
        self.transfer(request, vec![file]);
    }

    fn transfer(self, request: Request, files: Vec<File>) {
        let id = self.ask("Asking another model", request, files, move |event| {
            if let Event::Transferred(found) = event {
                self.transfers.update(|all| {
                    all.retain(|t| t.model != found.model);
                    all.push(*found);
                });
            }
        });
        self.asides.update_value(|all| all.push(id));
    }

    fn drop_asides(self) {
        let mut asides = Vec::new();
        self.asides.update_value(|all| asides = std::mem::take(all));
        asides.into_iter().for_each(bridge::cancel);
    }

    /// Takes frost from the visitor's pictures.
    pub fn take_textures(self, files: Vec<File>) {
        spawn_local(async move {
            let mut images = Vec::new();
            for file in files {
                match files::bytes(&file).await {
                    Ok(bytes) => images.push(bytes),
                    Err(cause) => {
                        let name = file.name();
                        return self.problem(&format!("“{name}” could not be read."), &cause);
                    }
                }
            }
            self.textures.set_value(images);
            self.send_textures();
            self.turn(false, |_| ());
        });
    }

    fn send_textures(self) {
        self.give_way();
        let images = self.textures.get_value();
        let images = images.into_iter().map(Bytes::from).collect();
        self.ask(
            "Reading the textures",
            Request::SetTextures { images },
            Vec::new(),
            |_| (),
        );
    }

    /// Plays the attack's way from its beginning, or stops.
    pub fn play(self) {
        if self.playing.get_untracked() {
            self.playing.set(false);
            return;
        }
        self.playing.set(true);
        self.frame.set(Some(0));
        self.next_frame();
    }

    fn next_frame(self) {
        dom::after(FRAME_MS, move || {
            let count = self
                .perturbed
                .with_untracked(|p| p.as_ref().map_or(0, |p| p.frames.len()));
            if !self.playing.get_untracked() {
                return;
            }
            match self.frame.get_untracked().map(|f| f + 1) {
                Some(next) if next < count => {
                    self.frame.set(Some(next));
                    self.next_frame();
                }
                _ => {
                    self.frame.set(None);
                    self.playing.set(false);
                }
            }
        });
    }

    fn after_perturb(self, end: &Event) {
        self.perturb_running.set_value(None);
        if matches!(end, Event::Cancelled) {
            self.perturb_wanted.set_value(true);
        }
        if let Some(coarse) = self.perturb_next.get_value() {
            self.perturb_next.set_value(None);
            self.perturb(coarse);
        }
    }

    /// Something is on its way: the engine, or the answer to a request.
    pub fn busy(self) -> bool {
        let loading = matches!(self.engine.get(), Engine::Loading { .. });
        loading || self.tasks.with(|tasks| !tasks.is_empty())
    }

    /// What is shown is out of date and nothing is under way to change that: a cancel, a failure.
    pub fn left_behind(self) -> bool {
        let possible = self.model.with(Option::is_some) && self.image.with(Option::is_some);
        self.stale.get() && possible && !self.busy()
    }

    /// The next of automatic, light, dark.
    pub fn turn_theme(self) {
        let theme = self.theme.get_untracked().next();
        self.theme.set(theme);
        dom::store("theme", theme.word());
        if let Some(root) = dom::document().document_element() {
            // The attribute's name is a constant; setting it cannot fail.
            let _ = root.set_attribute("data-theme", theme.word());
        }
    }

    /// The channel maps and the mean of every tap are drawn again from this analysis.
    pub fn response(self, tap: &str) -> Option<Response> {
        self.analysis.with(|a| {
            a.as_ref()?
                .responses
                .iter()
                .find(|r| r.tap.name == tap)
                .cloned()
        })
    }
}

fn ends(event: &Event) -> bool {
    matches!(event, Event::Done | Event::Cancelled | Event::Failed(_))
}
