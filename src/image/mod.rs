//! Pictures: decoding behind limits, resizing exactly as PIL does, cropping as torchvision does,
//! encoding for a canvas or a file, and labelled image sets.
//!
//! The way of a picture: bytes → [`decode`] → [`Picture`] (8-bit RGB) → [`to_input`] → f32 NCHW
//! RGB in [0, 1] at the size the model asks for. Normalisation belongs to the model.

#[cfg(feature = "dataset")]
pub mod dataset;
mod decode;
mod encode;
mod error;
mod jpeg;
mod picture;
mod resize;
mod webp;

pub use decode::{Decoded, Grey, decode, decode_grey, sniff};
pub use encode::{encode_png, encode_png_rgba, to_rgba};
pub use error::{ImageError, MAX_PIXELS, MAX_SIDE, PictureFormat};
pub(crate) use picture::unit;
pub use picture::{Picture, Pixels};
pub use resize::{
    Filter, Preprocessing, center_crop, resample, resize, resize_and_crop, resized_size, to_input,
};
