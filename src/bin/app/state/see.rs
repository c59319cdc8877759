//! The tab See, and what has to be computed again when the model or the picture changes.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::session::protocol::*;

use super::App;
use super::knobs::front_end;
use super::tab::Tab;
use crate::{bridge, dom, numbers};

/// A map or filter in the lightbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Spot {
    /// The mean map (`None`) or the n-th channel shown of a tap.
    Map {
        tap: String,
        place: Option<usize>,
    },
    Filter(usize),
}

impl App {
    /// Marks everything shown as out of date.
    pub(super) fn want_all(self) {
        self.stale.set(true);
        self.see_wanted.set_value(true);
        self.perturb_wanted.set_value(true);
    }

    /// Cancels passes over a model or an image that is about to be replaced.
    pub(super) fn give_way(self) {
        self.perturb_next.set_value(None);
        self.drop_asides();
        let running = [
            self.see_running.get_value(),
            self.perturb_running.get_value(),
        ];
        running.into_iter().flatten().for_each(bridge::cancel);
    }

    /// Computes everything again.
    pub fn refresh(self) {
        self.want_all();
        self.refresh_if_idle();
    }

    pub(super) fn refresh_if_idle(self) {
        if bridge::queue_is_empty() {
            self.run_tab();
        }
    }

    /// Opens a tab.
    pub fn go(self, tab: Tab) {
        self.tab.set(tab);
        self.run_tab();
    }

    /// Asks for what the open tab still lacks.
    fn run_tab(self) {
        let (Some(_), Some(shown)) = (self.model.get_untracked(), self.image.get_untracked())
        else {
            return;
        };
        if shown.info.is_none() {
            return;
        }
        // One pass comes first in every tab: it gives the prediction soonest, and its time decides
        // whether attacks follow the sliders.
        if self.see_wanted.get_value() {
            self.see();
        }
        if self.tab.get_untracked() == Tab::Perturb && self.perturb_wanted.get_value() {
            self.perturb(false);
        }
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

    /// What is shown is out of date and nothing is under way to change that, after a cancel or a
    /// failure.
    pub fn is_outdated(self) -> bool {
        let possible = self.model.with(Option::is_some) && self.image.with(Option::is_some);
        self.stale.get() && possible && !self.busy()
    }

    /// The activations of a tap in the analysis on show.
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
