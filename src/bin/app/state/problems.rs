//! What went wrong, until the visitor dismisses it.

use leptos::prelude::*;
use web_sys::File;

use super::App;
use crate::files;

/// Problems shown at a time.
const MOST: usize = 3;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub id: u32,
    pub sentence: String,
    pub cause: String,
    /// It is solved by restarting the worker.
    pub restart: bool,
}

/// What is said of a file that cannot be read.
pub(super) fn unreadable(name: &str) -> String {
    format!("“{name}” could not be read.")
}

impl App {
    /// Shows a problem with a sentence for the visitor and a cause for the log.
    pub fn problem(self, sentence: &str, cause: &str) {
        self.add_problem(sentence, cause, false);
    }

    /// A file's bytes; what cannot be read is a problem.
    pub(super) async fn read_file(self, file: &File) -> Option<Vec<u8>> {
        let read = files::bytes(file).await;
        let problem = |cause: String| self.problem(&unreadable(&file.name()), &cause);
        read.map_err(problem).ok()
    }

    pub(super) fn add_problem(self, sentence: &str, cause: &str, restart: bool) {
        leptos::logging::warn!("{sentence} {cause}");
        self.problem_count.update_value(|n| *n += 1);
        let problem = Problem {
            id: self.problem_count.get_value(),
            sentence: sentence.to_owned(),
            cause: cause.to_owned(),
            restart,
        };
        self.problems.update(|all| {
            all.retain(|p| p.sentence != problem.sentence);
            all.push(problem);
            let surplus = all.len().saturating_sub(MOST);
            all.drain(..surplus);
        });
    }

    /// Removes a problem from the page.
    pub fn dismiss(self, id: u32) {
        self.problems.update(|all| all.retain(|p| p.id != id));
    }
}
