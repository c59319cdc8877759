//! Light or dark.

use leptos::prelude::*;

use super::App;
use crate::dom;

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    /// The word kept in the browser's storage and in the document's `data-theme`.
    pub fn word(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    pub(super) fn next(self) -> Theme {
        match self {
            Theme::Auto => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::Auto,
        }
    }

    pub(super) fn read() -> Theme {
        match dom::stored("theme").as_deref() {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::Auto,
        }
    }
}

impl App {
    /// The next of automatic, light, dark.
    pub fn turn_theme(self) {
        let theme = self.theme.get_untracked().next();
        self.theme.set(theme);
        dom::store("theme", theme.word());
        if let Some(root) = dom::document().document_element() {
            // The attribute's name is a constant; setting it cannot fail.
            let _ = root.set_attribute("data-theme", theme.word());
        }
    }
}
