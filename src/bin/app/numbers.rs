//! Numbers as people read them.

/// `87.3 %`; small shares keep two significant digits.
pub fn percent(share: f32) -> String {
    match share * 100.0 {
        p if p >= 99.95 => "100 %".to_owned(),
        p if p >= 0.1 => format!("{p:.1} %"),
        p if p > 0.0 && p < 0.01 => "< 0.01 %".to_owned(),
        p => format!("{p:.2} %"),
    }
}

/// `14 ms`, `1.32 s`, `2 min 5 s`.
pub fn duration(milliseconds: f32) -> String {
    match milliseconds {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 99_500.0 => format!("{:.2} s", ms / 1000.0),
        ms => format!(
            "{} min {} s",
            (ms / 60_000.0) as u32,
            (ms / 1000.0) as u32 % 60
        ),
    }
}

/// `12.8 MB`, in powers of ten.
pub fn bytes(count: f64) -> String {
    match count {
        n if n < 1e3 => format!("{n:.0} B"),
        n if n < 1e6 => format!("{:.0} kB", n / 1e3),
        n if n < 1e8 => format!("{:.1} MB", n / 1e6),
        n if n < 1e9 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.2} GB", n / 1e9),
    }
}

/// `6.4 M`, `53.4 M`, `812 k`.
pub fn count(n: u64) -> String {
    match n as f64 {
        n if n < 1e3 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.0} k", n / 1e3),
        n => format!("{:.1} M", n / 1e6),
    }
}

/// Three significant digits, without an exponent where that stays short.
pub fn short(value: f32) -> String {
    plain(value).replace('-', "\u{2212}")
}

fn plain(value: f32) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        a if a < 1e-3 => scientific(value),
        a if a < 1.0 => format!("{value:.3}"),
        a if a < 10.0 => format!("{value:.2}"),
        a if a < 100.0 => format!("{value:.1}"),
        a if a < 1e5 => format!("{value:.0}"),
        _ => scientific(value),
    }
}

/// `2.1e−6`, with a real minus.
pub fn scientific(value: f32) -> String {
    format!("{value:.1e}").replace('-', "\u{2212}")
}

/// A length in pixel units as a fraction of 255: `4/255`, `0.25/255`.
pub fn in_255(value: f32) -> String {
    let levels = (value * 255.0 * 100.0).round() / 100.0;
    format!("{levels}/255")
}
