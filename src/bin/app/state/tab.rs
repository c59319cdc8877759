//! The tabs of the page.

/// A tab of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    #[default]
    See,
    Perturb,
    Test,
    Align,
}

impl Tab {
    /// Every tab in the order of the navigation: word in the address, title, hint.
    pub const ALL: [(Tab, &'static str, &'static str, &'static str); 4] = [
        (
            Tab::See,
            "see",
            "See",
            "The response of each area to an image",
        ),
        (
            Tab::Perturb,
            "perturb",
            "Perturb",
            "Corruptions and adversarial attacks, side by side",
        ),
        (
            Tab::Test,
            "test",
            "Test",
            "How robust models are, in tables and curves",
        ),
        (
            Tab::Align,
            "align",
            "Align",
            "Fine-tune an area towards recorded responses or another model",
        ),
    ];

    /// The word in the address.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|b| b.0 == self)
            .map_or("see", |b| b.1)
    }

    /// The tab of a word in the address.
    pub fn from_word(word: &str) -> Option<Tab> {
        Self::ALL.iter().find(|b| b.1 == word).map(|b| b.0)
    }
}
