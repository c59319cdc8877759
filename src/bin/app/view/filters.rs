//! The first layer's filters as pictures, and what each answers to the image.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::model::filter_bank::{FilterBank, GaborInfo};
use ventral::session::protocol::{Analysis, ModelInfo};

use super::parts;
use crate::export::{self, Tile};
use crate::json;
use crate::paint::{self, Input, Map, Palette, Picture, Range};
use crate::state::{App, Spot};

/// Filters shown before "show all".
const FIRST: usize = 64;
/// Multiply-adds the page itself spends on one response, and on a whole bank of them.
const ONE_BUDGET: usize = 8_000_000;
const BANK_BUDGET: usize = 25_000_000;

/// The order of a Gabor bank.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Frequency,
    Orientation,
    Index,
}

const ORDERS: [(Order, &str, &str); 3] = [
    (Order::Frequency, "frequency", "By frequency"),
    (Order::Orientation, "orientation", "By orientation"),
    (Order::Index, "index", "By index"),
];

/// What the panel shows.
#[derive(Clone, Copy)]
struct Choice {
    order: RwSignal<Order>,
    responses: RwSignal<bool>,
    all: RwSignal<bool>,
    chosen: RwSignal<usize>,
}

/// The weights of filter `index`, `[3, size, size]`.
pub fn weights(bank: &FilterBank, index: usize) -> Vec<f32> {
    let size = 3 * bank.size * bank.size;
    paint::floats(
        bank.weights.get(index * size * 4..).unwrap_or_default(),
        size,
    )
}

/// The filter bank; hidden for models that show none.
pub fn panel(app: App) -> AnyView {
    let choice = Choice {
        order: RwSignal::new(Order::Frequency),
        responses: RwSignal::new(false),
        all: RwSignal::new(false),
        chosen: RwSignal::new(0),
    };
    let without = move || {
        app.model
            .with(|m| m.as_ref().is_some_and(|m| m.filters.is_none()))
    };
    let body = move || match app.model.get() {
        Some(model) => {
            choice.chosen.set(0);
            bank(app, choice, model)
        }
        None => parts::skeleton(4),
    };
    view! {
        <div hidden=without>
            {parts::panel(
                "filters",
                "First-layer filters",
                "Mid-grey is zero. Point at a filter to see its linear response to the image.",
                tools(app),
                view! { {body} }.into_any(),
            )}
        </div>
    }
    .into_any()
}

fn bank(app: App, choice: Choice, model: Arc<ModelInfo>) -> AnyView {
    let Some(filters) = &model.filters else {
        return ().into_any();
    };
    let gabor = !filters.gabors.is_empty();
    let many = filters.count > FIRST;
    let count = filters.count;
    let grid = {
        let model = model.clone();
        move || grid(app, choice, &model)
    };
    view! {
        <div class="controls">
            {parts::segmented(
                "filter-view",
                "Filters or responses",
                vec![(false, "filters", "Filters"), (true, "responses", "Responses")],
                move || choice.responses.get(),
                move |on| choice.responses.set(on),
            )}
            {gabor.then(|| parts::segmented(
                "filter-order",
                "Order of the filters",
                ORDERS.to_vec(),
                move || choice.order.get(),
                move |order| choice.order.set(order),
            ))}
            {many.then(|| view! {
                <label class="check">
                    <input type="checkbox" prop:checked=move || choice.all.get() on:change=move |_| choice.all.update(|a| *a = !*a) />
                    {format!("All {count}")}
                </label>
            })}
        </div>
        <div class="filter-view">
            <div
                class="filters"
                class:large={filters.size > 12}
                role="group"
                aria-label=format!("Filters of {}", filters.layer)
                on:keydown=parts::rove
            >
                {grid}
            </div>
            <aside class="filter-detail" aria-label="The filter pointed at">{move || detail(app, choice, &model)}</aside>
        </div>
    }
    .into_any()
}

fn sorted(filters: &FilterBank, order: Order) -> Vec<usize> {
    let mut places: Vec<usize> = (0..filters.count).collect();
    if filters.gabors.len() != filters.count || order == Order::Index {
        return places;
    }
    let key = |g: &GaborInfo| match order {
        Order::Orientation => (g.complex, g.orientation, g.frequency),
        _ => (g.complex, g.frequency, g.orientation),
    };
    places.sort_by(|&a, &b| {
        let (a, b) = (key(&filters.gabors[a]), key(&filters.gabors[b]));
        a.0.cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2.total_cmp(&b.2))
    });
    places
}

/// The image as the filters see it, when it has been looked at.
fn input(app: App, model: &ModelInfo) -> Option<Input> {
    let analysis: Arc<Analysis> = app.analysis.get()?;
    let how = &model.preprocessing;
    Some(Input::new(
        &Picture::from(&analysis.input),
        how.mean,
        how.std,
    ))
}

/// The smallest stride at which `count` responses stay within a budget.
fn stride(input: &Input, filters: &FilterBank, count: usize, budget: usize) -> usize {
    let fits = |stride: &usize| input.cost(filters.size, *stride) * count <= budget;
    (1..=16).find(fits).unwrap_or(16)
}

fn grid(app: App, choice: Choice, model: &Arc<ModelInfo>) -> AnyView {
    let Some(filters) = &model.filters else {
        return ().into_any();
    };
    let limit = if choice.all.get() {
        filters.count
    } else {
        FIRST
    };
    let places: Vec<usize> = sorted(filters, choice.order.get())
        .into_iter()
        .take(limit)
        .collect();
    let seen = choice.responses.get().then(|| input(app, model)).flatten();
    let stride = seen
        .as_ref()
        .map_or(1, |i| stride(i, filters, places.len(), BANK_BUDGET));
    let button = |(rank, &index): (usize, &usize)| {
        let weights = weights(filters, index);
        let picture = match &seen {
            Some(input) => signed(&input.convolve(&weights, filters.size, stride)),
            None => paint::filter_picture(&weights, filters.size),
        };
        let label = match filters.gabors.get(index) {
            Some(gabor) => format!("filter {index}, {}", gabor_words(gabor)),
            None => format!("filter {index}"),
        };
        view! {
            <button
                class="filter"
                tabindex=if rank == 0 { "0" } else { "-1" }
                data-testid="filter"
                data-index=index
                title=label.clone()
                aria-label=label
                aria-pressed=move || (choice.chosen.get() == index).to_string()
                on:pointerenter=move |_| choice.chosen.set(index)
                on:focus=move |_| choice.chosen.set(index)
                on:click=move |_| app.spot.set(Some(Spot::Filter(index)))
            >
                {parts::quiet_canvas(picture)}
            </button>
        }
    };
    places
        .iter()
        .enumerate()
        .map(button)
        .collect_view()
        .into_any()
}

fn gabor_words(gabor: &GaborInfo) -> String {
    format!(
        "{} cell, {:.0}°, {:.1} cycles per degree",
        if gabor.complex { "complex" } else { "simple" },
        gabor.orientation,
        gabor.frequency,
    )
}

fn signed(map: &Map) -> Picture {
    map.picture(Range::of(&map.values).symmetric(), Palette::Signed)
}

/// The linear response of a filter to the image in view.
pub fn response(app: App, index: usize) -> Option<Map> {
    let model = app.model.get()?;
    let filters = model.filters.as_ref().filter(|f| index < f.count)?;
    let input = input(app, &model)?;
    let stride = stride(&input, filters, 1, ONE_BUDGET);
    Some(input.convolve(&weights(filters, index), filters.size, stride))
}

fn detail(app: App, choice: Choice, model: &Arc<ModelInfo>) -> AnyView {
    let index = choice.chosen.get();
    let Some(filters) = model.filters.as_ref().filter(|f| index < f.count) else {
        return ().into_any();
    };
    let weights = weights(filters, index);
    let words = filters.gabors.get(index).map(gabor_words);
    let answer = response(app, index).map(|map| {
        let range = Range::of(&map.values).symmetric();
        view! {
            <figure>
                {parts::canvas(map.picture(range, Palette::Signed), format!("Response of filter {index}"))}
                <figcaption>"linear response" {parts::scale(paint::scale_bar(Palette::Signed), range)}</figcaption>
            </figure>
        }
    });
    view! {
        <p>
            <strong class="num">{format!("{} · {index}", filters.layer)}</strong>
            <span class="hint">{words}</span>
        </p>
        <div class="filter-pair">
            <figure>
                {parts::canvas(paint::filter_picture(&weights, filters.size), format!("Filter {index}"))}
                <figcaption>
                    <span class="num">{format!("{0} × {0} × RGB", filters.size)}</span>
                </figcaption>
            </figure>
            {answer}
        </div>
    }
    .into_any()
}

fn tools(app: App) -> AnyView {
    let sheet = move || {
        let Some(model) = app.model.get_untracked() else {
            return;
        };
        let Some(filters) = &model.filters else {
            return;
        };
        let tile = |index: usize| Tile {
            caption: filters.gabors.get(index).map_or(index.to_string(), |g| {
                format!("{index} · {:.0}° · {:.1} cpd", g.orientation, g.frequency)
            }),
            picture: paint::filter_picture(&weights(filters, index), filters.size),
        };
        let tiles: Vec<Tile> = sorted(filters, Order::Frequency)
            .into_iter()
            .map(tile)
            .collect();
        let heading = format!("{} · {}", model.name, filters.layer);
        export::sheet(
            &export::file_name(&[&model.name, "filters"], "png"),
            &heading,
            16,
            &tiles,
        );
    };
    let json = move || {
        let Some(model) = app.model.get_untracked() else {
            return;
        };
        let Some(filters) = &model.filters else {
            return;
        };
        let all: Vec<_> = (0..filters.count).map(|i| weights(filters, i)).collect();
        let value = json::object(&[
            ("model", json::of(&model.name)),
            ("weights_sha256_16", json::of(&model.hash)),
            ("layer", json::of(&filters.layer)),
            (
                "shape",
                json::of(&[filters.count, 3, filters.size, filters.size]),
            ),
            ("gabors", json::of(&filters.gabors)),
            ("weights", json::of(&all)),
        ]);
        export::json(
            &export::file_name(&[&model.name, "filters"], "json"),
            &value,
        );
    };
    view! {
        {parts::save("PNG", "Save the filters as PNG", sheet)}
        {parts::save("JSON", "Save the filters as JSON", json)}
    }
    .into_any()
}
