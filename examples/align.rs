//! Fine-tunes CORnet-S's IT towards an area of the adversarially trained ResNet, ten steps.
//!
//! `cargo run --release --example align`

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use ventral::align::plan::Plan;
use ventral::align::target::TargetActivations;
use ventral::compute::device::Devices;
use ventral::experiment::alignment::images::Images;
use ventral::image::dataset::{LoadOptions, Split, load, quiet};
use ventral::model::load::{Loaded, read};
use ventral::model::probe::CancelToken;

fn model(name: &str) -> Result<Loaded, Box<dyn std::error::Error>> {
    let file = BufReader::new(File::open(format!("static/models/{name}.safetensors"))?);
    let cancel = CancelToken::default();
    Ok(read(name, vec![Box::new(file)], &cancel, |_, _, _| {})?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::parse(&fs::read_to_string("plans/align-cornet-s.toml")?)?;
    plan.steps = 10;
    let (name, tap) = plan.target.model().ok_or("the target is no model")?;
    let (student, teacher) = (model(&plan.model)?, model(name)?);
    let (device, cancel) = (Devices::cpu("", None).device, CancelToken::default());

    let (size, cache) = (student.config.preprocessing.crop, None);
    let images = Path::new("static/testset/cifar10-1000.tar.gz");
    let set = load(
        images,
        Split::Test,
        &LoadOptions { size, cache },
        &mut quiet,
    )?;
    let (stimuli, rest) = Images::split(&set.in_turns(usize::MAX), plan.data.stimuli);
    let activations = TargetActivations::of(&teacher, tap, &stimuli, &device, &cancel);
    let activations = Some(pollster::block_on(activations)?);
    let images = Images {
        stimuli,
        labelled: true,
        rest,
        activations,
        ..Images::default()
    };

    let (mut aligner, _) = images.aligner(plan, &student, &device, &cancel)?;
    println!("{:?}", pollster::block_on(aligner.evaluate())?);
    while !aligner.is_finished() {
        let step = pollster::block_on(aligner.step())?;
        println!("step {}: loss {:.3}", step.step, step.loss);
    }
    println!("{:?}", pollster::block_on(aligner.evaluate())?);
    Ok(())
}
