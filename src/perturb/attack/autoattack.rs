//! AutoAttack's standard suite (Croce and Hein 2020): four attacks without a setting to get wrong,
//! one after the other on what still stands.

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::fab::Fab;
use super::goal::{Aim, Goal, Loss};
use super::norm::Norm;
use super::oracle::{Oracle, Stopped, Subject, pick};
use super::square::Square;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoAttack {
    /// L∞ or L2.
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1].
    pub eps: f32,
    /// Steps of each gradient attack; 100 in the standard suite.
    pub steps: usize,
    /// Queries of the Square attack; 5,000 in the standard suite.
    pub queries: usize,
    /// Other classes that the targeted attacks try to reach; 9 in the standard suite.
    pub target_classes: usize,
}

impl Default for AutoAttack {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            steps: 100,
            queries: 5000,
            target_classes: 9,
        }
    }
}

/// What brought an image down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    ApgdCe,
    ApgdDlrTargeted,
    FabTargeted,
    Square,
}

impl Part {
    pub const ALL: [Self; 4] = [
        Self::ApgdCe,
        Self::ApgdDlrTargeted,
        Self::FabTargeted,
        Self::Square,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::ApgdCe => "APGD-CE",
            Self::ApgdDlrTargeted => "APGD-DLR, targeted",
            Self::FabTargeted => "FAB, targeted",
            Self::Square => "Square",
        }
    }
}

impl AutoAttack {
    /// `[n, c, h, w]` within `eps` of `pixels`.
    ///
    /// # Errors
    /// [`Stopped`], when cancelled, when the device failed or when a setting makes no sense: the
    /// suite is untargeted and needs a model of four classes or more.
    pub async fn attack<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        Ok(self.attack_by_parts(subject, pixels, goal).await?.0)
    }

    /// [`attack`](Self::attack), and which part brought each image down.
    ///
    /// # Errors
    /// As [`attack`](Self::attack).
    pub async fn attack_by_parts<O: Oracle>(
        &self,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<(Vec<f32>, Vec<Option<Part>>), Stopped> {
        if goal.aim == Aim::Reach {
            return Err(Stopped::Failed(
                "AutoAttack is untargeted: it drives the prediction away from a class.".into(),
            ));
        }
        let length = subject.oracle.image_len();
        let mut best = pixels.to_vec();
        let mut fallen: Vec<Option<Part>> = vec![None; goal.classes.len()];
        let images = subject.images.clone();
        for part in Part::ALL {
            let open: Vec<usize> = (0..fallen.len()).filter(|i| fallen[*i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            subject.images = open.iter().map(|i| images[*i]).collect();
            let (centres, wanted) = (pick(pixels, length, &open), goal.pick(&open));
            let tried = self.run(part, subject, &centres, &wanted).await;
            subject.images.clone_from(&images);
            let tried = tried?;
            let met = subject.judge(&tried, &wanted).await?;
            for (j, i) in open.iter().copied().enumerate() {
                let image = &tried[j * length..][..length];
                let within = self.norm.distance(image, &centres[j * length..][..length])
                    <= f64::from(self.eps);
                if met[j] && within {
                    fallen[i] = Some(part);
                    best[i * length..][..length].copy_from_slice(image);
                }
            }
        }
        Ok((best, fallen))
    }

    async fn run<O: Oracle>(
        &self,
        part: Part,
        subject: &mut Subject<'_, O>,
        pixels: &[f32],
        goal: &Goal,
    ) -> Result<Vec<f32>, Stopped> {
        let apgd = |loss, target_classes| Apgd {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            restarts: 1,
            loss,
            target_classes,
        };
        match part {
            Part::ApgdCe => {
                let attack = apgd(Loss::CrossEntropy, 0);
                attack.attack(subject, pixels, goal).await
            }
            Part::ApgdDlrTargeted => {
                let attack = apgd(Loss::Dlr, self.target_classes);
                attack.attack(subject, pixels, goal).await
            }
            Part::FabTargeted => self.fab().attack(subject, pixels, goal).await,
            Part::Square => {
                let square = Square {
                    norm: self.norm,
                    eps: self.eps,
                    queries: self.queries,
                    ..Square::default()
                };
                square.attack(subject, pixels, goal).await
            }
        }
    }

    fn fab(&self) -> Fab {
        Fab {
            norm: self.norm,
            eps: self.eps,
            steps: self.steps,
            target_classes: self.target_classes,
            ..Fab::default()
        }
    }
}
