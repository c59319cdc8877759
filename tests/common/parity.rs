//! The reference tensors as requests to a session and what must come back. The native test and the browser's go
//! through this one table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use ventral::archive::npy::Array;
use ventral::model::checkpoint::Source;
use ventral::rng::Rng;
use ventral::session::protocol::{Bytes, RawTensor, RunOptions};

use super::arrays::{Named, array, fixture, full_fixture};
use super::{reference, shared};

/// A checkpoint and the reference's tensors.
pub struct Case {
    pub weights: &'static str,
    /// In the full reference set only.
    full: bool,
    /// Images, taps and logits; the gradient too where it is not of the full set.
    arrays: &'static str,
    /// The input is normalised already.
    normalised: bool,
    logits: &'static str,
    /// `(our tap, their key)`.
    taps: &'static [(&'static str, &'static str)],
    /// Every eighth channel of the VOneBlock's answer to the first image is stored.
    vone: bool,
    /// The logits of the first image under the stored noise.
    noisy_logits: Option<&'static str>,
}

const PLAIN: Case = Case {
    weights: "",
    full: false,
    arrays: "",
    normalised: true,
    logits: "logits",
    taps: &[],
    vone: false,
    noisy_logits: None,
};

const CORNET_S: Case = Case {
    weights: "cornet_s_div32.pth",
    arrays: "cornet_s_div32_parity.npz",
    taps: &[
        ("V1.conv1", "V1_conv1"),
        ("V1.pool", "V1_pool"),
        ("decoder.avgpool", "decoder_avgpool"),
        ("V1", "V1"),
        ("V2.t0", "V2_t0"),
        ("V2", "V2"),
        ("V4.t0", "V4_t0"),
        ("V4.t1", "V4_t1"),
        ("V4.t2", "V4_t2"),
        ("V4", "V4"),
        ("IT.t0", "IT_t0"),
        ("IT", "IT"),
    ],
    ..PLAIN
};

/// Four times as wide, at other images.
const WIDER_CORNET_S: Case = Case {
    weights: "cornet_s_div8.pth",
    full: true,
    arrays: "cornet_s_div8_io.npz",
    logits: "decoder",
    ..CORNET_S
};

const CORNET_Z: Case = Case {
    weights: "cornet_z_div8.pth",
    arrays: "cornet_z_div8_parity.npz",
    taps: &[
        ("V1", "V1_t0"),
        ("V2", "V2_t0"),
        ("V4", "V4_t0"),
        ("IT", "IT_t0"),
    ],
    ..PLAIN
};

const CORNET_RT: Case = Case {
    weights: "cornet_rt_small.pth",
    arrays: "cornet_rt_small_parity.npz",
    taps: &[
        ("V1.t0", "V1_t0"),
        ("V1.t1", "V1_t1"),
        ("V1.t2", "V1_t2"),
        ("V1.t3", "V1_t3"),
        ("V1.t4", "V1_t4"),
        ("V2.t0", "V2_t0"),
        ("V2.t1", "V2_t1"),
        ("V2.t2", "V2_t2"),
        ("V2.t3", "V2_t3"),
        ("V2.t4", "V2_t4"),
        ("V4.t0", "V4_t0"),
        ("V4.t1", "V4_t1"),
        ("V4.t2", "V4_t2"),
        ("V4.t3", "V4_t3"),
        ("V4.t4", "V4_t4"),
        ("IT.t0", "IT_t0"),
        ("IT.t1", "IT_t1"),
        ("IT.t2", "IT_t2"),
        ("IT.t3", "IT_t3"),
        ("IT.t4", "IT_t4"),
    ],
    ..PLAIN
};

const VONE_RESNET: Case = Case {
    weights: "voneresnet50_small.pth.tar",
    arrays: "voneresnet50_small_parity.npz",
    taps: &[
        ("bottleneck", "bottleneck"),
        ("layer1", "model.layer1"),
        ("layer2", "model.layer2"),
        ("layer3", "model.layer3"),
        ("layer4", "model.layer4"),
        ("avgpool", "model.avgpool"),
    ],
    vone: true,
    noisy_logits: Some("logits_fixed_noise_first_image"),
    ..PLAIN
};

const VONE_CORNET_S: Case = Case {
    weights: "vonecornets_small.pth.tar",
    arrays: "vonecornets_small_parity.npz",
    taps: &[
        ("bottleneck", "bottleneck"),
        ("V2.t0", "model.V2.output_t0"),
        ("V2.t1", "model.V2.output_t1"),
        ("V4.t0", "model.V4.output_t0"),
        ("V4.t1", "model.V4.output_t1"),
        ("V4.t2", "model.V4.output_t2"),
        ("V4.t3", "model.V4.output_t3"),
        ("IT.t0", "model.IT.output_t0"),
        ("IT.t1", "model.IT.output_t1"),
        ("decoder.avgpool", "model.decoder.avgpool"),
    ],
    vone: true,
    noisy_logits: Some("logits_fixed_noise_first_image"),
    ..PLAIN
};

const VONE_ALEXNET: Case = Case {
    weights: "vonealexnet_small.pth.tar",
    arrays: "vonealexnet_small_parity.npz",
    taps: &[
        ("bottleneck", "bottleneck"),
        ("conv4", "model.features"),
        ("avgpool", "model.avgpool"),
    ],
    vone: true,
    ..PLAIN
};

const SMALL_CNN: Case = Case {
    weights: "small_cnn.safetensors",
    arrays: "small_cnn_parity.npz",
    normalised: false,
    ..PLAIN
};

/// Every family, with images that are away from all kinks.
pub const CASES: &[Case] = &[
    CORNET_S,
    CORNET_Z,
    CORNET_RT,
    VONE_RESNET,
    VONE_CORNET_S,
    VONE_ALEXNET,
    SMALL_CNN,
    WIDER_CORNET_S,
    Case {
        weights: "cornet_s_div8_legacy.pth",
        ..WIDER_CORNET_S
    },
];

/// The same networks at the images of the full set.
pub const MORE_IMAGES: &[Case] = &[
    Case {
        full: true,
        arrays: "cornet_z_div8_io.npz",
        logits: "decoder",
        ..CORNET_Z
    },
    Case {
        full: true,
        arrays: "cornet_rt_small_io.npz",
        logits: "decoder",
        ..CORNET_RT
    },
    Case {
        full: true,
        arrays: "voneresnet50_small_io.npz",
        ..VONE_RESNET
    },
    Case {
        full: true,
        arrays: "vonecornets_small_io.npz",
        ..VONE_CORNET_S
    },
    Case {
        full: true,
        arrays: "vonealexnet_small_io.npz",
        ..VONE_ALEXNET
    },
];

/// What a request must bring back, by tensor name.
pub type Reference = BTreeMap<String, Expected>;

pub struct Expected {
    values: Vec<f32>,
    /// Only these of our values are stored: `(count of the first image's, step in channels, map)`.
    subset: Option<ChannelStep>,
}

/// Every `step`-th channel (of `map` values) of the first image of `channels` channels.
#[derive(Clone, Copy)]
struct ChannelStep {
    channels: usize,
    step: usize,
    map: usize,
}

/// The checkpoint of a case; it is there when [`requests`] found its tensors.
pub fn weights(case: &Case) -> Box<dyn Source> {
    let path = match case.full {
        true => shared(&format!("fixtures/{}", case.weights)).expect("its tensors were found"),
        false => reference(case.weights),
    };
    Box::new(BufReader::new(File::open(path).expect("a fixture opens")))
}

/// The least distance of a unit from its kink, in units of its layer's root mean square, that makes a
/// gradient comparable: a hundred times what programs differ by.
const LEAST_MARGIN: f64 = 1e-3;

/// The requests of a case with their references; `None` for what is in the full reference set only, where
/// that is not here.
#[track_caller]
pub fn requests(case: &Case) -> Option<Vec<(RunOptions, Reference)>> {
    match case.full {
        true => {
            let noise = full_fixture("vonenet_fixed_noise.npz")?;
            Some(requests_of(case, &mut full_fixture(case.arrays)?, noise))
        }
        false => {
            let noise = fixture("vonenet_fixed_noise.npz");
            Some(requests_of(case, &mut fixture(case.arrays), noise))
        }
    }
}

fn requests_of(
    case: &Case,
    arrays: &mut impl Named,
    mut noise: impl Named,
) -> Vec<(RunOptions, Reference)> {
    let input = array(arrays, "input");
    let labels = array(arrays, "labels").data.to_i64();
    let labels = labels.expect("labels are integers");
    let mut reference = Reference::new();
    for (ours, theirs) in case.taps {
        reference.insert((*ours).to_owned(), expected(array(arrays, theirs)));
    }
    reference.insert("logits".to_owned(), expected(array(arrays, case.logits)));
    // The full set's images have units on their kinks, of which one program says this and another that.
    if !case.full {
        let margin = array(arrays, "margin").data.to_f64()[0];
        assert!(margin >= LEAST_MARGIN, "{}: {margin:e}", case.weights);
        let gradient = expected(array(arrays, "grad_input_ce_mean"));
        reference.insert("gradient".to_owned(), gradient);
    }
    let taps = case.taps.iter().map(|(ours, _)| (*ours).to_owned());
    let mut taps: Vec<String> = taps.collect();
    if case.vone {
        taps.push("V1".to_owned());
        reference.insert("V1".to_owned(), vone_reference(arrays));
    }
    let first = RunOptions {
        input: raw(&input),
        normalised: case.normalised,
        taps,
        noise: None,
        labels: labels.iter().map(|l| *l as usize).collect(),
        attack: None,
    };
    let mut requests = vec![(first, reference)];
    if let Some(key) = case.noisy_logits {
        let noise = array(&mut noise, "fixed_noise");
        requests.push(noisy(&input, &noise, array(arrays, key)));
    }
    requests
}

fn expected(array: Array) -> Expected {
    Expected {
        values: array.data.to_f32(),
        subset: None,
    }
}

fn vone_reference(io: &mut impl Named) -> Expected {
    let stored = array(io, "vone_block_ch_every8");
    let [_, kept, height, width] = stored.shape[..] else {
        panic!("the VOneBlock's answer has four axes");
    };
    Expected {
        values: stored.data.to_f32(),
        subset: Some(ChannelStep {
            channels: 8 * kept,
            step: 8,
            map: height * width,
        }),
    }
}

/// The first image under the stored noise.
fn noisy(input: &Array, noise: &Array, logits: Array) -> (RunOptions, Reference) {
    let mut first = raw(input);
    let images = first.shape[0];
    let bytes = first.data.len() / images;
    first.data = Bytes::from(first.data[..bytes].to_vec());
    first.shape[0] = 1;
    let options = RunOptions {
        input: first,
        normalised: true,
        noise: Some(raw(noise)),
        ..RunOptions::default()
    };
    let logits = BTreeMap::from([("logits".to_owned(), expected(logits))]);
    (options, logits)
}

fn raw(array: &Array) -> RawTensor {
    let bytes: Vec<u8> = array
        .data
        .to_f32()
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    RawTensor {
        name: String::new(),
        shape: array.shape.clone(),
        data: Bytes::from(bytes),
    }
}

/// max |ours − theirs| / max |theirs|, a tensor; panics where one did not come back.
pub fn worst_error(tensors: &[RawTensor], reference: &Reference) -> Vec<(String, f32)> {
    reference
        .iter()
        .map(|(name, expected)| (name.clone(), expected.error(&floats_of(tensors, name))))
        .collect()
}

/// The cosine of the angle between ours and theirs: 1 where both have the same direction.
pub fn cosine_of(name: &str, tensors: &[RawTensor], reference: &Reference) -> f32 {
    let (ours, theirs) = (floats_of(tensors, name), &reference[name].values);
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        terms.sum()
    };
    let sizes = product(&ours, &ours) * product(theirs, theirs);
    (product(&ours, theirs) / sizes.sqrt()) as f32
}

/// The errors of what `ask` answers to the requests, in one go.
pub fn errors(
    requests: &[(RunOptions, Reference)],
    ask: &mut dyn FnMut(&[RunOptions]) -> Vec<Vec<RawTensor>>,
) -> Vec<(String, f32)> {
    let runs: Vec<RunOptions> = requests.iter().map(|(run, _)| run.clone()).collect();
    let answers = ask(&runs);
    assert_eq!(answers.len(), requests.len(), "one answer a request");
    let pairs = answers.iter().zip(requests);
    pairs
        .flat_map(|(tensors, (_, reference))| worst_error(tensors, reference))
        .collect()
}

/// Tells a case's errors and holds them below the tolerance.
#[track_caller]
pub fn hold(place: &str, case: &Case, errors: &[(String, f32)], tolerance: f32) {
    for (name, error) in errors {
        println!("{place:8} {:32} {name:28} {error:.2e}", case.weights);
        assert!(*error < tolerance, "{} {name}: {error:e}", case.weights);
    }
    assert!(errors.len() >= 2, "{} compared too little", case.weights);
}

/// How far: a rounding of the largest pixels.
const MOVE: f32 = 1e-7;

/// Moves each by at most a rounding of its own, or of 1 where it is smaller; `which` is the seed.
pub fn move_by_rounding(values: &mut [f32], which: usize) {
    let mut rng = Rng::from_seed(which as u64);
    for value in values {
        *value += (2.0 * rng.uniform_f32() - 1.0) * MOVE * value.abs().max(1.0);
    }
}

/// max |ours − theirs| over all tensors; panics where one did not come back.
pub fn absolute_error(tensors: &[RawTensor], reference: &Reference) -> f32 {
    let differences = reference
        .iter()
        .map(|(name, expected)| expected.difference(&floats_of(tensors, name)));
    differences.fold(0.0, f32::max)
}

fn floats_of(tensors: &[RawTensor], name: &str) -> Vec<f32> {
    let found = tensors.iter().find(|t| t.name == name);
    let found = found.unwrap_or_else(|| panic!("{name} did not come back"));
    floats(&found.data)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

impl Expected {
    /// max |ours − theirs| / max |theirs|.
    fn error(&self, ours: &[f32]) -> f32 {
        self.difference(ours) / self.scale()
    }

    /// max |theirs|.
    fn scale(&self) -> f32 {
        self.values.iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    /// max |ours − theirs|, infinite where one of ours is not a number.
    fn difference(&self, ours: &[f32]) -> f32 {
        let picked = match self.subset {
            None => ours.to_vec(),
            Some(s) => ours
                .chunks_exact(s.map)
                .take(s.channels)
                .step_by(s.step)
                .flatten()
                .copied()
                .collect(),
        };
        assert_eq!(picked.len(), self.values.len(), "another number of values");
        let worst = picked
            .iter()
            .zip(&self.values)
            .map(|(ours, theirs)| (ours - theirs).abs());
        worst.fold(
            0.0,
            |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) },
        )
    }
}
