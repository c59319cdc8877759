//! Every request to the worker passes here: what it is called, what it makes way for, its progress
//! and its failure.

use leptos::prelude::*;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::run::IDLE_MS;
use crate::{bridge, dom};

/// The worker's condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Engine {
    Loading { done: f64, total: f64 },
    Ready,
    Crashed,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: u32,
    pub label: &'static str,
    pub progress: Option<Progress>,
    pub cancelling: bool,
}

/// What a request is called while it is under way.
fn label(request: &Request) -> &'static str {
    match request {
        Request::Start { .. } => "Choosing a device",
        Request::LoadModel { .. } => "Loading the model",
        Request::LoadFile { .. } => "Reading the weights",
        Request::LoadUrl { .. } => "Downloading the weights",
        Request::SetImage { .. } => "Decoding the image",
        Request::SetTextures { .. } => "Reading the textures",
        Request::See(_) => "Running the model",
        Request::Perturb(options) => perturb_label(options),
        Request::CheckGradient => "Checking the gradient",
        Request::Transfer { .. } | Request::TransferFile { .. } => "Running another model",
        Request::ReadModel { .. } | Request::ReadModelFile { .. } => "Reading a model",
        Request::ReadImages { .. } => "Reading the images",
        Request::ReadRecording { .. } => "Reading the recording",
        Request::ReadPlan { .. } => "Reading a plan",
        Request::Test(_) => "Testing",
        Request::CountConfusions { .. } => "Counting answers",
        Request::ReadReport { .. } => "Reading a report",
        Request::Align(_) => "Aligning",
        _ => "Working",
    }
}

fn perturb_label(options: &PerturbOptions) -> &'static str {
    match options.stages.last() {
        Some(stage) if stage.attack.is_some() => "Attacking",
        Some(stage) if stage.corruption.is_some() => "Corrupting",
        _ => "Adding noise",
    }
}

/// The request reads what a test or an alignment needs, and so waits for its turn.
fn prepares(request: &Request) -> bool {
    matches!(
        request,
        Request::ReadImages { .. }
            | Request::ReadRecording { .. }
            | Request::ReadModel { .. }
            | Request::ReadModelFile { .. }
    )
}

/// No further event of its request follows this one.
pub(super) fn ends(event: &Event) -> bool {
    matches!(event, Event::Done | Event::Cancelled | Event::Failed(_))
}

impl App {
    /// Sends a request with its files. Progress, the device and failures are handled here, for
    /// every request; `then` is called with all its events.
    pub(super) fn ask(
        self,
        request: Request,
        files: Vec<File>,
        then: impl Fn(Event) + 'static,
    ) -> u32 {
        self.make_way(&request);
        let id = bridge::next_id();
        let task = Task {
            id,
            label: label(&request),
            progress: None,
            cancelling: false,
        };
        self.tasks.update(|tasks| tasks.push(task));
        bridge::ask(id, request, files, move |event| {
            let ended = ends(&event);
            self.note(id, &event);
            then(event);
            if ended {
                self.resume_when_idle();
            }
        });
        id
    }

    /// Sends a request unless one with this key is under way.
    pub(super) fn ask_once(
        self,
        key: String,
        request: Request,
        files: Vec<File>,
        then: impl Fn(Event) + 'static,
    ) {
        if self.sent_once.with_value(|keys| keys.contains(&key)) {
            return;
        }
        self.sent_once.update_value(|keys| keys.push(key.clone()));
        self.ask(request, files, move |event| {
            if ends(&event) {
                self.forget_sent(&key);
            }
            then(event);
        });
    }

    /// Lets a request with this key be sent again: what it is about has been replaced.
    pub(super) fn forget_sent(self, key: &str) {
        self.sent_once
            .update_value(|keys| keys.retain(|known| known != key));
    }

    /// What every request's events change.
    fn note(self, id: u32, event: &Event) {
        match event {
            Event::Backend(info) => self.backend.set(Some(info.clone())),
            Event::Progress(progress) => {
                self.update_task(id, |task| task.progress = Some(progress.clone()));
            }
            Event::Failed(failure) => self.problem(&failure.sentence, &failure.cause),
            _ => {}
        }
        if ends(event) {
            self.tasks.update(|tasks| tasks.retain(|t| t.id != id));
        }
    }

    fn update_task(self, id: u32, change: impl FnOnce(&mut Task)) {
        self.tasks.update(|tasks| {
            if let Some(task) = tasks.iter_mut().find(|t| t.id == id) {
                change(task);
            }
        });
    }

    /// The request just sent, unless it has failed on its way out.
    pub(super) fn under_way(self, id: u32) -> Option<u32> {
        self.tasks
            .with_untracked(|tasks| tasks.iter().any(|t| t.id == id))
            .then_some(id)
    }

    /// Cancels a request for the visitor.
    pub fn cancel(self, id: u32) {
        self.perturb_next.set_value(None);
        self.update_task(id, |task| task.cancelling = true);
        self.status.set("Cancelled".to_owned());
        // A step of an alignment takes its time, and ends in a state that can be resumed.
        match self.align.run.id.get_untracked() == Some(id) {
            true => bridge::cancel(id),
            false => bridge::cancel_now(id),
        }
    }

    /// Interrupts a test or an alignment for a request of another tab. What prepares a run waits
    /// for its turn instead: only a test that is started interrupts an alignment, and the reverse.
    fn make_way(self, request: &Request) {
        if prepares(request) {
            return;
        }
        // The wrong answers of a test are asked for at its end.
        if !matches!(request, Request::Test(_) | Request::CountConfusions { .. }) {
            self.test.run.make_way();
        }
        if !matches!(request, Request::Align(_)) {
            self.align.run.make_way();
        }
    }

    /// Resumes what was interrupted, once nothing else has been asked for a while. Of two runs it
    /// is the one started later, which had interrupted the other.
    fn resume_when_idle(self) {
        let interrupted = move || (self.test.run.interrupted(), self.align.run.interrupted());
        if interrupted() == (None, None) {
            return;
        }
        dom::after(IDLE_MS, move || {
            if !self.tasks.with_untracked(Vec::is_empty) {
                return;
            }
            match interrupted() {
                (test, align) if align > test => self.resume_align(),
                (Some(_), _) => self.run_test(),
                _ => {}
            }
        });
    }

    /// The engine is loading or a request is under way.
    pub fn busy(self) -> bool {
        let loading = matches!(self.engine.get(), Engine::Loading { .. });
        loading || self.tasks.with(|tasks| !tasks.is_empty())
    }
}
