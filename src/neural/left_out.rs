//! What lies beside the responses in a file and is not used.
//!
//! The rule for reading (see ARCHITECTURE.md): what was not understood is asked about or listed with
//! its reason. An entry that may name the stimuli stands against matching by order.

use serde::{Deserialize, Serialize};

use crate::archive::shorten;

/// A part of a file that was not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name in the file: `session/order`.
    pub name: String,
    /// A clause: "40 whole numbers".
    pub reason: String,
    /// Whether it may say which picture each stimulus is.
    pub may_name: bool,
    /// Text, one entry a row of the responses, where it is text.
    #[serde(skip)]
    pub(super) entries: Option<Vec<String>>,
}

impl LeftOut {
    /// One that says nothing of which picture a stimulus is.
    pub(super) fn plain(name: &str, reason: impl Into<String>) -> Self {
        Self {
            name: shorten(name),
            reason: reason.into(),
            may_name: false,
            entries: None,
        }
    }

    /// One that may name the stimuli.
    pub(super) fn may_name(name: &str, reason: impl Into<String>) -> Self {
        Self {
            may_name: true,
            ..Self::plain(name, reason)
        }
    }

    /// One of text, which names the stimuli where its entries are the pictures' names.
    pub(super) fn text(name: &str, reason: impl Into<String>, entries: Vec<String>) -> Self {
        Self {
            entries: Some(entries),
            ..Self::may_name(name, reason)
        }
    }
}

/// A clause for the notes: "left out: `order` (40 whole numbers), `n4` (text)". `None` for none.
pub(super) fn said(left_out: &[LeftOut]) -> Option<String> {
    const MOST: usize = 20;
    let each = |left: &LeftOut| format!("{} ({})", left.name, left.reason);
    let mut all: Vec<String> = left_out.iter().take(MOST).map(each).collect();
    if left_out.len() > MOST {
        all.push(format!("… {} in all", left_out.len()));
    }
    (!all.is_empty()).then(|| format!("left out: {}", all.join(", ")))
}
