//! Where weights come from: the page's own folder, a dropped file, an address.

use std::io::Cursor;

use js_sys::{Array, Reflect, Uint8Array};
use ventral::model::catalog;
use ventral::model::checkpoint::Source;
use ventral::session::Host;
use ventral::session::protocol::{Event, Failure, Progress, Request};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Cache, CacheStorage, ReadableStreamDefaultReader, Response};

use crate::blob::BlobSource;
use crate::host::{WorkerHost, scope};

type Attachment = Option<Box<dyn Source>>;

/// Kept across visits, by address.
const CACHE: &str = "ventral-weights-1";

/// The bytes a request needs. The error is the event that ends the request.
pub async fn attach(
    request: &Request,
    file: Option<Blob>,
    host: &WorkerHost,
) -> Result<Attachment, Box<Event>> {
    match request {
        Request::LoadModel { name } | Request::Transfer { name } | Request::ReadModel { name } => {
            shipped(name, host).await.map(Some)
        }
        Request::ReadImages { name } => match file {
            Some(blob) => source(blob).map(Some),
            None => test_set(name, host).await.map(Some),
        },
        // Without a file: forget what there is.
        Request::ReadRecording { .. } => file.map(source).transpose(),
        Request::LoadUrl { url } => published(url, host).await.map(Some),
        Request::LoadFile { file_name }
        | Request::TransferFile { file_name }
        | Request::ReadModelFile { file_name } => match file {
            Some(blob) => source(blob).map(Some),
            None => Err(failed(
                format!("The file {file_name} did not reach the worker. Drop it once more."),
                String::new(),
            )),
        },
        _ => Ok(None),
    }
}

fn failed(sentence: String, cause: String) -> Box<Event> {
    Box::new(Event::Failed(Failure { sentence, cause }))
}

fn source(blob: Blob) -> Result<Box<dyn Source>, Box<Event>> {
    match BlobSource::new(blob) {
        Ok(source) => Ok(Box::new(source)),
        Err(error) => Err(failed(
            "The browser cannot read files here.".into(),
            error.to_string(),
        )),
    }
}

async fn shipped(name: &str, host: &WorkerHost) -> Result<Box<dyn Source>, Box<Event>> {
    let Some(entry) = catalog::find(name) else {
        return Err(failed(
            format!("There is no model called {name}."),
            String::new(),
        ));
    };
    if let Some(file) = &entry.file {
        let parts = download(&format!("models/{file}"), host)
            .await
            .map_err(|trouble| {
                trouble.into_event(&format!("The weights of {} did not arrive", entry.title))
            })?;
        return Ok(Box::new(Cursor::new(join(&parts))));
    }
    match &entry.url {
        Some(url) => published(url, host).await,
        None => Err(failed(
            format!("{} has no weights.", entry.title),
            String::new(),
        )),
    }
}

/// Labelled images that come with the page.
async fn test_set(name: &str, host: &WorkerHost) -> Result<Box<dyn Source>, Box<Event>> {
    let parts = download(&format!("testset/{name}"), host).await;
    let parts = parts
        .map_err(|trouble| trouble.into_event(&format!("The images of {name} did not arrive")))?;
    Ok(Box::new(Cursor::new(join(&parts))))
}

/// Weights at an address, from the browser's cache if they were fetched before.
async fn published(url: &str, host: &WorkerHost) -> Result<Box<dyn Source>, Box<Event>> {
    let cache = open_cache().await;
    if let Some(blob) = match &cache {
        Some(cache) => cached(cache, url).await,
        None => None,
    } {
        return source(blob);
    }
    let parts = download(url, host).await.map_err(|trouble| {
        trouble.into_event(
            "The weights could not be fetched from that address. Its host may not let pages of \
             other sites read the file: download it yourself and drop it here",
        )
    })?;
    let blob = Blob::new_with_u8_array_sequence(&parts).map_err(|e| {
        failed(
            "There is not enough memory for these weights.".into(),
            said(&e),
        )
    })?;
    if let (Some(cache), Ok(response)) = (&cache, Response::new_with_opt_blob(Some(&blob))) {
        // A full disk only means that the next visit fetches again.
        let _ = JsFuture::from(cache.put_with_str(url, &response)).await;
    }
    source(blob)
}

async fn open_cache() -> Option<Cache> {
    let caches: CacheStorage = scope().caches().ok()?;
    let cache = JsFuture::from(caches.open(CACHE)).await.ok()?;
    cache.dyn_into().ok()
}

async fn cached(cache: &Cache, url: &str) -> Option<Blob> {
    let found = JsFuture::from(cache.match_with_str(url)).await.ok()?;
    let response: Response = found.dyn_into().ok()?;
    let blob = JsFuture::from(response.blob().ok()?).await.ok()?;
    blob.dyn_into().ok()
}

/// Why a download ended early.
enum Trouble {
    Cancelled,
    Status(u16),
    Network(String),
}

impl Trouble {
    fn into_event(self, what: &str) -> Box<Event> {
        match self {
            Self::Cancelled => Box::new(Event::Cancelled),
            Self::Status(status) => failed(
                format!("{what} (the server answered {status})."),
                String::new(),
            ),
            Self::Network(cause) => failed(format!("{what}."), cause),
        }
    }
}

/// Fetches an address piece by piece, with progress; an array of `Uint8Array`s.
async fn download(url: &str, host: &WorkerHost) -> Result<Array, Trouble> {
    let network = |e: JsValue| Trouble::Network(said(&e));
    let response = JsFuture::from(scope().fetch_with_str(url)).await;
    let response: Response = response.map_err(network)?.unchecked_into();
    if !response.ok() {
        return Err(Trouble::Status(response.status()));
    }
    let length = response.headers().get("content-length").ok().flatten();
    // With content-encoding the length is that of the compressed bytes; then it is unknown.
    let encoded = response.headers().get("content-encoding").ok().flatten();
    let total = match encoded {
        Some(_) => 0,
        None => length.and_then(|text| text.parse().ok()).unwrap_or(0),
    };
    let stream = response
        .body()
        .ok_or_else(|| Trouble::Network("the answer has no body".to_owned()))?;
    let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let parts = Array::new();
    let mut done = 0_u64;
    loop {
        if host.cancel().is_cancelled() {
            // Whether the server hears of it does not matter.
            let _ = JsFuture::from(reader.cancel()).await;
            return Err(Trouble::Cancelled);
        }
        let piece = JsFuture::from(reader.read()).await.map_err(network)?;
        let field = |key: &str| Reflect::get(&piece, &key.into()).unwrap_or(JsValue::UNDEFINED);
        if field("done").is_truthy() {
            return Ok(parts);
        }
        let bytes: Uint8Array = field("value").unchecked_into();
        done += u64::from(bytes.length());
        parts.push(&bytes);
        host.tell(Event::Progress(Progress {
            stage: "Fetching weights".to_owned(),
            done,
            total,
            bytes: true,
            seconds_left: None,
        }));
    }
}

fn join(parts: &Array) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts.iter() {
        let bytes: &Uint8Array = part.unchecked_ref();
        joined.extend(bytes.to_vec());
    }
    joined
}

fn said(error: &JsValue) -> String {
    js_sys::Object::from(error.clone()).to_string().into()
}
