//! Alignments: a request comes in, the experiment is run, reports go out.

use std::cell::{Cell, RefCell};

use super::engine::{Host, Session};
use super::error::SessionError;
use super::protocol::{AlignOptions, AlignReport, Bytes, Event, Progress};
use super::recordings::Classes;
use super::test::{batch, head, not_kept, open_journal, thousandths};
use crate::align::head::with_new_head;
use crate::align::plan::{Control, Plan};
use crate::align::target::TargetActivations;
use crate::clock::Clock;
use crate::compute::device::Active;
use crate::experiment::alignment::documents::Given;
use crate::experiment::alignment::images::Images;
use crate::experiment::alignment::outcome::rows;
use crate::experiment::alignment::{Alignment, Report, Row, Study};
use crate::experiment::engine::{self, Experiment, Place, Watch, drive};
use crate::experiment::journal::{JournalError, Later};
use crate::experiment::robustness::plan::Plan as TestPlan;
use crate::experiment::robustness::presets;
use crate::model::classes::LEFT_OUT;
use crate::model::load::Loaded;

/// How often the curves are drawn anew while a run goes on, seconds.
const CURVES_EVERY: f32 = 1.0;

/// What an alignment is run on.
struct Prepared {
    study: Study,
    model: Loaded,
    images: Images,
    /// Sentences on the data.
    remarks: Vec<String>,
}

impl Session {
    /// Runs an alignment, from where an earlier start of it was.
    pub(super) async fn align(
        &mut self,
        options: &AlignOptions,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let plan = Plan::parse(&options.plan)?;
        let controls = controls(&options.controls)?;
        let prepared = self
            .on_device(host, async |session, active| {
                session
                    .prepare(&plan, &controls, options, active, host)
                    .await
            })
            .await?;
        let half = self.device(host).await.info.f16_weights;
        let study = &prepared.study;
        let mut names = vec![study.plan.model.clone()];
        names.extend(study.plan.target.model().map(|(name, _)| name.to_owned()));
        let [responses, heat_maps, labels] = self.recordings.hashes();
        let images = self.inputs.set.as_ref().map_or(0, |set| set.hash);
        let data = [images, responses, heat_maps, labels];
        let head = head::<Alignment>(study, &self.inputs.chosen(&names)?, &data, half);
        let (mut journal, not_kept) = open_journal(&head, options.fresh, host).await?;
        if options.fresh {
            journal.forget_states(0..=study.runs.len()).await;
        }
        let given = self.recordings.given();
        // What was kept at the last evaluation goes on.
        let ended = self
            .on_device(host, async |_, active| {
                let alignment = prepared.alignment(active);
                let watch = AlignWatch {
                    alignment: &alignment,
                    remarks: &prepared.remarks,
                    given: &given,
                    not_kept: RefCell::new(not_kept.clone()),
                    sent: Cell::new(None),
                    host,
                };
                // A run that goes on shows first what is under way.
                if journal.rows().is_empty() {
                    watch.send(journal.rows(), None, None)?;
                }
                let place = Place {
                    cancel: host.cancel(),
                    keep_every: 0.0,
                };
                drive(&alignment, &alignment.units(), &mut journal, place, &watch).await?;
                let name = study.run_name(study.runs[0]);
                let weights = journal.file(&format!("{name}.safetensors")).await?;
                watch.send(journal.rows(), None, Some(weights))
            })
            .await;
        journal.close();
        ended
    }

    async fn prepare(
        &self,
        plan: &Plan,
        controls: &[Control],
        options: &AlignOptions,
        active: &Active,
        host: &dyn Host,
    ) -> Result<Prepared, SessionError> {
        let archive = self.inputs.set.as_ref();
        let archive = archive.ok_or(SessionError::Missing("Choose images first."))?;
        let plan = self.recordings.named(plan, archive);
        // A new head has the images' own classes.
        let mut classes: Classes = options.classes.clone();
        if plan.new_head {
            classes.retain(|_, class| class == LEFT_OUT);
        }
        let named = [plan.model.clone()];
        let mut model = self.inputs.chosen(&named)?[0].clone();
        if plan.new_head {
            let labels = self.recordings.labels.as_ref();
            let all = labels.map_or(&archive.classes, |labels| &labels.classes);
            let head = all.iter().filter(|class| !classes.contains_key(*class));
            let head: Vec<String> = head.cloned().collect();
            model = with_new_head(&model, head, plan.seed).await?;
        }
        let (mut images, mut remarks) = self.recordings.images(&plan, archive, &model, &classes)?;
        if let Some((name, tap)) = plan.target.model() {
            let other = self.inputs.chosen(&[name.to_owned()])?[0];
            let (theirs, _) = self.recordings.images(&plan, archive, other, &classes)?;
            host.tell(Event::Progress(Progress {
                stage: format!("Responses of {name}"),
                done: 0,
                total: 0,
                bytes: false,
                seconds_left: None,
            }));
            host.pause().await;
            let device = &active.device;
            let activations =
                TargetActivations::of(other, tap, &theirs.stimuli, device, host.cancel());
            images.activations = Some(activations.await?);
        }
        if images.rest.is_empty() && images.labelled {
            remarks.push(
                "No image is left to measure accuracy and robustness on: take fewer stimuli, or \
                 bring labelled images without responses."
                    .to_owned(),
            );
        }
        if active.info.f16_weights {
            remarks.push("Convolutions read weights in f16.".to_owned());
        }
        let prepared = Prepared {
            study: Study {
                runs: controls
                    .iter()
                    .map(|control| (plan.seed, *control))
                    .collect(),
                robustness: test_plan(options.robustness, &model, images.rest.len())?,
                classes: options.classes.clone(),
                plan,
            },
            model,
            images,
            remarks,
        };
        prepared.alignment(active).check(host.cancel())?;
        Ok(prepared)
    }
}

impl Prepared {
    fn alignment(&self, active: &Active) -> Alignment<'_> {
        Alignment {
            study: &self.study,
            model: &self.model,
            images: &self.images,
            device: active.device.clone(),
        }
    }
}

/// The runs by their names, the aligned one first.
fn controls(names: &[String]) -> Result<Vec<Control>, SessionError> {
    let find =
        |name: &String| Control::named(name).ok_or_else(|| SessionError::NoControl(name.clone()));
    let mut all = vec![Control::None];
    for name in names {
        let control = find(name)?;
        if !all.contains(&control) {
            all.push(control);
        }
    }
    Ok(all)
}

/// The quick robustness test on so many of the images that are no stimuli.
fn test_plan(images: usize, model: &Loaded, rest: usize) -> Result<Option<TestPlan>, SessionError> {
    let images = images.min(rest);
    let quick = presets::find("quick").filter(|_| images > 0);
    let Some(preset) = quick else { return Ok(None) };
    let mut plan = preset.plan(Vec::new());
    plan.batch = batch(model.config.preprocessing.crop, plan.batch);
    Ok(Some(plan.for_model(&model.name, images)?))
}

/// Sends what an alignment comes to to the page.
struct AlignWatch<'a> {
    alignment: &'a Alignment<'a>,
    remarks: &'a [String],
    given: &'a Given,
    /// What is said where the run is not kept.
    not_kept: RefCell<Option<String>>,
    /// When the last curves were sent.
    sent: Cell<Option<Clock>>,
    host: &'a dyn Host,
}

impl Watch<Row> for AlignWatch<'_> {
    fn pause(&self) -> Later<'_, ()> {
        self.host.pause()
    }

    fn progress(&self, progress: &engine::Progress) {
        self.host.tell(thousandths(progress));
    }

    fn rows(&self, rows: &[Row], under_way: Option<&Row>) {
        let sent = self.sent.get();
        let is_due = sent.is_none_or(|sent| sent.seconds() > CURVES_EVERY);
        if under_way.is_none() || is_due {
            // What cannot be compared yet is said at the end.
            let _ = self.send(rows, under_way, None);
        }
    }

    fn not_kept(&self, error: JournalError) -> Result<(), JournalError> {
        self.not_kept.replace(Some(not_kept(&error)));
        Ok(())
    }
}

impl AlignWatch<'_> {
    /// Sends a report; with the weights of the aligned run it is the last.
    fn send(
        &self,
        rows: &[Row],
        under_way: Option<&Row>,
        weights: Option<Vec<u8>>,
    ) -> Result<(), SessionError> {
        let report = self.alignment.report(rows)?;
        let event = self.event(&report, under_way, weights)?;
        self.host.tell(Event::Aligned(Box::new(event)));
        self.sent.set(Some(Clock::start()));
        Ok(())
    }

    fn event(
        &self,
        report: &Report,
        under_way: Option<&Row>,
        weights: Option<Vec<u8>>,
    ) -> Result<AlignReport, SessionError> {
        let (alignment, study) = (self.alignment, self.alignment.study);
        let (heads, rows) = match report.ended.is_empty() && report.failed.is_empty() {
            true => Default::default(),
            false => rows(&report.outcomes(), &report.failed),
        };
        let here = match under_way {
            Some(Row::UnderWay { curve, .. }) => curve.steps.len(),
            _ => 0,
        };
        let ended = report.ended.len() + report.failed.len();
        let mut documents = Vec::new();
        let is_last = weights.is_some();
        if let Some(weights) = weights {
            let name = &study.plan.name;
            let texts = alignment.documents(report, self.remarks, self.given)?;
            // Where the aligned run failed there are none.
            if !weights.is_empty() {
                documents.push((format!("{name}.safetensors"), Bytes::from(weights)));
            }
            let bytes = |(name, text): (String, String)| (name, Bytes::from(text.into_bytes()));
            documents.extend(texts.into_iter().map(bytes));
        }
        Ok(AlignReport {
            name: study.plan.name.clone(),
            done: study.plan.steps * ended + here,
            steps: study.plan.steps * study.runs.len(),
            remarks: self.remarks(report),
            verdict: match is_last {
                true => report.verdict(),
                false => String::new(),
            },
            heads,
            rows,
            charts: alignment.charts(report, under_way),
            documents,
        })
    }

    fn remarks(&self, report: &Report) -> Vec<String> {
        let mut remarks = self.remarks.to_vec();
        let mut outcomes = report.ended.iter().map(|run| &run.outcome);
        let aligned = outcomes.find(|o| o.control.is_none());
        let ceiling = aligned.and_then(|o| o.ceiling.as_ref());
        remarks.extend(ceiling.map(|c| {
            format!(
                "Split halves of the responses agree with CKA {:.3}; reliability {:.3}.",
                c.cka, c.reliability
            )
        }));
        remarks.extend(self.not_kept.borrow().clone());
        remarks
    }
}
