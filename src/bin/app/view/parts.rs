//! Small pieces that every panel is made of.

use leptos::html;
use leptos::prelude::*;
use leptos::wasm_bindgen::JsCast;
use ventral::align::fields::Offer;
use ventral::session::protocol::Prediction;
use web_sys::{File, HtmlInputElement};

use crate::numbers;
use crate::paint::{Picture, Range};

/// A titled section of the page. `id` is its anchor, its test id and the root of its heading's id.
pub fn panel(
    id: &'static str,
    title: &'static str,
    hint: &'static str,
    tools: AnyView,
    body: AnyView,
) -> AnyView {
    let heading = format!("{id}-title");
    let labelled = heading.clone();
    view! {
        <section class="panel" id=id data-testid=id aria-labelledby=labelled>
            <header class="panel-head">
                <h2 id=heading>{title}</h2>
                <p class="hint">{hint}</p>
                <div class="tools">{tools}</div>
            </header>
            {body}
        </section>
    }
    .into_any()
}

/// A button of a panel's head that saves something.
pub fn save(label: &'static str, what: &'static str, run: impl Fn() + 'static) -> AnyView {
    view! {
        <button class="tool" title=what aria-label=what on:click=move |_| run()>
            {icon("down")}
            {label}
        </button>
    }
    .into_any()
}

/// A picture on a canvas, described in words.
pub fn canvas(picture: Picture, label: String) -> AnyView {
    let node = NodeRef::<html::Canvas>::new();
    node.on_load(move |canvas| picture.show(&canvas));
    view! { <canvas node_ref=node role="img" aria-label=label></canvas> }.into_any()
}

/// A picture on a canvas beside words that describe it already.
pub fn quiet_canvas(picture: Picture) -> AnyView {
    let node = NodeRef::<html::Canvas>::new();
    node.on_load(move |canvas| picture.show(&canvas));
    view! { <canvas node_ref=node aria-hidden="true"></canvas> }.into_any()
}

/// A colour bar with its two ends.
pub fn scale(picture: Picture, range: Range) -> AnyView {
    view! {
        <span class="scale">
            <span class="num">{numbers::short(range.min)}</span>
            {quiet_canvas(picture)}
            <span class="num">{numbers::short(range.max)}</span>
        </span>
    }
    .into_any()
}

/// One of a few choices, as a row of radio buttons.
pub fn segmented<T: Copy + PartialEq + Send + Sync + 'static>(
    name: &'static str,
    label: &'static str,
    choices: Vec<(T, &'static str, &'static str)>,
    current: impl Fn() -> T + Copy + Send + Sync + 'static,
    choose: impl Fn(T) + Copy + Send + Sync + 'static,
) -> AnyView {
    let option = move |(value, word, text): (T, &'static str, &'static str)| {
        view! {
            <label>
                <input
                    type="radio"
                    name=name
                    value=word
                    data-testid=format!("{name}-{word}")
                    prop:checked=move || current() == value
                    on:change=move |_| choose(value)
                />
                <span>{text}</span>
            </label>
        }
    };
    view! {
        <fieldset class="segmented" data-testid=name>
            <legend class="visually-hidden">{label}</legend>
            {choices.into_iter().map(option).collect_view()}
        </fieldset>
    }
    .into_any()
}

/// A prediction as a row with a bar.
pub fn prediction_row(
    rank: usize,
    prediction: &Prediction,
    colour: usize,
    testid: &'static str,
) -> AnyView {
    let share = prediction.probability.clamp(0.0, 1.0) * 100.0;
    view! {
        <li
            class=format!("prediction c{colour}")
            data-testid=testid
            data-label=prediction.label.clone()
            data-class=prediction.class
            data-probability=prediction.probability
        >
            <span class="rank num">{rank}</span>
            <span class="label" title=prediction.label.clone()>{prediction.label.clone()}</span>
            <span class="num value">{numbers::percent(prediction.probability)}</span>
            <span class="bar"><span style:width=format!("{share:.2}%")></span></span>
        </li>
    }
    .into_any()
}

/// Placeholder lines while nothing has arrived.
pub fn skeleton(lines: usize) -> AnyView {
    let line = |_| view! { <span class="bone"></span> };
    view! { <div class="skeleton" aria-hidden="true">{(0..lines).map(line).collect_view()}</div> }
        .into_any()
}

/// Moves the focus along a row of buttons with the arrow keys, so that a row is one tab stop.
pub fn rove(event: web_sys::KeyboardEvent) {
    let forward = match event.key().as_str() {
        "ArrowRight" | "ArrowDown" => true,
        "ArrowLeft" | "ArrowUp" => false,
        _ => return,
    };
    let focused = event
        .target()
        .and_then(|t| t.dyn_into::<web_sys::HtmlElement>().ok());
    let Some(focused) = focused.filter(|f| f.tag_name() == "BUTTON") else {
        return;
    };
    let next = match forward {
        true => focused.next_element_sibling(),
        false => focused.previous_element_sibling(),
    };
    if let Some(next) = next.and_then(|n| n.dyn_into::<web_sys::HtmlElement>().ok()) {
        event.prevent_default();
        // Focusing an element of the document cannot fail.
        let _ = focused.set_attribute("tabindex", "-1");
        let _ = next.set_attribute("tabindex", "0");
        let _ = next.focus();
    }
}

/// A number of a form.
pub fn number(
    label: &'static str,
    help: &'static str,
    offer: Offer,
    testid: &'static str,
    value: Signal<f64>,
    set: Callback<f64>,
) -> AnyView {
    let take = move |input: HtmlInputElement| {
        let n = input.value_as_number();
        if n.is_finite() {
            set.run(offer.fit(n));
        }
        // The text may have been no number, or one out of range.
        input.set_value(&value.get_untracked().to_string());
    };
    view! {
        <label class="field" title=help>
            {label}
            <input
                type="number"
                min=offer.least
                max=offer.most
                step=offer.step
                data-testid=testid
                prop:value=move || value.get().to_string()
                on:change:target=move |e| take(e.target())
            />
        </label>
    }
    .into_any()
}

/// A button that opens a file.
pub fn chooser(
    label: &'static str,
    accept: &'static str,
    testid: &'static str,
    take: impl Fn(File) + 'static,
) -> AnyView {
    let chosen = move |input: HtmlInputElement| {
        if let Some(file) = input.files().and_then(|f| f.get(0)) {
            take(file);
        }
        // The same file may be chosen again.
        input.set_value("");
    };
    view! {
        <label class="tool file">
            {icon("file")}
            {label}
            <input
                class="visually-hidden"
                type="file"
                accept=accept
                aria-label=label
                data-testid=testid
                on:change:target=move |e| chosen(e.target())
            />
        </label>
    }
    .into_any()
}

const ICONS: [(&str, &str); 17] = [
    (
        "undo",
        "M3.5 6.5h6a3.5 3.5 0 0 1 0 7H6M3.5 6.5 6.5 3.5M3.5 6.5l3 3",
    ),
    ("play", "M5 3l8 5-8 5z"),
    ("stop", "M4.5 4.5h7v7h-7z"),
    ("down", "M8 2v8m0 0L4.5 6.8M8 10l3.5-3.2M2.5 13.5h11"),
    ("open", "M2 12.5v-9h4l1.5 2H14v7z"),
    (
        "camera",
        "M2 5h3l1-1.5h4L11 5h3v8H2zM8 11a2.2 2.2 0 1 0 0-4.4A2.2 2.2 0 0 0 8 11",
    ),
    ("close", "M4 4l8 8M12 4l-8 8"),
    (
        "sun",
        "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.4 1.4M11.6 11.6 13 13M3 13l1.4-1.4M11.6 4.4 13 3",
    ),
    (
        "moon",
        "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8",
    ),
    (
        "half",
        "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2m0 0v12M8 4.5h3.4M8 8h5.6M8 11.5h3.4",
    ),
    ("arrow", "M2 8h11m0 0L9.5 4.5M13 8l-3.5 3.5"),
    ("left", "M10 3 5 8l5 5"),
    ("right", "M6 3l5 5-5 5"),
    ("alert", "M8 2 1.5 13.5h13zM8 6.5v3.2M8 11.6v.4"),
    (
        "link",
        "M6.5 9.5l3-3M7 4.5l1.6-1.6a2.8 2.8 0 0 1 4 4L11 8.5M9 11.5l-1.6 1.6a2.8 2.8 0 0 1-4-4L5 7.5",
    ),
    ("dice", "M3 3h10v10H3zM6 6h.01M10 10h.01M10 6h.01M6 10h.01"),
    ("file", "M4 1.5h5l3.5 3.5v9.5H4zM9 1.5V5h3.5"),
];

/// A line drawing of 16 pixels.
pub fn icon(name: &'static str) -> AnyView {
    let path = ICONS
        .iter()
        .find(|(n, _)| *n == name)
        .map_or("", |(_, path)| path);
    view! {
        <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
            <path d=path></path>
        </svg>
    }
    .into_any()
}
