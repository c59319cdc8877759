//! The curves of a run as an SVG picture. Its colours stand out on white and on black alike.

use std::fmt::Write;

use super::metrics::EpochMetrics;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// Width and height of the area of a panel's curves.
const AREA: [f64; 2] = [300.0, 200.0];
/// From the top of the picture to that area.
const TOP: f64 = 56.0;
/// Left edges of the two panels' areas.
const LEFTS: [f64; 2] = [56.0, 432.0];

/// Of text and axes.
const GREY: &str = "#808080";
const BLUE: &str = "#3f7fd0";
const ORANGE: &str = "#d9752b";

/// A curve: its name, its colour, a value for every epoch.
struct Curve {
    name: &'static str,
    colour: &'static str,
    values: Vec<f64>,
}

/// One of the two diagrams.
struct Panel {
    title: &'static str,
    left: f64,
    /// Of the upper end of the scale, a round number above every value.
    top: f64,
    curves: Vec<Curve>,
}

/// Loss and accuracy, in percent, after every epoch of a run of `epochs`, with `title` above.
pub fn plot(title: &str, epochs: usize, metrics: &[EpochMetrics]) -> String {
    let curve = |name, colour, value: fn(&EpochMetrics) -> f32| Curve {
        name,
        colour,
        values: metrics.iter().map(|m| f64::from(value(m))).collect(),
    };
    let loss = curve("training", BLUE, |m| m.train_loss);
    let highest = loss.values.iter().copied().fold(0.0, f64::max);
    let accuracy = vec![
        curve("training", BLUE, |m| 100.0 * m.train_accuracy),
        curve("test", ORANGE, |m| 100.0 * m.test_accuracy),
    ];
    let panels = [
        Panel {
            title: "Loss",
            left: LEFTS[0],
            top: round_up(highest),
            curves: vec![loss],
        },
        Panel {
            title: "Accuracy, %",
            left: LEFTS[1],
            top: 100.0,
            curves: accuracy,
        },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{GREY}\" role=\"img\">\n\
         <title>{title}: loss and accuracy by epoch</title>\n\
         <text x=\"{}\" y=\"22\" font-size=\"15\">{title}</text>\n",
        LEFTS[0],
        title = escaped(title),
    );
    panels.iter().for_each(|panel| panel.draw(epochs, &mut svg));
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, epochs: usize, svg: &mut String) {
        let [width, height] = AREA;
        let (left, bottom) = (self.left, TOP + height);
        let mut line = |text: String| {
            svg.push_str(&text);
            svg.push('\n');
        };
        line(format!(
            "<text x=\"{left}\" y=\"{}\">{}</text>",
            TOP - 10.0,
            self.title
        ));
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let y = bottom - share * height;
            line(format!(
                "<path d=\"M{left} {y}h{width}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.0,
                share * self.top
            ));
        }
        for (anchor, x, epoch) in [("start", left, 1), ("end", left + width, epochs.max(1))] {
            line(format!(
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{epoch}</text>",
                bottom + 18.0
            ));
        }
        line(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">epoch</text>",
            left + width / 2.0,
            bottom + 18.0
        ));
        for (number, curve) in self.curves.iter().enumerate() {
            let x = left + width - 70.0 * (self.curves.len() - number) as f64 + 70.0;
            line(format!(
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"end\" fill=\"{}\">{}</text>",
                TOP - 10.0,
                curve.colour,
                curve.name
            ));
            line(curve.draw(epochs, left, self.top));
        }
    }
}

impl Curve {
    /// A line, and a dot at its last value, which alone is all there is after one epoch.
    fn draw(&self, epochs: usize, left: f64, top: f64) -> String {
        let step = AREA[0] / (epochs.max(2) - 1) as f64;
        let place = |(i, value): (usize, &f64)| {
            let y = TOP + AREA[1] * (1.0 - (value / top).clamp(0.0, 1.0));
            [left + step * i as f64, y]
        };
        let points: Vec<[f64; 2]> = self.values.iter().enumerate().map(place).collect();
        let mut path = String::new();
        for (i, [x, y]) in points.iter().enumerate() {
            let verb = if i == 0 { 'M' } else { 'L' };
            // Writing to a string does not fail.
            let _ = write!(path, "{verb}{x:.1} {y:.1}");
        }
        let Some([x, y]) = points.last() else {
            return String::new();
        };
        let colour = self.colour;
        format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-linejoin=\"round\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" \
             fill=\"{colour}\"/>"
        )
    }
}

/// The next of 1, 2 or 4 times a power of ten, so that quarters of it are short numbers.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 10.0];
    let found = steps.into_iter().find(|s| s * power >= value);
    found.unwrap_or(10.0) * power
}

fn escaped(text: &str) -> String {
    const MARKS: [(char, &str); 3] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")];
    let escape = |c: char| {
        let mark = MARKS.iter().find(|(mark, _)| *mark == c);
        mark.map_or(c.to_string(), |(_, name)| (*name).to_owned())
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, loss: f32, accuracy: f32) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: loss,
            train_accuracy: accuracy,
            test_accuracy: accuracy + 0.1,
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_second: 10.0,
        }
    }

    #[test]
    fn every_curve_is_in_its_panel() {
        let metrics = [epoch(0, 2.0, 0.25), epoch(1, 1.0, 0.5)];
        let svg = plot("A <b> & c", 5, &metrics);
        assert!(svg.contains("A &lt;b&gt; &amp; c") && !svg.contains("<b>"));
        // Loss 2 of 2 and 1 of 2; 25 and 50 %; 35 and 60 %.
        for path in [
            "M56.0 56.0L131.0 156.0",
            "M432.0 206.0L507.0 156.0",
            "M432.0 186.0L507.0 136.0",
        ] {
            assert!(svg.contains(path), "{path} in\n{svg}");
        }
    }

    #[test]
    fn a_run_without_epochs_has_empty_panels() {
        let svg = plot("none", 0, &[]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn scales_end_in_round_numbers() {
        let table = [
            (0.0, 1.0),
            (0.37, 0.4),
            (1.0, 1.0),
            (2.3, 4.0),
            (41.0, 100.0),
        ];
        for (value, wanted) in table {
            assert!((round_up(value) - wanted).abs() < 1e-9, "{value}");
        }
        assert_eq!(round_up(f64::NAN), 1.0);
    }
}
