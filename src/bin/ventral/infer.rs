//! `ventral infer`.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use ventral::model::checkpoint::npy::{Array, Data, NpzWriter};
use ventral::model::load::Loaded;
use ventral::model::network::Network;
use ventral::model::probe::{CancelToken, Probe, Taps};
use ventral::rng::Rng;

use crate::backend::Place;
use crate::output::write_file;
use crate::weights::Choice;
use crate::{Failure, input};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: Choice,
    /// A picture, or an `.npy` file of NCHW f32 pixels in [0, 1].
    #[arg(long)]
    input: PathBuf,
    /// What to keep, by name and separated by commas: `V1,V4.t2,IT,logits`. A recurrent area's
    /// name alone is its last time step.
    #[arg(long, value_delimiter = ',', default_value = "logits")]
    taps: Vec<String>,
    /// The noise of a stochastic front-end: `off`, or the seed of one sample an image.
    #[arg(long, default_value = "off", value_parser = parse_noise)]
    noise: Noise,
    /// The input is normalised already: skip the model's preprocessing.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    output: PathBuf,
}

#[derive(Clone, Copy)]
enum Noise {
    Off,
    Seed(u64),
}

fn parse_noise(text: &str) -> Result<Noise, String> {
    match text {
        "off" => Ok(Noise::Off),
        _ => text
            .parse()
            .map(Noise::Seed)
            .map_err(|_| format!("`{text}` is neither `off` nor a seed")),
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.model.load()?;
    let device = args.place.device()?.device;
    let network = loaded.to_network(&device);
    check_taps(&args.taps, &network)?;
    let read = read_input(&args.input, &loaded, args.raw)?;
    let ([n, _, height, width], values) = check_shape(&args.input, read)?;
    for side in [height, width] {
        input::check_side(&loaded.config, side)?;
    }
    let x = Tensor::<4>::from_data(TensorData::new(values, [n, 3, height, width]), &device);
    let noise = match args.noise {
        Noise::Off => None,
        Noise::Seed(seed) => {
            let mut rng = Rng::stream(seed, "front-end noise");
            network.draw_noise(n, height, &mut rng, &device)
        }
    };
    let wanted = args.taps.iter().filter(|t| *t != "logits").cloned();
    let mut probe = Probe::new(Taps::Named(wanted.collect()), CancelToken::default());
    let logits = match args.raw {
        true => network.forward_normalised(x, noise, &mut probe)?,
        false => network.forward_probed(x, noise, &mut probe)?,
    };
    let activations = probe.into_activations();
    write_file(&args.output, |out| {
        let mut npz = NpzWriter::new(out);
        if args.taps.iter().any(|tap| tap == "logits") {
            npz.add("logits", &to_array(logits.clone())?)?;
        }
        for (name, tensor) in activations {
            npz.add(&name, &to_array(tensor)?)?;
        }
        npz.finish()?;
        Ok(())
    })?;
    print_best(&loaded, logits)
}

type Input = ([usize; 4], Vec<f32>);

/// An array that is normalised already may hold any numbers, but none that is no number.
fn read_input(
    path: &Path,
    loaded: &Loaded,
    is_raw: bool,
) -> Result<(Vec<usize>, Vec<f32>), Failure> {
    if input::is_npy(path) && is_raw {
        let array = input::array(path)?;
        let values = array.data.to_f32();
        return match values.iter().all(|value| value.is_finite()) {
            true => Ok((array.shape, values)),
            false => Err(format!("{}: it holds values that are no numbers", path.display()).into()),
        };
    }
    if input::is_npy(path) {
        let pixels = input::pixels(path, &[3])?;
        return Ok((pixels.shape.to_vec(), pixels.values));
    }
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = std::fs::read(path).map_err(|e| said(&e))?;
    let p = &loaded.config.preprocessing;
    let pixels = input::picture(&bytes, p).map_err(|e| said(&e))?;
    Ok((vec![1, 3, p.crop, p.crop], pixels))
}

fn check_shape(path: &Path, (shape, values): (Vec<usize>, Vec<f32>)) -> Result<Input, Failure> {
    match *shape.as_slice() {
        [n, 3, height, width] if n > 0 && height >= 8 && width >= 8 => {
            Ok(([n, 3, height, width], values))
        }
        _ => Err(format!(
            "{}: the shape {shape:?} is not images x 3 x height x width (at least 8 px)",
            path.display()
        )
        .into()),
    }
}

fn check_taps(taps: &[String], network: &Network) -> Result<(), Failure> {
    let infos = network.taps();
    let known = |tap: &str| {
        tap == "logits"
            || infos
                .iter()
                .any(|info| info.name == tap || info.area == tap)
    };
    let Some(unknown) = taps.iter().find(|tap| !known(tap)) else {
        return Ok(());
    };
    let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    Err(format!(
        "there is no tap `{unknown}`; this model has {}, logits",
        names.join(", ")
    )
    .into())
}

fn to_array<const D: usize>(tensor: Tensor<D>) -> Result<Array, Failure> {
    let shape = tensor.dims().to_vec();
    let values = tensor
        .into_data()
        .try_to_vec()
        .map_err(|e| format!("{e:?}"))?;
    Ok(Array::new(shape, Data::F32(values))?)
}

fn print_best(loaded: &Loaded, logits: Tensor<2>) -> Result<(), Failure> {
    let [_, classes] = logits.dims();
    let values: Vec<f32> = logits
        .into_data()
        .try_to_vec()
        .map_err(|e| format!("{e:?}"))?;
    for (i, row) in values.chunks_exact(classes).enumerate() {
        let best = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        let class = best.unwrap_or_default();
        let label = loaded.classes.get(class).map_or("", String::as_str);
        println!(
            "image {i}: {label} (class {class}, logit {:.3})",
            row[class]
        );
    }
    Ok(())
}
