//! The tab Test: models, plan, and the report.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::experiment::robustness::fields::{IMAGES, SEED};
use ventral::experiment::robustness::summary::PRESETS;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::plans::OwnPlan;
use super::requests::ends;
use super::run::Run;

/// The signals of the tab.
#[derive(Clone, Copy)]
pub struct Test {
    pub preset: RwSignal<String>,
    /// The visitor's own plan, which replaces the preset.
    pub plan: RwSignal<Option<OwnPlan>>,
    pub images: RwSignal<usize>,
    pub seed: RwSignal<u64>,
    /// The models to test, the reference first.
    pub chosen: RwSignal<Vec<String>>,
    pub report: RwSignal<Option<Arc<TestReport>>>,
    /// The wrong answers of one of its models.
    pub confused: RwSignal<Option<Confusions>>,
    /// A saved report to compare with: its file's name and content.
    pub other: RwSignal<Option<(String, Arc<TestReport>)>>,
    pub run: Run,
}

impl Test {
    pub fn new() -> Self {
        Self {
            preset: RwSignal::new(PRESETS[0].name.to_owned()),
            plan: RwSignal::new(None),
            images: RwSignal::new(IMAGES.offer.start as usize),
            seed: RwSignal::new(SEED.offer.start as u64),
            chosen: RwSignal::new(Vec::new()),
            report: RwSignal::new(None),
            confused: RwSignal::new(None),
            other: RwSignal::new(None),
            run: Run::new(),
        }
    }

    /// A fresh worker has no report to count the answers of.
    pub(super) fn forget_worker(self) {
        self.confused.set(None);
    }

    /// A model is chosen.
    pub fn is_ready(self) -> bool {
        self.chosen.with(|all| !all.is_empty())
    }

    /// Adds a model to the test.
    pub fn add(self, name: &str) {
        self.remove(name);
        self.chosen.update(|all| all.push(name.to_owned()));
        self.run.forget_pause();
    }

    /// Removes a model from the test, if it is there.
    pub fn remove(self, name: &str) {
        let is_it = |known: &String| known == name;
        if self.chosen.with_untracked(|all| all.iter().any(is_it)) {
            self.chosen.update(|all| all.retain(|known| !is_it(known)));
            self.run.forget_pause();
        }
    }
}

impl App {
    /// Adds the visitor's own weights to the test.
    pub fn add_weights_to_test(self, file: File) {
        let name = self.add_weights(file);
        self.test.add(&name);
    }

    /// Reads a saved report, to compare with.
    pub fn take_report(self, file: File) {
        spawn_local(async move {
            let name = file.name();
            let Some(bytes) = self.read_file(&file).await.map(Bytes::from) else {
                return;
            };
            self.ask(Request::ReadReport { bytes }, Vec::new(), move |event| {
                if let Event::Report(report) = event {
                    self.test.other.set(Some((name.clone(), Arc::new(*report))));
                }
            });
        });
    }

    /// Asks for the wrong answers of a model of the last test in a condition, its hardest where
    /// `condition` is empty.
    pub fn confuse(self, model: String, condition: String) {
        let request = Request::CountConfusions { model, condition };
        self.ask(request, Vec::new(), move |event| match event {
            Event::Confusions(confused) => self.test.confused.set(Some(*confused)),
            // The choices go back to what is shown.
            Event::Failed(_) => self.test.confused.update(|_| ()),
            _ => {}
        });
    }

    /// Starts or resumes the test.
    pub fn run_test(self) {
        let models = self.test.chosen.get_untracked();
        if models.is_empty() || self.test.run.id.with_untracked(Option::is_some) {
            return;
        }
        let first = models[0].clone();
        self.read_images_for(Some(&first));
        models.iter().for_each(|name| self.read_model(name));
        let plan = self.test.plan.get_untracked().map(|plan| plan.text);
        let options = TestOptions {
            preset: self.test.preset.get_untracked(),
            plan,
            models,
            images: Some(self.test.images.get_untracked()),
            seed: self.test.seed.get_untracked(),
            classes: self.images.classes.get_untracked(),
        };
        self.test.run.forget_pause();
        self.test.confused.set(None);
        let id = self.ask(
            Request::Test(options),
            Vec::new(),
            move |event| match event {
                Event::Tested(report) => self.on_tested(*report, &first),
                event if ends(&event) => self.test.run.ended(&event),
                _ => {}
            },
        );
        self.test.run.id.set(self.under_way(id));
    }

    fn on_tested(self, report: TestReport, first: &str) {
        if report.rows == report.expected && !report.documents.is_empty() {
            self.confuse(first.to_owned(), String::new());
            self.status
                .set(format!("{}: {} answers", report.title, report.rows));
        }
        if report.documents.is_empty() {
            self.test.confused.set(None);
        }
        self.test.report.set(Some(Arc::new(report)));
    }

    /// Stops the test; what is finished is kept.
    pub fn pause_test(self) {
        self.test.run.pause();
    }
}
