//! Small things asked of the browser.

use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, Response};

/// The window.
pub fn window() -> web_sys::Window {
    leptos::prelude::window()
}

/// The document.
pub fn document() -> web_sys::Document {
    leptos::prelude::document()
}

/// Milliseconds since the page was opened.
pub fn now() -> f64 {
    window().performance().map_or(0.0, |p| p.now())
}

/// Runs `then` once after so many milliseconds.
pub fn after(milliseconds: i32, then: impl FnOnce() + 'static) {
    let then = Closure::once_into_js(then);
    // Fails only without a window.
    let _ = window()
        .set_timeout_with_callback_and_timeout_and_arguments_0(then.unchecked_ref(), milliseconds);
}

/// `<meta name="…" content="…">`.
pub fn meta(name: &str) -> Option<String> {
    let found = document()
        .query_selector(&format!("meta[name={name}]"))
        .ok()??;
    found.get_attribute("content")
}

/// The message of a thrown value.
pub fn js_message(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => thrown
            .as_string()
            .unwrap_or_else(|| "unknown error".to_owned()),
    }
}

/// Reads a text of the page's own site.
pub async fn fetch_text(url: &str) -> Result<String, String> {
    let response = fetch(url).await?;
    let text = response.text().map_err(|e| js_message(&e))?;
    let text = JsFuture::from(text).await.map_err(|e| js_message(&e))?;
    Ok(text.as_string().unwrap_or_default())
}

/// Reads a file of the page's own site.
pub async fn fetch_bytes(url: &str) -> Result<Vec<u8>, String> {
    let response = fetch(url).await?;
    let buffer = response.array_buffer().map_err(|e| js_message(&e))?;
    let buffer = JsFuture::from(buffer).await.map_err(|e| js_message(&e))?;
    Ok(js_sys::Uint8Array::new(&buffer).to_vec())
}

async fn fetch(url: &str) -> Result<Response, String> {
    let response = JsFuture::from(window().fetch_with_str(url)).await;
    let response: Response = response.map_err(|e| js_message(&e))?.unchecked_into();
    match response.ok() {
        true => Ok(response),
        false => Err(format!("{url}: the server answered {}", response.status())),
    }
}

/// A canvas that is not in the document.
pub fn canvas(width: usize, height: usize) -> Option<HtmlCanvasElement> {
    let made: HtmlCanvasElement = document().create_element("canvas").ok()?.dyn_into().ok()?;
    made.set_width(width as u32);
    made.set_height(height as u32);
    Some(made)
}

/// The drawing context of a canvas.
pub fn context(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok()??.dyn_into().ok()
}

/// A value of the browser's storage for this site; none where storage is refused.
pub fn stored(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// Keeps a value in the browser's storage, where that is allowed.
pub fn store(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.set_item(key, value);
    }
}

/// Brings an element into view, at once for those who asked for less motion.
pub fn scroll_to(id: &str) {
    if let Some(element) = document().get_element_by_id(id) {
        element.scroll_into_view();
    }
}
