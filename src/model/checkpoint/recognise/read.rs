//! A configuration from the shapes of the tensors that determine it.

use std::collections::BTreeMap;

use super::Family;
use super::expected::{AREAS, feature_places};
use super::settings::Settings;
use crate::model::config::{
    AlexNetConfig, BodyConfig, CornetRtConfig, CornetSConfig, CornetZConfig, ModelConfig, ResBlock,
    ResNetConfig, SmallCnnConfig, StemConfig, Unrolling, VOneConfig, imagenet_preprocessing,
};

/// Why a configuration cannot be read off the shapes.
pub(super) enum Gap {
    Missing,
    /// A tensor, its shape, and what was expected.
    Shape(String, Vec<usize>, &'static str),
}

type Read<T> = Result<T, Gap>;

/// The tensors, those of a VOneNet's body without their `model.`.
pub(super) struct Shapes<'a> {
    pub all: &'a BTreeMap<String, Vec<usize>>,
    pub prefix: &'static str,
}

impl Shapes<'_> {
    fn get(&self, name: &str) -> Option<&[usize]> {
        let shape = self.all.get(&format!("{}{name}", self.prefix))?;
        Some(shape)
    }

    /// Weights of a square convolution: `[out, in, kernel]`.
    fn conv(&self, name: &str) -> Read<[usize; 3]> {
        let name = format!("{name}.weight");
        match self.get(&name).ok_or(Gap::Missing)? {
            [to, from, kernel, wide] if kernel == wide && *to.min(from).min(kernel) > 0 => {
                Ok([*to, *from, *kernel])
            }
            other => Err(self.odd(&name, other, "the weights of a square convolution")),
        }
    }

    /// Weights of a linear layer: `[out, in]`.
    fn linear(&self, name: &str) -> Read<[usize; 2]> {
        let name = format!("{name}.weight");
        match self.get(&name).ok_or(Gap::Missing)? {
            [to, from] if *to.min(from) > 0 => Ok([*to, *from]),
            other => Err(self.odd(&name, other, "the weights of a linear layer")),
        }
    }

    fn odd(&self, name: &str, shape: &[usize], expected: &'static str) -> Gap {
        Gap::Shape(format!("{}{name}", self.prefix), shape.to_vec(), expected)
    }

    /// One more than the largest number behind `prefix`: how many time steps, how many blocks. Of
    /// one that is incomplete, the rest is then known to be missing.
    fn count(&self, prefix: &str) -> usize {
        let prefix = format!("{}{prefix}", self.prefix);
        let behind = self
            .all
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        let number = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
        let count = behind
            .filter_map(number)
            .max()
            .map_or(0, |n| n.saturating_add(1));
        // A name may claim any number.
        count.min(self.all.len())
    }
}

/// What was read, and remarks about what had to be assumed.
pub(super) fn config(
    family: Family,
    all: &BTreeMap<String, Vec<usize>>,
    settings: Settings,
    remarks: &mut Vec<String>,
) -> Read<ModelConfig> {
    let mut shapes = Shapes { all, prefix: "" };
    let front = match family.behind_vone() {
        true => Some(vone(&shapes, settings)?),
        false => None,
    };
    if front.is_some() {
        shapes.prefix = "model.";
    }
    let width = front.as_ref().map(|f| f.bottleneck);
    let (body, classes) = match family {
        Family::CornetS | Family::VOneCornetS => cornet_s(&shapes, settings, width, remarks)?,
        Family::ResNet | Family::VOneResNet => resnet(&shapes, settings, width, remarks)?,
        Family::AlexNet | Family::VOneAlexNet => alexnet(&shapes, width)?,
        Family::CornetZ => cornet_z(&shapes)?,
        Family::CornetRt => cornet_rt(&shapes, settings, remarks)?,
        Family::SmallCnn => small_cnn(&shapes)?,
    };
    let preprocessing = match &body {
        BodyConfig::SmallCnn(c) => crate::model::config::Preprocessing {
            resize: c.input,
            crop: c.input,
            ..imagenet_preprocessing()
        },
        _ => settings.preprocessing(front.is_some()),
    };
    Ok(ModelConfig {
        body,
        front,
        classes,
        preprocessing,
    })
}

type Body = (BodyConfig, usize);

fn vone(shapes: &Shapes, settings: Settings) -> Read<VOneConfig> {
    let [cells, _, kernel] = shapes.conv("vone_block.simple_conv_q0")?;
    let [bottleneck, ..] = shapes.conv("bottleneck")?;
    Ok(settings.vone(cells, kernel, bottleneck))
}

/// The stem of a network that has one.
fn stem(settings: Settings, kernel: usize, remarks: &mut Vec<String>) -> StemConfig {
    let (stem, guessed) = settings.stem(kernel);
    if guessed {
        remarks.push(format!(
            "The file does not say how the first convolution ({kernel}x{kernel}) moves; a stride of {} {} pooling was assumed.",
            stem.stride,
            if stem.pool { "with" } else { "without" }
        ));
    }
    stem
}

fn cornet_s(
    shapes: &Shapes,
    settings: Settings,
    behind: Option<usize>,
    remarks: &mut Vec<String>,
) -> Read<Body> {
    let (stem, v1) = match behind {
        Some(width) => (None, width),
        None => {
            let [v1, _, kernel] = shapes.conv("V1.conv1")?;
            (Some(stem(settings, kernel, remarks)), v1)
        }
    };
    let width = |area: &str| {
        shapes
            .conv(&format!("{area}.conv_input"))
            .map(|[to, ..]| to)
    };
    let widths = [v1, width("V2")?, width("V4")?, width("IT")?];
    let [wide, ..] = shapes.conv("V2.conv1")?;
    let times = |area: &str| shapes.count(&format!("{area}.norm1_"));
    let [classes, _] = shapes.linear("decoder.linear")?;
    let body = BodyConfig::CornetS(CornetSConfig {
        stem,
        widths,
        // Where it is not a multiple, the shapes that follow from this will not fit.
        scale: wide / widths[1],
        times: [times("V2").max(1), times("V4").max(1), times("IT").max(1)],
    });
    Ok((body, classes))
}

/// Channels of the four areas, and the kernel of V1, by the name of their first convolution.
fn inputs(shapes: &Shapes, conv: &str) -> Read<([usize; 4], usize)> {
    let mut widths = [0; 4];
    for (width, area) in widths.iter_mut().zip(AREAS) {
        [*width, ..] = shapes.conv(&format!("{area}.{conv}"))?;
    }
    let [.., kernel] = shapes.conv(&format!("V1.{conv}"))?;
    Ok((widths, kernel))
}

fn cornet_z(shapes: &Shapes) -> Read<Body> {
    let (widths, v1_kernel) = inputs(shapes, "conv")?;
    let [classes, _] = shapes.linear("decoder.linear")?;
    let body = BodyConfig::CornetZ(CornetZConfig {
        widths,
        v1_kernel,
        ..CornetZConfig::official()
    });
    Ok((body, classes))
}

fn cornet_rt(shapes: &Shapes, settings: Settings, remarks: &mut Vec<String>) -> Read<Body> {
    let (widths, v1_kernel) = inputs(shapes, "conv_input")?;
    let [classes, _] = shapes.linear("decoder.linear")?;
    let (unrolling, told) = unrolling(settings);
    if !told {
        remarks.push(
            "CORnet-RT and CORnet-R have the same tensors, and the file does not say which it is; CORnet-RT was assumed.".to_owned(),
        );
    }
    let official = CornetRtConfig::official(unrolling);
    let body = BodyConfig::CornetRt(CornetRtConfig {
        widths,
        v1_kernel,
        times: settings.count("times").unwrap_or(official.times),
        ..official
    });
    Ok((body, classes))
}

/// The training script's `model` flag, else the file's name; whether either said it.
fn unrolling(settings: Settings) -> (Unrolling, bool) {
    let by_name = || match settings.file {
        file if file.contains("cornet_rt") => Some("RT"),
        file if file.contains("cornet_r") => Some("R"),
        _ => None,
    };
    match settings.text("model").or_else(by_name) {
        Some("R") => (Unrolling::Sequential, true),
        Some("RT") => (Unrolling::Biological, true),
        _ => (Unrolling::Biological, false),
    }
}

fn resnet(
    shapes: &Shapes,
    settings: Settings,
    behind: Option<usize>,
    remarks: &mut Vec<String>,
) -> Read<Body> {
    let (stem, width) = match behind {
        Some(width) => (None, width),
        None => {
            let [width, _, kernel] = shapes.conv("conv1")?;
            (Some(stem(settings, kernel, remarks)), width)
        }
    };
    let block = match shapes.get("layer1.0.conv3.weight") {
        Some(_) => ResBlock::Bottleneck,
        None => ResBlock::Basic,
    };
    let [mut planes, _, _] = shapes.conv("layer1.0.conv1")?;
    let mut all_planes = [0; 4];
    let mut layers = [0; 4];
    for (i, (all, layers)) in all_planes.iter_mut().zip(&mut layers).enumerate() {
        let stage = i + 1;
        *layers = shapes.count(&format!("layer{stage}."));
        planes = match layers {
            // As it would go on, though there is nothing of it.
            0 => planes.saturating_mul(2),
            _ => shapes.conv(&format!("layer{stage}.0.conv1"))?[0],
        };
        *all = planes;
    }
    let [classes, _] = shapes.linear("fc")?;
    let body = BodyConfig::ResNet(ResNetConfig {
        stem,
        width,
        block,
        planes: all_planes,
        layers,
    });
    Ok((body, classes))
}

fn alexnet(shapes: &Shapes, behind: Option<usize>) -> Read<Body> {
    let mut config = match behind {
        Some(width) => AlexNetConfig::behind_vone(width, [1; 4], [1; 2]),
        None => AlexNetConfig::official(),
    };
    let mut last = config.channels_in;
    for (place, conv) in feature_places(&config).into_iter().zip(&mut config.convs) {
        [conv.out, ..] = shapes.conv(&format!("features.{place}"))?;
        last = conv.out;
    }
    let [first, pooled] = shapes.linear("classifier.1")?;
    let [second, _] = shapes.linear("classifier.4")?;
    let [classes, _] = shapes.linear("classifier.6")?;
    config.hidden = [first, second];
    config.pool_to = (pooled / last).isqrt();
    Ok((BodyConfig::AlexNet(config), classes))
}

fn small_cnn(shapes: &Shapes) -> Read<Body> {
    let [first, ..] = shapes.conv("conv1")?;
    let [second, ..] = shapes.conv("conv2")?;
    let [classes, flat] = shapes.linear("fc")?;
    let body = BodyConfig::SmallCnn(SmallCnnConfig {
        widths: [first, second],
        input: (flat / second).isqrt().saturating_mul(4),
    });
    Ok((body, classes))
}
