//! The tab Perturb: its settings, their history, and what comes of them.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::knobs::Knobs;
use super::requests::ends;
use super::tab::Tab;
use crate::{bridge, dom, numbers};

/// Slower models than this (milliseconds a pass) are not attacked while a slider moves.
const LIVE_LIMIT_MS: f32 = 400.0;

/// Changes of the Perturb bench that can be taken back.
const MOST_HISTORY: usize = 60;

/// About how many passes the check of a gradient takes, and how long it may take unasked.
const CHECK_PASSES: f32 = 150.0;
const CHECK_LIMIT_MS: f32 = 8_000.0;

/// How long each picture of an attack's way is shown.
const FRAME_MS: i32 = 180;

/// How a difference is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DifferenceView {
    /// Grey where nothing changed.
    #[default]
    Signed,
    /// Its amplitude spectrum.
    Spectrum,
}

impl App {
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
        if ready && self.tab.get_untracked() == Tab::Perturb && live {
            self.perturb(dragging);
        }
    }

    pub(super) fn perturb(self, coarse: bool) {
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
        let id = self.ask(request, Vec::new(), move |event| match event {
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

    /// Removes a perturbation with everything computed about it.
    pub(super) fn forget_perturbed(self) {
        self.playing.set(false);
        self.frame.set(None);
        self.masking.set(None);
        self.transfers.set(Vec::new());
        self.perturbed.set(None);
    }

    /// Checks the attack on show for gradient masking.
    pub fn check_gradient(self) {
        let id = self.ask(Request::CheckGradient, Vec::new(), move |event| {
            if let Event::Masking(found) = event {
                self.masking.set(Some(Arc::new(*found)));
            }
        });
        self.asides.update_value(|all| all.push(id));
    }

    /// Runs every other available model on the perturbation.
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

    /// Runs the model of a weights file on the perturbation.
    pub fn transfer_to_file(self, file: File) {
        let request = Request::TransferFile {
            file_name: file.name(),
        };
        self.transfer(request, vec![file]);
    }

    fn transfer(self, request: Request, files: Vec<File>) {
        let id = self.ask(request, files, move |event| {
            if let Event::Transferred(found) = event {
                self.transfers.update(|all| {
                    all.retain(|t| t.model != found.model);
                    all.push(*found);
                });
            }
        });
        self.asides.update_value(|all| all.push(id));
    }

    pub(super) fn drop_asides(self) {
        let mut asides = Vec::new();
        self.asides.update_value(|all| asides = std::mem::take(all));
        asides.into_iter().for_each(bridge::cancel);
    }

    /// Takes frost from the visitor's pictures.
    pub fn take_textures(self, files: Vec<File>) {
        spawn_local(async move {
            let mut images = Vec::new();
            for file in files {
                let Some(bytes) = self.read_file(&file).await else {
                    return;
                };
                images.push(bytes);
            }
            self.textures.set_value(images);
            self.send_textures();
            self.turn(false, |_| ());
        });
    }

    pub(super) fn send_textures(self) {
        self.give_way();
        let images = self.textures.get_value();
        let images = images.into_iter().map(Bytes::from).collect();
        self.ask(Request::SetTextures { images }, Vec::new(), |_| ());
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
}
