//! The bench Test: what is tested, how, and the tables and charts that come of it.

use std::sync::Arc;

use leptos::prelude::*;
use ventral::experiment::robustness::summary::{Lost, ModelReport};
use ventral::measure::chart::Chart;
use ventral::model::catalog::{Measured, TestSet};
use ventral::model::classes::{LEFT_OUT, by_name};
use ventral::session::protocol::{Brought, Bytes, Confused, SetInfo, TestReport};
use web_sys::{File, HtmlInputElement};

use super::parts::{self, icon};
use crate::state::{App, Bench, Knobs, PLANS};
use crate::{files, numbers};

/// What is to be tested.
pub fn controls(app: App) -> AnyView {
    let body = view! {
        {plan(app)}
        {models(app)}
        {images(app)}
        {move || run(app)}
    };
    parts::panel(
        "test",
        "Robustness test",
        "",
        ().into_any(),
        body.into_any(),
    )
}

fn plan(app: App) -> AnyView {
    let option = |(name, title, _): (&'static str, &'static str, &'static str)| {
        view! { <option value=name selected=move || app.lab.preset.with(|p| p == name)>{title}</option> }
    };
    let hint = move || {
        let preset = app.lab.preset.get();
        match app.lab.plan.get() {
            Some((name, _)) => format!("The plan in {name}"),
            None => PLANS
                .iter()
                .find(|p| p.0 == preset)
                .map_or("", |p| p.2)
                .to_owned(),
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Plan"</legend>
            <label class="field wide">
                <span class="visually-hidden">"Plan"</span>
                <select
                    data-testid="test-plan"
                    on:change:target=move |e| {
                        app.lab.plan.set(None);
                        app.lab.preset.set(e.target().value());
                    }
                >
                    {PLANS.map(option).collect_view()}
                </select>
                {chooser("Own plan", ".toml,.json", "test-plan-file", move |file| app.take_plan(file, app.lab.plan))}
            </label>
            <p class="hint" data-testid="test-plan-hint">{hint}</p>
            <div class="fields">
                {number("Images", [1.0, 100_000.0], 1.0, "test-images", Signal::derive(move || app.lab.images.get() as f64), Callback::new(move |n| app.lab.images.set(n as usize)))}
                {number("Seed", [0.0, 999_999.0], 1.0, "test-seed", Signal::derive(move || app.lab.seed.get() as f64), Callback::new(move |n| app.lab.seed.set(n as u64)))}
            </div>
        </fieldset>
    }
    .into_any()
}

/// A number between two others, whole where the step is 1.
pub(super) fn number(
    label: &'static str,
    [least, most]: [f64; 2],
    step: f64,
    testid: &'static str,
    value: Signal<f64>,
    set: Callback<f64>,
) -> AnyView {
    let take = move |input: HtmlInputElement| {
        let n = input.value_as_number();
        if n.is_finite() {
            let n = if step >= 1.0 { n.round() } else { n };
            set.run(n.clamp(least, most));
        }
        // What was written may have been no number, or none that is possible.
        input.set_value(&value.get_untracked().to_string());
    };
    view! {
        <label class="field">
            {label}
            <input
                type="number"
                min=least
                max=most
                step=step
                data-testid=testid
                prop:value=move || value.get().to_string()
                on:change:target=move |e| take(e.target())
            />
        </label>
    }
    .into_any()
}

/// A button that opens a file.
pub(super) fn chooser(
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

fn models(app: App) -> AnyView {
    let row = move |(name, title): (String, String)| {
        let (checked, noted, testid) = (name.clone(), name.clone(), format!("test-model-{name}"));
        let note = move || app.brought(&noted).map(|b| facts(&b));
        view! {
            <li>
                <label class="check">
                    <input
                        type="checkbox"
                        data-testid=testid
                        prop:checked=move || app.lab.chosen.with(|all| all.contains(&checked))
                        on:change:target=move |e| app.choose_for_test(&name, e.target().checked())
                    />
                    <span>{title} " " <span class="hint">{note}</span></span>
                </label>
            </li>
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Models"</legend>
            <ul class="choices">
                <For each=move || app.at_hand() key=|(name, _)| name.clone() children=row />
            </ul>
            <div>{chooser("Add weights", ".safetensors,.pth,.pt,.tar,.ckpt", "test-weights", move |file| app.add_weights_to_test(file))}</div>
        </fieldset>
    }
    .into_any()
}

/// What was read of a model, in a few words.
pub(super) fn facts(model: &Brought) -> String {
    let noise = if model.stochastic { ", stochastic" } else { "" };
    format!("{} px, {} classes{noise}", model.side, model.classes.len())
}

fn images(app: App) -> AnyView {
    let first = move || app.lab.chosen.with(|all| all.first().cloned());
    let classes = view! { {move || mapping(app, first()?)} };
    images_and(app, classes.into_any())
}

/// The labelled images that the benches Test and Align share, and what else is said of them.
pub(super) fn images_and(app: App, rest: AnyView) -> AnyView {
    let told = move || match app.lab.set.get() {
        Some(set) => set_told(&set),
        None => {
            let own = app.shipped_set();
            view! { <p class="hint">"The page's own: " {own.images} " " {own.title}</p> }.into_any()
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Images"</legend>
            {told}
            <div>
                {chooser("Open a file", ".zip,.npz,.tar,.gz,.tgz,.xz,.txz,.bin", "test-set", move |file| app.take_test_set(file))}
                " "
                {folder_chooser(app)}
            </div>
            <p class="hint">"A folder of class folders, or a .zip or .tar of them; an .npz with images and labels; a CIFAR-10 or CIFAR-100 batch (.bin). They stay on this device."</p>
            {rest}
        </fieldset>
    }
    .into_any()
}

fn folder_chooser(app: App) -> AnyView {
    let chosen = move |input: HtmlInputElement| {
        let files = input.files();
        let files = files
            .iter()
            .flat_map(|all| (0..all.length()).filter_map(|i| all.get(i)));
        app.take_test_folder(files.collect());
        input.set_value("");
    };
    let node = NodeRef::<leptos::html::Input>::new();
    // The attribute's name is a constant; where a browser does not know it, files are chosen.
    node.on_load(|input| drop(input.set_attribute("webkitdirectory", "")));
    view! {
        <label class="tool file">
            {icon("open")}
            "Open a folder"
            <input
                class="visually-hidden"
                type="file"
                node_ref=node
                aria-label="Open a folder of class folders"
                data-testid="test-folder"
                on:change:target=move |e| chosen(e.target())
            />
        </label>
    }
    .into_any()
}

/// Above so many choices in all, folders are mapped in a plan rather than here.
const MOST_CHOICES: usize = 40_000;

/// What says in a choice of classes that none was made.
const UNSAID: &str = "?";

/// Which class of the models a folder is: a table that opens where a name says nothing.
pub(super) fn mapping(app: App, model: String) -> Option<AnyView> {
    let set = app.lab.set.get()?;
    if TestSet::find(&set.name).is_some() {
        return None;
    }
    let model = app.brought(&model)?;
    let folders: Vec<String> = set.classes.iter().map(|(name, _)| name.clone()).collect();
    let found = by_name(&folders, &model.classes);
    let unsaid = found.iter().filter(|class| class.is_none()).count();
    if folders.len() * model.classes.len() > MOST_CHOICES {
        let told = format!(
            "{unsaid} of {} folders have no class of this name. A table [classes] in a plan of your own says which they are.",
            folders.len()
        );
        return (unsaid > 0).then(|| view! { <p class="hint">{told}</p> }.into_any());
    }
    let row = |(folder, found): (&String, &Option<usize>)| {
        class_row(app, folder.clone(), *found, &model.classes)
    };
    let told = match unsaid {
        0 => "every folder has its class".to_owned(),
        n => format!("{n} of {} folders have none of that name", folders.len()),
    };
    Some(
        view! {
            <details class="remarks mapping" data-testid="test-mapping" open=unsaid != 0>
                <summary>"Classes: " {told}</summary>
                <table class="grid-table">
                    <thead><tr><th scope="col">"folder"</th><th scope="col">"class of the models"</th></tr></thead>
                    <tbody>{folders.iter().zip(&found).map(row).collect_view()}</tbody>
                </table>
            </details>
        }
        .into_any(),
    )
}

fn class_row(app: App, folder: String, found: Option<usize>, classes: &[String]) -> AnyView {
    // Two classes may have one name (ImageNet has two cranes): the second goes by its number.
    let word = |place: usize| match classes.iter().position(|name| *name == classes[place]) {
        Some(first) if first == place => classes[place].clone(),
        _ => place.to_string(),
    };
    let said = app
        .lab
        .classes
        .with_untracked(|all| all.get(&folder).cloned());
    let now = said
        .or(found.map(word))
        .unwrap_or_else(|| UNSAID.to_owned());
    let option = |value: String, text: String| {
        let selected = value == now;
        view! { <option value=value selected=selected>{text}</option> }
    };
    let none = found
        .is_none()
        .then(|| option(UNSAID.to_owned(), "choose…".to_owned()));
    let all = (0..classes.len()).map(|place| option(word(place), classes[place].clone()));
    let (label, testid) = (
        format!("Class of the folder {folder}"),
        format!("map-{folder}"),
    );
    let name = folder.clone();
    let choose = move |value: String| app.map_class(&folder, (value != UNSAID).then_some(value));
    view! {
        <tr>
            <th scope="row">{name}</th>
            <td>
                <select aria-label=label data-testid=testid on:change:target=move |e| choose(e.target().value())>
                    {none}
                    {option(LEFT_OUT.to_owned(), "leave out".to_owned())}
                    {all.collect_view()}
                </select>
            </td>
        </tr>
    }
    .into_any()
}

fn set_told(set: &SetInfo) -> AnyView {
    let name = match TestSet::find(&set.name) {
        Some(own) => format!("The page's own {}", own.title),
        None => set.name.clone(),
    };
    let skipped = (!set.skipped.is_empty()).then(|| {
        let file =
            |(name, why): &(String, String)| view! { <li>{name.clone()} ": " {why.clone()}</li> };
        view! {
            <details class="remarks" data-testid="test-skipped">
                <summary>{set.unreadable} " files could not be read and are left out"</summary>
                <ul>{set.skipped.iter().map(file).collect_view()}</ul>
            </details>
        }
    });
    view! {
        <p data-testid="test-set-told">
            {name} ": " <span class="num">{set.images}</span> " images of "
            <span class="num">{set.classes.len()}</span> " classes"
        </p>
        {skipped}
    }
    .into_any()
}

fn run(app: App) -> AnyView {
    if app.lab.run.is_on() {
        return view! {
            <button class="button wide" data-testid="test-pause" on:click=move |_| app.pause_test()>
                {icon("stop")}
                "Pause"
            </button>
        }
        .into_any();
    }
    let words = match app.lab.run.paused.get() {
        true => "Go on",
        false => "Run the test",
    };
    view! {
        <button
            class="button primary wide"
            data-testid="test-run"
            disabled=move || !app.lab.is_ready()
            on:click=move |_| app.run_test()
        >
            {icon("play")}
            {words}
        </button>
        <p class="hint">"It can be paused, and goes on after a reload where it was. Other benches come first; it goes on when they have nothing to do."</p>
    }
    .into_any()
}

/// Tables and charts.
pub fn results(app: App) -> AnyView {
    view! {
        <h1 class="visually-hidden">"Test: robustness of models"</h1>
        {parts::panel("summary", "Robustness", "accuracy in per cent, with 95 % intervals", view! { {move || tools(app)} }.into_any(), view! { {move || summary(app)} }.into_any())}
        {move || shown(app, figures)}
        {move || app.lab.report.get().and_then(|report| gallery(app, &report))}
        {move || answers(app)}
        {move || shown(app, others)}
        {parts::panel("compare", "Another report", "saved as JSON, here or by ventral report", ().into_any(), compared(app))}
    }
    .into_any()
}

/// What a report has to show, if anything.
fn shown(app: App, part: fn(&Arc<TestReport>) -> Option<AnyView>) -> Option<AnyView> {
    app.lab.report.get().and_then(|report| part(&report))
}

fn tools(app: App) -> Option<AnyView> {
    let report = app.lab.report.get()?;
    Some(documents(report, |report| &report.documents))
}

/// Buttons that save a report's documents.
pub(super) fn documents<R: Send + Sync + 'static>(
    report: Arc<R>,
    of: fn(&R) -> &[(String, Bytes)],
) -> AnyView {
    let button = |(place, (name, _)): (usize, &(String, Bytes))| {
        let (report, label) = (report.clone(), name.clone());
        let save = move |_| {
            let (name, bytes) = &of(&report)[place];
            files::download(
                &format!("ventral-{name}"),
                "application/octet-stream",
                bytes,
            );
        };
        view! {
            <button class="tool" title=format!("Save {label}") data-testid=format!("save-{label}") on:click=save>
                {icon("down")}
                {label.clone()}
            </button>
        }
    };
    let all = of(&report).iter().enumerate().map(button);
    all.collect_view().into_any()
}

fn summary(app: App) -> AnyView {
    let Some(report) = app.lab.report.get() else {
        return view! {
            <p class="hint" data-testid="test-empty">
                "Choose models and a plan. The first coarse numbers come within seconds and are refined while the test runs."
            </p>
        }
        .into_any();
    };
    let done = match report.rows == report.expected {
        true => "complete".to_owned(),
        false => format!("{} of {} answers", report.rows, report.expected),
    };
    view! {
        <p class="lead">{report.title.clone()}</p>
        {results_table(&report, "test-table")}
        <p class="hint">
            <span data-testid="test-progress" data-rows=report.rows data-expected=report.expected>{done}</span>
            ". " {report.remark.clone()}
        </p>
    }
    .into_any()
}

fn results_table(report: &TestReport, testid: &'static str) -> AnyView {
    let row = |model: &ModelReport| {
        view! {
            <tr data-testid="test-row" data-model=model.name.clone() data-clean=model.clean.map(|m| m.value.to_string())>
                <th scope="row">{model.name.clone()}</th>
                <td class="num">{model.overall.map(plain)}</td>
                <td class="num">{model.perturbation.map(plain)}</td>
                <td class="num">{model.white_box.map(share)}</td>
                <td class="num">{model.corruption.map(share)}</td>
                <td class="num">{model.clean.map(share)}</td>
                <td class="num">{model.mce.map(plain)}</td>
            </tr>
        }
    };
    let heads = [
        "model",
        "overall",
        "perturbation",
        "white box",
        "corruption",
        "clean",
        "mCE",
    ];
    view! {
        <div class="scroll">
            <table class="grid-table results" data-testid=testid>
                <thead>
                    <tr>{heads.map(|h| view! { <th scope="col">{h}</th> }).collect_view()}</tr>
                </thead>
                <tbody>{report.models.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}

/// A saved report beside the one on show.
fn compared(app: App) -> AnyView {
    let choose = chooser(
        "Compare with a report",
        ".json",
        "test-compare",
        move |file| app.take_report(file),
    );
    let other = move || {
        let (name, report) = app.lab.other.get()?;
        let figures = figures_of(&report.charts);
        Some(view! {
            <p class="lead" data-testid="test-other">{name} ": " {report.title.clone()}</p>
            {results_table(&report, "test-other-table")}
            <p class="hint">{report.remark.clone()}</p>
            {figures}
        })
    };
    view! { {choose} {other} }.into_any()
}

fn plain(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// A share with its interval as a whisker.
fn share(m: Measured) -> AnyView {
    let at = |v: f64| format!("{:.1}%", 100.0 * v.clamp(0.0, 1.0));
    let title = format!(
        "95 % interval {} to {}, {} images",
        plain(m.low),
        plain(m.high),
        m.images
    );
    view! {
        <span class="share" title=title>
            {plain(m.value)}
            <span class="whisker" aria-hidden="true">
                <span style:left=at(m.low) style:right=at(1.0 - m.high)></span>
                <i style:left=at(m.value)></i>
            </span>
        </span>
    }
    .into_any()
}

/// The report's figures, each to be taken away.
fn figures(report: &Arc<TestReport>) -> Option<AnyView> {
    (!report.charts.is_empty()).then(|| {
        parts::panel(
            "figures",
            "Figures",
            "accuracy in per cent; whiskers are 95 % intervals",
            ().into_any(),
            figures_of(&report.charts),
        )
    })
}

/// Drawings, each to be taken away.
pub(super) fn figures_of(charts: &[Chart]) -> AnyView {
    let figure = |chart: &Chart| {
        let (name, svg) = (chart.name.clone(), chart.svg.clone());
        let (again, drawn) = (name.clone(), svg.clone());
        let save = move || {
            files::download(
                &format!("ventral-{name}.svg"),
                "image/svg+xml",
                svg.as_bytes(),
            );
        };
        let paint = move || files::save_drawing(&format!("ventral-{again}.png"), &drawn);
        view! {
            <figure class="figure" data-testid="figure" data-name=chart.name.clone()>
                <div inner_html=unstyled(&chart.svg)></div>
                <figcaption class="tools">
                    {parts::save("SVG", "Save this figure as SVG", save)}
                    {parts::save("PNG", "Save this figure as PNG", paint)}
                </figcaption>
            </figure>
        }
    };
    let all = charts.iter().map(figure).collect_view();
    view! { <div class="figures">{all}</div> }.into_any()
}

/// A drawing without the style it has by itself: the page's own style sheet is in its place, and
/// the only one that its security policy lets in.
fn unstyled(svg: &str) -> String {
    let cut = svg.split_once("<style>").zip(svg.split_once("</style>"));
    cut.map_or_else(
        || svg.to_owned(),
        |((before, _), (_, after))| format!("{before}{after}"),
    )
}

/// The images that the first model loses most readily.
fn gallery(app: App, report: &TestReport) -> Option<AnyView> {
    let item = move |lost: &Lost| {
        let url = files::object_url(&lost.png, "image/png").unwrap_or_default();
        let kept = url.clone();
        on_cleanup(move || files::release(&kept));
        let (png, name) = (lost.png.to_vec(), format!("test image {}", lost.image));
        let lost_here = lost.clone();
        let open = move |_| {
            app.set_picture(format!("{name}.png"), png.clone());
            let seed = app.lab.seed.get_untracked();
            let knobs = Knobs::of_lost(&lost_here, seed, app.side());
            app.turn(false, |k| *k = knobs);
            app.go(Bench::Perturb);
        };
        let told = format!(
            "{} taken for {}, {}",
            lost.label, lost.prediction, lost.condition
        );
        view! {
            <li>
                <button class="thumb" title=format!("Open in Perturb: {told}") data-testid="lost-image" on:click=open>
                    <img src=url alt=told.clone() />
                    <span>{lost.label.clone()} " → " {lost.prediction.clone()}</span>
                    <span class="hint">{lost.condition.clone()} ", wrong in " {lost.wrong} " of " {lost.of}</span>
                </button>
            </li>
        }
    };
    (!report.lost.is_empty()).then(|| {
        let body = view! { <ul class="lost">{report.lost.iter().map(item).collect_view()}</ul> };
        parts::panel(
            "worst",
            "Images lost first",
            "of the first model: wrong in most conditions, and the mildest of these",
            ().into_any(),
            body.into_any(),
        )
    })
}

/// What a model took images for, clean and in a condition that can be chosen.
fn answers(app: App) -> Option<AnyView> {
    let report = app.lab.report.get()?;
    let confused = app.lab.confused.get()?;
    let Confused {
        model, condition, ..
    } = &confused;
    let models = report.models.iter().map(|m| m.name.clone());
    let conditions = report.conditions.iter().map(|c| c.name.clone());
    let (of, under) = (model.clone(), condition.clone());
    let tables = confused.tables.iter().map(counted).collect_view();
    let body = view! {
        <div class="fields">
            {choice("Model", "answers-model", models, model, move |model| app.confuse(model, String::new()))}
            {choice("Condition", "answers-condition", conditions, &under, move |condition| app.confuse(of.clone(), condition))}
        </div>
        {figures_of(&confused.charts)}
        {tables}
    };
    Some(parts::panel(
        "answers",
        "Answers",
        "what the images of each class were taken for, clean and perturbed",
        ().into_any(),
        body.into_any(),
    ))
}

/// A choice among names.
fn choice(
    label: &'static str,
    testid: &'static str,
    names: impl Iterator<Item = String>,
    now: &str,
    choose: impl Fn(String) + 'static,
) -> AnyView {
    let option = |name: String| {
        let selected = name == now;
        view! { <option value=name.clone() selected=selected>{name.clone()}</option> }
    };
    view! {
        <label class="field">
            {label}
            <select data-testid=testid on:change:target=move |e| choose(e.target().value())>
                {names.map(option).collect_view()}
            </select>
        </label>
    }
    .into_any()
}

/// The wrong answers given most often in a condition, where there are too many classes to draw.
fn counted((condition, rows): &(String, Vec<Vec<String>>)) -> AnyView {
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().map(|cell| view! { <td>{cell.clone()}</td> });
        view! { <tr>{cells.collect_view()}</tr> }
    };
    let (heads, rows) = rows
        .split_first()
        .map_or((&[][..], &rows[..]), |(h, r)| (&h[..], r));
    let heads = heads
        .iter()
        .map(|head| view! { <th scope="col">{head.clone()}</th> });
    view! {
        <p class="hint">{condition.clone()}</p>
        <table class="grid-table">
            <thead><tr>{heads.collect_view()}</tr></thead>
            <tbody>{rows.iter().map(row).collect_view()}</tbody>
        </table>
    }
    .into_any()
}

/// Attacks without a radius: how many images stand, and McNemar's test where there are two models.
fn others(report: &Arc<TestReport>) -> Option<AnyView> {
    let rest: Vec<usize> = (0..report.conditions.len())
        .filter(|place| {
            let c = &report.conditions[*place];
            !c.corruption && (report.models.len() > 1 || (c.value == 0.0 && c.title != "Clean"))
        })
        .collect();
    if rest.is_empty() {
        return None;
    }
    let cell = |model: &ModelReport, place: usize| {
        let condition = &report.conditions[place].name;
        let m = model.accuracy(condition);
        let mut compared = report.comparisons.iter().filter(|c| c.model == model.name);
        let p = compared.find(|c| c.condition == *condition).map(|c| c.p);
        let p = p.map(|p| view! { <span class="hint">" p = " {numbers::short(p as f32)}</span> });
        view! { <td class="num">{m.map(|m| format!("{} ({} to {})", plain(m.value), plain(m.low), plain(m.high)))} {p}</td> }
    };
    let row = |place: &usize| {
        view! {
            <tr>
                <th scope="row">{report.conditions[*place].name.clone()}</th>
                {report.models.iter().map(|m| cell(m, *place)).collect_view()}
            </tr>
        }
    };
    let body = view! {
        <div class="scroll">
            <table class="grid-table">
                <thead>
                    <tr>
                        <th scope="col">"condition"</th>
                        {report.models.iter().map(|m| view! { <th scope="col">{m.name.clone()}</th> }).collect_view()}
                    </tr>
                </thead>
                <tbody>{rest.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    };
    Some(parts::panel(
        "conditions",
        "Condition by condition",
        "p: McNemar's exact test against the first model, on the same images",
        ().into_any(),
        body.into_any(),
    ))
}
