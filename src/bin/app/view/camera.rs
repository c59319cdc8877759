//! An image from the camera.

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{HtmlVideoElement, MediaStream, MediaStreamConstraints, MediaStreamTrack};

use super::models::parts_dialog;
use super::parts::icon;
use crate::state::{App, Dialog};
use crate::{dom, files};

/// The camera's view and the button that takes it.
pub fn dialog(app: App) -> AnyView {
    let node = NodeRef::<html::Dialog>::new();
    let video = NodeRef::<html::Video>::new();
    let stream = RwSignal::new_local(None::<MediaStream>);
    parts_dialog(app, Dialog::Camera, node);
    let stop = move || {
        if let Some(stream) = stream.get_untracked() {
            let end = |track: JsValue| track.unchecked_into::<MediaStreamTrack>().stop();
            stream.get_tracks().iter().for_each(end);
        }
        stream.set(None);
    };
    Effect::new(move |_| match app.dialog.get() == Some(Dialog::Camera) {
        true => spawn_local(async move {
            match open().await {
                Ok(opened) => show(opened, stream, video),
                Err(cause) => {
                    app.dialog.set(None);
                    app.problem("The camera could not be opened. Check that there is one and that this page may use it.", &cause);
                }
            }
        }),
        false => stop(),
    });
    let take = move |_| {
        let Some(video) = video.get_untracked() else {
            return;
        };
        spawn_local(async move {
            match capture(&video).await {
                Ok(bytes) => app.set_picture("camera.png".to_owned(), bytes),
                Err(cause) => app.problem("The camera gave no image.", &cause),
            }
            app.dialog.set(None);
        });
    };
    view! {
        <dialog
            node_ref=node
            class="sheet camera"
            data-testid="camera-dialog"
            aria-label="Camera"
            on:close=move |_| app.dialog.set(None)
        >
            <video node_ref=video autoplay playsinline muted></video>
            <p class="card-actions">
                <button class="button primary" data-testid="camera-take" disabled=move || stream.get().is_none() on:click=take>
                    {icon("camera")}
                    "Take the picture"
                </button>
                <button class="button" on:click=move |_| app.dialog.set(None)>"Cancel"</button>
            </p>
        </dialog>
    }
    .into_any()
}

async fn open() -> Result<MediaStream, String> {
    let failed = |e: JsValue| dom::js_message(&e);
    let wishes = MediaStreamConstraints::new();
    wishes.set_video(&JsValue::TRUE);
    // Without a secure address there is no `mediaDevices` at all, which throws here.
    let devices = dom::window().navigator().media_devices().map_err(failed)?;
    let asked = devices
        .get_user_media_with_constraints(&wishes)
        .map_err(failed)?;
    JsFuture::from(asked)
        .await
        .map(JsCast::unchecked_into)
        .map_err(failed)
}

fn show(
    opened: MediaStream,
    stream: RwSignal<Option<MediaStream>, LocalStorage>,
    video: NodeRef<html::Video>,
) {
    if let Some(video) = video.get_untracked() {
        video.set_src_object(Some(&opened));
    }
    stream.set(Some(opened));
}

async fn capture(video: &HtmlVideoElement) -> Result<Vec<u8>, String> {
    let (width, height) = (video.video_width(), video.video_height());
    let canvas = dom::canvas(width as usize, height as usize).ok_or("no canvas")?;
    let context = dom::context(&canvas).ok_or("no drawing context")?;
    context
        .draw_image_with_html_video_element(video, 0.0, 0.0)
        .map_err(|e| dom::js_message(&e))?;
    files::png_bytes(&canvas).await
}
