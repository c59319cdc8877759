//! The picture in use, where it may come from, and what happens to it before the first layer.

use leptos::prelude::*;
use ventral::model::config::Preprocessing;
use ventral::session::protocol::ImageInfo;
use web_sys::HtmlInputElement;

use super::parts::{self, icon};
use crate::catalog::Sample;
use crate::numbers;
use crate::paint::{Input, Picture};
use crate::state::{App, Dialog, Shown};

/// Standard deviations shown from black to white in the picture of the normalised input.
const NORMALISED_REACH: f32 = 2.5;

/// The picture, the ways to another one, and the gallery.
pub fn panel(app: App) -> AnyView {
    let body = view! {
        <div class="stage" data-testid="drop-zone">
            {move || match app.image.get() {
                Some(shown) => photo(app, &shown),
                None => view! { <span class="bone photo-bone"></span> }.into_any(),
            }}
        </div>
        <div class="actions">
            <label class="button primary">
                {icon("open")}
                "Open"
                <input
                    class="visually-hidden"
                    type="file"
                    accept="image/*,.safetensors,.pth,.pt,.tar"
                    aria-label="Open a picture"
                    data-testid="image-input"
                    on:change:target=move |event| take_chosen(app, &event.target())
                />
            </label>
            <button class="button" data-testid="camera-open" on:click=move |_| app.dialog.set(Some(Dialog::Camera))>
                {icon("camera")}
                "Camera"
            </button>
            <p class="hint">"or drop, or paste, anywhere"</p>
        </div>
        <div class="samples" role="group" aria-label="Sample pictures" on:keydown=parts::rove data-testid="samples">
            {move || gallery(app)}
        </div>
    };
    parts::panel("image", "Image", "", caption(app), body.into_any())
}

fn caption(app: App) -> AnyView {
    let text = move || {
        app.image.get().map(|shown| match &shown.info {
            Some(info) => format!(
                "{} · {} × {} {}",
                info.name, info.width, info.height, info.format
            ),
            None => shown.name.clone(),
        })
    };
    view! { <p class="hint num" data-testid="image-caption">{text}</p> }.into_any()
}

/// Hands every chosen file to the page and empties the field, so that the same file can be chosen
/// again.
pub fn take_chosen(app: App, input: &HtmlInputElement) {
    if let Some(files) = input.files() {
        (0..files.length())
            .filter_map(|i| files.get(i))
            .for_each(|file| app.take_file(file));
    }
    input.set_value("");
}

fn photo(app: App, shown: &Shown) -> AnyView {
    let small = shown
        .info
        .as_ref()
        .is_some_and(|i| i.width.max(i.height) <= 128);
    let info = shown.info.clone();
    let crop = move || {
        let info = info.clone()?;
        app.model
            .with(|m| m.as_ref().map(|m| crop_square(&info, &m.preprocessing)))
    };
    view! {
        <figure class="photo" class:pixels=small>
            <img src=shown.url.clone() alt=shown.alt.clone() data-testid="image" />
            {crop}
        </figure>
    }
    .into_any()
}

/// The square that reaches the network, drawn over the picture.
fn crop_square(info: &ImageInfo, preprocessing: &Preprocessing) -> AnyView {
    let (width, height) = (info.width.max(1) as f32, info.height.max(1) as f32);
    let share = preprocessing.crop as f32 / preprocessing.resize.max(1) as f32;
    let side = width.min(height) * share.min(1.0);
    let percent = |part: f32| format!("{:.2}%", part * 100.0);
    view! {
        <span
            class="crop"
            title="The crop the network sees"
            style:left=percent((width - side) / 2.0 / width)
            style:top=percent((height - side) / 2.0 / height)
            style:width=percent(side / width)
            style:height=percent(side / height)
        ></span>
    }
    .into_any()
}

fn gallery(app: App) -> AnyView {
    let samples = app.samples.get();
    if samples.is_empty() {
        let bone = |_| view! { <span class="bone sample-bone"></span> };
        return (0..10).map(bone).collect_view().into_any();
    }
    let thumb = |(i, sample): (usize, Sample)| {
        let file = sample.file.clone();
        let current = move || app.sample_name.with(|s| s.as_ref() == Some(&file));
        let chosen = sample.clone();
        view! {
            <button
                class="sample"
                tabindex=if i == 0 { "0" } else { "-1" }
                title=sample.title.clone()
                aria-label=format!("Sample: {}", sample.title)
                aria-pressed=move || current().to_string()
                data-testid="sample"
                data-file=sample.file.clone()
                on:click=move |_| app.set_sample(chosen.clone())
            >
                <img src=sample.url() alt="" loading="lazy" />
            </button>
        }
    };
    samples
        .into_iter()
        .enumerate()
        .map(thumb)
        .collect_view()
        .into_any()
}

/// The model's own preprocessing, step by step, with its numbers.
pub fn pipeline(app: App) -> AnyView {
    let body = move || match (app.image.get(), app.model.get(), app.analysis.get()) {
        (Some(shown), Some(model), Some(analysis)) => steps(
            &shown,
            &model.preprocessing,
            &Picture::from(&analysis.input),
        ),
        _ => parts::skeleton(2),
    };
    parts::panel(
        "preprocessing",
        "Preprocessing",
        "",
        ().into_any(),
        view! { <div class:stale=move || app.stale.get()>{body}</div> }.into_any(),
    )
}

fn steps(shown: &Shown, how: &Preprocessing, seen: &Picture) -> AnyView {
    let normalised = Input::new(seen, how.mean, how.std).picture(NORMALISED_REACH);
    let size = shown
        .info
        .as_ref()
        .map(|i| format!("{} × {}", i.width, i.height));
    let resize = match how.resize == how.crop {
        true => format!("short side to {}, centre square", how.resize),
        false => format!("short side to {}, centre {}", how.resize, how.crop),
    };
    let square = format!("{} × {}", seen.width, seen.height);
    view! {
        <ol class="pipeline">
            <li>
                <figure>
                    <span class="thumb">
                        <img src=shown.url.clone() alt="" />
                    </span>
                    <figcaption>"original" <span class="num">{size}</span></figcaption>
                </figure>
            </li>
            <li>
                {icon("arrow")}
                <figure>
                    <span class="thumb">{parts::canvas(seen.clone(), "The network's input".into())}</span>
                    <figcaption>"resized, cropped" <span class="num">{square}</span></figcaption>
                </figure>
            </li>
            <li>
                {icon("arrow")}
                <figure>
                    <span class="thumb">{parts::canvas(normalised, "The input, normalised".into())}</span>
                    <figcaption>
                        "(x − mean) / std" <span class="num">{format!("±{NORMALISED_REACH}")}</span>
                    </figcaption>
                </figure>
            </li>
        </ol>
        <table class="small num">
            <caption class="visually-hidden">"Normalisation"</caption>
            <thead>
                <tr>
                    <th scope="col">{resize}</th>
                    <th scope="col">"R"</th>
                    <th scope="col">"G"</th>
                    <th scope="col">"B"</th>
                </tr>
            </thead>
            <tbody>{triple("mean", how.mean)} {triple("std", how.std)}</tbody>
        </table>
    }
    .into_any()
}

fn triple(name: &'static str, values: [f32; 3]) -> AnyView {
    let cell = |v: f32| view! { <td>{numbers::short(v)}</td> };
    view! {
        <tr>
            <th scope="row">{name}</th>
            {values.map(cell).collect_view()}
        </tr>
    }
    .into_any()
}
