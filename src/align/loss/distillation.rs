//! Distillation from the starting network (Hinton, Vinyals and Dean 2015).

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

use super::{Context, Loss, computed};

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    let teacher = context
        .start
        .forward(context.input.tensor(context.device), None);
    let teacher = Tensor::from_inner(teacher);
    let temperature = context.losses.temperature;
    computed(distillation(context.logits.clone(), teacher, temperature))
}

/// `T²` times the cross-entropy of the teacher's softened probabilities and the student's, minus
/// its minimum: the Kullback–Leibler divergence, mean over images; `[1]`. Logits
/// `[n, classes]`; temperature above 0.
pub fn distillation(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = student.dims();
    let p = softmax(teacher.clone() / temperature, 1);
    let entropy =
        p.clone() * (log_softmax(teacher / temperature, 1) - log_softmax(student / temperature, 1));
    entropy.sum() * (temperature * temperature / n as f64)
}
