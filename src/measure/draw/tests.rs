use super::curves::Scale;
use super::dissimilarities::{SHADES, SHOWN, fill, shown};
use crate::measure::chart::{Chart, Curves, Dissimilarities, Figure, Plot, Series};
use crate::measure::similarity::Gram;

fn curves(
    title: &str,
    y_label: &str,
    series: &[Series],
    range: Option<[f64; 2]>,
    steps: u32,
) -> Chart {
    let plot = Curves {
        x_label: "optimiser step".to_owned(),
        y_label: y_label.to_owned(),
        series: series.to_vec(),
        range,
        end: steps.into(),
    };
    Figure::new("curves", title, Plot::Curves(plot)).draw()
}

fn similarities(title: &str, rows: &[String], columns: &[String], values: &[f64]) -> Chart {
    Figure::similarities(title, rows, columns, values).draw()
}

fn dissimilarities(title: &str, rdm: &Gram, classes: &[u16], names: &[String]) -> Chart {
    let plot = Dissimilarities {
        rdm: rdm.clone(),
        classes: classes.to_vec(),
        names: names.to_vec(),
    };
    Figure::new("dissimilarities", title, Plot::Dissimilarities(plot)).draw()
}

fn series(name: &str, points: &[(f64, f64)]) -> Series {
    Series {
        name: name.to_owned(),
        points: points.to_vec(),
    }
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// As many elements end as begin, and nothing that would not be read.
fn sound(chart: &Chart) {
    let svg = &chart.svg;
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
    let ends = svg.matches("</").count() + svg.matches("/>").count();
    assert_eq!(
        2 * ends,
        svg.matches('<').count() + svg.matches("/>").count()
    );
    assert!(svg.contains("<title>") && !svg.contains("NaN") && !svg.contains("inf"));
}

/// What stands in the texts, in order.
fn texts(chart: &Chart) -> Vec<String> {
    let pieces = chart.svg.split("<text").skip(1);
    let inside = pieces.filter_map(|piece| piece.split_once('>')?.1.split_once("</text"));
    inside.map(|(text, _)| text.trim().to_owned()).collect()
}

/// Classes of `of` stimuli each, 0.2 apart within and 0.9 between.
fn blocks(classes: u16, of: usize) -> (Gram, Vec<u16>) {
    let labels: Vec<u16> = (0..classes).flat_map(|c| vec![c; of]).collect();
    let apart = |i: usize, j: usize| match (i == j, labels[i] == labels[j]) {
        (true, _) => 0.0,
        (_, true) => 0.2,
        (_, false) => 0.9,
    };
    let n = labels.len();
    let values = (0..n * n).map(|at| apart(at / n, at % n)).collect();
    (Gram { n, values }, labels)
}

#[test]
fn curves_skip_what_is_no_number() {
    let all = [
        series("a <b>", &[(0.0, 0.25), (50.0, f64::NAN), (100.0, 0.75)]),
        series("alone", &[(100.0, 0.5)]),
        series("none", &[(0.0, f64::INFINITY)]),
    ];
    let chart = curves("CKA <with> IT", "CKA", &all, Some([0.0, 1.0]), 100);
    sound(&chart);
    assert_eq!(chart.name, "curves-cka-with-it");
    assert!(chart.svg.contains("a &lt;b&gt;") && !chart.svg.contains("<b>"));
    // From a quarter to three quarters of the height, straight over the gap.
    assert!(chart.svg.contains("\"62.0,193.5 544.0,88.5\""));
    // Alone: a mark, and one in the legend.
    assert_eq!(chart.svg.matches("stroke=\"#d55e00\"").count(), 2);
    let texts = texts(&chart);
    for label in ["0.0", "0.2", "1.0", "20", "100", "optimiser step", "CKA"] {
        assert!(texts.iter().any(|t| t == label), "{label} in {texts:?}");
    }
}

#[test]
fn lines_differ_in_more_than_colour() {
    let all: Vec<Series> = (0..8)
        .map(|i| series(&format!("s{i}"), &[(0.0, 0.0), (9.0, f64::from(i))]))
        .collect();
    let chart = curves("t", "loss", &all, None, 9);
    sound(&chart);
    let kind = |piece: &str| {
        let dash = piece.split("stroke-dasharray=\"").nth(1)?;
        let colour = piece.split("stroke=\"").nth(1)?;
        Some((dash.split('"').next()?.to_owned(), colour[..7].to_owned()))
    };
    let mut kinds: Vec<_> = chart.svg.split("<polyline").filter_map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 8);
}

#[test]
fn long_runs_stay_small_and_keep_their_spikes() {
    let noise = |i: u32| (f64::from(i), f64::from(i * 7919 % 1000) / 1000.0);
    let mut points: Vec<(f64, f64)> = (0..50_000).map(noise).collect();
    points[25_000].1 = 5.0;
    let chart = curves("loss", "loss", &[series("a", &points)], None, 50_000);
    sound(&chart);
    assert!(chart.svg.len() < 20_000, "{}", chart.svg.len());
    assert!(chart.svg.contains(",36.0 "), "the spike is at the top");
    assert!(texts(&chart).contains(&"50\u{202f}000".to_owned()));
}

#[test]
fn ticks_are_round_numbers() {
    let labels = |low, high| -> Vec<String> {
        let scale = Scale::over([low, high]).rounded();
        scale.ticks().map(|tick| scale.label(tick)).collect()
    };
    assert_eq!(labels(0.0, 0.3), ["0.0", "0.1", "0.2", "0.3"]);
    assert_eq!(labels(0.0, 100.0), ["0", "20", "40", "60", "80", "100"]);
    assert_eq!(
        labels(-0.03, 0.02),
        ["−0.03", "−0.02", "−0.01", "0.00", "0.01", "0.02"]
    );
    assert_eq!(labels(2.0, 2.0).first(), Some(&"1.0".to_owned()));
    assert_eq!(labels(0.0, 0.0).last(), Some(&"1.0".to_owned()));
    for ends in [
        [1e16, 1e16 + 2.0],
        [-9e299, 9e299],
        [0.0, 5e-324],
        [1e-9, 2e-9],
    ] {
        let count = labels(ends[0], ends[1]).len();
        assert!((2..12).contains(&count), "{ends:?}: {count}");
    }
}

#[test]
fn fields_have_the_numbers_given() {
    let (rows, columns) = (words(&["V1", "<V4>"]), words(&["a", "b", "c"]));
    let values = [0.123, 1.0, 0.0, -0.001, f64::NAN, 0.987];
    let chart = similarities("CKA & more", &rows, &columns, &values);
    sound(&chart);
    assert!(chart.svg.contains("&lt;V4&gt;") && chart.svg.contains("CKA &amp; more"));
    let written = texts(&chart);
    let fields = [
        "V1",
        "0.12",
        "1.00",
        "0.00",
        "&lt;V4&gt;",
        "0.00",
        "–",
        "0.99",
    ];
    assert_eq!(written[1..9], fields);
    assert_eq!(written[9..12], ["a", "b", "c"]);
    let long = words(&["a layer with a long name"; 16]);
    let narrow = similarities("t", &rows, &long, &[0.5; 32]);
    sound(&narrow);
    assert!(narrow.svg.contains("rotate(-40)"));
    assert_eq!(texts(&narrow)[2], ".50");
}

#[test]
fn blocks_have_shades_of_their_own() {
    let (matrix, classes) = blocks(3, 4);
    let names = words(&["cat", "<dog>"]);
    let chart = dissimilarities("RDM", &matrix, &classes, &names);
    sound(&chart);
    // Within, the first block's second row; between, from that block to the end of the row.
    let shade_of = |run: &str| {
        let path = chart.svg.split("<path").find(|path| path.contains(run));
        let path = path.unwrap_or_else(|| panic!("{run} in {}", chart.svg));
        let colour = path.split("stroke=\"").nth(1).expect("it has a stroke");
        colour.split('"').next().map(str::to_owned)
    };
    assert_eq!(
        shade_of("M0 0h4"),
        Some(fill(0)),
        "one run, diagonal and all"
    );
    assert_eq!(shade_of("M4 0h8"), Some(fill(SHADES - 1)));
    let texts = texts(&chart);
    for label in [
        "cat",
        "&lt;dog&gt;",
        "2",
        "≥ 0.90",
        "≤ 0.20",
        "12 stimuli, by class",
    ] {
        assert!(texts.iter().any(|t| t == label), "{label} in {texts:?}");
    }
}

#[test]
fn a_large_matrix_is_thinned_evenly_and_stays_small() {
    let n = 240;
    // Nothing alike beside each other, which is the worst for runs.
    let value = |at: usize| ((at * 2_654_435_761) % 1009) as f64;
    let matrix = Gram {
        n,
        values: (0..n * n).map(value).collect(),
    };
    let classes: Vec<u16> = (0..240).map(|i| i / 60).collect();
    let chart = dissimilarities("RDM", &matrix, &classes, &[]);
    sound(&chart);
    assert!(chart.svg.len() < 40_000, "{}", chart.svg.len());
    assert!(texts(&chart).contains(&"60 of 240 stimuli, by class".to_owned()));
}

#[test]
fn thinning_keeps_classes() {
    let all: Vec<usize> = (0..1200).collect();
    let sizes = |groups: &[&[usize]]| -> Vec<usize> {
        let shown = shown(groups);
        assert!(shown.concat().is_sorted());
        shown.iter().map(Vec::len).collect()
    };
    let equal: Vec<&[usize]> = all.chunks(120).collect();
    assert_eq!(sizes(&equal), [6; 10]);
    assert_eq!(
        sizes(&[&all[..500], &all[500..503], &all[503..]]),
        [28, 3, 28]
    );
    let single: Vec<&[usize]> = all.chunks(1).collect();
    assert_eq!(sizes(&single), [1; SHOWN]);
    assert!(sizes(&[]).is_empty());
}

#[test]
fn nothing_is_drawn_of_nothing() {
    let gram = |n: usize, value: f64| Gram {
        n,
        values: vec![value; n * n],
    };
    let charts = [
        curves("", "", &[], None, 0),
        curves("t", "y", &[series("a", &[])], Some([f64::NAN, 1.0]), 0),
        curves("t", "y", &[series("a", &[(0.0, 3.0)])], None, 0),
        similarities("", &[], &[], &[]),
        similarities("t", &words(&["a"]), &words(&["b"]), &[]),
        dissimilarities("", &gram(0, 0.0), &[], &[]),
        dissimilarities("t", &gram(1, 0.0), &[7], &[]),
        dissimilarities("t", &gram(2, 0.0), &[], &[]),
        dissimilarities("t", &gram(3, f64::NAN), &[0, 1, 2], &[]),
        // Fewer values and classes than stimuli.
        dissimilarities(
            "t",
            &Gram {
                n: 3,
                values: vec![0.5; 4],
            },
            &[0],
            &[],
        ),
    ];
    charts.iter().for_each(sound);
    assert!(charts[0].svg.contains("no values"));
    assert!(charts[5].svg.contains("no pairs of stimuli"));
}
