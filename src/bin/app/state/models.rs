//! The model in use, and the models that can be tested and aligned.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::requests::ends;

/// Where the model's weights come from.
#[derive(Clone, Debug)]
pub enum Source {
    Catalog(String),
    File(File),
    Url(String),
}

/// Models for the tabs Test and Align, beside the catalog.
#[derive(Clone, Copy)]
pub struct Models {
    /// The visitor's own weights.
    pub own: RwSignal<Vec<File>, LocalStorage>,
    /// Those the worker has read.
    pub loaded: RwSignal<Vec<ModelSummary>>,
}

impl Models {
    pub fn new() -> Self {
        Self {
            own: RwSignal::new_local(Vec::new()),
            loaded: RwSignal::new(Vec::new()),
        }
    }

    /// A fresh worker has read nothing.
    pub(super) fn forget_worker(self) {
        self.loaded.set(Vec::new());
    }

    /// The facts of a model that the worker has read.
    pub fn facts(self, name: &str) -> Option<ModelSummary> {
        self.loaded
            .with(|all| all.iter().find(|m| m.name == name).cloned())
    }

    pub(super) fn own_file(self, name: &str) -> Option<File> {
        self.own
            .with_untracked(|all| all.iter().find(|f| f.name() == name).cloned())
    }
}

impl App {
    /// Makes a model the one in use.
    pub fn load(self, source: Source) {
        self.give_way();
        let (request, files, name) = match &source {
            Source::Catalog(name) => (
                Request::LoadModel { name: name.clone() },
                Vec::new(),
                Some(name.clone()),
            ),
            Source::File(file) => {
                let file_name = file.name();
                (Request::LoadFile { file_name }, vec![file.clone()], None)
            }
            Source::Url(url) => (Request::LoadUrl { url: url.clone() }, Vec::new(), None),
        };
        self.ask(request, files, move |event| match event {
            Event::Model(info) => {
                self.source.set(Some(source.clone()));
                self.model_name.set(name.clone());
                self.on_model(*info);
            }
            event if ends(&event) => self.refresh_if_idle(),
            _ => {}
        });
    }

    pub(super) fn on_model(self, info: ModelInfo) {
        self.status.set(format!("{} loaded", info.name));
        let classes = info.classes.len();
        let beyond = |k: &super::Knobs| k.target.is_some_and(|t| t >= classes);
        if self.knobs.with_untracked(beyond) {
            self.knobs.update(|k| k.target = None);
        }
        self.spot.set(None);
        self.forget_perturbed();
        self.model.set(Some(Arc::new(info)));
        self.want_all();
    }

    /// Side of the images the model takes, px.
    pub fn side(self) -> usize {
        let model = self.model.get_untracked();
        model.map_or(224, |m| m.preprocessing.crop)
    }

    /// The models that can be tested and aligned, the catalog's and the visitor's own: name and
    /// title.
    pub fn available_models(self) -> Vec<(String, String)> {
        let shipped = self.catalog.with(|all| {
            let available = all.iter().filter(|e| e.file.is_some());
            let names = available.map(|e| (e.name.clone(), e.title.clone()));
            names.collect::<Vec<_>>()
        });
        let own = self.models.own.with(|all| {
            let names = all.iter().map(|f| (f.name(), f.name()));
            names.collect::<Vec<_>>()
        });
        [shipped, own].concat()
    }

    /// Adds weights to the available models in the place of any others of this name, which is
    /// returned.
    pub(super) fn add_weights(self, file: File) -> String {
        let name = file.name();
        let is_other = |known: &str| known != name;
        self.models.own.update(|all| {
            all.retain(|known| is_other(&known.name()));
            all.push(file);
        });
        self.models
            .loaded
            .update(|all| all.retain(|m| is_other(&m.name)));
        self.forget_sent(&name);
        name
    }

    /// Has the worker read an available model.
    pub(super) fn read_model(self, name: &str) {
        let is_it = |m: &ModelSummary| m.name == name;
        if self
            .models
            .loaded
            .with_untracked(|all| all.iter().any(is_it))
        {
            return;
        }
        let name = name.to_owned();
        let own = self.models.own_file(&name);
        let request = match own.is_some() {
            true => Request::ReadModelFile {
                file_name: name.clone(),
            },
            false => Request::ReadModel { name: name.clone() },
        };
        let files = own.into_iter().collect();
        self.ask_once(name.clone(), request, files, move |event| match event {
            Event::ModelRead(found) => self.models.loaded.update(|all| {
                all.retain(|m| m.name != found.name);
                all.push(found);
            }),
            Event::Failed(_) => self.test.remove(&name),
            _ => {}
        });
    }
}
