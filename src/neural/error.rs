//! What can be wrong with a user's data.

use crate::archive::ArchiveError;

use super::axes::Axis;
use super::format::MOST_VALUES;

/// Why responses, labels or heat maps could not be read or used. Every message is a sentence that
/// says what to change; the caller adds the name of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeuralError {
    #[error("this file is empty (0 bytes): please export it again")]
    Empty,
    #[error(
        "this file is not one of the formats that are read: please save the responses as .npy, \
         .npz, .csv, .tsv, .parquet, HDF5 (.h5) or NetCDF-4 (.nc)"
    )]
    UnknownFormat,
    #[error(
        "this program was built without the reader of {0}: please save the file as .npz or .csv"
    )]
    NotBuilt(&'static str),
    #[error("{0}")]
    Archive(#[source] ArchiveError),
    #[error(
        "{0} holds Python objects, which are not read: please save it as text with \
         `x.astype(str)` or as numbers with `x.astype(float)`"
    )]
    Objects(String),
    #[error(
        "this is a NetCDF-3 file, which is not read: please convert it with `nccopy -k nc4 old.nc \
         new.nc`, or in Python with `xarray.open_dataarray(\"old.nc\").to_netcdf(\"new.nc\", \
         engine=\"netcdf4\")`"
    )]
    NetCdf3,
    #[error("this HDF5 file is damaged or cut off ({0}): please copy or download it again")]
    Hdf5(String),
    #[error(
        "this Parquet file cannot be read ({0}): please write it again with compression “snappy” or \
         none"
    )]
    Parquet(String),
    #[error(
        "line {line} has {found} columns and the lines before have {expected}: please give every \
         line as many, with nothing between two separators where a value is missing"
    )]
    Ragged {
        line: u64,
        found: u64,
        expected: u64,
    },
    #[error(
        "the letters of this table are neither UTF-8 nor Windows-1252: please save it as “CSV UTF-8”"
    )]
    Encoding,
    #[error(
        "this is a MATLAB file of version 7 or before, which is not read: please save it with \
         `save(\"file.mat\", \"responses\", \"names\", \"-v7.3\")`"
    )]
    Matlab5,
    #[error("this is an Excel workbook, which is not read: please save its sheet as “CSV UTF-8”")]
    Excel,
    #[error(
        "this HDF5 file uses {0}, which is not read: please write it again without, in Python with \
         `h5py.File(\"new.h5\", \"w\", libver=(\"earliest\", \"v110\"))` and \
         `compression=\"gzip\"`, or none"
    )]
    Hdf5Feature(String),
    #[error("this table cannot be read ({0}): please save it again as plain CSV")]
    Csv(String),
    #[error(
        "this table has no lines of numbers: please give one line a stimulus, one column a neuroid"
    )]
    NoRows,
    #[error(
        "“{text}” in {place} is not a number: please put a number there (with a point, not a comma, \
         for the fraction), or leave it empty where nothing was recorded"
    )]
    NotANumber { text: String, place: String },
    #[error(
        "this table has one line a response (it has the column `{0}`): please pivot it to one line a \
         stimulus and one column a neuroid, in pandas with `df.pivot(index=…, columns=\"{0}\", \
         values=…)`"
    )]
    LongTable(String),
    #[error(
        "this table has one line a time bin (its lines differ in the column `{0}`): please keep the \
         lines of one time bin, or average over them"
    )]
    BinTable(String),
    #[error("the column `{name}` cannot be read ({why}): please write it as plain numbers or text")]
    UnreadColumn { name: String, why: String },
    #[error(
        "“{text}” in {place} has a comma or a point that may be a decimal one or one between \
         thousands: please write numbers without a sign between thousands, or with more digits after \
         the decimal one"
    )]
    CommaOrThousands { text: String, place: String },
    #[error(
        "there is no array of responses here, only {found}: please call it `responses`, with the \
         shape [stimuli, neuroids] or [stimuli, repetitions, neuroids], or name the one to take"
    )]
    NoArray { found: String },
    #[error("there is no array `{name}` here: please name one of {found}")]
    NoSuchArray { name: String, found: String },
    #[error("there are several arrays that could be the responses: please name one of {found}")]
    ManyArrays { found: String },
    #[error(
        "an array of {shape:?} is not taken without a word on its axes: please name them in order, \
         such as stimulus,repetition,neuroid"
    )]
    Axes { shape: Vec<usize> },
    #[error(
        "an array of {shape:?} has two axes of one length, which may be repetitions and neuroids, or \
         the rows and columns of heat maps: please name the axes in order, such as \
         stimulus,repetition,neuroid, or give heat maps as heat maps"
    )]
    AxesAlike { shape: Vec<usize> },
    #[error(
        "{given} axes were named and the array has {found} ({shape:?}): please name every one, in order"
    )]
    AxesCount {
        given: usize,
        found: usize,
        shape: Vec<usize>,
    },
    #[error("two axes of the array are {}: please name every axis once", .0.plural())]
    AxisTwice(Axis),
    #[error("no axis of the array is the {0}: please name one so")]
    AxisMissing(Axis),
    #[error(
        "it is not known what the axis `{name}` of {size} entries is: please name the axes in order, \
         such as stimulus,repetition,neuroid, or average over it"
    )]
    UnknownAxis { name: String, size: usize },
    #[error(
        "there are {} time bins: please choose one by its number, from {}", .bins.len(),
        numbered(.bins)
    )]
    TimeBins { bins: Vec<String> },
    #[error("there is no time bin {index}: please choose one by its number, from {}", numbered(.bins))]
    NoTimeBin { index: usize, bins: Vec<String> },
    #[error("the array has the shape {0:?}, with nothing in it: please export it again")]
    NoValues(Vec<usize>),
    #[error(
        "{values} values are more than the {} that are read: please average over repetitions or keep \
         fewer neuroids",
        MOST_VALUES
    )]
    TooMany { values: u64 },
    #[error(
        "there are {found} {what} and {expected} {}: please give one for each, in the same order", .axis.plural()
    )]
    Labels {
        what: String,
        found: usize,
        expected: usize,
        axis: Axis,
    },
    #[error(
        "the stimulus “{name}” stands here {times} times and others {other}: please give every \
         stimulus one line, or every one as many lines as it has repetitions, or a column \
         `repetition` that numbers them"
    )]
    Duplicate {
        name: String,
        times: usize,
        other: usize,
    },
    #[error(
        "stimuli have up to {repetitions} repetitions, and with a place for each in every one the \
         responses take {values} values: please average over repetitions first"
    )]
    RaggedRepetitions { repetitions: usize, values: u64 },
    #[error(
        "there are {stimuli} responses without names and {images} pictures: please give as many \
         responses as pictures in the order of their names, or name the stimuli"
    )]
    Count { stimuli: usize, images: usize },
    #[error(
        "the responses lie the other way round: {why}. Please transpose them to stimuli x neuroids, \
         or name the axes in their order: {axes}"
    )]
    Transposed { why: String, axes: String },
    #[error(
        "there are {images} pictures, and more than one axis of the array {shape:?} has as many \
         entries: please name the stimuli, or name the axes in order, such as {axes}"
    )]
    AnyAxis {
        images: usize,
        shape: Vec<usize>,
        axes: String,
    },
    #[error(
        "no names of the stimuli were found, and {found} may say which picture each is to: please \
         call it `names` where it does, and take it out of the file where it does not (on the \
         command line: `--names NAME` or `--by-order`)"
    )]
    NotByOrder { found: String },
    #[error(
        "responses without names follow the order of the pictures, and that may be “{first}” before \
         “{second}” or the other way round: please number the picture files with leading zeros, or \
         name the stimuli (on the command line, `--by-order` takes “{first}” first)"
    )]
    TwoOrders { first: String, second: String },
    #[error(
        "no stimulus has the name of a picture (stimuli are called {stimuli}, pictures {images}): \
         please name the stimuli as the picture files are called, with or without the ending"
    )]
    NoMatch { stimuli: String, images: String },
    #[error("no value of the responses is a number: please check how they were exported")]
    AllNan,
    #[error(
        "too little is left: {stimuli} stimuli have a number for each of {neuroids} neuroids, and 2 \
         stimuli are the least; please leave out neuroids or stimuli that were hardly recorded"
    )]
    TooFew { stimuli: usize, neuroids: usize },
    #[error(
        "every neuroid responds to all stimuli alike, so there is nothing to align with: please check \
         that the file holds responses and not, say, the mean of all"
    )]
    AllConstant,
    #[error("split halves need two repetitions, and there is one: please give single repetitions")]
    OneRepetition,
    #[error("there is no region “{name}”: please name one of {found}")]
    NoRegion { name: String, found: String },
    #[error(
        "line {line} has no class: please write the image's name, a comma, its class, or leave the \
         line out"
    )]
    NoClass { line: u64 },
    #[error(
        "the class “{0}” has none of the pictures: please add pictures of it or take its lines out"
    )]
    EmptyClass(String),
    #[error("“{name}” is labelled {first} and {second}: please keep one of the two lines")]
    TwoClasses {
        name: String,
        first: String,
        second: String,
    },
    #[error(
        "“{0}” lies in no class folder: please put it into a folder that is called as its class"
    )]
    NoFolder(String),
    #[error("there are no labels for {count} of the pictures, such as {first}: please add them")]
    Unlabelled { count: usize, first: String },
    #[error("a set can have at most 65,535 classes, this one has {0}: please merge some")]
    ManyClasses(usize),
    #[error("heat maps of the shape {0:?} are not read: please save them as [maps, height, width]")]
    MapShape(Vec<usize>),
    #[error("the heat map {0} holds values that are no numbers: please leave it out or fill them")]
    MapNan(String),
    #[error(
        "{name} is {width}x{height} and the maps before are {}x{}: please resize all to one size",
        .first.0, .first.1
    )]
    MapSize {
        name: String,
        width: usize,
        height: usize,
        first: (usize, usize),
    },
    #[error(
        "{0} is a coloured picture, and how hot a colour is cannot be known: please save the map \
         itself, in grey or as .npy"
    )]
    MapColour(String),
    #[error(
        "there are {maps} heat maps without names and {images} pictures: please give one for each \
         picture in the order of their names, or save them as .npz with an array `names`"
    )]
    MapCount { maps: usize, images: usize },
    #[error("there are no heat maps: please give at least one")]
    NoMaps,
    #[cfg(feature = "picture")]
    #[error("{name}: {cause}")]
    Picture {
        name: String,
        cause: crate::image::ImageError,
    },
}

impl From<ArchiveError> for NeuralError {
    fn from(error: ArchiveError) -> Self {
        match error {
            // NumPy's name of the type.
            ArchiveError::Array { name, problem } if problem.contains("`|O`") => {
                Self::Objects(name)
            }
            other => Self::Archive(other),
        }
    }
}

/// `0 (70 to 170), 1 (170 to 270)`, the first few.
fn numbered(bins: &[String]) -> String {
    const MOST: usize = 12;
    let mut all: Vec<String> = bins
        .iter()
        .enumerate()
        .take(MOST)
        .map(|(i, bin)| match bin.is_empty() {
            true => i.to_string(),
            false => format!("{i} ({bin})"),
        })
        .collect();
    if bins.len() > MOST {
        all.push(format!("… to {}", bins.len() - 1));
    }
    all.join(", ")
}
