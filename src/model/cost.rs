//! What a pass costs, from the configuration alone: no network is built for it.

use super::config::ModelConfig;

/// Multiply-adds of a forward pass over one image of `side` x `side` px: those of convolutions and
/// linear layers. Norms, pools, additions and a front-end's noise are not counted, as in the
/// numbers the papers give.
pub fn multiply_adds(config: &ModelConfig, side: usize) -> u64 {
    config.trace(side).multiply_adds
}

#[cfg(test)]
mod tests {
    use super::super::config::Preprocessing;
    use super::super::family::BodyConfig;
    use super::super::family::alexnet::AlexNetConfig;
    use super::super::family::cornet_rt::{CornetRtConfig, Unrolling};
    use super::super::family::cornet_s::CornetSConfig;
    use super::super::family::resnet::ResNetConfig;
    use super::super::family::traits::Family;
    use super::super::family::vone::VOneConfig;
    use super::super::trace::Trace;
    use super::*;

    fn at_224(body: BodyConfig, front: Option<VOneConfig>) -> f64 {
        let config = ModelConfig {
            body,
            front,
            classes: 1000,
            preprocessing: Preprocessing::imagenet(),
        };
        multiply_adds(&config, 224) as f64 / 1e9
    }

    /// The published counts, in billions; of CORnet-S only the whole number is known.
    #[test]
    fn the_published_networks_cost_what_is_published() {
        let table = [
            (BodyConfig::ResNet(ResNetConfig::resnet18()), 1.814, 0.01),
            (BodyConfig::ResNet(ResNetConfig::resnet50()), 4.089, 0.01),
            (BodyConfig::AlexNet(AlexNetConfig::official()), 0.714, 0.01),
            (BodyConfig::CornetS(CornetSConfig::official()), 16.0, 0.5),
        ];
        for (body, published, tolerance) in table {
            let ours = at_224(body.clone(), None);
            assert!((ours - published).abs() < tolerance, "{body:?}: {ours}");
        }
    }

    /// By hand: 56² · 3 · 25² · (512 + 256) for the filters, 56² · 512 · 64 for the bottleneck.
    #[test]
    fn a_front_end_costs_both_quadratures() {
        let body = || {
            BodyConfig::ResNet(ResNetConfig {
                stem: None,
                ..ResNetConfig::resnet18()
            })
        };
        let front = VOneConfig::official();
        // The bottleneck's output, from a convolution whose cost is not counted.
        let mut behind = Trace::default();
        let bottleneck = behind.conv("", [3, 64], 1).output(&Trace::input(56));
        body().family().trace(&mut behind, &bottleneck, 1000);
        let by_hand = 56 * 56 * (3 * 625 * (512 + 256) + 512 * 64);
        let ours = at_224(body(), Some(front)) * 1e9;
        assert_eq!(ours as u64, by_hand + behind.multiply_adds);
    }

    /// By hand at 16 px: a 3x3 convolution from 3 to 2 channels at stride 1 and one from 2 to 2,
    /// three times; only what V1 gives reaches V2 in two of the three steps, and so on.
    #[test]
    fn recurrent_areas_cost_every_step() {
        let body = BodyConfig::CornetRt(CornetRtConfig {
            widths: [2; 4],
            v1_kernel: 3,
            v1_stride: 1,
            times: 3,
            groups: 1,
            unrolling: Unrolling::Biological,
        });
        let config = ModelConfig {
            body,
            front: None,
            classes: 5,
            preprocessing: Preprocessing::imagenet(),
        };
        let area = |side: u64, input: u64, inputs: u64| side * side * (inputs * input + 3 * 36);
        let by_hand = area(16, 54, 3) + area(8, 36, 2) + area(4, 36, 2) + area(2, 36, 2) + 10;
        assert_eq!(multiply_adds(&config, 16), by_hand);
    }
}
