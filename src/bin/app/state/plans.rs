//! The visitor's own plans, which the worker reads.

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;

/// A plan from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnPlan {
    pub file: String,
    pub text: String,
    /// Models by name or path, the one to align before its target.
    pub models: Vec<String>,
}

impl App {
    /// Takes a plan once the worker has found no error in it.
    pub fn take_plan(self, kind: PlanKind, file: File) {
        spawn_local(async move {
            if let Some(bytes) = self.read_file(&file).await {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.read_plan(kind, file.name(), text);
            }
        });
    }

    fn read_plan(self, kind: PlanKind, file: String, text: String) {
        let into = match kind {
            PlanKind::Test => self.test.plan,
            PlanKind::Align => self.align.plan,
        };
        let request = Request::ReadPlan {
            kind,
            text: text.clone(),
        };
        self.ask(request, Vec::new(), move |event| {
            if let Event::Plan { models } = event {
                into.set(Some(OwnPlan {
                    file: file.clone(),
                    text: text.clone(),
                    models,
                }));
            }
        });
    }
}
