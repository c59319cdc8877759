//! The bench Test: which models, which plan, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::model::catalog::{TEST_SETS, TestSet};
use ventral::session::protocol::*;
use web_sys::File;

use super::run::{IDLE_MS, Run};
use super::{App, Bench, ends};
use crate::{dom, files};

/// Plans that are offered: name, title, what it is.
pub const PLANS: [(&str, &str, &str); 6] = [
    (
        "quick",
        "Quick look",
        "Four corruptions and short PGD on 100 images",
    ),
    (
        "vonenet",
        "VOneNet protocol",
        "PGD in L∞, L2 and L1, and 15 corruptions at 5 severities (Dapello, Marques et al. 2020)",
    ),
    (
        "corruptions",
        "Common corruptions",
        "15 corruptions at 5 severities and their mCE (Hendrycks and Dietterich 2019)",
    ),
    (
        "autoattack",
        "AutoAttack",
        "The standard ensemble in L∞ 8/255 and L2 0.5 (Croce and Hein 2020)",
    ),
    (
        "curve",
        "Accuracy against ε",
        "PGD in L∞ and L2 at fifteen radii",
    ),
    (
        "minimal",
        "Smallest perturbations",
        "DeepFool, FMN and the Boundary attack",
    ),
];

/// The signals of the bench.
#[derive(Clone, Copy)]
pub struct Lab {
    pub preset: RwSignal<String>,
    /// The visitor's own plan: its file's name and text. It comes before the preset.
    pub plan: RwSignal<Option<(String, String)>>,
    pub images: RwSignal<usize>,
    pub seed: RwSignal<u64>,
    /// The models to test, the reference first.
    pub chosen: RwSignal<Vec<String>>,
    /// The visitor's own weights.
    pub own: RwSignal<Vec<File>, LocalStorage>,
    /// What the worker has read.
    pub brought: RwSignal<Vec<Brought>>,
    /// The visitor's own images; the shipped ones where there are none.
    archive: RwSignal<Option<File>, LocalStorage>,
    pub set: RwSignal<Option<SetInfo>>,
    /// Which class of the models a class of the set is, where the visitor has said so.
    pub classes: RwSignal<BTreeMap<String, String>>,
    pub report: RwSignal<Option<Arc<TestReport>>>,
    /// What a model of it took images for.
    pub confused: RwSignal<Option<Confused>>,
    /// A saved one, to compare with: its file's name, and what it says.
    pub other: RwSignal<Option<(String, Arc<TestReport>)>>,
    pub run: Run,
    /// Models, images and recordings on their way to the worker: none is sent twice.
    coming: StoredValue<Vec<String>>,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            preset: RwSignal::new(PLANS[0].0.to_owned()),
            plan: RwSignal::new(None),
            images: RwSignal::new(100),
            seed: RwSignal::new(0),
            chosen: RwSignal::new(Vec::new()),
            own: RwSignal::new_local(Vec::new()),
            brought: RwSignal::new(Vec::new()),
            archive: RwSignal::new_local(None),
            set: RwSignal::new(None),
            classes: RwSignal::new(BTreeMap::new()),
            report: RwSignal::new(None),
            confused: RwSignal::new(None),
            other: RwSignal::new(None),
            run: Run::new(),
            coming: StoredValue::new(Vec::new()),
        }
    }

    /// A fresh worker knows nothing of what the last one had read.
    pub fn forget_worker(self) {
        self.brought.set(Vec::new());
        self.set.set(None);
        self.confused.set(None);
    }

    /// Notes that something is on its way to the worker; false where it was already.
    pub(super) fn comes(self, what: &str) -> bool {
        let known = self.coming.with_value(|all| all.iter().any(|w| w == what));
        if !known {
            self.coming.update_value(|all| all.push(what.to_owned()));
        }
        !known
    }

    /// It has arrived, or never will.
    pub(super) fn came(self, what: &str) {
        self.coming.update_value(|all| all.retain(|w| w != what));
    }

    /// Whether the models and images would give a test at all.
    pub fn is_ready(self) -> bool {
        self.chosen.with(|all| !all.is_empty())
    }
}

impl App {
    /// Takes a model into the test or out of it.
    pub fn choose_for_test(self, name: &str, wanted: bool) {
        self.lab.chosen.update(|all| {
            all.retain(|known| known != name);
            if wanted {
                all.push(name.to_owned());
            }
        });
        self.lab.run.forget_pause();
    }

    fn is_chosen_for_test(self, name: &str) -> bool {
        let chosen = self.lab.chosen;
        chosen.with_untracked(|all| all.iter().any(|known| known == name))
    }

    /// Takes the visitor's own weights into the test.
    pub fn add_weights_to_test(self, file: File) {
        let name = self.keep_weights(file);
        self.choose_for_test(&name, true);
    }

    /// Keeps weights at hand in the place of any others of this name, which is the answer.
    pub(super) fn keep_weights(self, file: File) -> String {
        let name = file.name();
        self.lab.own.update(|all| {
            all.retain(|known| known.name() != name);
            all.push(file);
        });
        self.lab
            .brought
            .update(|all| all.retain(|b| b.name != name));
        // Those that may be on their way are others.
        self.lab.came(&name);
        name
    }

    /// The models at hand, the catalog's and the visitor's own: name and title.
    pub fn at_hand(self) -> Vec<(String, String)> {
        let shipped = self.catalog.with(|all| {
            let at_hand = all.iter().filter(|e| e.file.is_some());
            let names = at_hand.map(|e| (e.name.clone(), e.title.clone()));
            names.collect::<Vec<_>>()
        });
        let own = self.lab.own.with(|all| {
            let names = all.iter().map(|f| (f.name(), f.name()));
            names.collect::<Vec<_>>()
        });
        [shipped, own].concat()
    }

    /// What the worker has read of a model.
    pub fn brought(self, name: &str) -> Option<Brought> {
        self.lab
            .brought
            .with(|all| all.iter().find(|b| b.name == name).cloned())
    }

    /// Takes the visitor's own labelled images.
    pub fn take_test_set(self, file: File) {
        self.lab.archive.set(Some(file));
        self.lab.set.set(None);
        self.lab.classes.set(BTreeMap::new());
        self.lab.run.forget_pause();
        self.lab.coming.set_value(Vec::new());
        self.bring_set();
        self.understand_again();
        // What a model's classes are called is needed to say which folder is which.
        let models = self.lab.chosen.get_untracked();
        models.iter().for_each(|name| self.bring(name));
    }

    /// Takes a folder of class folders.
    pub fn take_test_folder(self, files: Vec<File>) {
        match files::pack(&files) {
            Some(archive) => self.take_test_set(archive),
            None => self.problem("This folder has no files.", "nothing to pack"),
        }
    }

    /// Says which class a folder is; none: by its name.
    pub fn map_class(self, folder: &str, class: Option<String>) {
        self.lab.classes.update(|all| {
            match class {
                Some(class) => all.insert(folder.to_owned(), class),
                None => all.remove(folder),
            };
        });
        self.lab.run.forget_pause();
        self.align.run.forget_pause();
    }

    /// Reads a saved report, to compare with.
    pub fn take_report(self, file: File) {
        spawn_local(async move {
            let name = file.name();
            let bytes = match files::bytes(&file).await {
                Ok(bytes) => Bytes::from(bytes),
                Err(cause) => {
                    return self.problem(&format!("“{name}” could not be read."), &cause);
                }
            };
            let request = Request::ReadReport { bytes };
            self.ask("Reading a report", request, Vec::new(), move |event| {
                if let Event::Report(report) = event {
                    self.lab.other.set(Some((name.clone(), Arc::new(*report))));
                }
            });
        });
    }

    /// Asks what a model of the last test took images for; in the condition hardest for it, where
    /// `condition` is empty.
    pub fn confuse(self, model: String, condition: String) {
        let request = Request::Confuse { model, condition };
        self.ask(
            "Counting answers",
            request,
            Vec::new(),
            move |event| match event {
                Event::Confused(confused) => self.lab.confused.set(Some(*confused)),
                // The choices go back to what is shown.
                Event::Failed(_) => self.lab.confused.update(|_| ()),
                _ => {}
            },
        );
    }

    /// Takes the visitor's own plan, of a test or of an alignment.
    pub fn take_plan(self, file: File, into: RwSignal<Option<(String, String)>>) {
        spawn_local(async move {
            let name = file.name();
            match files::bytes(&file).await {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    into.set(Some((name, text)));
                }
                Err(cause) => self.problem(&format!("“{name}” could not be read."), &cause),
            }
        });
    }

    /// The page's own images: those for as many classes as the model aligned, or the first one under
    /// test, has.
    pub fn shipped_set(self) -> &'static TestSet {
        self.shipped_for(match self.bench.get() {
            Bench::Align => Some(self.align.form.with(|form| form.model.clone())),
            _ => self.lab.chosen.with(|all| all.first().cloned()),
        })
    }

    fn shipped_for(self, model: Option<String>) -> &'static TestSet {
        let listed = |name: &String| {
            let entries = self.catalog.get();
            let entry = entries.iter().find(|entry| entry.name == *name);
            entry.map(|entry| entry.classes)
        };
        let own = |name: &String| {
            let model = self.brought(name);
            model.map(|model| model.classes.len())
        };
        let classes = model.and_then(|name| listed(&name).or_else(|| own(&name)));
        let fitting = classes.and_then(TestSet::fitting);
        fitting.unwrap_or(&TEST_SETS[0])
    }

    pub(super) fn bring_set(self) {
        let name = untrack(|| self.shipped_set()).file;
        self.bring_images(name);
    }

    /// The images for a run of this model, whatever bench is in view.
    pub(super) fn bring_set_for(self, model: Option<&String>) {
        let name = untrack(|| self.shipped_for(model.cloned())).file;
        self.bring_images(name);
    }

    /// The visitor's own images, or those that come with the page under this name.
    fn bring_images(self, shipped: &str) {
        let own = self.lab.archive.get_untracked();
        let name = own.as_ref().map_or_else(|| shipped.to_owned(), File::name);
        // Another model may be for other images of the page's.
        let is_here = |set: &Option<SetInfo>| set.as_ref().is_some_and(|set| set.name == name);
        if self.lab.set.with_untracked(is_here) || !self.lab.comes(&name) {
            return;
        }
        let files = own.into_iter().collect();
        let what = name.clone();
        self.ask(
            "Reading the images",
            Request::TakeSet { name },
            files,
            move |event| {
                if ends(&event) {
                    self.lab.came(&what);
                }
                match event {
                    Event::Set(info) => self.lab.set.set(Some(info)),
                    // The shipped images are there to fall back on.
                    Event::Failed(_) => self.lab.archive.set(None),
                    _ => {}
                }
            },
        );
    }

    /// Has the worker read a model at hand.
    pub(super) fn bring(self, name: &str) {
        let known = self
            .lab
            .brought
            .with_untracked(|all| all.iter().any(|b| b.name == name));
        if known || !self.lab.comes(name) {
            return;
        }
        let own = self
            .lab
            .own
            .with_untracked(|all| all.iter().find(|f| f.name() == name).cloned());
        let request = match own.is_some() {
            true => Request::BringFile {
                file_name: name.to_owned(),
            },
            false => Request::Bring {
                name: name.to_owned(),
            },
        };
        let name = name.to_owned();
        self.ask(
            "Reading a model",
            request,
            own.into_iter().collect(),
            move |event| {
                if ends(&event) {
                    self.lab.came(&name);
                }
                match event {
                    Event::Brought(found) => self.lab.brought.update(|all| {
                        all.retain(|b| b.name != found.name);
                        all.push(found);
                    }),
                    Event::Failed(_) if self.is_chosen_for_test(&name) => {
                        self.choose_for_test(&name, false);
                    }
                    _ => {}
                }
            },
        );
    }

    /// Starts the test, or goes on with it.
    pub fn run_test(self) {
        let models = self.lab.chosen.get_untracked();
        if models.is_empty() || self.lab.run.id.with_untracked(Option::is_some) {
            return;
        }
        self.bring_set_for(models.first());
        models.iter().for_each(|name| self.bring(name));
        let options = TestOptions {
            preset: self.lab.preset.get_untracked(),
            plan: self
                .lab
                .plan
                .with_untracked(|p| p.as_ref().map(|(_, text)| text.clone())),
            models,
            images: Some(self.lab.images.get_untracked()),
            seed: self.lab.seed.get_untracked(),
            classes: self.lab.classes.get_untracked(),
        };
        self.lab.run.forget_pause();
        self.lab.confused.set(None);
        let first = options.models.first().cloned();
        let id = self.ask(
            "Testing",
            Request::Test(options),
            Vec::new(),
            move |event| match event {
                Event::Tested(report) => {
                    if report.rows == report.expected && !report.documents.is_empty() {
                        first
                            .clone()
                            .into_iter()
                            .for_each(|model| self.confuse(model, String::new()));
                        self.status
                            .set(format!("{}: {} answers", report.title, report.rows));
                    }
                    if report.documents.is_empty() {
                        self.lab.confused.set(None);
                    }
                    self.lab.report.set(Some(Arc::new(*report)));
                }
                event if ends(&event) => self.lab.run.ended(&event),
                _ => {}
            },
        );
        self.lab.run.id.set(self.under_way(id));
    }

    /// Lets what runs make way for a request of another bench. What prepares a run waits for its
    /// turn instead: only a test that is begun stops an alignment, and the other way round.
    pub(super) fn make_way(self, request: &Request) {
        let prepares = matches!(
            request,
            Request::TakeSet { .. }
                | Request::TakeRecorded { .. }
                | Request::Bring { .. }
                | Request::BringFile { .. }
        );
        if prepares {
            return;
        }
        // What a test has come to is asked for at its end.
        if !matches!(request, Request::Test(_) | Request::Confuse { .. }) {
            self.lab.run.make_way();
        }
        if !matches!(request, Request::Align(_)) {
            self.align.run.make_way();
        }
    }

    /// Goes on with what has made way, once nothing else has been asked for a while. Of two it is
    /// the one that was begun later: it had stopped the other.
    pub(super) fn go_on_when_idle(self) {
        let resting = move || (self.lab.run.rests(), self.align.run.rests());
        if resting() == (None, None) {
            return;
        }
        dom::after(IDLE_MS, move || {
            if !self.tasks.with_untracked(Vec::is_empty) {
                return;
            }
            match resting() {
                (test, align) if align > test => self.go_on_align(),
                (Some(_), _) => self.run_test(),
                _ => {}
            }
        });
    }

    /// Stops the test; what is finished is kept.
    pub fn pause_test(self) {
        self.lab.run.pause();
    }
}
