//! The labelled images that the tabs Test and Align share.

use leptos::prelude::*;
use ventral::model::catalog::TestSet;
use ventral::model::classes::{LEFT_OUT, by_name};
use ventral::session::protocol::SetInfo;
use web_sys::HtmlInputElement;

use super::parts::{chooser, icon};
use crate::state::App;

/// The images in use, the ways to others, and what a tab adds.
pub fn fieldset(app: App, rest: AnyView) -> AnyView {
    let facts = move || match app.images.set.get() {
        Some(set) => set_facts(&set),
        None => {
            let own = app.shipped_set();
            view! { <p class="hint">"The page's own: " {own.images} " " {own.title}</p> }.into_any()
        }
    };
    view! {
        <fieldset class="knobs">
            <legend>"Images"</legend>
            {facts}
            <div>
                {chooser("Open a file", ".zip,.npz,.tar,.gz,.tgz,.xz,.txz,.bin", "test-set", move |file| app.take_images(file))}
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
        app.take_folder(files.collect());
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

/// Above so many choices in all, folders are mapped in a plan and not here.
const MOST_CHOICES: usize = 40_000;

/// The value of a choice of classes that has not been made.
const UNSET: &str = "?";

/// The class of each folder: a table that opens where a folder has no class of its name.
pub fn mapping(app: App, model: String) -> Option<AnyView> {
    let set = app.images.set.get()?;
    if TestSet::find(&set.name).is_some() {
        return None;
    }
    let model = app.models.facts(&model)?;
    let folders: Vec<String> = set.classes.iter().map(|(name, _)| name.clone()).collect();
    let found = by_name(&folders, &model.classes);
    let unsaid = found.iter().filter(|class| class.is_none()).count();
    if folders.len() * model.classes.len() > MOST_CHOICES {
        let words = format!(
            "{unsaid} of {} folders have no class of that name. Map them in a table [classes] of your own plan.",
            folders.len()
        );
        return (unsaid > 0).then(|| view! { <p class="hint">{words}</p> }.into_any());
    }
    let row = |(folder, found): (&String, &Option<usize>)| {
        class_row(app, folder.clone(), *found, &model.classes)
    };
    let words = match unsaid {
        0 => "every folder has a class".to_owned(),
        n => format!("{n} of {} folders have none of that name", folders.len()),
    };
    Some(
        view! {
            <details class="remarks mapping" data-testid="test-mapping" open=unsaid != 0>
                <summary>"Classes: " {words}</summary>
                <table class="grid-table">
                    <thead><tr><th scope="col">"folder"</th><th scope="col">"class of the model"</th></tr></thead>
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
        .images
        .classes
        .with_untracked(|all| all.get(&folder).cloned());
    let now = said.or(found.map(word)).unwrap_or_else(|| UNSET.to_owned());
    let option = |value: String, text: String| {
        let selected = value == now;
        view! { <option value=value selected=selected>{text}</option> }
    };
    let none = found
        .is_none()
        .then(|| option(UNSET.to_owned(), "choose…".to_owned()));
    let all = (0..classes.len()).map(|place| option(word(place), classes[place].clone()));
    let (label, testid) = (
        format!("Class of the folder {folder}"),
        format!("map-{folder}"),
    );
    let name = folder.clone();
    let choose = move |value: String| app.map_class(&folder, (value != UNSET).then_some(value));
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

fn set_facts(set: &SetInfo) -> AnyView {
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
            {set.part.as_ref().map(|part| format!(", those in the folder {part}"))}
        </p>
        {skipped}
    }
    .into_any()
}
