//! What was recorded of the images: responses, labels, heat maps.

use leptos::prelude::*;
use ventral::session::protocol::*;
use web_sys::File;

use super::super::App;

/// Recordings, at most one file of a kind.
#[derive(Clone, Copy)]
pub struct Recordings {
    files: RwSignal<Vec<(Recorded, File)>, LocalStorage>,
    /// As the worker has read them.
    pub read: RwSignal<Vec<RecordingInfo>>,
}

impl Recordings {
    pub(super) fn new() -> Self {
        Self {
            files: RwSignal::new_local(Vec::new()),
            read: RwSignal::new(Vec::new()),
        }
    }

    pub(super) fn forget_worker(self) {
        self.read.set(Vec::new());
    }

    /// The name of the file of this kind.
    pub fn file_of(self, kind: Recorded) -> Option<String> {
        self.files.with(|all| {
            let found = all.iter().find(|(of, _)| *of == kind);
            found.map(|(_, file)| file.name())
        })
    }

    fn forget(self, kind: Recorded) {
        self.files.update(|all| all.retain(|(of, _)| *of != kind));
        self.read.update(|all| all.retain(|r| r.kind != kind));
    }
}

impl App {
    /// Takes a recording, or forgets the one of this kind.
    pub fn take_recording(self, kind: Recorded, file: Option<File>) {
        let recordings = self.align.recordings;
        recordings.forget(kind);
        self.align.run.forget_pause();
        let Some(file) = file else {
            let name = String::new();
            self.ask(Request::ReadRecording { kind, name }, Vec::new(), |_| ());
            return;
        };
        self.forget_sent(&key(kind, &file));
        recordings.files.update(|all| all.push((kind, file)));
        self.send_recordings();
    }

    /// Has the worker read the recordings that it has not.
    pub(super) fn send_recordings(self) {
        let recordings = self.align.recordings;
        for (kind, file) in recordings.files.get_untracked() {
            let is_it = |r: &RecordingInfo| r.kind == kind;
            if !recordings.read.with_untracked(|all| all.iter().any(is_it)) {
                // Recordings are matched with the images, which come first.
                self.read_images();
                self.send_recording(kind, file);
            }
        }
    }

    fn send_recording(self, kind: Recorded, file: File) {
        let recordings = self.align.recordings;
        let name = file.name();
        let request = Request::ReadRecording {
            kind,
            name: name.clone(),
        };
        self.ask_once(key(kind, &file), request, vec![file], move |event| {
            if untrack(|| recordings.file_of(kind)).as_ref() != Some(&name) {
                return;
            }
            match event {
                Event::Recording(read) => recordings.read.update(|all| {
                    all.retain(|r| r.kind != kind);
                    all.push(read);
                }),
                Event::Failed(_) => recordings.forget(kind),
                _ => {}
            }
        });
    }

    /// Matches the recordings with the images again, which are others.
    pub(in crate::state) fn match_recordings_again(self) {
        self.align.recordings.read.set(Vec::new());
        self.align.run.forget_pause();
        self.send_recordings();
    }
}

/// What a file of this kind is known by while it is under way.
fn key(kind: Recorded, file: &File) -> String {
    format!("{} {}", kind as u8, file.name())
}
