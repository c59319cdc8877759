//! The numbers of a robustness plan that a form offers, as plain data.

use crate::align::fields::{Field, Offer, Range};

/// The most images a plan may name: a slip of the keyboard should be a sentence and not a month.
pub const MOST_IMAGES: usize = 1_000_000;

/// Images under test.
pub static IMAGES: Field = Field {
    key: "images",
    label: "Images",
    help: "Images tested, the classes taking turns",
    range: Range::Between(1.0, MOST_IMAGES as f64),
    default: None,
    offer: Offer {
        least: 1.0,
        most: 100_000.0,
        step: 1.0,
        start: 100.0,
    },
};

/// The seed of a plan with one.
pub static SEED: Field = Field {
    key: "seeds",
    label: "Seed",
    help: "Everything random is drawn from it",
    range: Range::AtLeast(0.0),
    default: Some(0.0),
    offer: Offer {
        least: 0.0,
        most: 999_999.0,
        step: 1.0,
        start: 0.0,
    },
};
