//! The ventral stream: every area's response, at every time step.

use std::sync::Arc;

use leptos::html;
use leptos::prelude::*;
use leptos::wasm_bindgen::JsCast;
use leptos::wasm_bindgen::JsValue;
use ventral::session::protocol::{Analysis, Response};

use super::parts;
use crate::export::{self, Tile};
use crate::json;
use crate::paint::{self, Map, Palette, Picture, Range};
use crate::state::{App, Spot};
use crate::{dom, numbers};

/// How many channels of an area can be asked for.
const CHANNEL_CHOICES: [usize; 5] = [6, 12, 24, 48, 96];

/// Responses of one area, in the order of time.
struct Area {
    name: String,
    /// Places in the analysis.
    taps: Vec<usize>,
}

fn areas(analysis: &Analysis) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for (i, response) in analysis.responses.iter().enumerate() {
        match areas.last_mut().filter(|a| a.name == response.tap.area) {
            Some(area) => area.taps.push(i),
            None => areas.push(Area {
                name: response.tap.area.clone(),
                taps: vec![i],
            }),
        }
    }
    areas
}

/// The mean map of a response.
pub fn mean_map(response: &Response) -> Map {
    let [_, height, width] = response.shape;
    Map::nth(&response.mean_map, 0, height, width)
}

/// The map of the n-th returned channel.
pub fn channel_map(response: &Response, place: usize) -> Map {
    let [_, height, width] = response.shape;
    Map::nth(&response.maps, place, height, width)
}

fn is_vector(response: &Response) -> bool {
    response.shape[1] * response.shape[2] <= 1
}

/// Ranges of the mean maps and of the channel maps over all of an area's taps.
fn shared_ranges(analysis: &Analysis, area: &Area) -> (Range, Range) {
    let start = (Range::EMPTY, Range::EMPTY);
    area.taps
        .iter()
        .filter_map(|&i| analysis.responses.get(i))
        .fold(start, |(means, maps), r| {
            let count = r.channels.len() * r.shape[1] * r.shape[2];
            let inside = paint::floats(&r.maps, count);
            (
                means.join(Range::of(&mean_map(r).values)),
                maps.join(Range::of(&inside)),
            )
        })
}

/// The whole stream at a glance: areas from left to right, time from top to bottom.
pub fn overview(app: App) -> AnyView {
    let body = move || match app.analysis.get() {
        Some(analysis) => diagram(app, &analysis),
        None => bones(),
    };
    parts::panel(
        "stream",
        "Ventral stream",
        "Mean response of each area. Areas run from left to right, recurrent time from top to bottom.",
        parts::save("PNG", "Save the mean maps as PNG", move || save_means(app)),
        view! {
            <div class="scroller" tabindex="0" role="group" aria-label="Ventral stream" class:stale=move || app.stale.get()>
                {body}
            </div>
        }
        .into_any(),
    )
}

fn save_means(app: App) {
    let Some(a) = app.analysis.get_untracked() else {
        return;
    };
    let palette = app.palette.get_untracked();
    let tile = |r: &Response| {
        let map = mean_map(r);
        let caption = r.tap.name.clone();
        Tile {
            caption,
            picture: map.picture(Range::of(&map.values), palette),
        }
    };
    let mut tiles = vec![Tile {
        caption: "input".into(),
        picture: Picture::from(&a.input),
    }];
    tiles.extend(a.responses.iter().filter(|r| !is_vector(r)).map(tile));
    let heading = format!("{} · {}", a.model, a.image);
    export::sheet(
        &export::file_name(&[&a.model, &a.image, "stream"], "png"),
        &heading,
        5,
        &tiles,
    );
}

fn bones() -> AnyView {
    let bone = |_| view! { <li class="stream-area"><span class="bone map-bone"></span></li> };
    view! { <ol class="stream" aria-hidden="true">{(0..6).map(bone).collect_view()}</ol> }
        .into_any()
}

fn diagram(app: App, analysis: &Arc<Analysis>) -> AnyView {
    let palette = app.palette.get();
    let shared = app.shared_scale.get();
    let column = |area: Area| {
        let ranges = shared_ranges(analysis, &area);
        let taps = area.taps.iter().filter_map(|&i| analysis.responses.get(i));
        let shape = taps.clone().next().map(|r| shape_words(r.shape));
        let cells = taps
            .map(|r| match is_vector(r) {
                true => decision(analysis),
                false => cell(app, r, palette, shared.then_some(ranges.0)),
            })
            .collect_view();
        let anchor = format!("area-{}", area.name);
        view! {
            <li class="stream-area" data-area=area.name.clone()>
                <button class="area-name" title="Go to its channels" on:click=move |_| dom::scroll_to(&anchor)>
                    {area.name.clone()}
                </button>
                <span class="hint num">{shape}</span>
                {cells}
            </li>
        }
    };
    view! {
        <ol class="stream">
            <li class="stream-area" data-area="input">
                <span class="area-name">"Input"</span>
                <span class="hint num">
                    {shape_words([3, analysis.input.height, analysis.input.width])}
                </span>
                <span class="cell">
                    {parts::canvas(Picture::from(&analysis.input), "The network's input".into())}
                </span>
            </li>
            {areas(analysis).into_iter().map(column).collect_view()}
        </ol>
    }
    .into_any()
}

fn shape_words(shape: [usize; 3]) -> String {
    match shape {
        [channels, 1, 1] => channels.to_string(),
        [channels, height, width] => format!("{channels} × {height} × {width}"),
    }
}

fn cell(app: App, response: &Response, palette: Palette, range: Option<Range>) -> AnyView {
    let map = mean_map(response);
    let range = range.unwrap_or_else(|| Range::of(&map.values));
    let tap = response.tap.name.clone();
    let label = format!(
        "{tap}, mean map, {} to {}",
        numbers::short(range.min),
        numbers::short(range.max)
    );
    let spot = Spot::Map {
        tap: tap.clone(),
        place: None,
    };
    view! {
        <button
            class="cell"
            data-testid="stream-cell"
            data-tap=tap
            title=label.clone()
            aria-label=label
            on:click=move |_| app.spot.set(Some(spot.clone()))
        >
            {parts::quiet_canvas(map.picture(range, palette))}
            {response.tap.time_step.map(|t| view! { <span class="step num">{format!("t{t}")}</span> })}
        </button>
    }
    .into_any()
}

/// The end of the stream: the three most probable classes.
fn decision(analysis: &Analysis) -> AnyView {
    let row = |(i, p)| parts::prediction_row(i + 1, p, i, "decision-row");
    view! {
        <ol class="decision predictions">
            {analysis.top.iter().take(3).enumerate().map(row).collect_view()}
        </ol>
    }
    .into_any()
}

/// Area by area: the mean map and the most active channels at every time step.
pub fn details(app: App) -> AnyView {
    let body = move || match app.analysis.get() {
        Some(analysis) => all_areas(app, &analysis),
        None => parts::skeleton(6),
    };
    parts::panel(
        "areas",
        "Area by area",
        "Mean map, then the most active channels. Select a map to enlarge it.",
        tools(app),
        view! {
            {controls(app)}
            <div class:stale=move || app.stale.get()>{body}</div>
        }
        .into_any(),
    )
}

fn controls(app: App) -> AnyView {
    let channels = move |event: web_sys::Event| {
        if let Ok(count) = event_target_value(&event).parse() {
            app.channels.set(count);
            app.refresh();
        }
    };
    let option = move |count: usize| {
        let selected = move || app.channels.get() == count;
        view! { <option value=count selected=selected>{count}</option> }
    };
    let noise = move || {
        app.model.with(|m| m.as_ref().is_some_and(|m| m.stochastic)).then(|| {
            let turn = move |_| {
                app.see_noise.update(|on| *on = !*on);
                app.refresh();
            };
            view! {
                <label class="check">
                    <input type="checkbox" data-testid="see-noise" prop:checked=move || app.see_noise.get() on:change=turn />
                    "Neuronal noise"
                </label>
            }
        })
    };
    view! {
        <div class="controls">
            {parts::segmented(
                "palette",
                "Colours of the maps",
                Palette::CHOICES.to_vec(),
                move || app.palette.get(),
                move |palette| app.palette.set(palette),
            )}
            {parts::segmented(
                "scale",
                "Scale of the maps",
                vec![(false, "own", "Own scale"), (true, "shared", "Shared per area")],
                move || app.shared_scale.get(),
                move |shared| app.shared_scale.set(shared),
            )}
            <label class="field">
                "Channels"
                <select data-testid="channels" on:change=channels>
                    {CHANNEL_CHOICES.map(option).collect_view()}
                </select>
            </label>
            {noise}
        </div>
    }
    .into_any()
}

fn all_areas(app: App, analysis: &Arc<Analysis>) -> AnyView {
    let palette = app.palette.get();
    let shared = app.shared_scale.get();
    let section = |area: Area| {
        let ranges = shared_ranges(analysis, &area);
        let readout = NodeRef::<html::Output>::new();
        let rows = area
            .taps
            .iter()
            .filter_map(|&i| analysis.responses.get(i))
            .map(|r| match is_vector(r) {
                true => evidence(app, r),
                false => tap_row(app, r, palette, shared.then_some(ranges)),
            })
            .collect_view();
        let hovered = analysis.clone();
        let hover = move |event: web_sys::PointerEvent| {
            if let Some(output) = readout.get_untracked() {
                output.set_text_content(under_pointer(&hovered, &event).as_deref());
            }
        };
        view! {
            <section
                class="area"
                id=format!("area-{}", area.name)
                data-area=area.name.clone()
                data-testid="area"
                aria-label=format!("Area {}", area.name)
                on:pointermove=hover
            >
                <header>
                    <h3>{area.name.clone()}</h3>
                    <output node_ref=readout class="num hint" aria-hidden="true"></output>
                </header>
                {rows}
            </section>
        }
    };
    areas(analysis)
        .into_iter()
        .map(section)
        .collect_view()
        .into_any()
}

/// What lies under the pointer, in words: channel, place, value.
fn under_pointer(analysis: &Analysis, event: &web_sys::PointerEvent) -> Option<String> {
    let target: web_sys::Element = event.target()?.dyn_into().ok()?;
    let button = target.closest("[data-tap]").ok()??;
    let tap = button.get_attribute("data-tap")?;
    let place: Option<usize> = button
        .get_attribute("data-place")
        .and_then(|p| p.parse().ok());
    let response = analysis.responses.iter().find(|r| r.tap.name == tap)?;
    let (name, map) = match place {
        Some(place) => (
            format!("channel {}", response.channels.get(place)?),
            channel_map(response, place),
        ),
        None => ("mean".to_owned(), mean_map(response)),
    };
    let area = button
        .query_selector("canvas")
        .ok()??
        .get_bounding_client_rect();
    let x = (f64::from(event.client_x()) - area.x()) / area.width();
    let y = (f64::from(event.client_y()) - area.y()) / area.height();
    let (column, row, value) = map.at(x, y)?;
    Some(format!(
        "{tap}, {name}, x {column}, y {row}: {}",
        numbers::short(value)
    ))
}

fn tap_row(
    app: App,
    response: &Response,
    palette: Palette,
    shared: Option<(Range, Range)>,
) -> AnyView {
    let mean = mean_map(response);
    let mean_range = shared.map_or_else(|| Range::of(&mean.values), |s| s.0);
    let small = response.shape[2] <= 4;
    let channels = (0..response.channels.len())
        .map(|place| channel_button(app, response, place, palette, shared.map(|s| s.1)))
        .collect_view();
    let tap = response.tap.name.clone();
    let spot = Spot::Map {
        tap: tap.clone(),
        place: None,
    };
    let name = match response.tap.time_step {
        Some(t) => format!("t{t}"),
        None => "one step".to_owned(),
    };
    let label = format!("{tap}, mean map, enlarge");
    let row = tap.clone();
    view! {
        <div class="tap" data-tap-row=row data-testid="tap" class:coarse=small>
            <div class="tap-facts">
                <strong class="num">{name}</strong>
                <span class="num">{shape_words(response.shape)}</span>
                <span class="num" title="Mean over all units">{format!("mean {}", numbers::short(response.mean))}</span>
                <span class="num" title="Largest unit">{format!("max {}", numbers::short(response.max))}</span>
                <span class="num" title="Units above zero">{format!("active {:.0} %", response.active * 100.0)}</span>
            </div>
            <figure class="tap-mean">
                <button class="map" data-tap=tap aria-label=label on:click=move |_| app.spot.set(Some(spot.clone()))>
                    {parts::quiet_canvas(mean.picture(mean_range, palette))}
                </button>
                <figcaption>{parts::scale(paint::scale_bar(palette), mean_range)}</figcaption>
            </figure>
            <div class="tap-maps" role="group" aria-label="Most active channels" on:keydown=parts::rove>
                {channels}
            </div>
        </div>
    }
    .into_any()
}

fn channel_button(
    app: App,
    response: &Response,
    place: usize,
    palette: Palette,
    shared: Option<Range>,
) -> AnyView {
    let map = channel_map(response, place);
    let own = Range::of(&map.values);
    let channel = response.channels.get(place).copied().unwrap_or_default();
    let tap = response.tap.name.clone();
    let label = format!(
        "channel {channel}, {} to {}",
        numbers::short(own.min),
        numbers::short(own.max)
    );
    let spot = Spot::Map {
        tap: tap.clone(),
        place: Some(place),
    };
    view! {
        <button
            class="map"
            tabindex=if place == 0 { "0" } else { "-1" }
            data-tap=tap
            data-place=place
            data-testid="channel-map"
            title=label.clone()
            aria-label=label
            on:click=move |_| app.spot.set(Some(spot.clone()))
        >
            {parts::quiet_canvas(map.picture(shared.unwrap_or(own), palette))}
            <span class="num">{channel}</span>
        </button>
    }
    .into_any()
}

/// A tap without space, such as the decoder's: a bar for each returned channel.
fn evidence(app: App, response: &Response) -> AnyView {
    let values = paint::floats(&response.maps, response.channels.len());
    let reach = Range::of(&values).symmetric().max.max(f32::MIN_POSITIVE);
    let classes = app
        .model
        .get_untracked()
        .map(|m| m.classes.clone())
        .unwrap_or_default();
    let named = classes.len() == response.shape[0];
    let bar = |(channel, value): (&usize, &f32)| {
        let name = classes.get(*channel).filter(|_| named);
        let width = format!("{:.2}%", value.abs() / reach * 50.0);
        view! {
            <li class:negative=*value < 0.0>
                <span class="label">{name.cloned().unwrap_or_else(|| channel.to_string())}</span>
                <span class="bar both"><span style:width=width></span></span>
                <span class="num value">{numbers::short(*value)}</span>
            </li>
        }
    };
    let bars = response
        .channels
        .iter()
        .zip(&values)
        .map(bar)
        .collect_view();
    view! {
        <div class="tap vector" data-testid="tap">
            <div class="tap-facts">
                <strong class="num">{response.tap.name.clone()}</strong>
                <span class="num">{shape_words(response.shape)}</span>
                <span class="num">{format!("max {}", numbers::short(response.max))}</span>
            </div>
            <ol class="evidence">{bars}</ol>
        </div>
    }
    .into_any()
}

fn tools(app: App) -> AnyView {
    let sheet = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let palette = app.palette.get_untracked();
        let mut tiles = vec![Tile {
            caption: "input".into(),
            picture: Picture::from(&a.input),
        }];
        let mut columns = 1;
        for r in a.responses.iter().filter(|r| !is_vector(r)) {
            let mut add = |caption: String, map: Map| {
                tiles.push(Tile {
                    caption,
                    picture: map.picture(Range::of(&map.values), palette),
                });
            };
            add(format!("{} mean", r.tap.name), mean_map(r));
            for (place, channel) in r.channels.iter().enumerate() {
                add(
                    format!("{} ch {channel}", r.tap.name),
                    channel_map(r, place),
                );
            }
            columns = columns.max(r.channels.len() + 1);
        }
        // The input stands alone in the first row when the sheet is as wide as a tap's row.
        let blank = Picture {
            width: 1,
            height: 1,
            rgba: vec![255; 4],
        };
        for _ in 1..columns {
            tiles.insert(
                1,
                Tile {
                    caption: String::new(),
                    picture: blank.clone(),
                },
            );
        }
        let heading = format!("{} · {}", a.model, a.image);
        export::sheet(
            &export::file_name(&[&a.model, &a.image, "maps"], "png"),
            &heading,
            columns,
            &tiles,
        );
    };
    let json = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let model = app.model.get_untracked();
        let taps: js_sys::Array = a.responses.iter().map(response_json).collect();
        let value = json::object(&[
            ("model", json::of(&a.model)),
            (
                "weights_sha256_16",
                json::of(&model.map(|m| m.hash.clone())),
            ),
            ("image", json::of(&a.image)),
            ("backend", json::of(&a.backend)),
            ("version", json::of(&env!("CARGO_PKG_VERSION"))),
            ("taps", taps.into()),
        ]);
        export::json(
            &export::file_name(&[&a.model, &a.image, "maps"], "json"),
            &value,
        );
    };
    let csv = move || {
        let Some(a) = app.analysis.get_untracked() else {
            return;
        };
        let rows = map_rows(&a);
        export::csv(
            &export::file_name(&[&a.model, &a.image, "maps"], "csv"),
            &rows,
        );
    };
    view! {
        {parts::save("PNG", "Save all maps as one PNG", sheet)}
        {parts::save("CSV", "Save all maps as CSV", csv)}
        {parts::save("JSON", "Save all maps as JSON", json)}
    }
    .into_any()
}

fn response_json(r: &Response) -> JsValue {
    let maps: Vec<_> = (0..r.channels.len())
        .map(|place| channel_map(r, place).values)
        .collect();
    json::object(&[
        ("tap", json::of(&r.tap.name)),
        ("area", json::of(&r.tap.area)),
        ("time_step", json::of(&r.tap.time_step)),
        ("shape", json::of(&r.shape)),
        ("mean", json::of(&r.mean)),
        ("max", json::of(&r.max)),
        ("active", json::of(&r.active)),
        ("mean_map", json::of(&mean_map(r).values)),
        ("channels", json::of(&r.channels)),
        ("maps", json::of(&maps)),
    ])
}

fn map_rows(analysis: &Analysis) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["tap", "channel", "y", "x", "value"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for r in &analysis.responses {
        let mut add = |channel: String, map: Map| {
            rows.extend(map.values.iter().enumerate().map(|(i, value)| {
                let (y, x) = (i / map.width.max(1), i % map.width.max(1));
                vec![
                    r.tap.name.clone(),
                    channel.clone(),
                    y.to_string(),
                    x.to_string(),
                    value.to_string(),
                ]
            }));
        };
        add("mean".to_owned(), mean_map(r));
        for (place, channel) in r.channels.iter().enumerate() {
            add(channel.to_string(), channel_map(r, place));
        }
    }
    rows
}
