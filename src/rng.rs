//! The program's random generator: seeded, on the CPU, the same on every platform.
//!
//! Every use has its own stream, named after its purpose, so that a new draw in one place never
//! changes another. The generator is xoshiro256++ (Blackman and Vigna 2019), seeded
//! through SplitMix64 or, for a named stream, through SHA-256. Normals come from the Box-Muller
//! transform (Box and Muller 1958) in f64 with `libm`'s logarithm, sine and cosine, or where there
//! are many to draw with the same polynomials, vectorised: both are the same natively and in the
//! browser, where the platform's own differ in the last bit. The tests pin values that a second
//! implementation, written from the papers, also gives.

mod normal;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use sha2::{Digest, Sha256};

/// Pairs of normals that are computed at once.
const PAIRS: usize = 32;

/// A stream of random numbers. A clone continues with the same numbers as the original.
///
/// # Examples
/// ```
/// use ventral::rng::Rng;
///
/// let (mut one, mut other) = (Rng::stream(42, "noise"), Rng::stream(42, "noise"));
/// assert_eq!(one.normal_f32(), other.normal_f32());
/// assert!(one.below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct Rng {
    inner: Xoshiro256PlusPlus,
    /// Box-Muller makes two normals at a time.
    spare: Option<f64>,
}

impl Rng {
    /// The stream of `seed` without a name, for a seed with one use.
    pub fn from_seed(seed: u64) -> Self {
        Self::new(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// The stream of `seed` named `label`. Streams of other names or seeds are independent of it:
    /// each is seeded with the SHA-256 of both.
    pub fn stream(seed: u64, label: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(label.as_bytes());
        Self::new(Xoshiro256PlusPlus::from_seed(hash.finalize().into()))
    }

    fn new(inner: Xoshiro256PlusPlus) -> Self {
        Self { inner, spare: None }
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.inner.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, 1), 24 random bits.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.inner.next_u64() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A seed for other streams: 64 random bits.
    pub fn seed(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// Uniform in 0..n, without bias; 0 for n of 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        // The last, incomplete run of n values would favour the small ones.
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.inner.next_u64();
            if draw < limit {
                return (draw % n) as usize;
            }
        }
    }

    /// Standard normal: mean 0, deviation 1, at most 8.6 from 0.
    pub fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // In (0, 1], where the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform_f64()));
        let angle = std::f64::consts::TAU * self.uniform_f64();
        let (sine, cosine) = libm::sincos(angle);
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// Standard normal, rounded from [`Self::normal_f64`].
    pub fn normal_f32(&mut self) -> f32 {
        self.normal_f64() as f32
    }

    /// Fills `values` with independent standard normals, the same as from [`Self::normal_f32`].
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        let odd = usize::from(self.spare.is_some()).min(values.len());
        let (first, rest) = values.split_at_mut(odd);
        first.iter_mut().for_each(|v| *v = self.normal_f32());
        let (whole, rest) = rest.as_chunks_mut::<{ 2 * PAIRS }>();
        for values in whole {
            let mut draws = [[0.0; PAIRS]; 2];
            let [first, second] = &mut draws;
            for (first, second) in first.iter_mut().zip(second) {
                *first = 1.0 - self.uniform_f64();
                *second = self.uniform_f64();
            }
            let pairs = values.as_chunks_mut::<2>().0;
            for (pair, (x, y)) in pairs.iter_mut().zip(normal::pairs(&draws)) {
                *pair = [x as f32, y as f32];
            }
        }
        rest.iter_mut().for_each(|v| *v = self.normal_f32());
    }

    /// A uniformly random permutation of `items` (Fisher and Yates 1938, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniforms(mut rng: Rng, n: usize) -> Vec<f64> {
        (0..n).map(|_| rng.uniform_f64()).collect()
    }

    fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let n = values.len() as f64;
        values.sum::<f64>() / n
    }

    #[test]
    fn many_normals_are_those_drawn_one_by_one() {
        for (before, length) in [(0, 100_000), (1, 99_999), (0, 3), (1, 64), (1, 0)] {
            let (mut all, mut each) = (Rng::from_seed(7), Rng::from_seed(7));
            for rng in [&mut all, &mut each] {
                (0..before).for_each(|_| _ = rng.normal_f32());
            }
            let mut values = vec![0.0; length];
            all.fill_normal(&mut values);
            let expected: Vec<f32> = (0..length).map(|_| each.normal_f32()).collect();
            assert_eq!(values, expected);
            assert_eq!(all.normal_f64(), each.normal_f64());
        }
    }

    #[test]
    fn values_are_pinned() {
        // From a second implementation, in Python, of the three algorithms.
        let expected = [
            0.8143051451229099,
            0.3188210400616611,
            0.9838941681774888,
            0.7011355981347556,
        ];
        assert_eq!(uniforms(Rng::from_seed(42), 4), expected);

        let mut rng = Rng::stream(42, "pinned");
        let expected = [0.8964437598485439, 0.009908983308342112];
        assert_eq!([rng.uniform_f64(), rng.uniform_f64()], expected);
        assert_eq!(rng.uniform_f32(), 0.916_784_9);
        let expected = [
            1.1100589615416798,
            -0.25701975814028044,
            -0.8611229187083171,
            -1.1653336998058597,
        ];
        for expected in expected {
            // The other one uses another library's functions: the last bit may differ.
            assert!((rng.normal_f64() - expected).abs() < 1e-15);
        }

        let mut items: Vec<u8> = (0..10).collect();
        Rng::stream(7, "shuffle").shuffle(&mut items);
        assert_eq!(items, [2, 0, 8, 3, 5, 9, 1, 4, 7, 6]);
    }

    /// To the bit: what changes these changes every published result.
    #[test]
    fn normals_are_pinned_to_the_bit() {
        let mut rng = Rng::stream(1, "noise");
        let mut values = [0.0; 1000];
        rng.fill_normal(&mut values);
        let bits: Vec<u8> = values.iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
        let hash = Sha256::digest(&bits);
        assert_eq!(hash[..8], NORMALS);
    }

    const NORMALS: [u8; 8] = [75, 186, 49, 129, 66, 53, 56, 104];

    #[test]
    fn a_stream_repeats() {
        let (mut one, mut two) = (Rng::stream(3, "a"), Rng::stream(3, "a"));
        for _ in 0..100 {
            assert_eq!(one.normal_f32(), two.normal_f32());
            assert_eq!(one.uniform_f32(), two.uniform_f32());
        }
        // A clone in the middle of a pair of normals goes on alike.
        let mut copy = one.clone();
        assert_eq!(copy.normal_f64(), one.normal_f64());
    }

    #[test]
    fn moments_of_the_normal() {
        let mut rng = Rng::from_seed(1);
        let draws: Vec<f64> = (0..200_000).map(|_| rng.normal_f64()).collect();
        let table = [
            (1, 0.0, 0.01),
            (2, 1.0, 0.02),
            (3, 0.0, 0.05),
            (4, 3.0, 0.1),
        ];
        for (power, expected, tolerance) in table {
            let moment = mean(draws.iter().map(|draw| draw.powi(power)));
            assert!(
                (moment - expected).abs() < tolerance,
                "moment {power}: {moment}"
            );
        }
        // The two of a pair, and neighbours, do not know of each other.
        let pairs = draws.windows(2).map(|pair| pair[0] * pair[1]);
        assert!(mean(pairs).abs() < 0.01);
        let tail = draws.iter().filter(|draw| draw.abs() > 3.0).count();
        // 0.27 % of 200,000 is 540, give or take 23.
        assert!((440..640).contains(&tail), "{tail} beyond three deviations");
    }

    #[test]
    fn moments_of_the_uniform() {
        let mut rng = Rng::from_seed(2);
        let draws: Vec<f32> = (0..100_000).map(|_| rng.uniform_f32()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert!((mean(draws.iter().map(|&d| f64::from(d))) - 0.5).abs() < 0.005);
        let wide = uniforms(Rng::from_seed(2), 100_000);
        assert!((mean(wide.iter().map(|d| (d - 0.5) * (d - 0.5))) - 1.0 / 12.0).abs() < 0.001);
    }

    #[test]
    fn streams_are_independent_of_each_other() {
        let first = uniforms(Rng::stream(0, "a"), 50_000);
        let others = [
            Rng::stream(0, "b"),
            Rng::stream(1, "a"),
            Rng::stream(0, "a "),
            Rng::from_seed(0),
        ];
        for (number, other) in others.into_iter().enumerate() {
            let other = uniforms(other, 50_000);
            let pairs = first.iter().zip(&other);
            let covariance = mean(pairs.map(|(a, b)| (a - 0.5) * (b - 0.5)));
            // The deviation of this mean is 1 / 12 / sqrt(50,000) = 0.0004.
            assert!(covariance.abs() < 0.002, "stream {number}: {covariance}");
        }
    }

    #[test]
    fn below_is_even_and_below() {
        let mut rng = Rng::from_seed(5);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1;
        }
        assert!(
            counts.iter().all(|n| (9_600..10_400).contains(n)),
            "{counts:?}"
        );
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
    }

    #[test]
    fn a_shuffle_keeps_everything_and_is_even() {
        let mut firsts = [0_u32; 5];
        for seed in 0..5000 {
            let mut items = [0, 1, 2, 3, 4];
            Rng::from_seed(seed).shuffle(&mut items);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4]);
        }
        assert!(firsts.iter().all(|n| (850..1150).contains(n)), "{firsts:?}");
        Rng::from_seed(0).shuffle::<u8>(&mut []);
    }
}
