//! Robustness tests: a request comes in, the experiment is run, reports go out.

use std::cell::{Cell, RefCell};
use std::io::Read;

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Attachment, Host, Session, read_weights};
use super::error::SessionError;
use super::protocol::{
    Bytes, Confusions, Event, ModelSummary, Progress, SetInfo, TestOptions, TestReport,
};
use crate::align::freezing::stages;
use crate::clock::Clock;
use crate::compute::device::Active;
use crate::experiment::engine::{self, Experiment, Place, Watch, drive};
use crate::experiment::journal::{Head, Journal, JournalError, Later, Otherwise, digest, line};
use crate::experiment::robustness::Row;
use crate::experiment::robustness::charts::confusion as confusion_chart;
use crate::experiment::robustness::outcomes::{confusion, confusion_table};
use crate::experiment::robustness::plan::Plan;
use crate::experiment::robustness::presets;
use crate::experiment::robustness::report::{Report, rows_csv};
use crate::experiment::robustness::run::{Candidate, Robustness};
use crate::experiment::table::{Style, Table};
use crate::image::dataset::{OpenOptions, Opened, open, quiet};
use crate::model::classes::{self, LEFT_OUT};
use crate::model::load::Loaded;

/// The largest archive of images that is taken, bytes: a page has at most 4 GB.
const MOST_BYTES: u64 = 1 << 30;

/// Unreadable files that are named.
const MOST_SKIPPED: usize = 50;

/// How often the tables are made anew while a test runs, seconds. They cost more the longer it has
/// run.
const TABLES_EVERY: f32 = 1.0;

/// Pixels that a batch of a preset's plan holds, about: 50 images of 32 px.
const BATCH_PIXELS: usize = 50 * 32 * 32;

/// Models and images that tests and alignments use.
#[derive(Default)]
pub(super) struct Inputs {
    models: Vec<Loaded>,
    pub set: Option<Archive>,
    results: Option<Results>,
}

/// What the last test has come to.
struct Results {
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

impl Session {
    /// Reads a model for tests.
    pub(super) async fn read_model(
        &mut self,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let mut loaded = read_weights(name, attachment, host).await?;
        // Under this name the page asks for it again.
        loaded.name = name.to_owned();
        let network = loaded.to_network(&Device::flex());
        host.tell(Event::ModelRead(ModelSummary {
            name: loaded.name.clone(),
            family: loaded.family.clone(),
            classes: loaded.classes.clone(),
            side: loaded.config.preprocessing.crop,
            stochastic: loaded.config.front.is_some(),
            areas: network.areas(),
            stages: stages(&network),
        }));
        let models = &mut self.inputs.models;
        models.retain(|known| known.name != loaded.name);
        models.push(loaded);
        Ok(())
    }

    /// Takes labelled images for tests.
    pub(super) fn read_images(
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
            part,
        } = open(&bytes, name, &options, &mut quiet)?;
        let (counts, images) = (set.counts(), set.len());
        let classes = set.classes.clone();
        let listed = skipped.iter().take(MOST_SKIPPED);
        host.tell(Event::Set(SetInfo {
            name: name.to_owned(),
            images,
            unreadable: skipped.len(),
            part,
            skipped: listed
                .map(|(name, why)| (name.clone(), why.reason()))
                .collect(),
            classes: set.classes.into_iter().zip(counts).collect(),
        }));
        self.inputs.set = Some(Archive {
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
        let half = self.device(host).await.info.f16_weights;
        let loaded = self.inputs.chosen(&options.models)?;
        let plan = plan(options, &loaded)?;
        let archive = self.inputs.archive()?;
        let names = classes::shared(loaded.iter().map(|one| one.classes.as_slice()));
        let head = head::<Robustness>(&plan, &loaded, &[archive.hash], half);
        self.inputs.results = None;
        let (mut journal, not_kept) = open_journal(&head, false, host).await?;
        let ended = self
            .on_device(host, async |session, active| {
                let models = session
                    .candidates(&options.models, &plan, active, host)
                    .await?;
                let textures = &session.textures;
                let test = Robustness::new(&plan, &models, &active.device, textures)?;
                let watch = TestWatch {
                    test: &test,
                    names: &names,
                    half,
                    not_kept: RefCell::new(not_kept.clone()),
                    told: Cell::new(None),
                    host,
                };
                watch.tell(journal.rows(), false)?;
                let place = Place {
                    cancel: host.cancel(),
                    keep_every: 0.0,
                };
                drive(&test, &test.units(), &mut journal, place, &watch).await?;
                watch.tell(journal.rows(), true)
            })
            .await;
        let rows = journal.close();
        self.inputs.results = Some(Results { plan, rows, names });
        ended
    }

    /// The plan's models on a device, with the images each takes.
    async fn candidates(
        &self,
        names: &[String],
        plan: &Plan,
        active: &Active,
        host: &dyn Host,
    ) -> Result<Vec<Candidate>, SessionError> {
        let mut candidates = Vec::new();
        for one in self.inputs.chosen(names)? {
            host.pause().await;
            host.cancel().check()?;
            candidates.push(self.inputs.candidate(one, plan, &active.device)?);
        }
        Ok(candidates)
    }

    /// What a model of the last test took images for, clean and in a condition; the hardest where
    /// none is named.
    pub(super) fn count_confusions(
        &self,
        model: &str,
        condition: String,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let results = self.inputs.results.as_ref();
        let Results { plan, rows, names } =
            results.ok_or(SessionError::Missing("Run a test first."))?;
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
        let mut told = Confusions {
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
                Some(chart) => told.charts.push(chart),
                None => {
                    let Table { head, rows } = confusion_table(&found, names);
                    told.tables
                        .push((condition.to_owned(), [vec![head], rows].concat()));
                }
            }
        }
        host.tell(Event::Confusions(Box::new(told)));
        Ok(())
    }
}

impl Inputs {
    /// The models of these names, in this order.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<&Loaded>, SessionError> {
        let find = |name: &String| {
            let found = self.models.iter().find(|model| model.name == *name);
            found.ok_or_else(|| SessionError::NoModel(name.clone()))
        };
        match names.is_empty() {
            true => Err(SessionError::Missing("Choose at least one model to test.")),
            false => names.iter().map(find).collect(),
        }
    }

    /// The labelled images.
    pub fn archive(&self) -> Result<&Archive, SessionError> {
        let set = self.set.as_ref();
        set.ok_or(SessionError::Missing("Choose labelled images first."))
    }

    fn candidate(
        &self,
        model: &Loaded,
        plan: &Plan,
        device: &Device,
    ) -> Result<Candidate, SessionError> {
        let archive = self.archive()?;
        let left_out = plan.classes.iter().filter(|(_, class)| *class == LEFT_OUT);
        let options = OpenOptions {
            size: model.config.preprocessing.crop,
            images: plan.images,
            without: left_out.map(|(name, _)| name.clone()).collect(),
            flat: true,
            in_order: false,
        };
        let set = open(&archive.bytes, &archive.name, &options, &mut quiet)?.set;
        Candidate::new(model, set, &plan.classes, device).map_err(|unknown| SessionError::Classes {
            model: model.name.clone(),
            set: archive.name.clone(),
            unknown,
        })
    }
}

/// What a journal of this session begins with. `half`: convolutions read weights in 16 bits a number.
pub(super) fn head<E: Experiment>(
    plan: &E::Plan,
    models: &[&Loaded],
    data: &[u64],
    half: bool,
) -> Head<E::Plan> {
    Head {
        kind: E::KIND.to_owned(),
        plan: plan.clone(),
        images: 0,
        data: data.iter().map(|hash| format!("{hash:016x}")).collect(),
        weights: models.iter().map(|model| model.hash.clone()).collect(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        classes: Vec::new(),
        // A run that a lost GPU has begun goes on with the CPU.
        backend: if half { "weights in f16" } else { "" }.to_owned(),
    }
}

/// What is said where a run cannot be kept.
pub(super) fn not_kept(error: &JournalError) -> String {
    format!("This browser does not keep the run, so that it begins anew after a reload ({error}).")
}

/// The journal of the run of this head, with what is said where it cannot be kept.
pub(super) async fn open_journal<'h, P, R>(
    head: &Head<P>,
    fresh: bool,
    host: &'h dyn Host,
) -> Result<(Journal<'h, R>, Option<String>), SessionError>
where
    P: Clone + PartialEq + Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let name = format!("{:016x}.jsonl", digest(&line(head)?));
    let store = host.journals();
    if fresh {
        store.remove(&name).await;
    }
    // What cannot be read is of another version of this page, or damaged: from the beginning.
    Ok(
        match Journal::open(store, &name, head, Otherwise::Replace).await {
            Ok(journal) => (journal, None),
            Err(error) => (Journal::unkept(store, &name), Some(not_kept(&error))),
        },
    )
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

/// Sends what a test comes to to the page.
struct TestWatch<'a> {
    test: &'a Robustness<'a>,
    /// Of the classes, where the models share them.
    names: &'a [String],
    /// As the run was begun.
    half: bool,
    /// What is said where the run is not kept.
    not_kept: RefCell<Option<String>>,
    /// When the last tables were sent.
    told: Cell<Option<Clock>>,
    host: &'a dyn Host,
}

impl Watch<Row> for TestWatch<'_> {
    fn pause(&self) -> Later<'_, ()> {
        self.host.pause()
    }

    fn progress(&self, progress: &engine::Progress) {
        self.host.tell(thousandths(progress));
    }

    fn rows(&self, rows: &[Row], _: Option<&Row>) {
        let told = self.told.get();
        if told.is_none_or(|told| told.seconds() > TABLES_EVERY) {
            // A plan without tables has already been refused.
            let _ = self.tell(rows, false);
        }
    }

    fn not_kept(&self, error: JournalError) -> Result<(), JournalError> {
        self.not_kept.replace(Some(not_kept(&error)));
        self.told.set(None);
        Ok(())
    }
}

/// How far a run is. In thousandths: a count of units would run ahead of the time they take.
pub(super) fn thousandths(progress: &engine::Progress) -> Event {
    Event::Progress(Progress {
        stage: progress.label.clone(),
        done: (1000.0 * progress.done / progress.total.max(1.0)) as u64,
        total: 1000,
        bytes: false,
        seconds_left: progress.seconds_left,
    })
}

impl TestWatch<'_> {
    fn tell(&self, rows: &[Row], ended: bool) -> Result<(), SessionError> {
        let report = self.test.report(rows)?;
        let mut sent = sent(&report, self.remark())?;
        if ended {
            sent.lost = self.test.gallery(&report, rows, self.names);
            sent.documents = self.documents(&report, rows)?;
        }
        self.told.set(Some(Clock::start()));
        self.host.tell(Event::Tested(Box::new(sent)));
        Ok(())
    }

    fn remark(&self) -> String {
        let Plan {
            eot, passes, seeds, ..
        } = self.test.plan();
        let stored = if self.half { "; weights in f16" } else { "" };
        let not_kept = self.not_kept.borrow();
        let not_kept = not_kept.iter().map(|sentence| format!(" {sentence}"));
        format!(
            "{} images; stochastic models: {passes} passes judge an image (n), {eot} samples a \
             gradient (k); seeds {seeds:?}{stored}.{}",
            self.test.images(),
            not_kept.collect::<String>()
        )
    }

    fn documents(
        &self,
        report: &Report,
        rows: &[Row],
    ) -> Result<Vec<(String, Bytes)>, SessionError> {
        let plan = serde_json::to_string_pretty(self.test.plan())?;
        let html = report.html(rows, self.names, &self.remark())?;
        let (summary, details) = (report.summary(), report.details());
        let documents = [
            ("report.html", html),
            ("report.md", report.markdown(&self.remark())),
            ("report.json", serde_json::to_string_pretty(report)?),
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
fn sent(report: &Report, remark: String) -> Result<TestReport, SessionError> {
    let conditions = report.plan.conditions()?;
    Ok(TestReport {
        title: report.plan.name.clone(),
        models: report.models.clone(),
        comparisons: report.comparisons.clone(),
        conditions: conditions.iter().map(|c| c.summary()).collect(),
        rows: report.rows,
        expected: report.expected,
        remark,
        charts: report.charts()?,
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
    let remark = format!("{} answers, read from a file.", report.rows);
    let report = sent(&report, remark)?;
    host.tell(Event::Report(Box::new(report)));
    Ok(())
}
