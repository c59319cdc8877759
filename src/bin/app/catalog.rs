//! The models and pictures that come with the page.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use ventral::model::catalog::{Entry, Robustness};

use crate::json;

/// A picture of `samples/samples.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sample {
    /// Path under `samples/`; also the picture's name in a shared address.
    pub file: String,
    pub title: String,
    pub alt: String,
}

impl Sample {
    /// Where the picture is, relative to the page.
    pub fn url(&self) -> String {
        format!("samples/{}", self.file)
    }
}

/// Reads one of the two lists.
pub async fn read<T: DeserializeOwned>(url: &str) -> Result<Vec<T>, String> {
    let text = crate::dom::fetch_text(url).await?;
    json::parse(&text).map_err(|cause| format!("{url}: {cause}"))
}

/// How robust the shipped models were found to be, by their names.
pub async fn read_robustness() -> Result<BTreeMap<String, Robustness>, String> {
    let url = "models/robustness.json";
    let text = crate::dom::fetch_text(url).await?;
    json::parse(&text).map_err(|cause| format!("{url}: {cause}"))
}
