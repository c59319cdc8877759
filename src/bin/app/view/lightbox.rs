//! One map or filter, large, with its values.

use leptos::html;
use leptos::prelude::*;
use web_sys::HtmlCanvasElement;

use super::parts::{self, icon};
use super::{filters, stream};
use crate::export;
use crate::paint::{self, Map, Palette, Picture, Range};
use crate::state::{App, Spot};
use crate::{dom, numbers};

/// Side of the enlarged picture, in canvas pixels.
const SIDE: usize = 720;
/// Values are written into cells at least this large.
const LEGIBLE: usize = 44;

/// Something to enlarge: a map of numbers, or a picture that stands for itself.
struct Exhibit {
    title: String,
    facts: String,
    map: Option<Map>,
    picture: Picture,
    range: Range,
    palette: Palette,
}

/// The lightbox.
pub fn dialog(app: App) -> AnyView {
    let node = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let wanted = app.spot.with(Option::is_some);
        let Some(dialog) = node.get() else { return };
        match (wanted, dialog.open()) {
            // Fails only for a dialog outside the document.
            (true, false) => drop(dialog.show_modal()),
            (false, true) => dialog.close(),
            _ => {}
        }
    });
    let keys = move |event: web_sys::KeyboardEvent| match event.key().as_str() {
        "ArrowRight" => step(app, 1),
        "ArrowLeft" => step(app, -1),
        _ => {}
    };
    view! {
        <dialog
            node_ref=node
            class="sheet lightbox"
            data-testid="lightbox"
            aria-labelledby="lightbox-title"
            on:keydown=keys
            on:close=move |_| app.spot.set(None)
        >
            {move || app.spot.get().and_then(|spot| exhibit(app, &spot)).map(|e| show(app, e))}
        </dialog>
    }
    .into_any()
}

fn exhibit(app: App, spot: &Spot) -> Option<Exhibit> {
    match spot {
        Spot::Map { tap, place } => map_exhibit(app, tap, *place),
        Spot::Filter(index) => filter_exhibit(app, *index),
    }
}

fn map_exhibit(app: App, tap: &str, place: Option<usize>) -> Option<Exhibit> {
    let response = app.response(tap)?;
    let (name, map) = match place {
        None => ("mean over channels".to_owned(), stream::mean_map(&response)),
        Some(place) => {
            let channel = response.channels.get(place)?;
            (
                format!("channel {channel}"),
                stream::channel_map(&response, place),
            )
        }
    };
    let (range, palette) = (Range::of(&map.values), app.palette.get());
    let facts = format!("{} × {} units", map.width, map.height);
    let picture = map.picture(range, palette);
    Some(Exhibit {
        title: format!("{tap}, {name}"),
        facts,
        map: Some(map),
        picture,
        range,
        palette,
    })
}

fn filter_exhibit(app: App, index: usize) -> Option<Exhibit> {
    let model = app.model.get()?;
    let bank = model.filters.as_ref().filter(|b| index < b.count)?;
    let weights = filters::weights(bank, index);
    let title = format!("{}, filter {index}", bank.layer);
    let range = Range::of(&weights).symmetric();
    let picture = paint::filter_picture(&weights, bank.size);
    let facts = format!("{0} × {0} weights of each colour", bank.size);
    Some(Exhibit {
        title,
        facts,
        map: None,
        picture,
        range,
        palette: Palette::Grey,
    })
}

/// The next or previous channel or filter, if there is one.
fn step(app: App, by: isize) {
    let moved = |at: usize| at.checked_add_signed(by);
    let next = match app.spot.get_untracked() {
        Some(Spot::Map { tap, place }) => {
            // The mean comes before the first channel.
            let place = match place {
                None => (by > 0).then_some(Some(0)),
                Some(0) if by < 0 => Some(None),
                Some(place) => moved(place).map(Some),
            };
            place.map(|place| Spot::Map { tap, place })
        }
        Some(Spot::Filter(index)) => moved(index).map(Spot::Filter),
        None => None,
    };
    if let Some(next) = next.filter(|n| exhibit(app, n).is_some()) {
        app.spot.set(Some(next));
    }
}

fn show(app: App, exhibit: Exhibit) -> AnyView {
    let node = NodeRef::<html::Canvas>::new();
    let output = NodeRef::<html::Output>::new();
    let Exhibit {
        title,
        facts,
        map,
        picture,
        range,
        palette,
    } = exhibit;
    let for_file = (picture.clone(), map.clone(), title.clone());
    let drawn = (picture, map.clone(), range);
    node.on_load(move |canvas| draw(&canvas, &drawn.0, drawn.1.as_ref(), drawn.2));
    let values = map.clone();
    let hover = move |event: web_sys::PointerEvent| {
        let (Some(canvas), Some(output)) = (node.get_untracked(), output.get_untracked()) else {
            return;
        };
        let area = canvas.get_bounding_client_rect();
        let x = (f64::from(event.client_x()) - area.x()) / area.width();
        let y = (f64::from(event.client_y()) - area.y()) / area.height();
        let value = values.as_ref().and_then(|m| m.at(x, y));
        let words = value.map(|(x, y, v)| format!("x {x}, y {y}: {}", numbers::short(v)));
        output.set_text_content(words.as_deref());
    };
    let save_png = move || {
        if let Some(canvas) = node.get_untracked() {
            export::png(&export::file_name(&[&for_file.2], "png"), canvas);
        }
    };
    let title_for_csv = title.clone();
    let csv = map.map(|map| {
        parts::save("CSV", "Save the values as CSV", move || {
            save_csv(&title_for_csv, &map)
        })
    });
    view! {
        <header class="panel-head">
            <h2 id="lightbox-title">{title}</h2>
            <p class="hint num">{facts}</p>
            <div class="tools">
                {parts::save("PNG", "Save the picture as PNG", save_png)}
                {csv}
                <button class="tool bare" aria-label="Previous" data-testid="lightbox-previous" on:click=move |_| step(app, -1)>
                    {icon("left")}
                </button>
                <button class="tool bare" aria-label="Next" data-testid="lightbox-next" on:click=move |_| step(app, 1)>
                    {icon("right")}
                </button>
                <button class="tool bare" aria-label="Close" data-testid="lightbox-close" on:click=move |_| app.spot.set(None)>
                    {icon("close")}
                </button>
            </div>
        </header>
        <canvas node_ref=node role="img" aria-label="Enlarged" on:pointermove=hover></canvas>
        <footer>
            {parts::scale(paint::scale_bar(palette), range)}
            <output node_ref=output class="num" data-testid="lightbox-value"></output>
        </footer>
    }
    .into_any()
}

fn draw(canvas: &HtmlCanvasElement, picture: &Picture, map: Option<&Map>, range: Range) {
    let larger = picture.width.max(picture.height).max(1);
    let cell = (SIDE / larger).max(1);
    let (width, height) = (picture.width * cell, picture.height * cell);
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let (Some(pen), Some(small)) = (dom::context(canvas), picture.canvas()) else {
        return;
    };
    pen.set_image_smoothing_enabled(false);
    let (w, h) = (width as f64, height as f64);
    // Drawing a canvas of this document onto another cannot fail.
    let _ = pen.draw_image_with_html_canvas_element_and_dw_and_dh(&small, 0.0, 0.0, w, h);
    let Some(map) = map.filter(|_| cell >= LEGIBLE) else {
        return;
    };
    pen.set_font(&format!(
        "{}px ui-monospace, monospace",
        (cell / 5).clamp(11, 22)
    ));
    pen.set_text_align("center");
    pen.set_text_baseline("middle");
    for (i, value) in map.values.iter().enumerate() {
        let (column, row) = (i % map.width, i / map.width);
        // All palettes run from dark to light.
        let light = (value - range.min) > 0.6 * (range.max - range.min);
        pen.set_fill_style_str(if light { "#101010" } else { "#f4f4f4" });
        let x = (column * cell + cell / 2) as f64;
        let y = (row * cell + cell / 2) as f64;
        let _ = pen.fill_text_with_max_width(&numbers::short(*value), x, y, cell as f64 * 0.9);
    }
}

fn save_csv(title: &str, map: &Map) {
    let row = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>();
    let rows: Vec<_> = map.values.chunks(map.width.max(1)).map(row).collect();
    export::csv(&export::file_name(&[title], "csv"), &rows);
}
