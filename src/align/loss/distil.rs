//! Distillation (Hinton, Vinyals and Dean 2015), and staying near the start.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

/// `T²` times the cross-entropy of the teacher's softened probabilities and the student's, minus
/// what it is at best: the Kullback–Leibler divergence, mean over images; `[1]`. Logits
/// `[n, classes]`; temperature above 0.
pub fn distillation(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = student.dims();
    let p = softmax(teacher.clone() / temperature, 1);
    let entropy =
        p.clone() * (log_softmax(teacher / temperature, 1) - log_softmax(student / temperature, 1));
    entropy.sum() * (temperature * temperature / n as f64)
}
