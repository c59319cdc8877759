//! The bench Test: a robustness plan, run unit by unit and kept as it goes.

use std::collections::BTreeSet;
use std::io::Read;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::engine::{Attachment, Host, Session, SessionError, read_weights};
use super::protocol::{
    Brought, Bytes, Confused, Event, Progress, SetInfo, TestOptions, TestReport, TestedChart,
    TestedCondition, TestedLost, TestedModel,
};
use crate::align::stages::stages;
use crate::clock::Clock;
use crate::compute::description::BackendChoice;
use crate::compute::device::Active;
use crate::image::dataset::{LabelledSet, OpenOptions, Opened, open, quiet};
use crate::image::{Picture, encode_png};
use crate::measure::chart::Chart;
use crate::measure::robustness::Row;
use crate::measure::robustness::charts::confusion as confusion_chart;
use crate::measure::robustness::journal::{Done, Journal, line};
use crate::measure::robustness::outcomes::{Lost, class_name, confusion, confusion_table};
use crate::measure::robustness::plan::{Condition, Plan, Treatment, Unit};
use crate::measure::robustness::presets;
use crate::measure::robustness::report::{ModelReport, Report, Style, Table, rows_csv};
use crate::measure::robustness::run::{Bench, RunError};
use crate::model::classes::{self, LEFT_OUT, match_classes};
use crate::model::cost::multiply_adds;
use crate::model::load::Loaded;
use crate::model::network::Network;

/// The largest archive of images that is taken, bytes: a page has at most 4 GB.
const MOST_BYTES: u64 = 1 << 30;

/// Unreadable files that are named.
const MOST_SKIPPED: usize = 50;

/// Images of the gallery of those that are lost.
const MOST_LOST: usize = 24;

/// How often the tables are made anew while a test runs, seconds. They cost more the longer it has
/// run.
const TABLES_EVERY: f32 = 1.0;

/// Pixels that a batch of a preset's plan holds, about: 50 images of 32 px.
const BATCH_PIXELS: usize = 50 * 32 * 32;

/// What tests are made of.
#[derive(Default)]
pub(super) struct Laboratory {
    models: Vec<Loaded>,
    pub set: Option<Archive>,
    answers: Option<Answers>,
}

/// What the last test has come to.
struct Answers {
    plan: Plan,
    rows: Vec<Row>,
    /// Of the classes, where the models share them.
    names: Vec<String>,
}

/// Labelled images as they came. They are decoded for the size a model takes.
pub(super) struct Archive {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub hash: u64,
    /// Of the files the images are of, in their order; empty where they have none.
    pub names: Vec<String>,
    /// How many images can be read.
    pub images: usize,
    pub classes: Vec<String>,
}

/// What a journal begins with: a test of another head is another test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    plan: Plan,
    weights: Vec<String>,
    data: u64,
    version: String,
    /// Convolutions read weights in 16 bits a number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    half: bool,
}

/// A model on the device with the images it takes.
struct Subject {
    network: Network,
    set: LabelledSet,
    classes: Vec<usize>,
    /// Multiply-adds of a pass over an image.
    cost: f64,
}

impl Session {
    /// Reads a model for tests.
    pub(super) async fn bring(
        &mut self,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let mut loaded = read_weights(name, attachment, host).await?;
        // Under this name the page asks for it again.
        loaded.name = name.to_owned();
        let network = loaded.to_network(&Device::flex());
        host.tell(Event::Brought(Brought {
            name: loaded.name.clone(),
            family: loaded.family.clone(),
            classes: loaded.classes.clone(),
            side: loaded.config.preprocessing.crop,
            stochastic: loaded.config.front.is_some(),
            areas: network.areas(),
            stages: stages(&network),
        }));
        let models = &mut self.laboratory.models;
        models.retain(|known| known.name != loaded.name);
        models.push(loaded);
        Ok(())
    }

    /// Takes labelled images for tests.
    pub(super) fn take_set(
        &mut self,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let bytes = whole(attachment)?;
        // The size does not matter for what is said of it.
        let options = OpenOptions {
            size: 32,
            images: usize::MAX,
            without: Vec::new(),
            flat: true,
            in_order: true,
        };
        let Opened {
            set,
            names,
            skipped,
        } = open(&bytes, name, &options, &mut quiet)?;
        let (counts, images) = (set.counts(), set.len());
        let classes = set.classes.clone();
        let listed = skipped.iter().take(MOST_SKIPPED);
        host.tell(Event::Set(SetInfo {
            name: name.to_owned(),
            images,
            unreadable: skipped.len(),
            skipped: listed
                .map(|(name, why)| (name.clone(), why.reason()))
                .collect(),
            classes: set.classes.into_iter().zip(counts).collect(),
        }));
        self.laboratory.set = Some(Archive {
            name: name.to_owned(),
            hash: digest(&bytes),
            bytes,
            names,
            images,
            classes,
        });
        Ok(())
    }

    /// Runs a test, from where an earlier start of it was.
    pub(super) async fn test(
        &mut self,
        options: &TestOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let half = self.device(host).await.info.half;
        let loaded = self.laboratory.chosen(&options.models)?;
        let plan = plan(options, &loaded)?;
        let archive = self
            .laboratory
            .set
            .as_ref()
            .ok_or(SessionError::Missing("Choose labelled images first."))?;
        let names = classes::shared(loaded.iter().map(|one| one.classes.as_slice()));
        let head = Head {
            plan: plan.clone(),
            weights: loaded.iter().map(|l| l.hash.clone()).collect(),
            data: archive.hash,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            half,
        };
        self.laboratory.answers = None;
        let mut run = Run::open(head, host).await?;
        loop {
            let active = self.device(host).await;
            let ended = self
                .go(&plan, &mut run, (&options.models, &names), &active, host)
                .await;
            match ended {
                // What a lost GPU has finished is kept; the CPU does the rest.
                Err(SessionError::Attack(_)) if active.info.kind != BackendChoice::Cpu => {
                    self.start(BackendChoice::Cpu, host).await?;
                }
                ended => {
                    host.close_journal();
                    let rows = run.rows;
                    self.laboratory.answers = Some(Answers { plan, rows, names });
                    return ended;
                }
            }
        }
    }

    /// What a model of the last test took images for, clean and in a condition; the hardest where
    /// none is named.
    pub(super) fn confuse(
        &self,
        model: &str,
        condition: String,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let answers = self.laboratory.answers.as_ref();
        let Answers { plan, rows, names } =
            answers.ok_or(SessionError::Missing("Run a test first."))?;
        let is_known = |name: &str| rows.iter().any(|row| row.condition == name);
        if !plan.models.iter().any(|known| known == model)
            || !(condition.is_empty() || is_known(&condition))
        {
            return Err(SessionError::Missing(
                "The last test has no answers to this.",
            ));
        }
        let condition = match condition.is_empty() {
            true => {
                let report = Report::new(plan, rows, plan.images)?;
                report.hardest(model).unwrap_or("clean").to_owned()
            }
            false => condition,
        };
        let mut told = Confused {
            model: model.to_owned(),
            charts: Vec::new(),
            tables: Vec::new(),
            condition,
        };
        let mut shown = vec!["clean"];
        shown.extend((told.condition != "clean").then_some(told.condition.as_str()));
        for condition in shown {
            let found = confusion(rows, model, condition);
            match confusion_chart(&found, names) {
                Some(chart) => told.charts.push(drawn(chart)),
                None => {
                    let Table { head, rows } = confusion_table(&found, names);
                    told.tables
                        .push((condition.to_owned(), [vec![head], rows].concat()));
                }
            }
        }
        host.tell(Event::Confused(Box::new(told)));
        Ok(())
    }

    async fn go(
        &self,
        plan: &Plan,
        run: &mut Run,
        (models, names): (&[String], &[String]),
        active: &Active,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let conditions = plan.conditions()?;
        let loaded = self.laboratory.chosen(models)?;
        let mut subjects = Vec::with_capacity(loaded.len());
        for one in loaded {
            host.pause().await;
            host.cancel().check()?;
            subjects.push(self.laboratory.subject(one, plan, active)?);
        }
        let images = subjects.iter().map(|s| s.set.len()).min().unwrap_or(0);
        let units = plan.units(conditions.len(), images);
        let pause = || host.pause();
        let mut meter = Meter::new(&units, plan, &conditions, &subjects, &run.done);
        let mut tables = Tables {
            plan,
            conditions: &conditions,
            images,
            set: &subjects[0].set,
            names,
            half: run.half,
            told: None,
        };
        host.tell(Event::Tested(Box::new(tables.make(&run.rows, false)?)));
        for unit in &units {
            if run.done.contains(&unit.number) {
                continue;
            }
            host.tell(meter.progress(&conditions[unit.condition], &plan.models[unit.model]));
            let subject = &subjects[unit.model];
            let bench = Bench {
                plan,
                conditions: &conditions,
                set: &subject.set,
                classes: &subject.classes,
                network: &subject.network,
                device: active.device.clone(),
                textures: &self.textures,
                cancel: host.cancel().clone(),
                pause: Some(&pause),
            };
            let rows = bench.run(unit, &mut |_| {}).await?;
            run.keep(unit.number, rows, host)?;
            meter.finished(unit);
            if tables.are_due() {
                host.tell(Event::Tested(Box::new(tables.make(&run.rows, false)?)));
            }
            host.pause().await;
            host.cancel().check()?;
        }
        host.tell(Event::Tested(Box::new(tables.make(&run.rows, true)?)));
        Ok(())
    }
}

impl From<RunError> for SessionError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Cancelled => Self::Cancelled(crate::model::probe::Cancelled),
            RunError::Failed(sentence) => Self::Attack(sentence),
        }
    }
}

impl Laboratory {
    /// The models of these names, in this order.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<&Loaded>, SessionError> {
        let find = |name: &String| {
            let found = self.models.iter().find(|model| model.name == *name);
            found.ok_or_else(|| SessionError::Attack(format!("The model {name} was not read yet.")))
        };
        match names.is_empty() {
            true => Err(SessionError::Missing("Choose at least one model to test.")),
            false => names.iter().map(find).collect(),
        }
    }

    fn subject(
        &self,
        loaded: &Loaded,
        plan: &Plan,
        active: &Active,
    ) -> Result<Subject, SessionError> {
        let archive = self
            .set
            .as_ref()
            .ok_or(SessionError::Missing("Choose labelled images first."))?;
        let side = loaded.config.preprocessing.crop;
        let left_out = plan.classes.iter().filter(|(_, class)| *class == LEFT_OUT);
        let options = OpenOptions {
            size: side,
            images: plan.images,
            without: left_out.map(|(name, _)| name.clone()).collect(),
            flat: true,
            in_order: false,
        };
        let set = open(&archive.bytes, &archive.name, &options, &mut quiet)?.set;
        let classes = match_classes(&set.classes, &loaded.classes, &plan.classes);
        let classes = classes.map_err(|unknown| {
            SessionError::Attack(format!(
                "{} does not fit {}: {unknown}. Say under Classes what they are, or leave them out.",
                loaded.name, archive.name
            ))
        })?;
        // No image of a class that is left out is there to be looked up.
        let classes = classes.into_iter().map(Option::unwrap_or_default).collect();
        Ok(Subject {
            network: loaded.to_network(&active.device.clone().autodiff()),
            set,
            classes,
            cost: multiply_adds(&loaded.config, side) as f64,
        })
    }
}

/// Images a batch on a page, `most` of them where they are small.
pub(super) fn batch(side: usize, most: usize) -> usize {
    (BATCH_PIXELS / (side * side).max(1)).clamp(1, most.max(1))
}

/// The plan a request asks for.
fn plan(options: &TestOptions, models: &[&Loaded]) -> Result<Plan, SessionError> {
    let mut plan = match &options.plan {
        Some(text) => Plan::parse(text)?,
        None => {
            let preset = presets::find(&options.preset)
                .ok_or(SessionError::Missing("There is no preset of that name."))?;
            let mut plan = preset.plan(Vec::new());
            let side = models.iter().map(|m| m.config.preprocessing.crop).max();
            plan.batch = batch(side.unwrap_or(32), plan.batch);
            plan.seeds = vec![options.seed];
            plan
        }
    };
    plan.models.clone_from(&options.models);
    plan.reference = None;
    plan.classes.extend(options.classes.clone());
    plan.images = options.images.unwrap_or(plan.images);
    plan.check()?;
    Ok(plan)
}

/// All of a file that came with a request.
pub(super) fn whole(attachment: Option<Attachment>) -> Result<Vec<u8>, SessionError> {
    let source = attachment.ok_or(SessionError::Missing("No file came with the request."))?;
    let mut bytes = Vec::new();
    let read = source.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|_| SessionError::Missing("The file could not be read."))?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err(SessionError::Missing(
            "The file is larger than 1 GB, more than a page can hold. The command line has no such \
             limit.",
        )),
        false => Ok(bytes),
    }
}

/// The first 64 bits of a hash.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    use sha2::{Digest, Sha256};
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    // Eight of 32 bytes are always there.
    u64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
}

/// What a test has done so far, in memory and where the host keeps it.
struct Run {
    rows: Vec<Row>,
    done: BTreeSet<usize>,
    /// As it was begun.
    half: bool,
}

impl Run {
    async fn open(head: Head, host: &dyn Host) -> Result<Self, SessionError> {
        let begin = line(&head).map_err(unwritable)?;
        let name = format!("{:016x}.jsonl", digest(&begin));
        let kept = host.open_journal(&name).await;
        let mut run = Self {
            rows: Vec::new(),
            done: BTreeSet::new(),
            half: head.half,
        };
        // What cannot be read is of another version of this page, or damaged: from the beginning.
        let old = Journal::<Head>::read(&kept).ok().flatten();
        match old.filter(|old| old.head == head) {
            Some(old) => {
                host.cut_journal(old.sound);
                for unit in old.units {
                    run.done.insert(unit.unit);
                    run.rows.extend(unit.rows);
                }
            }
            None => {
                host.cut_journal(0);
                host.append_journal(&begin);
            }
        }
        Ok(run)
    }

    fn keep(&mut self, unit: usize, rows: Vec<Row>, host: &dyn Host) -> Result<(), SessionError> {
        let done = Done { unit, rows };
        host.append_journal(&line(&done).map_err(unwritable)?);
        self.done.insert(unit);
        self.rows.extend(done.rows);
        Ok(())
    }
}

fn unwritable(_: serde_json::Error) -> SessionError {
    SessionError::Missing("A result has no written form.")
}

/// How far a test is, in multiply-adds, and how fast.
struct Meter {
    costs: Vec<f64>,
    done: f64,
    total: f64,
    /// Done in this start.
    here: f64,
    clock: Clock,
}

impl Meter {
    fn new(
        units: &[Unit],
        plan: &Plan,
        conditions: &[Condition],
        subjects: &[Subject],
        done: &BTreeSet<usize>,
    ) -> Self {
        let cost = |unit: &Unit| {
            let subject = &subjects[unit.model];
            let stochastic = subject.network.is_stochastic();
            let passes = conditions[unit.condition].cost(plan, stochastic);
            passes * unit.images as f64 * subject.cost
        };
        let costs: Vec<f64> = units.iter().map(cost).collect();
        Self {
            done: done.iter().filter_map(|number| costs.get(*number)).sum(),
            total: costs.iter().sum(),
            costs,
            here: 0.0,
            clock: Clock::start(),
        }
    }

    fn finished(&mut self, unit: &Unit) {
        self.done += self.costs[unit.number];
        self.here += self.costs[unit.number];
    }

    fn progress(&self, condition: &Condition, model: &str) -> Event {
        let left = (self.total - self.done) / self.here;
        let seconds = f64::from(self.clock.seconds()) * left;
        Event::Progress(Progress {
            stage: format!("{model}, {}", condition.name()),
            // In thousandths: a count of units would run ahead of the time they take.
            done: (1000.0 * self.done / self.total.max(1.0)) as u64,
            total: 1000,
            bytes: false,
            seconds_left: (self.here > 0.0).then_some(seconds as f32),
        })
    }
}

/// Makes tables of rows, now and then.
struct Tables<'a> {
    plan: &'a Plan,
    conditions: &'a [Condition<'a>],
    images: usize,
    /// The images of the first model.
    set: &'a LabelledSet,
    /// Of the classes, where the models share them.
    names: &'a [String],
    half: bool,
    told: Option<Clock>,
}

impl Tables<'_> {
    fn are_due(&self) -> bool {
        self.told.is_none_or(|told| told.seconds() > TABLES_EVERY)
    }

    fn make(&mut self, rows: &[Row], ended: bool) -> Result<TestReport, SessionError> {
        let report = Report::new(self.plan, rows, self.images)?;
        let made = TestReport {
            lost: match ended {
                true => self.lost(&report, rows),
                false => Vec::new(),
            },
            documents: match ended {
                true => self.documents(&report, rows)?,
                false => Vec::new(),
            },
            ..told(&report, self.conditions, self.remark())?
        };
        self.told = Some(Clock::start());
        Ok(made)
    }

    fn remark(&self) -> String {
        let Plan { eot, passes, .. } = self.plan;
        let stored = if self.half { "; weights in f16" } else { "" };
        format!(
            "{} images; stochastic models: {passes} passes judge an image (n), {eot} samples a \
             gradient (k); seeds {:?}{stored}.",
            self.images, self.plan.seeds
        )
    }

    fn lost(&self, report: &Report, rows: &[Row]) -> Vec<TestedLost> {
        let model = self.plan.models.first().map_or("", String::as_str);
        let shown = |lost: Lost| {
            let side = self.set.size;
            let planes = self.set.image(lost.image as usize)?;
            let area = side * side;
            let rgb = (0..area).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * area + at]));
            let picture = Picture::from_rgb(side, side, rgb.collect()).ok()?;
            let condition = self
                .conditions
                .iter()
                .find(|c| c.name() == lost.condition)?;
            let attack = condition.named(side);
            Some(TestedLost {
                corruption: match condition.treatment {
                    Treatment::Corruption {
                        corruption,
                        severity,
                    } => Some((corruption, severity)),
                    _ => None,
                },
                attack: attack.map(|(named, options)| (named.name.to_owned(), options)),
                image: lost.image,
                label: class_name(lost.label, self.names),
                answer: class_name(lost.prediction, self.names),
                condition: lost.condition,
                wrong: lost.wrong,
                of: lost.of,
                png: encode_png(&picture).ok()?.into(),
            })
        };
        let lost = report.lost(rows, model, MOST_LOST);
        lost.into_iter().filter_map(shown).collect()
    }

    fn documents(
        &self,
        report: &Report,
        rows: &[Row],
    ) -> Result<Vec<(String, Bytes)>, SessionError> {
        let json = |value: &Report| serde_json::to_string_pretty(value).map_err(unwritable);
        let plan = serde_json::to_string_pretty(self.plan).map_err(unwritable)?;
        let html = report.html(rows, self.names, &self.remark())?;
        let (summary, details) = (report.summary(), report.details());
        let documents = [
            ("report.html", html),
            ("report.md", report.markdown(&self.remark())),
            ("report.json", json(report)?),
            ("summary.csv", summary.write(Style::Csv)),
            ("summary.tex", summary.write(Style::Latex)),
            ("details.csv", details.write(Style::Csv)),
            ("areas.csv", report.moved().write(Style::Csv)),
            ("rows.csv", rows_csv(rows)),
            ("plan.json", plan),
        ];
        let bytes =
            |(name, text): (&str, String)| (name.to_owned(), Bytes::from(text.into_bytes()));
        Ok(documents.map(bytes).into())
    }
}

/// What a report says, without what only the session that made it has.
fn told(
    report: &Report,
    conditions: &[Condition],
    remark: String,
) -> Result<TestReport, SessionError> {
    let model = |model: &ModelReport| {
        let cell = |condition: &Condition| {
            let name = condition.name();
            let found = model.cells.iter().find(|cell| cell.condition == name);
            found.map(|cell| cell.accuracy)
        };
        let p = |condition: &Condition| {
            let name = condition.name();
            let mut own = report.comparisons.iter().filter(|c| c.model == model.name);
            own.find(|c| c.condition == name).map(|c| c.p)
        };
        TestedModel {
            name: model.name.clone(),
            clean: model.clean,
            white_box: model.white_box,
            corruption: model.corruption,
            perturbation: model.perturbation,
            overall: model.overall,
            mce: model.mce,
            cells: conditions.iter().map(cell).collect(),
            p: conditions.iter().map(p).collect(),
        }
    };
    Ok(TestReport {
        title: report.plan.name.clone(),
        models: report.models.iter().map(model).collect(),
        conditions: conditions.iter().map(tested).collect(),
        rows: report.rows,
        expected: report.expected,
        remark,
        charts: report.charts()?.into_iter().map(drawn).collect(),
        lost: Vec::new(),
        documents: Vec::new(),
    })
}

/// As the command line saves a report; the page saves the inner one alone.
#[derive(Deserialize)]
struct Saved {
    report: Report,
}

/// Reads a saved report.
pub(super) fn read_report(bytes: &[u8], host: &dyn Host) -> Result<(), SessionError> {
    let report = serde_json::from_slice::<Saved>(bytes).map(|saved| saved.report);
    let report = report.or_else(|_| serde_json::from_slice::<Report>(bytes));
    let report = report.map_err(|_| {
        SessionError::Missing(
            "This is no saved report. Choose a report.json of this page or of ventral report.",
        )
    })?;
    report.plan.check()?;
    let conditions = report.plan.conditions()?;
    let remark = format!("{} answers, read from a file.", report.rows);
    let report = told(&report, &conditions, remark)?;
    host.tell(Event::Report(Box::new(report)));
    Ok(())
}

pub(super) fn drawn(chart: Chart) -> TestedChart {
    TestedChart {
        name: chart.name,
        title: chart.title,
        svg: chart.svg,
    }
}

fn tested(condition: &Condition) -> TestedCondition {
    TestedCondition {
        name: condition.name(),
        title: condition.title(),
        strength: condition.strength(),
        value: condition.value(),
        corruption: matches!(condition.treatment, Treatment::Corruption { .. }),
    }
}
