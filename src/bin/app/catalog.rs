//! The models and pictures that come with the page.

use serde::Deserialize;

pub use ventral::model::catalog::Entry;

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
