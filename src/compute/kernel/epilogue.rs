//! The epilogue of a convolution: a scale and a shift for each channel, a skip connection and ReLU, in the
//! pass that writes the values.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

/// What happens to values `[n, channels, h, w]` before they are written. There is no gradient to scale and
/// shift, `[channels]` each.
#[derive(Clone, Debug, ExtensionType)]
pub enum Epilogue<B: Backend = Dispatch> {
    /// Nothing.
    Identity,
    /// `x · scale + shift`, then ReLU where `relu`.
    ScaleShift {
        scale: FloatTensor<B>,
        shift: FloatTensor<B>,
        relu: bool,
    },
    /// The positive part of `x · scale + shift + skip`, `skip` being of the values' shape.
    Residual {
        scale: FloatTensor<B>,
        shift: FloatTensor<B>,
        skip: FloatTensor<B>,
    },
}

impl Epilogue {
    /// `x · scale + shift`, then ReLU where `relu`.
    pub fn scale_shift([scale, shift]: [Tensor<1>; 2], relu: bool) -> Self {
        Self::ScaleShift {
            scale: scale.into_dispatch(),
            shift: shift.into_dispatch(),
            relu,
        }
    }

    /// The positive part of `x · scale + shift + skip`.
    pub fn residual([scale, shift]: [Tensor<1>; 2], skip: Tensor<4>) -> Self {
        Self::Residual {
            scale: scale.into_dispatch(),
            shift: shift.into_dispatch(),
            skip: skip.into_dispatch(),
        }
    }
}

impl<B: Backend> Epilogue<B> {
    /// The same with `f` of each tensor.
    pub fn map<C: Backend>(self, f: impl Fn(FloatTensor<B>) -> FloatTensor<C>) -> Epilogue<C> {
        match self {
            Self::Identity => Epilogue::Identity,
            Self::ScaleShift { scale, shift, relu } => Epilogue::ScaleShift {
                scale: f(scale),
                shift: f(shift),
                relu,
            },
            Self::Residual { scale, shift, skip } => Epilogue::Residual {
                scale: f(scale),
                shift: f(shift),
                skip: f(skip),
            },
        }
    }

    /// The scale, where there is one.
    pub fn scale(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Identity => None,
            Self::ScaleShift { scale, .. } | Self::Residual { scale, .. } => Some(scale),
        }
    }

    /// Whether it ends in ReLU.
    pub fn has_relu(&self) -> bool {
        match self {
            Self::Identity => false,
            Self::ScaleShift { relu, .. } => *relu,
            Self::Residual { .. } => true,
        }
    }
}
