//! Progress bars.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` in a template of `indicatif`'s; hidden where there is no terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    // The templates are constants of ours; a fault in one shows on the first run.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
