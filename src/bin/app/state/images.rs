//! The labelled images that the tabs Test and Align share.

use std::collections::BTreeMap;

use leptos::prelude::*;
use ventral::model::catalog::{TEST_SETS, TestSet};
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::tab::Tab;
use crate::files;

/// Labelled images.
#[derive(Clone, Copy)]
pub struct Images {
    /// The visitor's own; the page's where there are none.
    archive: RwSignal<Option<File>, LocalStorage>,
    /// As the worker has read them.
    pub set: RwSignal<Option<SetInfo>>,
    /// The class of the model that a class of the set is, where the visitor has chosen one.
    pub classes: RwSignal<BTreeMap<String, String>>,
}

impl Images {
    pub fn new() -> Self {
        Self {
            archive: RwSignal::new_local(None),
            set: RwSignal::new(None),
            classes: RwSignal::new(BTreeMap::new()),
        }
    }

    /// A fresh worker has read nothing.
    pub(super) fn forget_worker(self) {
        self.set.set(None);
    }
}

impl App {
    /// Takes the visitor's own labelled images.
    pub fn take_images(self, file: File) {
        // What is under way belongs to the images before.
        self.sent_once.set_value(Vec::new());
        self.images.archive.set(Some(file));
        self.images.set.set(None);
        self.images.classes.set(BTreeMap::new());
        self.test.run.forget_pause();
        self.read_images();
        self.match_recordings_again();
        // The names of the models' classes are needed to match folders with them.
        let models = self.test.chosen.get_untracked();
        models.iter().for_each(|name| self.read_model(name));
    }

    /// Takes a folder of class folders.
    pub fn take_folder(self, files: Vec<File>) {
        match files::pack(&files) {
            Some(archive) => self.take_images(archive),
            None => self.problem("This folder has no files.", "nothing to pack"),
        }
    }

    /// Sets the class of a folder; none: by its name.
    pub fn map_class(self, folder: &str, class: Option<String>) {
        self.images.classes.update(|all| {
            match class {
                Some(class) => all.insert(folder.to_owned(), class),
                None => all.remove(folder),
            };
        });
        self.test.run.forget_pause();
        self.align.run.forget_pause();
    }

    /// The page's own images: those with as many classes as the model to align, or the first to
    /// test.
    pub fn shipped_set(self) -> &'static TestSet {
        self.shipped_for(match self.tab.get() {
            Tab::Align => Some(self.align.form.with(|form| form.model.clone())),
            _ => self.test.chosen.with(|all| all.first().cloned()),
        })
    }

    fn shipped_for(self, model: Option<String>) -> &'static TestSet {
        let classes = model.and_then(|name| self.class_count(&name));
        classes.and_then(TestSet::fitting).unwrap_or(&TEST_SETS[0])
    }

    fn class_count(self, model: &str) -> Option<usize> {
        let entry = |all: &Vec<crate::catalog::Entry>| {
            let found = all.iter().find(|entry| entry.name == model);
            found.map(|entry| entry.classes)
        };
        let own = || self.models.facts(model).map(|m| m.classes.len());
        self.catalog.with(entry).or_else(own)
    }

    /// Has the worker read the images.
    pub(super) fn read_images(self) {
        self.read_set(untrack(|| self.shipped_set()).file);
    }

    /// Has the worker read the images for a run of this model, whichever tab is open.
    pub(super) fn read_images_for(self, model: Option<&String>) {
        self.read_set(untrack(|| self.shipped_for(model.cloned())).file);
    }

    /// The visitor's own images, or those that come with the page under this name.
    fn read_set(self, shipped: &str) {
        let own = self.images.archive.get_untracked();
        let name = own.as_ref().map_or_else(|| shipped.to_owned(), File::name);
        // Another model may need others of the page's images.
        let is_read = |set: &Option<SetInfo>| set.as_ref().is_some_and(|set| set.name == name);
        if self.images.set.with_untracked(is_read) {
            return;
        }
        let request = Request::ReadImages { name: name.clone() };
        let files = own.into_iter().collect();
        self.ask_once(name, request, files, move |event| match event {
            Event::Set(info) => self.images.set.set(Some(info)),
            // The page's own images take their place.
            Event::Failed(_) => self.images.archive.set(None),
            _ => {}
        });
    }
}
