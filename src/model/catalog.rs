//! The models a visitor can choose from. The list itself is `static/models/catalog.json`, which
//! the page, the command line and the tests read alike.

use serde::{Deserialize, Serialize};

/// A model of the catalog: shipped with the page, or published elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Unique, as it stands in addresses and on the command line.
    pub name: String,
    pub title: String,
    pub family: String,
    /// One or two sentences.
    pub description: String,
    /// The model the page starts with.
    pub default: bool,
    /// For a shipped model: its file beside the catalog, and its card.
    pub file: Option<String>,
    pub card: Option<String>,
    /// For a published one: its address.
    pub url: Option<String>,
    /// Whether the host lets a page on another site read the file.
    pub host_allows_cors: bool,
    /// What to do where it does not.
    pub instructions: Option<String>,
    pub licence: Option<String>,
    /// Size of the file, bytes; 0 when not known.
    pub bytes: u64,
    /// SHA-256 of the file, or its beginning where only that is published; hexadecimal.
    pub sha256: Option<String>,
    pub classes: usize,
    /// Side of the input, px.
    pub input: usize,
    /// Top-1 on the test set named in the card, 0 to 1.
    pub accuracy: Option<f32>,
    pub parameters: Option<u64>,
}

/// The catalog as built in.
pub const CATALOG: &str = include_str!("../../static/models/catalog.json");

/// The built-in catalog. It is a file of this repository, checked by a test.
pub fn entries() -> Vec<Entry> {
    parse(CATALOG).unwrap_or_default()
}

/// Reads a catalog.
pub fn parse(text: &str) -> Result<Vec<Entry>, serde_json::Error> {
    serde_json::from_str(text)
}

/// The entry called `name`.
pub fn find(name: &str) -> Option<Entry> {
    entries().into_iter().find(|entry| entry.name == name)
}
