//! The picture in use.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use ventral::session::protocol::*;
use web_sys::File;

use super::App;
use super::models::Source;
use super::problems::unreadable;
use super::requests::ends;
use crate::catalog::Sample;
use crate::{dom, files, numbers};

/// The picture in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub name: String,
    /// Its path, when it is one of the page's own samples.
    pub sample: Option<String>,
    pub alt: String,
    /// An address the browser can show.
    pub url: String,
    /// The encoded file, kept for a worker that has to be restarted.
    pub bytes: Arc<Vec<u8>>,
    /// Known once the worker has decoded it.
    pub info: Option<ImageInfo>,
}

impl App {
    /// Takes a file the visitor dropped, pasted or chose: a picture or weights.
    pub fn take_file(self, file: File) {
        spawn_local(async move {
            let name = file.name();
            match files::kind(&file).await {
                files::Kind::Weights => self.load(Source::File(file)),
                files::Kind::Unknown => self.problem(
                    &format!("“{name}” is neither a picture nor a weights file. Pictures are JPEG, PNG, WebP, BMP, GIF or TIFF; weights are .safetensors, .pth or .pth.tar."),
                    "the file's first bytes and its name match no known format",
                ),
                _ if file.size() > files::LARGEST_PICTURE => self.problem(
                    &format!("“{name}” is larger than {}. Make it smaller first.", numbers::bytes(files::LARGEST_PICTURE)),
                    &format!("{} bytes", file.size()),
                ),
                files::Kind::Picture => self.take_picture(name, files::bytes(&file).await),
                files::Kind::BrowserPicture => self.take_picture(name, files::recode(&file).await),
            }
        });
    }

    fn take_picture(self, name: String, bytes: Result<Vec<u8>, String>) {
        match bytes {
            Ok(bytes) => self.set_picture(name, bytes),
            Err(cause) => self.problem(&unreadable(&name), &cause),
        }
    }

    /// Makes encoded bytes the picture in use.
    pub fn set_picture(self, name: String, bytes: Vec<u8>) {
        let url = files::object_url(&bytes, "").unwrap_or_default();
        let alt = format!("Your picture {name}");
        let bytes = Arc::new(bytes);
        self.send_image(Arc::new(Shown {
            name,
            sample: None,
            alt,
            url,
            bytes,
            info: None,
        }));
    }

    /// Makes one of the page's own pictures the one in use.
    pub fn set_sample(self, sample: Sample) {
        spawn_local(async move {
            let url = sample.url();
            match dom::fetch_bytes(&url).await {
                Ok(bytes) => self.send_image(Arc::new(Shown {
                    name: sample.title.clone(),
                    sample: Some(sample.file),
                    alt: sample.alt,
                    url,
                    bytes: Arc::new(bytes),
                    info: None,
                })),
                Err(cause) => self.problem(
                    &format!("The sample “{}” could not be read.", sample.title),
                    &cause,
                ),
            }
        });
    }

    /// Sends a picture to the worker; it becomes the one in use when the worker has decoded it.
    pub(super) fn send_image(self, shown: Arc<Shown>) {
        self.give_way();
        if self.image.with_untracked(Option::is_none) {
            self.image.set(Some(shown.clone()));
        }
        let request = Request::SetImage {
            name: shown.name.clone(),
            bytes: Bytes::from(shown.bytes.to_vec()),
        };
        self.ask(request, Vec::new(), move |event| match event {
            Event::Image(info) => self.on_image(&shown, info),
            event if ends(&event) => self.refresh_if_idle(),
            _ => {}
        });
    }

    fn on_image(self, shown: &Shown, info: ImageInfo) {
        let old = self.image.get_untracked();
        old.filter(|old| old.url != shown.url)
            .iter()
            .for_each(|o| files::release(&o.url));
        self.sample_name.set(shown.sample.clone());
        self.image.set(Some(Arc::new(Shown {
            info: Some(info),
            ..shown.clone()
        })));
        self.want_all();
    }
}
