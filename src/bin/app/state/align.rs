//! The bench Align: what is aligned with what and how, and what came of it.

use std::sync::Arc;

use js_sys::Reflect;
use leptos::prelude::*;
use ventral::model::catalog::TestSet;
use ventral::session::protocol::*;
use wasm_bindgen::JsValue;
use web_sys::File;

use super::run::Run;
use super::{App, Bench, Source, ends};
use crate::{files, json};

/// A word of a plan and what it is called.
pub type Choice = (&'static str, &'static str);

/// What an area can be aligned with.
pub const KINDS: [Choice; 4] = [
    ("model", "Another model's area"),
    ("responses", "Recorded responses"),
    ("population", "A synthetic population"),
    ("pixels", "Pixels"),
];

/// How CKA becomes a loss.
pub const FORMS: [Choice; 3] = [
    ("log-distance", "log(1 − CKA)"),
    ("distance", "1 − CKA"),
    ("negative-log", "−log CKA"),
];

/// How gradients become steps.
pub const OPTIMISERS: [Choice; 2] = [("sgd", "SGD, Nesterov"), ("adamw", "AdamW")];

/// What a run is compared with.
pub const CONTROLS: [(&str, &str, &str); 3] = [
    (
        "shuffled",
        "Shuffled",
        "the same responses, to the wrong images",
    ),
    ("gaussian", "Gaussian", "noise in the place of responses"),
    (
        "unaligned",
        "Unaligned",
        "the same fine-tuning without the target",
    ),
];

/// The numbers of the form, in the order of [`NUMBERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Stimuli,
    CrossEntropy,
    Cka,
    Similarity,
    Harmonizer,
    Distillation,
    Stay,
    Temperature,
    Smoothing,
    TermsWarmUp,
    Rate,
    RateWarmUp,
    Decay,
    Batch,
    Steps,
    Seed,
    Clip,
    HeldOutStimuli,
    HeldOutNeuroids,
    Every,
    Patience,
    Robustness,
    Neuroids,
    Repetitions,
    Spikes,
}

/// A number of the form.
pub struct Number {
    pub label: &'static str,
    pub testid: &'static str,
    /// Section and key in a plan: no section at its top, no key outside it.
    place: [&'static str; 2],
    pub range: [f64; 2],
    /// 1 for whole numbers.
    pub step: f64,
    usual: f64,
}

const fn number(
    label: &'static str,
    testid: &'static str,
    place: [&'static str; 2],
    range: [f64; 2],
    step: f64,
    usual: f64,
) -> Number {
    Number {
        label,
        testid,
        place,
        range,
        step,
        usual,
    }
}

const WEIGHT: [f64; 2] = [0.0, 1000.0];
/// Of a whole, and not all of it.
const SHARE: [f64; 2] = [0.0, 0.9];

const COUNT: usize = 25;

/// Every number: its ranges are a plan's or narrower, what is usual is that of the shipped plan
/// `align-cornet-s`.
#[rustfmt::skip]
pub static NUMBERS: [Number; COUNT] = [
    number("Stimuli", "align-stimuli", ["data", "stimuli"], [0.0, 100_000.0], 1.0, 500.0),
    number("Cross-entropy", "align-ce", ["losses", "cross_entropy"], WEIGHT, 0.1, 1.0),
    number("CKA", "align-cka", ["losses", "cka"], WEIGHT, 0.1, 1.0),
    number("Similarity", "align-similarity", ["losses", "similarity"], WEIGHT, 0.1, 0.0),
    number("Harmonizer", "align-harmonizer", ["losses", "harmonizer"], WEIGHT, 0.1, 0.0),
    number("Distillation", "align-distil", ["losses", "distillation"], WEIGHT, 0.1, 1.0),
    number("Near start (L2)", "align-stay", ["losses", "stay"], WEIGHT, 0.1, 0.0),
    number("Temperature", "align-temperature", ["losses", "temperature"], [0.1, 100.0], 0.1, 2.0),
    number("Label smoothing", "align-smoothing", ["losses", "label_smoothing"], SHARE, 0.05, 0.0),
    number("Terms' warm-up", "align-warm-up", ["losses", "warm_up"], [0.0, 1.0], 0.05, 0.0),
    number("Peak rate", "align-rate", ["schedule", "peak"], [0.0001, 1.0], 0.0001, 0.005),
    number("Rate's warm-up", "align-rate-warm-up", ["schedule", "warm_up"], SHARE, 0.05, 0.1),
    number("Weight decay", "align-decay", ["optimiser", "weight_decay"], [0.0, 1.0], 0.0001, 0.0001),
    number("Batch", "align-batch", ["", "batch"], [4.0, 1000.0], 1.0, 100.0),
    number("Steps", "align-steps", ["", "steps"], [1.0, 100_000.0], 1.0, 60.0),
    number("Seed", "align-seed", ["", "seed"], [0.0, 999_999.0], 1.0, 0.0),
    number("Gradient clip", "align-clip", ["", "clip"], [0.1, 1000.0], 0.1, 1.0),
    number("Held-out stimuli", "align-held-stimuli", ["validation", "stimuli"], SHARE, 0.05, 0.2),
    number("Held-out neuroids", "align-held-neuroids", ["validation", "neuroids"], SHARE, 0.05, 0.2),
    number("Steps to a look", "align-every", ["validation", "every"], [1.0, 10_000.0], 1.0, 20.0),
    number("Patience, looks", "align-patience", ["validation", "patience"], [0.0, 1000.0], 1.0, 0.0),
    number("Robustness images", "align-robustness", ["", ""], [0.0, 10_000.0], 1.0, 50.0),
    number("Neuroids", "align-neuroids", ["target", "neuroids"], [2.0, 10_000.0], 1.0, 168.0),
    number("Repetitions", "align-repetitions", ["target", "repetitions"], [2.0, 1000.0], 1.0, 20.0),
    number("Mean spikes", "align-spikes", ["target", "rate"], [0.1, 1000.0], 0.1, 5.0),
];

/// What a plan is made of. An area without a name is the usual one of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub model: String,
    pub area: String,
    /// Of [`KINDS`].
    pub kind: String,
    pub target_model: String,
    pub target_area: String,
    /// Of [`FORMS`].
    pub form: String,
    /// Of [`OPTIMISERS`].
    pub optimiser: String,
    numbers: [f64; COUNT],
    /// Mirror half of the images.
    pub flip: bool,
    /// The images' classes in the place of the model's own.
    pub new_head: bool,
    /// Of [`CONTROLS`].
    pub controls: Vec<String>,
    /// Stages whose weights stay as they are.
    pub frozen: Vec<String>,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            model: "cornet-s-cifar10".to_owned(),
            area: String::new(),
            kind: KINDS[0].0.to_owned(),
            target_model: "resnet-at-cifar10".to_owned(),
            target_area: "layer3".to_owned(),
            form: FORMS[0].0.to_owned(),
            optimiser: OPTIMISERS[0].0.to_owned(),
            numbers: NUMBERS.each_ref().map(|n| n.usual),
            flip: true,
            new_head: false,
            controls: vec![CONTROLS[0].0.to_owned()],
            frozen: Vec::new(),
        }
    }
}

impl Form {
    pub fn number(&self, setting: Setting) -> f64 {
        self.numbers[setting as usize]
    }

    /// Sets a number, brought into its range.
    pub fn set_number(&mut self, setting: Setting, value: f64) {
        let number = &NUMBERS[setting as usize];
        let value = match number.step >= 1.0 {
            true => value.round(),
            false => value,
        };
        self.numbers[setting as usize] = value.clamp(number.range[0], number.range[1]);
    }

    /// The target is made of a model's responses.
    pub fn asks_model(&self) -> bool {
        matches!(self.kind.as_str(), "model" | "population")
    }
}

/// The signals of the bench.
#[derive(Clone, Copy)]
pub struct Aligning {
    pub form: RwSignal<Form>,
    /// The visitor's own plan: its file's name and text. It comes before the form.
    pub plan: RwSignal<Option<(String, String)>>,
    /// What was recorded of the images: at most one file of a kind.
    pub recorded: RwSignal<Vec<(Recorded, File)>, LocalStorage>,
    /// What the worker has read of these files.
    pub understood: RwSignal<Vec<Understood>>,
    pub report: RwSignal<Option<Arc<AlignReport>>>,
    /// The model begun with, and the file of aligned weights that came of it.
    made: RwSignal<Option<(String, String)>>,
    /// What was asked for last, and the models it is about: a run that made way goes on with this,
    /// whatever has been set since.
    asked: StoredValue<Option<(AlignOptions, Vec<String>)>>,
    pub run: Run,
}

impl Aligning {
    pub fn new() -> Self {
        Self {
            form: RwSignal::new(Form::default()),
            plan: RwSignal::new(None),
            recorded: RwSignal::new_local(Vec::new()),
            understood: RwSignal::new(Vec::new()),
            report: RwSignal::new(None),
            made: RwSignal::new(None),
            asked: StoredValue::new(None),
            run: Run::new(),
        }
    }

    /// A fresh worker knows nothing of what the last one had read.
    pub fn forget_worker(self) {
        self.understood.set(Vec::new());
    }

    /// The name of the file of this kind.
    pub fn file_of(self, kind: Recorded) -> Option<String> {
        self.recorded.with(|all| {
            let found = all.iter().find(|(of, _)| *of == kind);
            found.map(|(_, file)| file.name())
        })
    }
}

/// What of a model answers with classes rather than as an area.
const OUTPUTS: [&str; 2] = ["decoder", "logits"];

impl App {
    /// Changes a setting. It is another alignment then, and no longer the own plan's.
    pub fn set_align(self, change: impl FnOnce(&mut Form)) {
        self.align.form.update(change);
        self.dismiss_align_plan();
    }

    /// Changes what stands beside a plan, the visitor's own as well: controls, robustness.
    pub fn set_beside_plan(self, change: impl FnOnce(&mut Form)) {
        self.align.form.update(change);
        self.align.run.forget_pause();
    }

    /// Goes back from the own plan to the form.
    pub fn dismiss_align_plan(self) {
        self.align.plan.set(None);
        self.align.run.forget_pause();
    }

    /// The visitor's own weights as the model to align.
    pub fn add_weights_to_align(self, file: File) {
        let model = self.keep_weights(file);
        self.set_align(|form| {
            form.model = model;
            form.area.clear();
        });
    }

    /// The area that is aligned.
    pub fn align_area(self) -> String {
        let (model, area) = self.align.form.with(|f| (f.model.clone(), f.area.clone()));
        self.area_or_usual(&model, area)
    }

    /// The area it is aligned with.
    pub fn align_target_area(self) -> String {
        let (model, area) = self
            .align
            .form
            .with(|f| (f.target_model.clone(), f.target_area.clone()));
        self.area_or_usual(&model, area)
    }

    /// IT where there is one, else the last area before the output.
    fn area_or_usual(self, model: &str, area: String) -> String {
        if !area.is_empty() {
            return area;
        }
        let areas = self.brought(model).map(|b| b.areas).unwrap_or_default();
        let last = || areas.iter().rev().find(|a| !OUTPUTS.contains(&a.as_str()));
        let found = areas.iter().find(|a| *a == "IT").or_else(last);
        found.cloned().unwrap_or_else(|| self.guessed_area(model))
    }

    /// The same by the family alone, for a model that has not been read.
    fn guessed_area(self, model: &str) -> String {
        let family = self.catalog.with(|all| {
            let entry = all.iter().find(|e| e.name == model);
            entry.map_or(String::new(), |e| e.family.clone())
        });
        match family.contains("ResNet") {
            true => "layer3".to_owned(),
            false => "IT".to_owned(),
        }
    }

    /// The models that take part, the one to align first.
    fn align_models(self) -> Vec<String> {
        if let Some((_, text)) = self.align.plan.get() {
            return self.models_named_in(&text);
        }
        self.align.form.with(|form| {
            let target = form.asks_model().then(|| form.target_model.clone());
            [Some(form.model.clone()), target]
                .into_iter()
                .flatten()
                .collect()
        })
    }

    /// The models at hand that stand in a plan, in its order, in which the model to align comes
    /// before its target. TOML and JSON alike have them in quotation marks.
    fn models_named_in(self, plan: &str) -> Vec<String> {
        let place = |name: &str| {
            let quoted = |mark: &str| plan.find(&format!("{mark}{name}{mark}"));
            quoted("\"").or_else(|| quoted("'"))
        };
        let at_hand = self.at_hand().into_iter();
        let mut named: Vec<(usize, String)> = at_hand
            .filter_map(|(name, _)| Some((place(&name)?, name)))
            .collect();
        named.sort();
        named.into_iter().map(|(_, name)| name).collect()
    }

    /// The plan in use: its name and text.
    fn align_plan(self) -> (String, String) {
        if let Some(own) = self.align.plan.get() {
            return own;
        }
        let form = self.align.form.get();
        let (target, called) = self.form_target(&form);
        let name = format!("{}-to-{}", stem(&form.model), stem(&called));
        let plan = self.form_plan(&name, &target);
        (format!("{name}.json"), json::text(&plan))
    }

    /// The form as a plan's document.
    fn form_plan(self, name: &str, target: &JsValue) -> JsValue {
        let form = self.align.form.get();
        let set = self
            .lab
            .set
            .with(|set| set.as_ref().map(|s| s.name.clone()));
        let own_set = set.filter(|name| TestSet::find(name).is_none());
        let images = own_set.unwrap_or_else(|| self.shipped_set().name.to_owned());
        // Those of another model may have been chosen before this one.
        let known = self.brought(&form.model).map(|b| b.stages);
        let mut frozen = form.frozen.clone();
        frozen.retain(|stage| known.as_ref().is_none_or(|known| known.contains(stage)));
        let plan = json::object(&[
            ("version", 1.into()),
            ("name", name.into()),
            ("model", json::of(&form.model)),
            ("tap", json::of(&self.align_area())),
            ("target", target.clone()),
            ("frozen", json::of(&frozen)),
            ("flip", form.flip.into()),
            ("new_head", form.new_head.into()),
            ("data", json::object(&[("images", json::of(&images))])),
            ("losses", json::object(&[("form", json::of(&form.form))])),
            (
                "optimiser",
                json::object(&[("kind", json::of(&form.optimiser))]),
            ),
            ("schedule", json::object(&[])),
            ("validation", json::object(&[])),
        ]);
        for (number, value) in NUMBERS.iter().zip(form.numbers) {
            let [section, key] = number.place;
            let applies = section != "target" || form.kind == "population";
            if key.is_empty() || !applies {
                continue;
            }
            let at = match section.is_empty() {
                true => plan.clone(),
                false => Reflect::get(&plan, &section.into()).unwrap_or_default(),
            };
            // Every section is an object of the plan above.
            let _ = Reflect::set(&at, &key.into(), &value.into());
        }
        plan
    }

    /// What the area is aligned with, as a plan has it, and what that is called.
    fn form_target(self, form: &Form) -> (JsValue, String) {
        let kind = ("kind", json::of(&form.kind));
        match form.kind.as_str() {
            "pixels" => (json::object(&[kind]), form.kind.clone()),
            "responses" => {
                let file = self.align.file_of(Recorded::Responses).unwrap_or_default();
                (json::object(&[kind, ("file", json::of(&file))]), file)
            }
            _ => {
                let area = ("tap", json::of(&self.align_target_area()));
                let model = ("model", json::of(&form.target_model));
                (
                    json::object(&[kind, model, area]),
                    form.target_model.clone(),
                )
            }
        }
    }

    /// Hands out the plan in use.
    pub fn save_align_plan(self) {
        let (name, text) = untrack(|| self.align_plan());
        files::download(&name, "application/json", text.as_bytes());
    }

    /// Takes what was recorded of the images, or forgets it.
    pub fn take_recorded(self, kind: Recorded, file: Option<File>) {
        self.align.recorded.update(|all| {
            all.retain(|(of, _)| *of != kind);
            all.extend(file.clone().map(|file| (kind, file)));
        });
        let understood = self.align.understood;
        understood.update(|all| all.retain(|u| u.kind != kind));
        self.align.run.forget_pause();
        match file {
            Some(file) => {
                self.lab.came(&recorded_key(kind, &file));
                self.bring_recorded();
            }
            None => {
                let name = String::new();
                let request = Request::TakeRecorded { kind, name };
                self.ask("Forgetting a file", request, Vec::new(), |_| ());
            }
        }
    }

    /// Has the worker read the files of which it has said nothing.
    fn bring_recorded(self) {
        for (kind, file) in self.align.recorded.get_untracked() {
            let said = self.align.understood;
            let known = said.with_untracked(|all| all.iter().any(|u| u.kind == kind));
            if !known {
                // What was recorded is matched with the images, which come first.
                self.bring_set();
                self.send_recorded(kind, file);
            }
        }
    }

    fn send_recorded(self, kind: Recorded, file: File) {
        let key = recorded_key(kind, &file);
        if !self.lab.comes(&key) {
            return;
        }
        let name = file.name();
        let request = Request::TakeRecorded {
            kind,
            name: name.clone(),
        };
        self.ask(
            "Reading what was recorded",
            request,
            vec![file],
            move |event| {
                if ends(&event) {
                    self.lab.came(&key);
                }
                let still = untrack(|| self.align.file_of(kind)).as_ref() == Some(&name);
                match event {
                    Event::Understood(said) if still => self.align.understood.update(|all| {
                        all.retain(|u| u.kind != kind);
                        all.push(said);
                    }),
                    Event::Failed(_) if still => {
                        let recorded = self.align.recorded;
                        recorded.update(|all| all.retain(|(of, _)| *of != kind));
                    }
                    _ => {}
                }
            },
        );
    }

    /// The images are others: what was recorded is to be matched with these.
    pub(super) fn understand_again(self) {
        self.align.understood.set(Vec::new());
        self.align.run.forget_pause();
        self.bring_recorded();
    }

    /// Has the worker read what the bench is about, so that areas can be chosen.
    pub(super) fn prepare_align(self) {
        let models = untrack(|| self.align_models());
        models.iter().for_each(|name| self.bring(name));
        self.bring_recorded();
    }

    /// Prepares whenever the bench is opened or other models take part.
    pub(super) fn keep_align_ready(self) {
        let models = Memo::new(move |_| self.align_models());
        Effect::new(move |_| {
            models.track();
            if self.bench.get() == Bench::Align {
                untrack(|| self.prepare_align());
            }
        });
    }

    /// Starts the alignment, or goes on with it; afresh: from the pretrained weights.
    pub fn run_align(self, fresh: bool) {
        let (_, plan) = untrack(|| self.align_plan());
        let options = self.align.form.with_untracked(|form| AlignOptions {
            plan,
            controls: form.controls.clone(),
            robustness: form.number(Setting::Robustness) as usize,
            fresh,
            classes: self.lab.classes.get_untracked(),
        });
        let models = untrack(|| self.align_models());
        self.align.asked.set_value(Some((options, models)));
        self.go_on_align();
    }

    /// Goes on with the alignment that was asked for last.
    pub(super) fn go_on_align(self) {
        let Some((options, models)) = self.align.asked.get_value() else {
            return;
        };
        if self.align.run.id.with_untracked(Option::is_some) {
            return;
        }
        self.bring_set_for(models.first());
        models.iter().for_each(|name| self.bring(name));
        self.bring_recorded();
        self.align.run.forget_pause();
        let id = self.ask(
            "Aligning",
            Request::Align(options),
            Vec::new(),
            move |event| match event {
                Event::Aligned(report) => {
                    // What was to be thrown away has been.
                    self.align.asked.update_value(|asked| {
                        asked
                            .iter_mut()
                            .for_each(|(options, _)| options.fresh = false);
                    });
                    self.on_aligned(*report, models.first());
                }
                event if ends(&event) => self.align.run.ended(&event),
                _ => {}
            },
        );
        self.align.run.id.set(self.under_way(id));
    }

    /// Aligned weights are at hand at once, as the visitor's own are.
    fn on_aligned(self, report: AlignReport, model: Option<&String>) {
        let weights = report.documents.first();
        let weights = weights.filter(|(name, _)| name.ends_with(".safetensors"));
        let file = weights.and_then(|(name, bytes)| files::named(name, bytes));
        if let Some(file) = file {
            let name = self.keep_weights(file);
            self.status.set(format!(
                "{name} is ready, and among the models of all benches"
            ));
            let model = model.cloned().unwrap_or_default();
            self.align.made.set(Some((model, name)));
        }
        self.align.report.set(Some(Arc::new(report)));
    }

    /// Stops the alignment; what is finished is kept.
    pub fn pause_align(self) {
        self.align.run.pause();
    }

    /// Shows what the aligned model makes of an image.
    pub fn open_aligned(self) {
        let Some((_, name)) = self.align.made.get_untracked() else {
            return;
        };
        let own = self.lab.own.get_untracked();
        if let Some(file) = own.into_iter().find(|file| file.name() == name) {
            self.load(Source::File(file));
            self.go(Bench::See);
        }
    }

    /// Puts the aligned model to the test beside the one it came of.
    pub fn test_aligned(self) {
        let Some((model, aligned)) = self.align.made.get_untracked() else {
            return;
        };
        let both = [model, aligned].into_iter().filter(|name| !name.is_empty());
        self.lab.chosen.set(both.collect());
        self.lab.run.forget_pause();
        self.go(Bench::Test);
    }
}

/// What stands for a file of this kind while it is on its way to the worker.
fn recorded_key(kind: Recorded, file: &File) -> String {
    format!("{} {}", kind as u8, file.name())
}

/// A file's name without its ending, of letters, digits and dashes.
fn stem(name: &str) -> String {
    let name = name.split('.').next().unwrap_or(name);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(plain).collect()
}
