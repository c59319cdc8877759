//! An adversarial picture: projected gradient descent in L∞ 4/255 against a shipped model.
//!
//! `cargo run --release --example attack`

use std::fs::{self, File};
use std::io::BufReader;

use ventral::compute::device::Devices;
use ventral::image::{decode, to_input};
use ventral::model::load;
use ventral::model::probe::CancelToken;
use ventral::perturb::attack::descent::Descent;
use ventral::perturb::attack::network::{NetworkOracle, Noise};
use ventral::perturb::attack::plan::{Plan, run};
use ventral::perturb::attack::registry::Attack;
use ventral::perturb::attack::{Criterion, Norm, Step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cancel = CancelToken::default();
    let name = "resnet-cifar10.safetensors";
    let file = BufReader::new(File::open(format!("static/models/{name}"))?);
    let model = load::read(name, vec![Box::new(file)], &cancel, |_, _, _| {})?;
    let picture = decode(&fs::read("static/samples/cifar/ship.png")?)?.picture;
    let sides = &model.config.preprocessing;
    let pixels = to_input(&picture, sides.into())?;

    // Gradients need the side of the device that records them.
    let device = Devices::cpu("", None).device;
    let network = model.to_network(&device.clone().autodiff());
    let mut oracle = NetworkOracle::new(&network, device, sides.crop, Noise::Off, cancel);
    let plan = Plan {
        attack: Attack::Descent(Descent::bim(Norm::Linf, 4.0 / 255.0)),
        seed: 0,
        eight_bit: false,
        passes: 1,
    };
    let ship = model.classes.iter().position(|class| class == "ship");
    let criterion = Criterion::untargeted(vec![ship.ok_or("this model knows no ships")?]);
    let mut watch = |step: Step<'_>| {
        println!("step {} of {}", step.step, step.steps);
    };
    let outcome = run(&plan, &mut oracle, &pixels, &criterion, None, &mut watch);
    let outcome = pollster::block_on(outcome)?;
    let pairs = outcome.pixels.iter().zip(&pixels);
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!(
        "{} became {}; the largest change is {:.2}/255",
        model.classes[outcome.before.best()[0]],
        model.classes[outcome.after.best()[0]],
        255.0 * largest
    );
    Ok(())
}
