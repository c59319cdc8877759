//! Intervals and tests for proportions.

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % score interval (Wilson 1927) of a proportion `p` of `n` trials, both in [0, 1].
/// Without any trial it is all of [0, 1].
///
/// ```
/// let (low, high) = ventral::measure::interval::wilson(0.875, 200);
/// assert!((low - 0.822).abs() < 1e-3 && (high - 0.914).abs() < 1e-3);
/// ```
pub fn wilson(p: f64, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let n = n as f64;
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // At 0 and 1 the bounds are exact; rounding must not carry them outside.
    (
        ((centre - spread) / scale).max(0.0),
        ((centre + spread) / scale).min(1.0),
    )
}

/// The two-sided exact p-value of McNemar's test (McNemar 1947): `only_a` images that only one
/// model gets right and `only_b` that only the other does. 1 when there is none of either.
///
/// ```
/// let p = ventral::measure::interval::mcnemar(17, 1);
/// assert!((p - 38.0 / 2_f64.powi(18)).abs() < 1e-9);
/// ```
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let (fewer, n) = (only_a.min(only_b), only_a + only_b);
    // The tail of a binomial of n fair coins, term by term in logarithms.
    let half = n as f64 * std::f64::consts::LN_2;
    let mut choose = 0.0_f64;
    let mut tail = 0.0;
    for k in 0..=fewer {
        if k > 0 {
            choose += ((n - k + 1) as f64).ln() - (k as f64).ln();
        }
        tail += (choose - half).exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_of_known_cases() {
        // 8 of 10: 0.490 to 0.943; 0 of 10: 0 to 0.278 (Newcombe 1998's formula).
        let (low, high) = wilson(0.8, 10);
        assert!((low - 0.490).abs() < 5e-4 && (high - 0.943).abs() < 5e-4);
        let (low, high) = wilson(0.0, 10);
        assert!(low == 0.0 && (high - 0.2775).abs() < 5e-4, "{low} {high}");
        assert_eq!(wilson(0.5, 0), (0.0, 1.0));
        let (low, high) = wilson(1.0, 1_000_000);
        assert!(low > 0.9999 && high == 1.0);
    }

    #[test]
    fn mcnemars_p_of_known_cases() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(3, 3), 1.0);
        // 1 against 5: 2 · (1 + 6) / 64.
        assert!((mcnemar(1, 5) - 14.0 / 64.0).abs() < 1e-12);
        assert_eq!(mcnemar(1, 5), mcnemar(5, 1));
        // 0 against 10: 2 / 1024.
        assert!((mcnemar(0, 10) - 2.0 / 1024.0).abs() < 1e-12);
        // Far out, where a product of small numbers would be 0.
        assert!(mcnemar(400, 700) > 0.0 && mcnemar(400, 700) < 1e-15);
    }
}
