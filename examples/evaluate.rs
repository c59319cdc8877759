//! The robustness of two shipped models as a table: `cargo run --release --example evaluate`

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ventral::compute::device::Devices;
use ventral::experiment::engine::{Experiment, Place, Watch, drive};
use ventral::experiment::journal::{Journal, JournalStore, MemoryStore};
use ventral::experiment::robustness::Row;
use ventral::experiment::robustness::plan::Plan;
use ventral::experiment::robustness::run::{Candidate, Robustness};
use ventral::image::dataset::{LoadOptions, Split, load, quiet};
use ventral::model;
use ventral::model::probe::CancelToken;
use ventral::perturb::corruption::Textures;

const PLAN: &str = r#"
version = 1
name = "example"
models = ["resnet-cifar10", "voneresnet-cifar10"]
images = 20
corruptions = [{ kinds = ["gaussian_noise"], severities = [3] }]
attacks = [{ attack = "pgd", eps = ["1/255"], steps = 8 }]
"#;

/// Would show how far the run is.
struct Silent;

impl Watch<Row> for Silent {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (plan, cancel) = (Plan::parse(PLAN)?, CancelToken::default());
    let device = Devices::cpu("", None).device;
    let mut candidates = Vec::new();
    for name in &plan.models {
        let file = BufReader::new(File::open(format!("static/models/{name}.safetensors"))?);
        let loaded = model::load::read(name, vec![Box::new(file)], &cancel, |_, _, _| {})?;
        let (size, cache) = (loaded.config.preprocessing.crop, None);
        let options = LoadOptions { size, cache };
        let images = Path::new("static/testset/cifar10-1000.tar.gz");
        let set = load(images, Split::Test, &options, &mut quiet)?;
        let set = set.in_turns(plan.images);
        candidates.push(Candidate::new(&loaded, set, &plan.classes, &device)?);
    }
    let textures = Textures::default();
    let test = Robustness::new(&plan, &candidates, &device, &textures)?;
    // A `FileStore` keeps finished units, so that an interrupted run resumes.
    let store = MemoryStore::default();
    let mut journal = Journal::unkept(&store as &dyn JournalStore, "example");
    let place = Place {
        cancel: &cancel,
        keep_every: f32::INFINITY,
    };
    let units = test.units();
    pollster::block_on(drive(&test, &units, &mut journal, place, &Silent))?;
    println!("{}", test.report(journal.rows())?.markdown(""));
    Ok(())
}
