//! A request so lengthy that it is stopped and taken up again: a test, an alignment.

use leptos::prelude::*;
use ventral::session::protocol::Event;

use crate::bridge;

/// How long nothing else must have been asked for before a run goes on, ms: to begin again takes
/// a while in which a slider would have to wait.
pub const IDLE_MS: i32 = 2_000;

/// How a run stands.
#[derive(Clone, Copy)]
pub struct Run {
    /// The request under way.
    pub id: RwSignal<Option<u32>>,
    /// It was stopped before its end, and can go on.
    pub paused: RwSignal<bool>,
    /// It makes way for another bench, and goes on by itself: the number it had.
    resting: RwSignal<Option<u32>>,
}

impl Run {
    pub fn new() -> Self {
        Self {
            id: RwSignal::new(None),
            paused: RwSignal::new(false),
            resting: RwSignal::new(None),
        }
    }

    /// It is under way, or will be by itself.
    pub fn is_on(self) -> bool {
        self.id.get().is_some() || self.resting.get().is_some()
    }

    /// The number it had before it made way, if it did. The higher of two was begun later.
    pub(super) fn rests(self) -> Option<u32> {
        self.resting.get_untracked()
    }

    /// It is about to begin, or what is set now is another run than the one that was stopped.
    pub(super) fn forget_pause(self) {
        self.paused.set(false);
        self.resting.set(None);
    }

    /// It has come to its end, or to a stop.
    pub(super) fn ended(self, event: &Event) {
        self.id.set(None);
        match matches!(event, Event::Cancelled) {
            true => self.paused.set(self.rests().is_none()),
            false => self.forget_pause(),
        }
    }

    /// Lets another request come first: there is one worker, and what is finished is kept.
    pub(super) fn make_way(self) {
        if let Some(id) = self.id.get_untracked() {
            self.resting.set(Some(id));
            bridge::cancel(id);
        }
    }

    /// Stops it; what is finished is kept.
    pub(super) fn pause(self) {
        if self.rests().is_some() {
            self.resting.set(None);
            self.paused.set(true);
        }
        if let Some(id) = self.id.get_untracked() {
            bridge::cancel(id);
        }
    }
}
