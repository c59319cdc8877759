//! The tab Align: what is aligned with what and how, and the report.

mod form;
mod recordings;

use std::sync::Arc;

use leptos::prelude::*;
use ventral::model::catalog::TestSet;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::models::Source;
use super::plans::OwnPlan;
use super::requests::ends;
use super::run::Run;
use super::tab::Tab;
use crate::{files, json};

use form::Named;
pub use form::{CONTROLS, Choice, FORMS, Form, KINDS, OPTIMISERS, ROBUSTNESS};
use recordings::Recordings;

/// The signals of the tab.
#[derive(Clone, Copy)]
pub struct Align {
    pub form: RwSignal<Form>,
    /// The visitor's own plan, which replaces the form.
    pub plan: RwSignal<Option<OwnPlan>>,
    pub recordings: Recordings,
    pub report: RwSignal<Option<Arc<AlignReport>>>,
    /// The model begun with, and the file of aligned weights it became.
    aligned: RwSignal<Option<(String, String)>>,
    /// The last request and the models it is about: an interrupted run is resumed with this,
    /// whatever has been set since.
    asked: StoredValue<Option<(AlignOptions, Vec<String>)>>,
    pub run: Run,
}

impl Align {
    pub fn new() -> Self {
        Self {
            form: RwSignal::new(Form::default()),
            plan: RwSignal::new(None),
            recordings: Recordings::new(),
            report: RwSignal::new(None),
            aligned: RwSignal::new(None),
            asked: StoredValue::new(None),
            run: Run::new(),
        }
    }

    /// A fresh worker has read nothing.
    pub(super) fn forget_worker(self) {
        self.recordings.forget_worker();
    }

    /// Changes a setting. That replaces a plan of the visitor's, and a run that was stopped.
    pub fn set(self, change: impl FnOnce(&mut Form)) {
        self.form.update(change);
        self.dismiss_plan();
    }

    /// Changes what stands beside a plan, the visitor's own as well: controls, robustness.
    pub fn set_beside_plan(self, change: impl FnOnce(&mut Form)) {
        self.form.update(change);
        self.run.forget_pause();
    }

    /// Goes back from the own plan to the form.
    pub fn dismiss_plan(self) {
        self.plan.set(None);
        self.run.forget_pause();
    }
}

/// Taps that give classes rather than the response of an area.
const OUTPUTS: [&str; 2] = ["decoder", "logits"];

impl App {
    /// The visitor's own weights as the model to align.
    pub fn add_weights_to_align(self, file: File) {
        let model = self.add_weights(file);
        self.align.set(|form| {
            form.model = model;
            form.area.clear();
        });
    }

    /// The area that is aligned.
    pub fn align_area(self) -> String {
        let form = self.align.form.get();
        self.area_or_usual(&form.model, form.area)
    }

    /// The area it is aligned with.
    pub fn align_target_area(self) -> String {
        let form = self.align.form.get();
        self.area_or_usual(&form.target_model, form.target_area)
    }

    /// IT where there is one, else the last area before the output.
    fn area_or_usual(self, model: &str, area: String) -> String {
        if !area.is_empty() {
            return area;
        }
        let facts = self.models.facts(model);
        let areas = facts.map(|facts| facts.areas).unwrap_or_default();
        let last = || areas.iter().rev().find(|a| !OUTPUTS.contains(&a.as_str()));
        let found = areas.iter().find(|a| *a == "IT").or_else(last);
        found.cloned().unwrap_or_else(|| self.guessed_area(model))
    }

    /// The same by the family alone, for a model that has not been read.
    fn guessed_area(self, model: &str) -> String {
        let is_resnet = self.catalog.with(|all| {
            let entry = all.iter().find(|e| e.name == model);
            entry.is_some_and(|e| e.family.contains("ResNet"))
        });
        match is_resnet {
            true => "layer3".to_owned(),
            false => "IT".to_owned(),
        }
    }

    /// The available models that take part, the one to align first.
    fn align_models(self) -> Vec<String> {
        if let Some(plan) = self.align.plan.get() {
            let available = self.available_models();
            let is_available = |name: &String| available.iter().any(|(known, _)| known == name);
            return plan.models.into_iter().filter(is_available).collect();
        }
        self.align.form.with(|form| {
            let target = form.asks_model().then(|| form.target_model.clone());
            [Some(form.model.clone()), target]
                .into_iter()
                .flatten()
                .collect()
        })
    }

    /// The plan in use: its file name and text.
    fn align_plan(self) -> (String, String) {
        if let Some(own) = self.align.plan.get() {
            return (own.file, own.text);
        }
        let form = self.align.form.get();
        let named = self.named(&form);
        let plan = form.plan(&named);
        (format!("{}.json", named.name), json::text(&plan))
    }

    fn named(self, form: &Form) -> Named {
        let responses = self.align.recordings.file_of(Recorded::Responses);
        let responses = responses.unwrap_or_default();
        let target = match form.kind.as_str() {
            "pixels" => &form.kind,
            "responses" => &responses,
            _ => &form.target_model,
        };
        // Stages of another model may have been chosen before this one.
        let stages = self.models.facts(&form.model).map(|facts| facts.stages);
        let mut frozen = form.frozen.clone();
        frozen.retain(|stage| stages.as_ref().is_none_or(|all| all.contains(stage)));
        let set = self.images.set.get().map(|set| set.name);
        let own_set = set.filter(|name| TestSet::find(name).is_none());
        Named {
            name: format!("{}-to-{}", stem(&form.model), stem(target)),
            area: self.align_area(),
            target_area: self.align_target_area(),
            frozen,
            images: own_set.unwrap_or_else(|| self.shipped_set().name.to_owned()),
            responses,
        }
    }

    /// Saves the plan in use.
    pub fn save_align_plan(self) {
        let (name, text) = untrack(|| self.align_plan());
        files::download(&name, "application/json", text.as_bytes());
    }

    /// Has the worker read the models and recordings, so that areas can be chosen.
    pub(super) fn prepare_align(self) {
        let models = untrack(|| self.align_models());
        models.iter().for_each(|name| self.read_model(name));
        self.send_recordings();
    }

    /// Prepares whenever the tab is opened or other models take part.
    pub(super) fn keep_align_ready(self) {
        let models = Memo::new(move |_| self.align_models());
        Effect::new(move |_| {
            models.track();
            if self.tab.get() == Tab::Align {
                untrack(|| self.prepare_align());
            }
        });
    }

    /// Starts the alignment, or resumes it; `fresh`: from the pretrained weights.
    pub fn run_align(self, fresh: bool) {
        let (_, plan) = untrack(|| self.align_plan());
        let options = self.align.form.with_untracked(|form| AlignOptions {
            plan,
            controls: form.controls.clone(),
            robustness: form.robustness as usize,
            fresh,
            classes: self.images.classes.get_untracked(),
        });
        let models = untrack(|| self.align_models());
        self.align.asked.set_value(Some((options, models)));
        self.resume_align();
    }

    /// Resumes the alignment that was asked for last.
    pub(super) fn resume_align(self) {
        let Some((options, models)) = self.align.asked.get_value() else {
            return;
        };
        if self.align.run.id.with_untracked(Option::is_some) {
            return;
        }
        self.read_images_for(models.first());
        models.iter().for_each(|name| self.read_model(name));
        self.send_recordings();
        self.align.run.forget_pause();
        let first = models.first().cloned().unwrap_or_default();
        let id = self.ask(
            Request::Align(options),
            Vec::new(),
            move |event| match event {
                Event::Aligned(report) => self.on_aligned(*report, &first),
                event if ends(&event) => self.align.run.ended(&event),
                _ => {}
            },
        );
        self.align.run.id.set(self.under_way(id));
    }

    /// Aligned weights join the available models, as the visitor's own do.
    fn on_aligned(self, report: AlignReport, model: &str) {
        // What was to be thrown away has been.
        self.align.asked.update_value(|asked| {
            asked
                .iter_mut()
                .for_each(|(options, _)| options.fresh = false);
        });
        let weights = report.documents.first();
        let weights = weights.filter(|(name, _)| name.ends_with(".safetensors"));
        let file = weights.and_then(|(name, bytes)| files::named(name, bytes));
        if let Some(file) = file {
            let name = self.add_weights(file);
            self.status
                .set(format!("{name} is ready, and among the models of all tabs"));
            self.align.aligned.set(Some((model.to_owned(), name)));
        }
        self.align.report.set(Some(Arc::new(report)));
    }

    /// Stops the alignment; what is finished is kept.
    pub fn pause_align(self) {
        self.align.run.pause();
    }

    /// Opens the aligned model in the tab See.
    pub fn open_aligned(self) {
        let Some((_, name)) = self.align.aligned.get_untracked() else {
            return;
        };
        if let Some(file) = self.models.own_file(&name) {
            self.load(Source::File(file));
            self.go(Tab::See);
        }
    }

    /// Opens the tab Test with the aligned model beside the one it was made from.
    pub fn test_aligned(self) {
        let Some((model, aligned)) = self.align.aligned.get_untracked() else {
            return;
        };
        let both = [model, aligned].into_iter().filter(|name| !name.is_empty());
        self.test.chosen.set(both.collect());
        self.test.run.forget_pause();
        self.go(Tab::Test);
    }
}

/// A file's name without its ending, of letters, digits and dashes.
fn stem(name: &str) -> String {
    let name = name.split('.').next().unwrap_or(name);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(plain).collect()
}
