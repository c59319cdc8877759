//! What the form of the tab Align holds, and the plan it makes.

use js_sys::Reflect;
use ventral::align::fields::{FIELDS, Offer, place};
use wasm_bindgen::JsValue;

use crate::json;

/// A word of a plan and its title.
pub type Choice = (&'static str, &'static str);

/// What an area can be aligned with.
pub const KINDS: [Choice; 4] = [
    ("model", "Another model's area"),
    ("responses", "Recorded responses"),
    ("population", "A synthetic population"),
    ("pixels", "Pixels"),
];

/// How CKA becomes a loss.
pub const FORMS: [Choice; 3] = [
    ("log-distance", "log(1 − CKA)"),
    ("distance", "1 − CKA"),
    ("negative-log", "−log CKA"),
];

/// How gradients become steps.
pub const OPTIMISERS: [Choice; 2] = [("sgd", "SGD, Nesterov"), ("adamw", "AdamW")];

/// Runs to compare with: word, title, what is done.
pub const CONTROLS: [(&str, &str, &str); 3] = [
    (
        "shuffled",
        "Shuffled",
        "the same responses, to the wrong images",
    ),
    ("gaussian", "Gaussian", "noise in place of responses"),
    (
        "unaligned",
        "Unaligned",
        "the same fine-tuning without the target",
    ),
];

/// Images of the robustness test before and after, which stands beside a plan.
pub const ROBUSTNESS: Offer = Offer {
    least: 0.0,
    most: 10_000.0,
    step: 1.0,
    start: 50.0,
};

/// What a plan is made of. An area without a name is the usual one of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub model: String,
    pub area: String,
    /// Of [`KINDS`].
    pub kind: String,
    pub target_model: String,
    pub target_area: String,
    /// Of [`FORMS`].
    pub form: String,
    /// Of [`OPTIMISERS`].
    pub optimiser: String,
    /// In the order of [`FIELDS`].
    numbers: [f64; FIELDS.len()],
    /// Mirror half of the images.
    pub flip: bool,
    /// The images' classes in place of the model's own.
    pub new_head: bool,
    /// Of [`CONTROLS`].
    pub controls: Vec<String>,
    /// Of [`ROBUSTNESS`].
    pub robustness: f64,
    /// Stages whose weights are not trained.
    pub frozen: Vec<String>,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            model: "cornet-s-cifar10".to_owned(),
            area: String::new(),
            kind: KINDS[0].0.to_owned(),
            target_model: "resnet-at-cifar10".to_owned(),
            target_area: "layer3".to_owned(),
            form: FORMS[0].0.to_owned(),
            optimiser: OPTIMISERS[0].0.to_owned(),
            numbers: FIELDS.each_ref().map(|field| field.offer.start),
            flip: true,
            new_head: false,
            controls: vec![CONTROLS[0].0.to_owned()],
            robustness: ROBUSTNESS.start,
            frozen: Vec::new(),
        }
    }
}

impl Form {
    /// A number by its key in a plan; 0 for a key that no plan has.
    pub fn number(&self, key: &str) -> f64 {
        place(key).map_or(0.0, |place| self.numbers[place])
    }

    /// Sets a number, clamped to what is offered.
    pub fn set_number(&mut self, key: &str, value: f64) {
        if let Some(place) = place(key) {
            self.numbers[place] = FIELDS[place].offer.fit(value);
        }
    }

    /// The target is made of a model's responses.
    pub fn asks_model(&self) -> bool {
        matches!(self.kind.as_str(), "model" | "population")
    }

    /// What a plan says about this form besides its numbers, of which the sections are there.
    pub(super) fn plan(&self, named: &Named) -> JsValue {
        let plan = json::object(&[
            ("version", 1.into()),
            ("name", named.name.as_str().into()),
            ("model", json::of(&self.model)),
            ("tap", json::of(&named.area)),
            ("target", self.target(named)),
            ("frozen", json::of(&named.frozen)),
            ("flip", self.flip.into()),
            ("new_head", self.new_head.into()),
            ("data", json::object(&[("images", json::of(&named.images))])),
            ("losses", json::object(&[("form", json::of(&self.form))])),
            (
                "optimiser",
                json::object(&[("kind", json::of(&self.optimiser))]),
            ),
            ("schedule", json::object(&[])),
            ("validation", json::object(&[])),
        ]);
        for (field, value) in FIELDS.iter().zip(self.numbers) {
            let (section, key) = field.key.split_once('.').unwrap_or(("", field.key));
            if section == "target" && self.kind != "population" {
                continue;
            }
            let at = match section.is_empty() {
                true => plan.clone(),
                false => Reflect::get(&plan, &section.into()).unwrap_or_default(),
            };
            // Every section is an object of the plan above.
            let _ = Reflect::set(&at, &key.into(), &value.into());
        }
        plan
    }

    fn target(&self, named: &Named) -> JsValue {
        let kind = ("kind", json::of(&self.kind));
        match self.kind.as_str() {
            "pixels" => json::object(&[kind]),
            "responses" => json::object(&[kind, ("file", json::of(&named.responses))]),
            _ => json::object(&[
                kind,
                ("model", json::of(&self.target_model)),
                ("tap", json::of(&named.target_area)),
            ]),
        }
    }
}

/// What a plan names that the form leaves to the models and files at hand.
pub(super) struct Named {
    pub name: String,
    pub area: String,
    pub target_area: String,
    pub frozen: Vec<String>,
    /// A shipped set by name, or the visitor's own.
    pub images: String,
    /// The file of recorded responses.
    pub responses: String,
}
