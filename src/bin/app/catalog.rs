//! The models and pictures that come with the page.

use std::collections::BTreeMap;

use serde::Deserialize;

pub use ventral::model::catalog::{Entry, Robustness};

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
pub async fn read<T: for<'a> Deserialize<'a>>(url: &str) -> Result<Vec<T>, String> {
    let text = crate::dom::fetch_text(url).await?;
    serde_json::from_str(&text).map_err(|cause| format!("{url}: {cause}"))
}

/// How robust the shipped models were found to be, by their names. The browser parses the text:
/// what it makes of it is read as the worker's answers are, and that is in the page already.
pub async fn read_robustness() -> Result<BTreeMap<String, Robustness>, String> {
    let url = "models/robustness.json";
    let text = crate::dom::fetch_text(url).await?;
    let told = |cause: String| format!("{url}: {cause}");
    let parsed = js_sys::JSON::parse(&text).map_err(|e| told(crate::dom::js_message(&e)))?;
    serde_wasm_bindgen::from_value(parsed).map_err(|e| told(e.to_string()))
}
