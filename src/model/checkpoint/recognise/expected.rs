//! The published name and shape of every tensor of a network, from its configuration.

use crate::model::config::{
    AlexNetConfig, BodyConfig, CornetRtConfig, CornetSConfig, CornetZConfig, ModelConfig, ResBlock,
    ResNetConfig, SmallCnnConfig, VOneConfig,
};

pub(super) const AREAS: [&str; 4] = ["V1", "V2", "V4", "IT"];

/// Names and shapes, in the order of the signal. `num_batches_tracked` is left out: older files
/// lack it, and it is of no use.
pub(super) fn expected(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List::default();
    if let Some(front) = &config.front {
        vone(&mut list, front);
        list.prefix = "model.";
    }
    let classes = config.classes;
    match &config.body {
        BodyConfig::CornetS(c) => cornet_s(&mut list, c, classes),
        BodyConfig::CornetZ(c) => cornet_z(&mut list, c, classes),
        BodyConfig::CornetRt(c) => cornet_rt(&mut list, c, classes),
        BodyConfig::ResNet(c) => resnet(&mut list, c, classes),
        BodyConfig::AlexNet(c) => alexnet(&mut list, c, classes),
        BodyConfig::SmallCnn(c) => small_cnn(&mut list, c, classes),
    }
    list.tensors
}

#[derive(Default)]
struct List {
    tensors: Vec<(String, Vec<usize>)>,
    prefix: &'static str,
}

impl List {
    fn add(&mut self, name: &str, part: &str, shape: &[usize]) {
        let name = format!("{}{name}.{part}", self.prefix);
        self.tensors.push((name, shape.to_vec()));
    }

    fn conv(&mut self, name: &str, [to, from]: [usize; 2], kernel: usize) {
        self.add(name, "weight", &[to, from, kernel, kernel]);
    }

    fn conv_with_bias(&mut self, name: &str, channels: [usize; 2], kernel: usize) {
        self.conv(name, channels, kernel);
        self.add(name, "bias", &channels[..1]);
    }

    fn group_norm(&mut self, name: &str, width: usize) {
        self.add(name, "weight", &[width]);
        self.add(name, "bias", &[width]);
    }

    fn batch_norm(&mut self, name: &str, width: usize) {
        self.group_norm(name, width);
        self.add(name, "running_mean", &[width]);
        self.add(name, "running_var", &[width]);
    }

    fn linear(&mut self, name: &str, to: usize, from: usize) {
        self.add(name, "weight", &[to, from]);
        self.add(name, "bias", &[to]);
    }
}

fn vone(list: &mut List, c: &VOneConfig) {
    let cells = c.simple_channels.saturating_add(c.complex_channels);
    list.conv("vone_block.simple_conv_q0", [cells, 3], c.kernel);
    list.conv("vone_block.simple_conv_q1", [cells, 3], c.kernel);
    list.conv("bottleneck", [c.bottleneck, cells], 1);
}

fn cornet_s(list: &mut List, c: &CornetSConfig, classes: usize) {
    let [v1, .., it] = c.widths;
    if let Some(stem) = &c.stem {
        list.conv("V1.conv1", [v1, 3], stem.kernel);
        list.batch_norm("V1.norm1", v1);
        list.conv("V1.conv2", [v1, v1], 3);
        list.batch_norm("V1.norm2", v1);
    }
    for (i, times) in c.times.iter().enumerate() {
        let (area, from, to) = (AREAS[i + 1], c.widths[i], c.widths[i + 1]);
        let wide = to.saturating_mul(c.scale);
        list.conv(&format!("{area}.conv_input"), [to, from], 1);
        list.conv(&format!("{area}.skip"), [to, to], 1);
        list.batch_norm(&format!("{area}.norm_skip"), to);
        list.conv(&format!("{area}.conv1"), [wide, to], 1);
        list.conv(&format!("{area}.conv2"), [wide, wide], 3);
        list.conv(&format!("{area}.conv3"), [to, wide], 1);
        for t in 0..*times {
            list.batch_norm(&format!("{area}.norm1_{t}"), wide);
            list.batch_norm(&format!("{area}.norm2_{t}"), wide);
            list.batch_norm(&format!("{area}.norm3_{t}"), to);
        }
    }
    list.linear("decoder.linear", classes, it);
}

/// `(area, channels in, channels out, kernel)` of the first convolution of CORnet-Z and -RT.
fn inputs(widths: [usize; 4], v1_kernel: usize) -> [(&'static str, usize, usize, usize); 4] {
    let [v1, v2, v4, it] = widths;
    [
        ("V1", 3, v1, v1_kernel),
        ("V2", v1, v2, 3),
        ("V4", v2, v4, 3),
        ("IT", v4, it, 3),
    ]
}

fn cornet_z(list: &mut List, c: &CornetZConfig, classes: usize) {
    for (area, from, to, kernel) in inputs(c.widths, c.v1_kernel) {
        list.conv_with_bias(&format!("{area}.conv"), [to, from], kernel);
    }
    list.linear("decoder.linear", classes, c.widths[3]);
}

fn cornet_rt(list: &mut List, c: &CornetRtConfig, classes: usize) {
    for (area, from, to, kernel) in inputs(c.widths, c.v1_kernel) {
        list.conv_with_bias(&format!("{area}.conv_input"), [to, from], kernel);
        list.group_norm(&format!("{area}.norm_input"), to);
        list.conv(&format!("{area}.conv1"), [to, to], 3);
        list.group_norm(&format!("{area}.norm1"), to);
    }
    list.linear("decoder.linear", classes, c.widths[3]);
}

fn resnet(list: &mut List, c: &ResNetConfig, classes: usize) {
    if let Some(stem) = &c.stem {
        list.conv("conv1", [c.width, 3], stem.kernel);
        list.batch_norm("bn1", c.width);
    }
    let mut from = c.width;
    for (stage, (blocks, planes)) in c.layers.iter().zip(c.planes).enumerate() {
        for block in 0..*blocks {
            let halves = stage > 0 && block == 0;
            let name = format!("layer{}.{block}", stage + 1);
            from = res_block(list, &name, c.block, [planes, from], halves);
        }
    }
    list.linear("fc", classes, from);
}

/// Returns the block's number of output channels.
fn res_block(
    list: &mut List,
    name: &str,
    kind: ResBlock,
    [planes, from]: [usize; 2],
    halves: bool,
) -> usize {
    let to = planes.saturating_mul(kind.expansion());
    // Kernels and channels of the convolutions one after the other.
    let convs: &[(usize, [usize; 2])] = match kind {
        ResBlock::Basic => &[(3, [planes, from]), (3, [planes, planes])],
        ResBlock::Bottleneck => &[
            (1, [planes, from]),
            (3, [planes, planes]),
            (1, [to, planes]),
        ],
    };
    for (i, (kernel, channels)) in convs.iter().enumerate() {
        list.conv(&format!("{name}.conv{}", i + 1), *channels, *kernel);
        list.batch_norm(&format!("{name}.bn{}", i + 1), channels[0]);
    }
    if halves || from != to {
        list.conv(&format!("{name}.downsample.0"), [to, from], 1);
        list.batch_norm(&format!("{name}.downsample.1"), to);
    }
    to
}

/// Where torchvision's `features` have their convolutions: between them stand a ReLU each, and
/// poolings where the configuration has them.
pub(super) fn feature_places(c: &AlexNetConfig) -> Vec<usize> {
    let mut next = 0;
    let step = |conv: &crate::model::config::AlexConv| {
        let here = next;
        next += 2 + usize::from(conv.pool_padding.is_some());
        here
    };
    c.convs.iter().map(step).collect()
}

fn alexnet(list: &mut List, c: &AlexNetConfig, classes: usize) {
    let mut from = c.channels_in;
    for (place, conv) in feature_places(c).into_iter().zip(&c.convs) {
        list.conv_with_bias(&format!("features.{place}"), [conv.out, from], conv.kernel);
        from = conv.out;
    }
    let pooled = c.pool_to.saturating_mul(c.pool_to).saturating_mul(from);
    let [first, second] = c.hidden;
    list.linear("classifier.1", first, pooled);
    list.linear("classifier.4", second, first);
    list.linear("classifier.6", classes, second);
}

fn small_cnn(list: &mut List, c: &SmallCnnConfig, classes: usize) {
    let [first, second] = c.widths;
    list.conv_with_bias("conv1", [first, 3], 3);
    list.conv_with_bias("conv2", [second, first], 3);
    // Two poolings that halve each side.
    let side = c.input / 4;
    list.linear(
        "fc",
        classes,
        side.saturating_mul(side).saturating_mul(second),
    );
}
