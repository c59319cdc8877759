//! The binary files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009).
//!
//! A record is one byte for each kind of label, the finest last, and then 1,024 red, 1,024 green
//! and 1,024 blue bytes. CIFAR-100 has coarse labels too, which are passed over.

/// Side of a CIFAR picture in pixels.
pub const CIFAR_SIZE: usize = 32;

/// The classes of CIFAR-10 in the order of its labels.
#[rustfmt::skip]
pub const CIFAR10_CLASSES: [&str; 10] = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
];

/// The fine classes of CIFAR-100 in the order of its labels, as its `fine_label_names.txt` has them.
#[rustfmt::skip]
pub const CIFAR100_CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
];

const PIXELS: usize = 3 * CIFAR_SIZE * CIFAR_SIZE;

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cifar {
    Ten,
    Hundred,
}

impl Cifar {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ten => "CIFAR-10",
            Self::Hundred => "CIFAR-100",
        }
    }

    /// In the order of the labels.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Ten => &CIFAR10_CLASSES,
            Self::Hundred => &CIFAR100_CLASSES,
        }
    }

    /// Bytes before the pixels; the last is the label.
    pub(super) fn labels(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    /// Bytes of a record.
    pub fn record(self) -> usize {
        self.labels() + PIXELS
    }

    /// Whose records a file of `len` bytes holds. Where its length fits both or neither, its name
    /// says so: CIFAR-100 is published as `train.bin` and `test.bin`.
    pub(super) fn of_batch(name: &str, len: usize) -> Self {
        let fits = |set: Self| len.is_multiple_of(set.record());
        match (fits(Self::Ten), fits(Self::Hundred)) {
            (true, false) => Self::Ten,
            (false, true) => Self::Hundred,
            _ => Self::by_name(name),
        }
    }

    fn by_name(name: &str) -> Self {
        let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
        match file {
            "train.bin" | "test.bin" => Self::Hundred,
            _ => Self::Ten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_tells_the_sets_apart_and_the_name_where_it_does_not() {
        let both = Cifar::Ten.record() * Cifar::Hundred.record();
        let table = [
            ("c/data_batch_1.bin", 10_000 * 3073, Cifar::Ten),
            ("c/train.bin", 50_000 * 3074, Cifar::Hundred),
            ("mine.bin", 2 * 3074, Cifar::Hundred),
            ("train.bin", 2 * 3073, Cifar::Ten),
            ("c/test.bin", both, Cifar::Hundred),
            ("c/test_batch.bin", both, Cifar::Ten),
            ("c/train.bin", 3000, Cifar::Hundred),
            ("c\\test.bin", 3000, Cifar::Hundred),
            ("data_batch_2.bin", 3000, Cifar::Ten),
        ];
        for (name, len, wanted) in table {
            assert_eq!(Cifar::of_batch(name, len), wanted, "{name} {len}");
        }
    }

    /// Both lists are alphabetical, as the labels are.
    #[test]
    fn classes_are_in_order() {
        for set in [Cifar::Ten, Cifar::Hundred] {
            assert!(set.classes().is_sorted(), "{}", set.name());
        }
    }
}
