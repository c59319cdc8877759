//! What a panel hands out: PNG sheets, CSV and JSON.

use leptos::task::spawn_local;
use wasm_bindgen::JsValue;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use crate::paint::Picture;
use crate::{dom, files, json};

/// A picture with a caption on a sheet.
pub struct Tile {
    pub caption: String,
    pub picture: Picture,
}

const TILE: f64 = 160.0;
const GAP: f64 = 16.0;
const CAPTION: f64 = 22.0;
const HEAD: f64 = 44.0;

/// Saves a canvas as PNG.
pub fn png(name: &str, canvas: HtmlCanvasElement) {
    let name = name.to_owned();
    spawn_local(async move {
        if let Ok(data) = files::png_bytes(&canvas).await {
            files::download(&name, "image/png", &data);
        }
    });
}

/// Saves pictures side by side under a heading, `columns` to a row.
pub fn sheet(name: &str, heading: &str, columns: usize, tiles: &[Tile]) {
    let columns = columns.clamp(1, tiles.len().max(1));
    let rows = tiles.len().div_ceil(columns);
    let width = GAP + columns as f64 * (TILE + GAP);
    let height = HEAD + rows as f64 * (TILE + CAPTION + GAP);
    let canvas = dom::canvas(width as usize, height as usize);
    let Some((canvas, pen)) = canvas.and_then(|c| Some((c.clone(), dom::context(&c)?))) else {
        return;
    };
    pen.set_fill_style_str("#ffffff");
    pen.fill_rect(0.0, 0.0, width, height);
    pen.set_image_smoothing_enabled(false);
    pen.set_fill_style_str("#14181d");
    pen.set_font("600 15px system-ui, sans-serif");
    let _ = pen.fill_text(heading, GAP, 28.0);
    for (i, tile) in tiles.iter().enumerate() {
        let x = GAP + (i % columns) as f64 * (TILE + GAP);
        let y = HEAD + (i / columns) as f64 * (TILE + CAPTION + GAP);
        draw_tile(&pen, tile, x, y);
    }
    png(name, canvas);
}

fn draw_tile(pen: &CanvasRenderingContext2d, tile: &Tile, x: f64, y: f64) {
    let Some(picture) = tile.picture.canvas() else {
        return;
    };
    let larger = tile.picture.width.max(tile.picture.height).max(1) as f64;
    let (w, h) = (tile.picture.width as f64, tile.picture.height as f64);
    let (w, h) = (TILE * w / larger, TILE * h / larger);
    let _ = pen.draw_image_with_html_canvas_element_and_dw_and_dh(&picture, x, y, w, h);
    pen.set_font("12px system-ui, sans-serif");
    let _ = pen.fill_text_with_max_width(&tile.caption, x, y + TILE + 16.0, TILE);
}

/// Saves a value as JSON.
pub fn json(name: &str, value: &JsValue) {
    files::download(name, "application/json", json::text(value).as_bytes());
}

/// Saves bytes as they are.
pub fn bytes(name: &str, data: &[u8]) {
    files::download(name, "application/octet-stream", data);
}

/// Saves rows as CSV; the first row is the heading.
pub fn csv(name: &str, rows: &[Vec<String>]) {
    let line = |row: &Vec<String>| row.iter().map(|f| field(f)).collect::<Vec<_>>().join(",");
    let text = rows.iter().map(line).collect::<Vec<_>>().join("\r\n") + "\r\n";
    files::download(name, "text/csv", text.as_bytes());
}

fn field(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// A file name of letters, digits and dashes.
pub fn file_name(parts: &[&str], extension: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let stem = parts.join("-").chars().map(plain).collect::<String>();
    format!("ventral-{}.{extension}", stem.trim_matches('-'))
}
