//! JSON by way of the browser: what it reads and writes need not be in this program.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;

use crate::dom;

/// A plain value as the browser has it; `null` for what has no such form.
pub fn of(value: &(impl Serialize + ?Sized)) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).unwrap_or(JsValue::NULL)
}

/// An object of these entries, in their order.
pub fn object(entries: &[(&str, JsValue)]) -> JsValue {
    let made = js_sys::Object::new();
    for (key, value) in entries {
        // Setting a field of a fresh plain object cannot fail.
        let _ = js_sys::Reflect::set(&made, &(*key).into(), value);
    }
    made.into()
}

/// The text of a value, indented. A number that is one of 32 bits gets the digits of one.
pub fn text(value: &JsValue) -> String {
    let short = Closure::<dyn Fn(JsValue, JsValue) -> JsValue>::new(|_, value: JsValue| {
        let shorter = value.as_f64().and_then(shortest);
        shorter.map_or(value, JsValue::from)
    });
    let (replacer, indent) = (short.as_ref(), 2.into());
    let text = js_sys::JSON::stringify_with_replacer_and_space(value, replacer, &indent);
    text.ok()
        .and_then(|text| text.as_string())
        .unwrap_or_default()
}

/// 0.1 for the 0.10000000149011612 that 32 bits make of it.
fn shortest(number: f64) -> Option<f64> {
    let narrow = number as f32;
    (f64::from(narrow) == number).then(|| narrow.to_string().parse().ok())?
}

/// Reads a text.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let parsed = js_sys::JSON::parse(text).map_err(|cause| dom::js_message(&cause))?;
    serde_wasm_bindgen::from_value(parsed).map_err(|cause| cause.to_string())
}
