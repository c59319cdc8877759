//! Questions about the last perturbation: whether the gradient was masked, and whether it transfers
//! to other models.

use super::engine::{Attachment, Host, Session, read_weights};
use super::error::SessionError;
use super::perturb::{Last, Viewer};
use super::protocol::{Event, FrontEndNoise, Transferred};
use crate::clock::Clock;
use crate::image::{self, Pixels};
use crate::model::config::Preprocessing;
use crate::perturb::attack::masking;
use crate::perturb::attack::registry::by_name;
use crate::perturb::attack::{Context, Step};

const NONE_YET: SessionError = SessionError::Missing("Perturb the image first.");

impl Session {
    pub(super) async fn check_gradient(&mut self, host: &dyn Host) -> Result<(), SessionError> {
        let active = self.device(host).await;
        let model = self.model()?;
        let last = self.perturb_state.last.as_ref().ok_or(NONE_YET)?;
        let attacked = last.attacked.as_ref().ok_or(SessionError::Missing(
            "There was no attack whose gradient could be checked.",
        ))?;
        let viewer = Viewer {
            network: &model.network,
            noise: last.noise,
            side: model.info.preprocessing.crop,
            device: active.device,
            cancel: host.cancel(),
        };
        let pause = || host.pause();
        let mut oracle = viewer.oracle(&attacked.options).pausing(&pause);
        let mut watch = |_: Step<'_>| {};
        let seed = attacked.options.seed;
        let mut context = Context::new(&mut oracle, seed, &mut watch, vec![0]);
        let ball = by_name(&attacked.options.name, &attacked.options.settings)?.ball();
        let (centre, criterion) = (&attacked.centre, &attacked.criterion);
        let found = masking::check(&mut context, centre, &last.pixels, criterion, ball).await?;
        host.tell(Event::Masking(Box::new(found)));
        Ok(())
    }

    pub(super) async fn transfer(
        &mut self,
        name: &str,
        attachment: Option<Attachment>,
        host: &dyn Host,
    ) -> Result<(), SessionError> {
        let last = self.perturb_state.last.as_ref().ok_or(NONE_YET)?;
        let clock = Clock::start();
        let source = self.model()?.info.preprocessing.clone();
        let loaded = read_weights(name, attachment, host).await?;
        let preprocessing = loaded.config.preprocessing.clone();
        let (before, after) = self.both_sides(last, &source, &preprocessing)?;
        let active = self.device(host).await;
        let network = loaded.to_network(&active.device.clone().autodiff());
        let viewer = Viewer {
            network: &network,
            noise: FrontEndNoise::Off,
            side: preprocessing.crop,
            device: active.device,
            cancel: host.cancel(),
        };
        let (before, after) = (
            viewer.evaluate(&before).await?,
            viewer.evaluate(&after).await?,
        );
        host.tell(Event::Transferred(Box::new(Transferred {
            model: loaded.name.clone(),
            family: loaded.family.clone(),
            fooled: before.best() != after.best(),
            before: before.top(&loaded.classes),
            after: after.top(&loaded.classes),
            side: preprocessing.crop,
            milliseconds: clock.milliseconds(),
        })));
        Ok(())
    }

    /// The original and the perturbed image as another model takes them. Where it takes another
    /// size, both go through 8 bits and its own resizing, as saved pictures would.
    fn both_sides(
        &self,
        last: &Last,
        from: &Preprocessing,
        to: &Preprocessing,
    ) -> Result<(Vec<f32>, Vec<f32>), SessionError> {
        let original = self.input_of(from)?.pixels;
        if from.crop == to.crop {
            return Ok((original, last.pixels.clone()));
        }
        let through = |data: Vec<f32>| {
            let side = from.crop;
            let pixels = Pixels {
                width: side,
                height: side,
                data,
            };
            image::to_input(&pixels.to_picture()?, to.into())
        };
        Ok((through(original)?, through(last.pixels.clone())?))
    }
}
