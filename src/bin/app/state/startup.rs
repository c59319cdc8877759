//! The page as it opens: its lists of models and samples, and its address, which it follows.

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::prelude::*;

use super::App;
use super::link::{self, Link};
use super::models::Source;
use crate::catalog::{self, Entry, Sample};
use crate::dom;

impl App {
    /// Starts the worker, the default model and the first picture.
    pub fn start(self) {
        self.start_worker();
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
                self.test.chosen.set(self.wanted().into_iter().collect());
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

    pub(super) fn load_wanted(self) {
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
                tab: Some(self.tab.get()),
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
        if let Some(tab) = link.tab {
            self.go(tab);
        }
    }
}
