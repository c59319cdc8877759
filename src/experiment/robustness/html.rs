//! A report as one HTML file that needs nothing else: tables, charts, the plan that repeats it.

use super::Row;
use super::charts::confusion as confusion_chart;
use super::outcomes::{confusion, confusion_table, lost_table};
use super::plan::PlanError;
use super::report::Report;
use crate::experiment::table::Table;
use crate::measure::chart::Chart;

/// Images of the list of the worst.
const MOST_LOST: usize = 12;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2229;--soft:#5a6472;--line:#d8dde4;--page:#fff;--sunken:#f3f5f8}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#98a2b0;--line:#343b45;--page:#15181d;--sunken:#1e2329}}\
body{margin:0 auto;padding:24px 16px 64px;max-width:1080px;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:24px;line-height:1.25}h2{margin:40px 0 8px;font-size:18px}h3{margin:24px 0 4px;font-size:15px}\
p{max-width:72ch}.soft{color:var(--soft)}.scroll{overflow-x:auto}\
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}\
th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}\
thead th{color:var(--soft);font-weight:500}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:24px}\
figure{margin:0;break-inside:avoid}svg{width:100%;height:auto}\
pre{padding:12px;overflow-x:auto;border-radius:6px;background:var(--sunken);font-size:12.5px}\
@media print{:root{--ink:#000;--page:#fff;--sunken:#fff}pre{white-space:pre-wrap}}";

/// How each number of the tables is made.
const MADE: [(&str, &str); 11] = [
    (
        "accuracy",
        "the share of passes that give an image's own class, mean over images; its 95 % interval is Wilson's, of as many trials as there are images, each once whatever the number of seeds",
    ),
    (
        "white box",
        "the mean over the attacks by gradients that the plan counts for it, each condition with the same weight; its interval comes from how images differ, an image's mean over conditions and seeds being one observation",
    ),
    (
        "corruption",
        "the same over the corruptions of the benchmark at the plan's severities, frost with textures of our own unless photographs of it were given",
    ),
    ("perturbation", "the mean of white box and corruption"),
    ("overall", "the mean of perturbation and clean"),
    (
        "mCE",
        "the error under each corruption, summed over severities, divided by the reference model's, mean over corruptions",
    ),
    (
        "relative mCE",
        "what the error rises by under each corruption above the error on clean images, summed over severities, divided by what the reference model's rises by, mean over corruptions",
    ),
    (
        "what brought images down",
        "AutoAttack's parts run one after the other, each on the images that those before it left standing",
    ),
    (
        "median size",
        "half of the images that were right when clean fall to a perturbation of at most this size",
    ),
    (
        "how far an area moves",
        "‖f(x′) − f(x)‖₂ / ‖f(x)‖₂ of its last response to the perturbed and the clean image, under the same noise; the mean over the first images of the run, and for a corruption over its severities",
    ),
    (
        "p",
        "McNemar's exact test against the reference model, on the same images, of the first seed",
    ),
];

impl Report {
    /// The report as a page of its own. `remark` says what it is of; `names` are the classes', where
    /// they are known; `rows` are those the report is of.
    ///
    /// # Errors
    /// As [`super::plan::Plan::conditions`].
    pub fn html(&self, rows: &[Row], names: &[String], remark: &str) -> Result<String, PlanError> {
        let charts: String = self.charts()?.iter().map(figure).collect();
        let images: String = self
            .models
            .iter()
            .map(|m| self.image_by_image(rows, names, &m.name))
            .collect();
        let made = |(term, how): &(&str, &str)| format!("<li><b>{term}</b>: {how}.</li>\n");
        let made: String = MADE.iter().map(made).collect();
        let missing = match self.rows < self.expected {
            true => format!(
                "<p><b>{} of {} rows are there; what is missing leaves gaps.</b></p>\n",
                self.rows, self.expected
            ),
            false => String::new(),
        };
        let compared = match self.comparisons.is_empty() {
            true => String::new(),
            false => format!("<h2>On the same images</h2>\n{}", table(&self.compared())),
        };
        let parts = match self.parts.is_empty() {
            true => String::new(),
            false => format!(
                "<h2>What brought images down</h2>\n{}",
                table(&self.brought())
            ),
        };
        let (plan, title) = (&self.plan, escape(&self.plan.name));
        Ok(format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             <p class=\"soft\">Accuracy in per cent with 95 % intervals. Seeds {:?}; stochastic \
             models: {} passes judge an image (n), {} samples a gradient (k). {}</p>\n{missing}\
             <h2>Summary</h2>\n{}\n<div class=\"charts\">\n{charts}</div>\n\
             <h2>Every condition</h2>\n{}{parts}{compared}\n<h2>Image by image</h2>\n{images}\n\
             <h2>How each number is made</h2>\n<ul>\n{made}</ul>\n\
             <h2>The plan that repeats it</h2>\n\
             <p class=\"soft\">Save it as plan.toml; <code>ventral evaluate plan.toml --output \
             results</code> gives these numbers again on the same images.</p>\n\
             <pre>{}</pre>\n</body>\n</html>\n",
            plan.seeds,
            plan.passes,
            plan.eot,
            escape(remark),
            table(&self.summary()),
            table(&self.details()),
            escape(&plan.document()),
        ))
    }

    fn image_by_image(&self, rows: &[Row], names: &[String], model: &str) -> String {
        let lost = self.lost(rows, model, MOST_LOST, names);
        let mut text = format!(
            "<h3>{}</h3>\n<p class=\"soft\">The images that are wrong in most conditions.</p>\n{}",
            escape(model),
            table(&lost_table(&lost))
        );
        for condition in std::iter::once("clean").chain(self.hardest(model)) {
            let found = confusion(rows, model, condition);
            text += &match confusion_chart(&found, names) {
                Some(chart) => figure(&chart),
                None => format!(
                    "<p class=\"soft\">Wrong answers, {}</p>\n{}",
                    escape(condition),
                    table(&confusion_table(&found, names))
                ),
            };
        }
        text
    }
}

fn figure(chart: &Chart) -> String {
    format!("<figure id=\"{}\">{}</figure>\n", chart.name, chart.svg)
}

fn table(table: &Table) -> String {
    let head: String = table
        .head
        .iter()
        .map(|c| format!("<th scope=\"col\">{}</th>", escape(c)))
        .collect();
    let row = |cells: &Vec<String>| {
        let (first, rest) = cells
            .split_first()
            .map_or(("", &[][..]), |(f, r)| (f.as_str(), r));
        let rest: String = rest
            .iter()
            .map(|c| format!("<td>{}</td>", escape(c)))
            .collect();
        format!("<tr><th scope=\"row\">{}</th>{rest}</tr>\n", escape(first))
    };
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    )
}

fn escape(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        _ => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    fn report() -> (Report, Vec<Row>) {
        let text = r#"
            version = 1
            name = "A <b> & c"
            models = ["a", "x\"><script>"]
            images = 2
            [[corruptions]]
            kinds = ["fog", "snow"]
            severities = [1, 2]
            [[attacks]]
            attack = "pgd"
            eps = ["8/255", "1/255"]
        "#;
        let plan = Plan::parse(text).expect("it is sound");
        let mut rows = Vec::new();
        for condition in plan.conditions().expect("it is sound") {
            for (model, image) in [("a", 0), ("a", 1), ("x\"><script>", 0), ("x\"><script>", 1)] {
                let right = condition.value() < 2.0 && image == 0;
                rows.push(Row {
                    model: model.to_owned(),
                    seed: 0,
                    condition: condition.name(),
                    image,
                    label: 0,
                    prediction: u16::from(!right),
                    right: f32::from(u8::from(right)),
                    passes: 1,
                    l1: 0.0,
                    l2: 0.0,
                    linf: 0.0,
                    areas: vec![("V1".to_owned(), 0.1), ("IT".to_owned(), condition.value())],
                    part: None,
                });
            }
        }
        (Report::new(&plan, &rows, 2).expect("it is sound"), rows)
    }

    #[test]
    fn a_page_of_its_own_says_everything_and_asks_for_nothing() {
        let (report, rows) = report();
        let html = report
            .html(&rows, &["cat".into()], "2 images.")
            .expect("it is sound");
        for part in [
            "<title>A &lt;b&gt; &amp; c</title>",
            "id=\"curve-",
            "id=\"corruptions-a\"",
            "id=\"categories\"",
            "id=\"confusion-a-clean\"",
            "id=\"areas-a\"",
            "<th scope=\"row\">fog 2</th>",
            "kinds = [",
            "prefers-color-scheme:dark",
        ] {
            assert!(html.contains(part), "{part} in\n{html}");
        }
        for outside in ["<script", "http://", "https://", "src=", "@import", "url("] {
            let found = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
        assert_eq!(
            html.matches("<table>").count(),
            html.matches("</table>").count()
        );
    }

    #[test]
    fn charts_put_shares_where_they_belong() {
        let (report, _) = report();
        let charts = report.charts().expect("it is sound");
        let names: Vec<&str> = charts.iter().map(|c| c.name.as_str()).collect();
        let [curve, own, other, categories, areas, _] = &charts[..] else {
            panic!("{names:?}");
        };
        assert!(
            curve.name.starts_with("curve-") && curve.name.ends_with("linf"),
            "{names:?}"
        );
        // The weakest radius first, after the clean images; half of the images stand everywhere.
        let at = |label: &str| {
            curve
                .svg
                .find(&format!("\n{label}\n"))
                .or(curve.svg.find(&format!(">{label}<")))
        };
        let places = ["0", "1/255", "8/255"].map(|label| at(label).expect(label));
        assert!(places.is_sorted(), "{places:?}");
        assert!(
            curve.svg.contains(",141.0"),
            "50 % lies in the middle:\n{}",
            curve.svg
        );
        assert!(own.svg.contains("rgb(119,168,199)") && own.svg.contains("rgb(238,243,247)"));
        assert_eq!(other.name, "corruptions-x-script");
        // The mean over severities 1 and 2 of a corruption, in per cent.
        assert!(areas.svg.contains(">150<") || areas.svg.contains("\n150\n"));
        assert!(categories.svg.contains("Weather") && !categories.svg.contains("Noise"));
        for chart in &charts {
            assert!(
                chart.svg.starts_with("<svg") && !chart.svg.contains("NaN"),
                "{}",
                chart.name
            );
            assert!(!chart.svg.contains("<script"));
        }
    }
}
