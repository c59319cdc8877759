//! Numbers to colours: palettes, maps, filters, and the linear response of a filter.

use wasm_bindgen::Clamped;
use web_sys::{HtmlCanvasElement, ImageData};

use crate::dom;

/// A way from numbers to colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// Perceptually uniform, safe for colour-blind readers (van der Walt & Smith 2015).
    #[default]
    Viridis,
    Inferno,
    Grey,
    /// Blue, white, red, for signed values (after Brewer's RdBu).
    Signed,
}

type Stops = &'static [[u8; 3]];

const VIRIDIS: Stops = &[
    [68, 1, 84],
    [72, 40, 120],
    [62, 74, 137],
    [49, 104, 142],
    [38, 130, 142],
    [31, 158, 137],
    [53, 183, 121],
    [109, 205, 89],
    [180, 222, 44],
    [253, 231, 37],
];
const INFERNO: Stops = &[
    [0, 0, 4],
    [27, 12, 66],
    [75, 12, 107],
    [120, 28, 109],
    [165, 44, 96],
    [207, 68, 70],
    [237, 105, 37],
    [251, 154, 6],
    [247, 208, 60],
    [252, 255, 164],
];
const GREY: Stops = &[[12, 12, 12], [250, 250, 250]];
const SIGNED: Stops = &[
    [33, 102, 172],
    [103, 169, 207],
    [209, 229, 240],
    [247, 247, 247],
    [253, 219, 199],
    [239, 138, 98],
    [178, 24, 43],
];

impl Palette {
    /// The palettes a visitor can choose for maps.
    pub const CHOICES: [(Palette, &'static str, &'static str); 3] = [
        (Palette::Viridis, "viridis", "Viridis"),
        (Palette::Inferno, "inferno", "Inferno"),
        (Palette::Grey, "grey", "Grey"),
    ];

    fn stops(self) -> Stops {
        match self {
            Palette::Viridis => VIRIDIS,
            Palette::Inferno => INFERNO,
            Palette::Grey => GREY,
            Palette::Signed => SIGNED,
        }
    }

    /// 256 colours, linear between the stops.
    fn table(self) -> Vec<[u8; 3]> {
        let stops = self.stops();
        let last = stops.len() - 1;
        let colour = |i: usize| {
            let place = i as f32 / 255.0 * last as f32;
            let from = (place as usize).min(last - 1);
            let share = place - from as f32;
            std::array::from_fn(|c| {
                let (a, b) = (f32::from(stops[from][c]), f32::from(stops[from + 1][c]));
                (a + (b - a) * share).round() as u8
            })
        };
        (0..256).map(colour).collect()
    }
}

/// Smallest and largest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub min: f32,
    pub max: f32,
}

impl Range {
    /// Of no values at all; joins with anything.
    pub const EMPTY: Range = Range {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
    };

    /// The range of the finite values.
    pub fn of(values: &[f32]) -> Range {
        let finite = values.iter().filter(|v| v.is_finite());
        finite.fold(Range::EMPTY, |r, &v| Range {
            min: r.min.min(v),
            max: r.max.max(v),
        })
    }

    /// The smallest range that holds both.
    pub fn join(self, other: Range) -> Range {
        Range {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The same to both sides of zero.
    pub fn symmetric(self) -> Range {
        let reach = self.min.abs().max(self.max.abs());
        Range {
            min: -reach,
            max: reach,
        }
    }

    fn place(self, value: f32) -> f32 {
        let width = self.max - self.min;
        if width > 0.0 {
            ((value - self.min) / width).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// A picture: 8-bit RGBA, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgba: Vec<u8>,
}

impl Picture {
    /// Puts the picture on a canvas, which takes its size.
    pub fn show(&self, canvas: &HtmlCanvasElement) {
        canvas.set_width(self.width as u32);
        canvas.set_height(self.height as u32);
        let data = ImageData::new_with_u8_clamped_array_and_sh(
            Clamped(&self.rgba),
            self.width as u32,
            self.height as u32,
        );
        // Fails only for an empty picture or a browser that refuses canvases: nothing to show.
        if let (Ok(data), Some(context)) = (data, dom::context(canvas)) {
            let _ = context.put_image_data(&data, 0.0, 0.0);
        }
    }

    /// A canvas of its own.
    pub fn canvas(&self) -> Option<HtmlCanvasElement> {
        let canvas = dom::canvas(self.width, self.height)?;
        self.show(&canvas);
        Some(canvas)
    }
}

impl From<&ventral::session::protocol::Rgba> for Picture {
    fn from(rgba: &ventral::session::protocol::Rgba) -> Picture {
        let mut data = rgba.data.to_vec();
        data.resize(rgba.width * rgba.height * 4, 255);
        Picture {
            width: rgba.width,
            height: rgba.height,
            rgba: data,
        }
    }
}

/// A map of numbers, `[height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Map {
    /// Map `index` of a buffer of little-endian f32 maps, `[count, height, width]`. What is missing
    /// from a short buffer reads as 0.
    pub fn nth(buffer: &[u8], index: usize, height: usize, width: usize) -> Map {
        let size = height * width;
        let mut values = floats(buffer.get(index * size * 4..).unwrap_or_default(), size);
        values.resize(size, 0.0);
        Map {
            width,
            height,
            values,
        }
    }

    /// The map in colours.
    pub fn picture(&self, range: Range, palette: Palette) -> Picture {
        let table = palette.table();
        let colour = |v: &f32| {
            let [r, g, b] = table[(range.place(*v) * 255.0) as usize];
            [r, g, b, 255]
        };
        let rgba = self.values.iter().flat_map(colour).collect();
        Picture {
            width: self.width,
            height: self.height,
            rgba,
        }
    }

    /// The value at a place of the map given as fractions of its width and height.
    pub fn at(&self, x: f64, y: f64) -> Option<(usize, usize, f32)> {
        let column = (x * self.width as f64) as usize;
        let row = (y * self.height as f64) as usize;
        let inside = column < self.width && row < self.height && x >= 0.0 && y >= 0.0;
        let value = self
            .values
            .get(row * self.width + column)
            .filter(|_| inside)?;
        Some((column, row, *value))
    }
}

/// The first `count` little-endian f32 of a buffer.
pub fn floats(buffer: &[u8], count: usize) -> Vec<f32> {
    let words = buffer.as_chunks::<4>().0;
    words
        .iter()
        .take(count)
        .map(|word| f32::from_le_bytes(*word))
        .collect()
}

/// A colour bar from left (low) to right (high).
pub fn scale_bar(palette: Palette) -> Picture {
    let ramp = Map {
        width: 256,
        height: 1,
        values: (0..256).map(|i| i as f32).collect(),
    };
    ramp.picture(
        Range {
            min: 0.0,
            max: 255.0,
        },
        palette,
    )
}

/// A filter `[3, size, size]` as a picture, its largest weight at full colour, zero at mid-grey.
pub fn filter_picture(weights: &[f32], size: usize) -> Picture {
    let reach = weights
        .iter()
        .fold(0.0_f32, |m, w| m.max(w.abs()))
        .max(f32::MIN_POSITIVE);
    let plane = size * size;
    let level = |channel: usize, i: usize| {
        let weight = weights.get(channel * plane + i).copied().unwrap_or(0.0);
        (127.5 + 127.5 * weight / reach).round() as u8
    };
    let rgba = (0..plane)
        .flat_map(|i| [level(0, i), level(1, i), level(2, i), 255])
        .collect();
    Picture {
        width: size,
        height: size,
        rgba,
    }
}

/// A normalised network input, `[3, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub width: usize,
    pub height: usize,
    pub planes: Vec<f32>,
}

impl Input {
    /// `(pixel − mean) / std` of each colour.
    pub fn new(picture: &Picture, mean: [f32; 3], std: [f32; 3]) -> Input {
        let pixels = picture.rgba.as_chunks::<4>().0;
        let planes = (0..3).flat_map(|c| {
            pixels
                .iter()
                .map(move |p| (f32::from(p[c]) / 255.0 - mean[c]) / std[c])
        });
        Input {
            width: picture.width,
            height: picture.height,
            planes: planes.collect(),
        }
    }

    /// The normalised values as a picture, ±`reach` over black to white.
    pub fn picture(&self, reach: f32) -> Picture {
        let plane = self.width * self.height;
        let level = |c: usize, i: usize| {
            (127.5 + 127.5 * self.planes[c * plane + i] / reach).clamp(0.0, 255.0) as u8
        };
        let rgba = (0..plane)
            .flat_map(|i| [level(0, i), level(1, i), level(2, i), 255])
            .collect();
        Picture {
            width: self.width,
            height: self.height,
            rgba,
        }
    }

    /// Multiply-adds of one [`Input::convolve`].
    pub fn cost(&self, size: usize, stride: usize) -> usize {
        (self.width / stride) * (self.height / stride) * size * size * 3
    }

    /// The linear response of a filter `[3, size, size]`: a convolution with zero padding of
    /// half the filter's size, before any normalisation or nonlinearity.
    pub fn convolve(&self, weights: &[f32], size: usize, stride: usize) -> Map {
        let (width, height) = (self.width.div_ceil(stride), self.height.div_ceil(stride));
        let half = size / 2;
        let mut values = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                values.push(self.dot(weights, size, row * stride, column * stride, half));
            }
        }
        Map {
            width,
            height,
            values,
        }
    }

    fn dot(&self, weights: &[f32], size: usize, top: usize, left: usize, half: usize) -> f32 {
        let mut sum = 0.0;
        let columns = half.saturating_sub(left)..size.min(self.width + half - left);
        for row in half.saturating_sub(top)..size.min(self.height + half - top) {
            for channel in 0..3 {
                let line = (channel * self.height + row + top - half) * self.width;
                let pixels = self
                    .planes
                    .get(line + columns.start + left - half..)
                    .unwrap_or(&[]);
                let line = (channel * size + row) * size;
                let kernel = weights
                    .get(line + columns.start..line + columns.end)
                    .unwrap_or(&[]);
                sum += kernel.iter().zip(pixels).map(|(w, p)| w * p).sum::<f32>();
            }
        }
        sum
    }
}
