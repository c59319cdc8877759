//! A test or an alignment: so long that it is interrupted and resumed.

use leptos::prelude::*;
use ventral::session::protocol::Event;

use crate::bridge;

/// How long nothing else must have been asked for before a run is resumed, ms: resuming takes a
/// while in which a slider would have to wait.
pub const IDLE_MS: i32 = 2_000;

/// The state of a run.
#[derive(Clone, Copy)]
pub struct Run {
    /// The request under way.
    pub id: RwSignal<Option<u32>>,
    /// It was stopped before its end and can be resumed.
    pub paused: RwSignal<bool>,
    /// It was interrupted for another tab and is resumed by itself: the number it had.
    interrupted: RwSignal<Option<u32>>,
}

impl Run {
    pub fn new() -> Self {
        Self {
            id: RwSignal::new(None),
            paused: RwSignal::new(false),
            interrupted: RwSignal::new(None),
        }
    }

    /// It is under way, or will be by itself.
    pub fn is_on(self) -> bool {
        self.id.get().is_some() || self.interrupted.get().is_some()
    }

    /// The number it had before it was interrupted, if it was. The higher of two was started later.
    pub(super) fn interrupted(self) -> Option<u32> {
        self.interrupted.get_untracked()
    }

    /// It is about to start, or the settings are those of another run than the one that was stopped.
    pub(super) fn forget_pause(self) {
        self.paused.set(false);
        self.interrupted.set(None);
    }

    /// Its request has ended.
    pub(super) fn ended(self, event: &Event) {
        self.id.set(None);
        match matches!(event, Event::Cancelled) {
            true => self.paused.set(self.interrupted().is_none()),
            false => self.forget_pause(),
        }
    }

    /// Lets another request come first: there is one worker, and what is finished is kept.
    pub(super) fn make_way(self) {
        if let Some(id) = self.id.get_untracked() {
            self.interrupted.set(Some(id));
            bridge::cancel(id);
        }
    }

    /// Stops it; what is finished is kept.
    pub(super) fn pause(self) {
        if self.interrupted().is_some() {
            self.interrupted.set(None);
            self.paused.set(true);
        }
        if let Some(id) = self.id.get_untracked() {
            bridge::cancel(id);
        }
    }
}
