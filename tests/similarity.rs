//! Similarity measures against the reference implementations' numbers, and what must hold of them.

mod common;

use common::arrays::{Reference, close};
use ventral::measure::similarity::cka::{self, Estimator, Kernel, cka};
use ventral::measure::similarity::dimension::participation_ratio;
use ventral::measure::similarity::inference::{Repeated, ceiling, permutation_test, reliabilities};
use ventral::measure::similarity::rdm::{Comparison, Dissimilarity, compare, rdm};
use ventral::measure::similarity::{Matrix, SimilarityError, spearman};
use ventral::rng::Rng;

/// Array `name` of the reference, responses `[stimuli, neuroids]`.
fn matrix(reference: &mut Reference, name: &str) -> Matrix {
    let array = reference.array(name);
    let [rows, columns] = array.shape[..] else {
        panic!("{name} has shape {:?}", array.shape)
    };
    Matrix::new(rows, columns, array.data.to_f64()).unwrap()
}

/// `n` answers of `m` neuroids, normal.
fn random(n: usize, m: usize, rng: &mut Rng) -> Matrix {
    let values = (0..n * m).map(|_| rng.normal_f64()).collect();
    Matrix::new(n, m, values).unwrap()
}

/// The same population seen through another one's weights.
fn times(x: &Matrix, w: &Matrix) -> Matrix {
    let columns: Vec<Vec<f64>> = (0..w.columns).map(|c| w.column(c)).collect();
    let product = |row: &[f64], column: &Vec<f64>| row.iter().zip(column).map(|(a, b)| a * b).sum();
    let values = (0..x.rows)
        .flat_map(|r| columns.iter().map(move |c| product(x.row(r), c)))
        .collect();
    Matrix::new(x.rows, w.columns, values).unwrap()
}

#[test]
fn cka_is_the_references() {
    let mut reference = Reference::open("metrics");
    let (x, y) = (matrix(&mut reference, "X"), matrix(&mut reference, "Y"));
    let ours = |kernel, estimator| cka(&x, &y, kernel, estimator).unwrap();
    close(
        ours(Kernel::Linear, Estimator::Biased),
        reference.number("/cka/feature_form"),
        1e-10,
    );
    close(
        ours(Kernel::Linear, Estimator::Unbiased),
        reference.number("/cka/brainscore_unbiased_linear_CKA"),
        1e-10,
    );
    close(
        ours(Kernel::Rbf(1.0), Estimator::Biased),
        reference.number("/cka/rbf_kernel_CKA_sigma_sqrt_median"),
        1e-8,
    );
    close(
        cka(&x, &x, Kernel::Linear, Estimator::Biased).unwrap(),
        1.0,
        1e-12,
    );
}

#[test]
fn dissimilarities_and_their_comparison_are_the_references() {
    let mut reference = Reference::open("metrics");
    let [x, y] =
        ["X", "Y"].map(|name| rdm(&matrix(&mut reference, name), Dissimilarity::Correlation));
    for (ours, name) in [(&x, "rdm_X"), (&y, "rdm_Y")] {
        let theirs = matrix(&mut reference, name);
        for i in 0..theirs.rows {
            for (ours, theirs) in ours.row(i).iter().zip(theirs.row(i)) {
                close(*ours, *theirs, 1e-6);
            }
        }
    }
    for (comparison, name) in [
        (Comparison::Spearman, "/rsa/spearman"),
        (Comparison::Pearson, "/rsa/pearson"),
    ] {
        let ours = compare(&x, &y, comparison).unwrap();
        close(ours, reference.number(name), 1e-8);
    }
    let list = |name| -> Vec<f64> {
        let values = &reference.numbers["spearman_with_ties"][name];
        serde_json::from_value(values.clone()).unwrap()
    };
    close(
        spearman(&list("a"), &list("b")),
        reference.number("/spearman_with_ties/rho"),
        1e-12,
    );
}

#[test]
fn the_participation_ratio_is_the_textbooks() {
    let mut reference = Reference::open("metrics");
    let x = matrix(&mut reference, "X");
    let (rows, columns): (Vec<usize>, Vec<usize>) = ((0..60).collect(), (0..40).collect());
    let part = x.select_rows(&rows).select_columns(&columns);
    let theirs = reference.number("/participation_ratio/textbook (sum l)^2~1sum l^2");
    close(participation_ratio(&part), theirs, 1e-8);
}

#[test]
fn reliabilities_of_halves_are_the_references() {
    let mut reference = Reference::open("metrics");
    let array = reference.array("reps_12x40x10");
    let values = array.data.to_f32();
    let data = Repeated {
        repetitions: 12,
        stimuli: 40,
        neuroids: 10,
        values: &values,
    };
    let theirs = matrix(&mut reference, "sh_r_spearman_brown");
    let [first, second] = ["sh_half1", "sh_half2"].map(|name| matrix(&mut reference, name));
    for split in 0..first.rows {
        let [a, b] = [&first, &second].map(|half| {
            let repetitions: Vec<usize> = half.row(split).iter().map(|r| *r as usize).collect();
            data.mean(&repetitions)
        });
        for (ours, theirs) in reliabilities(&a, &b).iter().zip(theirs.row(split)) {
            close(*ours, *theirs, 1e-8);
        }
    }
    let ours = ceiling(data, 50, &mut Rng::from_seed(1)).unwrap().unwrap();
    let theirs = reference.number("/noise_ceiling/ceiling_median_neuroid_mean_split");
    close(ours.reliability, theirs, 0.02);
    assert!(ours.cka > 0.5 && ours.cka < 1.0, "{}", ours.cka);
}

#[test]
fn cka_sees_through_rotation_scale_and_shift() {
    let mut rng = Rng::from_seed(3);
    let x = random(40, 6, &mut rng);
    // Two reflections (I − 2vvᵀ) after each other are a rotation.
    let mut turned = x.clone();
    for _ in 0..2 {
        let v = random(1, 6, &mut rng);
        let length: f64 = v.values.iter().map(|a| a * a).sum();
        let mirror: Vec<f64> = (0..36)
            .map(|at| {
                let (i, j) = (at / 6, at % 6);
                f64::from(u8::from(i == j)) - 2.0 * v.values[i] * v.values[j] / length
            })
            .collect();
        turned = times(&turned, &Matrix::new(6, 6, mirror).unwrap());
    }
    let moved: Vec<f64> = turned.values.iter().map(|v| 3.0 * v - 7.0).collect();
    let moved = Matrix::new(40, 6, moved).unwrap();
    for estimator in [Estimator::Biased, Estimator::Unbiased] {
        for kernel in [Kernel::Linear, Kernel::Rbf(0.8)] {
            close(cka(&x, &moved, kernel, estimator).unwrap(), 1.0, 1e-9);
        }
    }
}

/// With more neuroids than stimuli the biased estimate is high for anything; the unbiased is not.
#[test]
fn only_the_unbiased_estimate_of_unrelated_populations_is_zero_on_average() {
    let mut rng = Rng::from_seed(5);
    let (mut biased, mut unbiased) = (0.0, 0.0);
    for _ in 0..20 {
        let (x, y) = (random(30, 200, &mut rng), random(30, 200, &mut rng));
        biased += cka(&x, &y, Kernel::Linear, Estimator::Biased).unwrap() / 20.0;
        unbiased += cka(&x, &y, Kernel::Linear, Estimator::Unbiased).unwrap() / 20.0;
    }
    assert!(biased > 0.7, "{biased}");
    assert!(unbiased.abs() < 0.05, "{unbiased}");
}

#[test]
fn minibatches_agree_with_the_whole() {
    let mut rng = Rng::from_seed(8);
    let x = random(600, 20, &mut rng);
    let y = times(&x, &random(20, 15, &mut rng));
    let noisy: Vec<f64> = y
        .values
        .iter()
        .map(|v| v + 3.0 * rng.normal_f64())
        .collect();
    let y = Matrix::new(600, 15, noisy).unwrap();
    let whole = cka(&x, &y, Kernel::Linear, Estimator::Unbiased).unwrap();
    assert!(whole > 0.3 && whole < 0.9, "{whole}");
    close(cka::minibatch(&x, &y, 600).unwrap(), whole, 1e-12);
    close(cka::minibatch(&x, &y, 60).unwrap(), whole, 0.02);
}

#[test]
fn a_permutation_test_knows_chance_from_more() {
    let mut rng = Rng::from_seed(2);
    let x = random(50, 10, &mut rng);
    let y = times(&x, &random(10, 8, &mut rng));
    let kernel = |m: &Matrix| Estimator::Unbiased.centre(&Kernel::Linear.of(m));
    let related = permutation_test(&kernel(&x), &kernel(&y), 200, &mut rng);
    assert!(related.p < 0.01 && related.observed > 0.5, "{related:?}");
    assert!(related.chance.abs() < 0.05, "{related:?}");
    // Unrelated populations: p is uniform, so its mean over many is a half.
    let mean: f64 = (0..40)
        .map(|_| {
            let (a, b) = (random(20, 5, &mut rng), random(20, 5, &mut rng));
            permutation_test(&kernel(&a), &kernel(&b), 39, &mut rng).p / 40.0
        })
        .sum();
    assert!(mean > 0.35 && mean < 0.68, "{mean}");
}

#[test]
fn a_map_of_areas_is_symmetric_with_ones_on_its_diagonal() {
    let mut rng = Rng::from_seed(4);
    let areas = [3, 9, 5].map(|m| random(25, m, &mut rng));
    let map = cka::matrix(&areas, &areas, Kernel::Linear, Estimator::Biased).unwrap();
    for i in 0..3 {
        close(map[4 * i], 1.0, 1e-12);
        (0..3).for_each(|j| close(map[3 * i + j], map[3 * j + i], 1e-12));
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let mut rng = Rng::from_seed(6);
    let (x, y) = (random(10, 3, &mut rng), random(9, 3, &mut rng));
    let said = cka(&x, &y, Kernel::Linear, Estimator::Biased).unwrap_err();
    assert_eq!(said, SimilarityError::Stimuli(10, 9));
    let few = x.select_rows(&[0, 1, 2]);
    let said = cka(&few, &few, Kernel::Linear, Estimator::Unbiased).unwrap_err();
    assert!(said.to_string().contains("4 stimuli are needed"), "{said}");
    assert!(Matrix::new(1, 1, vec![f64::NAN]).is_err());
    assert!(Matrix::new(2, 2, vec![0.0; 3]).is_err());
    // A population that does not vary is like no other.
    let still = Matrix::new(10, 2, vec![4.0; 20]).unwrap();
    for kernel in [Kernel::Linear, Kernel::Rbf(1.0)] {
        close(
            cka(&x, &still, kernel, Estimator::Biased).unwrap(),
            0.0,
            1e-9,
        );
    }
}
