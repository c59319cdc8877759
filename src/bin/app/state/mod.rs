//! The page's state, a file a tab, and every request to the worker.

mod align;
mod image;
mod images;
mod knobs;
mod link;
mod models;
mod perturb;
mod plans;
mod problems;
mod requests;
mod run;
mod see;
mod startup;
mod tab;
mod test;
mod theme;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use leptos::prelude::*;
use ventral::compute::description::{BackendChoice, BackendInfo};
use ventral::perturb::attack::masking::Masking;
use ventral::session::protocol::*;

use crate::catalog::{Entry, Robustness, Sample};
use crate::paint::Palette;
use align::Align;
use images::Images;
use models::Models;
use test::Test;

pub use align::{CONTROLS, Choice, FORMS, Form, KINDS, OPTIMISERS, ROBUSTNESS};
pub use image::Shown;
pub use knobs::{Knobs, attack, attacks, controls, radius};
pub use link::backend_word;
pub use models::Source;
pub use perturb::DifferenceView;
pub use problems::Problem;
pub use requests::{Engine, Task};
pub use see::Spot;
pub use tab::Tab;
pub use theme::Theme;

/// A dialog over the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialog {
    Models,
    Camera,
}

/// Every signal of the page. A copy is a handle to the same signals.
#[derive(Clone, Copy)]
pub struct App {
    pub tab: RwSignal<Tab>,
    pub theme: RwSignal<Theme>,
    pub engine: RwSignal<Engine>,
    pub backend_choice: RwSignal<BackendChoice>,
    pub backend: RwSignal<Option<BackendInfo>>,
    /// The program for the GPU is still being compiled, by `cargo xtask serve`.
    pub compiling: RwSignal<bool>,
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
    /// Read out by a screen reader.
    pub status: RwSignal<String>,
    pub palette: RwSignal<Palette>,
    /// One scale for an area's maps over time, rather than one for each map.
    pub shared_scale: RwSignal<bool>,
    pub spot: RwSignal<Option<Spot>>,
    pub dialog: RwSignal<Option<Dialog>>,
    /// Keys of requests under way that are not to be sent twice.
    sent_once: StoredValue<Vec<String>>,
    pub models: Models,
    pub images: Images,
    pub test: Test,
    pub align: Align,
}

impl App {
    /// The state of a page just opened.
    pub fn new() -> App {
        let link = link::read();
        App {
            tab: RwSignal::new(link.tab.unwrap_or_default()),
            theme: RwSignal::new(Theme::read()),
            engine: RwSignal::new(Engine::Loading {
                done: 0.0,
                total: 0.0,
            }),
            backend_choice: RwSignal::new(link.backend.unwrap_or_default()),
            backend: RwSignal::new(None),
            compiling: RwSignal::new(false),
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
            sent_once: StoredValue::new(Vec::new()),
            models: Models::new(),
            images: Images::new(),
            test: Test::new(),
            align: Align::new(),
        }
    }
}
