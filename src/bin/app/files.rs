//! Files in and out: what a dropped file is, its bytes, and downloads.

use js_sys::Uint8Array;
use ventral::pack;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, File, HtmlAnchorElement, HtmlCanvasElement, HtmlImageElement, Url,
};

use crate::dom;

/// A picture larger than this is refused: it would not fit into the worker's memory decoded.
pub const LARGEST_PICTURE: f64 = 64e6;

/// What a file is, judged by its first bytes, then by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A format the worker decodes.
    Picture,
    /// A picture that only the browser can decode (AVIF, SVG, …).
    BrowserPicture,
    Weights,
    Unknown,
}

const PICTURE_MAGIC: [&[u8]; 7] = [
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"RIFF",
    b"BM",
    b"II*\0",
    b"MM\0*",
];
/// A zip archive, and a pickle of protocol 2: the two shapes of a PyTorch file.
const WEIGHTS_MAGIC: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];
const PICTURE_NAMES: [&str; 8] = [
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
];
const WEIGHTS_NAMES: [&str; 6] = [".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin"];

/// Says what a file is. A broken file with a known name keeps the name's kind, so that the worker
/// can say what is wrong with it.
pub async fn kind(file: &File) -> Kind {
    let head = head(file).await;
    let name = file.name().to_lowercase();
    let starts = |table: &[&[u8]]| table.iter().any(|magic| head.starts_with(magic));
    let named = |table: &[&str]| table.iter().any(|end| name.ends_with(end));
    // A safetensors file opens with the length of its header, then the header's brace.
    let safetensors = head.get(8) == Some(&b'{');
    match () {
        _ if starts(&PICTURE_MAGIC) => Kind::Picture,
        _ if starts(&WEIGHTS_MAGIC) || safetensors => Kind::Weights,
        _ if named(&WEIGHTS_NAMES) => Kind::Weights,
        _ if named(&PICTURE_NAMES) => Kind::Picture,
        _ if file.type_().starts_with("image/") => Kind::BrowserPicture,
        _ => Kind::Unknown,
    }
}

async fn head(file: &File) -> Vec<u8> {
    match file.slice_with_i32_and_i32(0, 16) {
        Ok(part) => bytes(&part).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// The bytes of a file.
pub async fn bytes(blob: &Blob) -> Result<Vec<u8>, String> {
    let buffer = JsFuture::from(blob.array_buffer())
        .await
        .map_err(|e| dom::js_message(&e))?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

/// An address under which the browser shows these bytes. Free it with [`release`].
pub fn object_url(data: &[u8], mime: &str) -> Option<String> {
    Url::create_object_url_with_blob(&blob(data, mime)?).ok()
}

/// Bytes as a file, as if the visitor had chosen it.
pub fn named(name: &str, data: &[u8]) -> Option<File> {
    let parts = js_sys::Array::of1(&Uint8Array::from(data));
    File::new_with_u8_array_sequence(&parts, name).ok()
}

/// Frees an address of [`object_url`].
pub fn release(url: &str) {
    if url.starts_with("blob:") {
        let _ = Url::revoke_object_url(url);
    }
}

fn blob(data: &[u8], mime: &str) -> Option<Blob> {
    let options = BlobPropertyBag::new();
    options.set_type(mime);
    let parts = js_sys::Array::of1(&Uint8Array::from(data));
    Blob::new_with_u8_array_sequence_and_options(&parts, &options).ok()
}

/// Lets the browser decode a picture and returns it as PNG bytes.
pub async fn recode(file: &File) -> Result<Vec<u8>, String> {
    let failed = |e: JsValue| dom::js_message(&e);
    let url = Url::create_object_url_with_blob(file).map_err(failed)?;
    let image = HtmlImageElement::new().map_err(failed)?;
    image.set_src(&url);
    let decoded = JsFuture::from(image.decode()).await;
    release(&url);
    decoded.map_err(failed)?;
    // A drawing without a size of its own comes as 0 x 0.
    let side = |n: u32| if n == 0 { 512 } else { n as usize };
    let (width, height) = (side(image.natural_width()), side(image.natural_height()));
    let drawn = dom::canvas(width, height).and_then(|c| Some((dom::context(&c)?, c)));
    let (context, canvas) = drawn.ok_or("no canvas")?;
    let (w, h) = (width as f64, height as f64);
    context
        .draw_image_with_html_image_element_and_dw_and_dh(&image, 0.0, 0.0, w, h)
        .map_err(failed)?;
    png_bytes(&canvas).await
}

/// A canvas as PNG bytes.
pub async fn png_bytes(canvas: &HtmlCanvasElement) -> Result<Vec<u8>, String> {
    let canvas = canvas.clone();
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        if let Err(cause) = canvas.to_blob(&resolve) {
            let _ = reject.call1(&JsValue::NULL, &cause);
        }
    });
    let made = JsFuture::from(promise)
        .await
        .map_err(|e| dom::js_message(&e))?;
    let made: Blob = made
        .dyn_into()
        .map_err(|_| "the browser made no PNG".to_owned())?;
    bytes(&made).await
}

/// The files of a chosen folder as one archive, named after it. Nothing is read here: the browser
/// strings the files together when they are.
pub fn pack(files: &[File]) -> Option<File> {
    let parts = js_sys::Array::new();
    let path = |file: &File| {
        let path = js_sys::Reflect::get(file, &"webkitRelativePath".into()).ok();
        let path = path.and_then(|path| path.as_string());
        path.filter(|p| !p.is_empty())
            .unwrap_or_else(|| file.name())
    };
    for file in files {
        let length = file.size() as u64;
        parts.push(&Uint8Array::from(&pack::header(&path(file), length)[..]));
        parts.push(file);
        parts.push(&Uint8Array::new_with_length(pack::padding(length) as u32));
    }
    parts.push(&Uint8Array::from(&pack::END[..]));
    let first = path(files.first()?);
    let name = first.split('/').next().unwrap_or(&first);
    File::new_with_blob_sequence(&parts, &format!("{name}.tar")).ok()
}

/// Dots of a saved drawing for each of its own units.
const DRAWING_SCALE: f64 = 2.0;

/// Saves an SVG drawing as PNG, on white whatever the visitor's colours are.
pub fn save_drawing(name: &str, svg: &str) {
    let light = svg.replace("(prefers-color-scheme:dark)", "not all");
    let name = name.to_owned();
    leptos::task::spawn_local(async move {
        match draw(&light).await {
            Ok(png) => download(&name, "image/png", &png),
            Err(cause) => leptos::logging::warn!("the drawing was not painted: {cause}"),
        }
    });
}

async fn draw(svg: &str) -> Result<Vec<u8>, String> {
    let failed = |e: JsValue| dom::js_message(&e);
    let url = object_url(svg.as_bytes(), "image/svg+xml").ok_or("no address for it")?;
    let image = HtmlImageElement::new().map_err(failed)?;
    image.set_src(&url);
    let decoded = JsFuture::from(image.decode()).await;
    release(&url);
    decoded.map_err(failed)?;
    let side = |n: u32| DRAWING_SCALE * f64::from(n);
    let (width, height) = (side(image.natural_width()), side(image.natural_height()));
    let drawn = dom::canvas(width as usize, height as usize);
    let drawn = drawn.and_then(|c| Some((dom::context(&c)?, c)));
    let (context, canvas) = drawn.ok_or("no canvas")?;
    context.set_fill_style_str("#fff");
    context.fill_rect(0.0, 0.0, width, height);
    context
        .draw_image_with_html_image_element_and_dw_and_dh(&image, 0.0, 0.0, width, height)
        .map_err(failed)?;
    png_bytes(&canvas).await
}

/// Hands bytes to the visitor as a download.
pub fn download(name: &str, mime: &str, data: &[u8]) {
    let Some(url) = object_url(data, mime) else {
        return;
    };
    let anchor = dom::document().create_element("a").ok();
    if let Some(anchor) = anchor.and_then(|a| a.dyn_into::<HtmlAnchorElement>().ok()) {
        anchor.set_href(&url);
        anchor.set_download(name);
        anchor.click();
    }
    // The download has its own hold on the bytes once it has begun.
    dom::after(10_000, move || release(&url));
}
