//! The numbers of an alignment plan, one row each: the check of a plan and the form of the page read
//! their ranges, defaults and explanations here. Plain data, without Burn.

use std::fmt;

/// The values a number may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    AtLeast(f64),
    /// Greater than.
    Above(f64),
    /// Both ends belong to it.
    Between(f64, f64),
    /// At least 0 and below 1.
    Share,
}

impl Range {
    /// Whether a value is in the range; infinity and NaN never are.
    pub fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::AtLeast(least) => value >= least,
                Self::Above(bound) => value > bound,
                Self::Between(least, most) => (least..=most).contains(&value),
                Self::Share => (0.0..1.0).contains(&value),
            }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::Above(bound) => write!(f, "above {bound}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
            Self::Share => f.write_str("at least 0 and below 1"),
        }
    }
}

/// What a form offers of a number: a part of its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    pub least: f64,
    pub most: f64,
    /// 1 for whole numbers.
    pub step: f64,
    /// What the form begins with: the value in `plans/align-cornet-s.toml`.
    pub start: f64,
}

impl Offer {
    /// A value brought into what is offered.
    pub fn fit(&self, value: f64) -> f64 {
        let value = match self.step >= 1.0 {
            true => value.round(),
            false => value,
        };
        value.clamp(self.least, self.most)
    }
}

/// A number of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    /// Its path in the document: `steps`, `losses.cka`.
    pub key: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    pub range: Range,
    /// Its value where the document has none (of `schedule` and `optimiser`: where it has no such
    /// section); `None` where it must have one.
    pub default: Option<f64>,
    pub offer: Offer,
}

const fn field(
    key: &'static str,
    label: &'static str,
    help: &'static str,
    range: Range,
    default: Option<f64>,
    [least, most, step, start]: [f64; 4],
) -> Field {
    Field {
        key,
        label,
        help,
        range,
        default,
        offer: Offer {
            least,
            most,
            step,
            start,
        },
    }
}

use Range::{Above, AtLeast, Between, Share};

const WEIGHT: Range = AtLeast(0.0);

/// Every number of a plan. The last column is what a form offers: least, most, step, start.
// A static: there is one of each, where a constant may be copied.
#[rustfmt::skip]
pub static FIELDS: [Field; 25] = [
    field("seed", "Seed", "Everything random is drawn from it", WEIGHT, Some(0.0), [0.0, 999_999.0, 1.0, 0.0]),
    field("steps", "Steps", "Steps of the optimiser", AtLeast(1.0), None, [1.0, 100_000.0, 1.0, 60.0]),
    field("batch", "Batch", "Images per step", AtLeast(4.0), None, [4.0, 1000.0, 1.0, 100.0]),
    field("parts", "Parts", "Parts in which a batch is passed where memory is short", AtLeast(1.0), Some(1.0), [1.0, 100.0, 1.0, 1.0]),
    field("clip", "Gradient clip", "Longest gradient (L2); a longer one is scaled down to it", Above(0.0), Some(1.0), [0.1, 1000.0, 0.1, 1.0]),
    field("data.stimuli", "Stimuli", "Images trained on, 0 for all", WEIGHT, Some(500.0), [0.0, 100_000.0, 1.0, 500.0]),
    field("target.neuroids", "Neuroids", "Neuroids of the population", AtLeast(1.0), Some(168.0), [2.0, 10_000.0, 1.0, 168.0]),
    field("target.repetitions", "Repetitions", "Presentations of each stimulus", AtLeast(1.0), Some(20.0), [2.0, 1000.0, 1.0, 20.0]),
    field("target.rate", "Mean spikes", "Mean spike count of a neuroid per presentation", Above(0.0), Some(5.0), [0.1, 1000.0, 0.1, 5.0]),
    field("losses.warm_up", "Loss warm-up", "Fraction of the run over which the other weights rise from 0", Between(0.0, 1.0), Some(0.0), [0.0, 1.0, 0.05, 0.0]),
    field("losses.cross_entropy", "Cross-entropy", "Of the labels", WEIGHT, Some(1.0), [0.0, 1000.0, 0.1, 1.0]),
    field("losses.label_smoothing", "Label smoothing", "Probability given to the other classes", Share, Some(0.0), [0.0, 0.9, 0.05, 0.0]),
    field("losses.cka", "CKA", "CKA of the area with the target", WEIGHT, Some(1.0), [0.0, 1000.0, 0.1, 1.0]),
    field("losses.similarity", "Similarity", "Similarities of pairs of images, in the area and in the target", WEIGHT, Some(0.0), [0.0, 1000.0, 0.1, 0.0]),
    field("losses.harmonizer", "Harmonizer", "Agreement of saliency maps with heat maps", WEIGHT, Some(0.0), [0.0, 1000.0, 0.1, 0.0]),
    field("losses.distillation", "Distillation", "Agreement with the logits of the starting model", WEIGHT, Some(0.0), [0.0, 1000.0, 0.1, 1.0]),
    field("losses.temperature", "Temperature", "Logits are divided by it in distillation", Above(0.0), Some(2.0), [0.1, 100.0, 0.1, 2.0]),
    field("losses.stay", "L2-SP", "Half the squared distance of the weights from the starting ones", WEIGHT, Some(0.0), [0.0, 1000.0, 0.1, 0.0]),
    field("schedule.peak", "Peak rate", "Highest learning rate", Above(0.0), Some(0.001), [0.0001, 1.0, 0.0001, 0.005]),
    field("schedule.warm_up", "Rate warm-up", "Fraction of the run over which the rate rises", Share, Some(0.1), [0.0, 0.9, 0.05, 0.1]),
    field("optimiser.weight_decay", "Weight decay", "Of the optimiser", WEIGHT, Some(0.0001), [0.0, 1.0, 0.0001, 0.0001]),
    field("validation.stimuli", "Held-out stimuli", "Share of the stimuli not trained on", Share, Some(0.2), [0.0, 0.9, 0.05, 0.2]),
    field("validation.neuroids", "Held-out neuroids", "Share of the neuroids not trained on", Share, Some(0.2), [0.0, 0.9, 0.05, 0.2]),
    field("validation.every", "Steps per evaluation", "Steps from one evaluation to the next", AtLeast(1.0), Some(25.0), [1.0, 10_000.0, 1.0, 20.0]),
    field("validation.patience", "Patience", "Evaluations without improvement that end the run, 0 for never", WEIGHT, Some(0.0), [0.0, 1000.0, 1.0, 0.0]),
];

/// Place of a number in [`FIELDS`].
pub fn place(key: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.key == key)
}

/// The default of a number; 0 for a key that is in no row or has none.
pub fn default(key: &str) -> f64 {
    let field = place(key).map(|place| &FIELDS[place]);
    field.and_then(|field| field.default).unwrap_or_default()
}

#[cfg(all(test, feature = "compute"))]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    const SHIPPED: &str = include_str!("../../plans/align-cornet-s.toml");

    /// The document of a plan with every number in it.
    fn document(plan: &Plan) -> serde_json::Value {
        serde_json::to_value(plan).expect("a plan is a document")
    }

    #[test]
    fn a_form_offers_a_part_of_the_range() {
        for field in &FIELDS {
            let offer = field.offer;
            for value in [offer.least, offer.most, offer.start] {
                assert!(field.range.holds(value), "{}: {value}", field.key);
                assert_eq!(offer.fit(value), value, "{}", field.key);
            }
            assert!(
                field.default.is_none_or(|v| field.range.holds(v)),
                "{}",
                field.key
            );
        }
    }

    #[test]
    fn a_form_begins_with_the_shipped_plan() {
        let shipped = document(&Plan::parse(SHIPPED).expect("the shipped plan is sound"));
        for field in &FIELDS {
            let pointer = format!("/{}", field.key.replace('.', "/"));
            if let Some(value) = shipped.pointer(&pointer).and_then(|v| v.as_f64()) {
                assert!(
                    (value - field.offer.start).abs() < 1e-6,
                    "{}: {value}",
                    field.key
                );
            }
        }
    }

    #[test]
    fn every_key_is_one_of_a_plan() {
        let text = r#"
            name = "n"
            model = "m"
            steps = 2
            batch = 8
            parts = 2
            target = { kind = "population", model = "m", tap = "IT" }
        "#;
        let plan = document(&Plan::parse(text).expect("a plan"));
        for field in &FIELDS {
            let pointer = format!("/{}", field.key.replace('.', "/"));
            let value = plan.pointer(&pointer).and_then(|v| v.as_f64());
            let value = value.unwrap_or_else(|| panic!("{} is in no plan", field.key));
            let given = matches!(field.key, "steps" | "batch" | "parts");
            let default = field.default.unwrap_or_default();
            assert!(
                given || (value - default).abs() < 1e-6,
                "{}: {value}",
                field.key
            );
        }
    }
}
