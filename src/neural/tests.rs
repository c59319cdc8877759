//! Every format with what it should be, and what a visitor gets wrong.

use std::io::Cursor;

use hdf5_pure::{AttrValue, FileBuilder};

use super::*;
use crate::archive::npy::{Array, Data, NpzWriter, write_npy};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("img_{i:02}.png")).collect()
}

fn array(shape: &[usize]) -> Array {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| i as f32).collect();
    Array::new(shape.to_vec(), Data::F32(values)).unwrap()
}

fn npy(shape: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_npy(&mut bytes, &array(shape)).unwrap();
    bytes
}

fn npz(arrays: &[(&str, Array)]) -> Vec<u8> {
    let mut writer = NpzWriter::new(Vec::new());
    for (name, array) in arrays {
        writer.add(name, array).unwrap();
    }
    writer.finish().unwrap()
}

/// An archive with names as NumPy writes arrays of text, which our own writer does not.
fn npz_with_names(array: &Array, names: &[&str]) -> Vec<u8> {
    use std::io::Write;
    let width = names.iter().map(|n| n.chars().count()).max().unwrap();
    let text = format!(
        "{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({},), }}\n",
        names.len()
    );
    let mut strings = b"\x93NUMPY\x01\x00".to_vec();
    strings.extend((text.len() as u16).to_le_bytes());
    strings.extend(text.as_bytes());
    for name in names {
        let letters = name.chars().chain(std::iter::repeat('\0')).take(width);
        strings.extend(letters.flat_map(|c| u32::from(c).to_le_bytes()));
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    let mut numbers = Vec::new();
    write_npy(&mut numbers, array).unwrap();
    add("responses.npy", &numbers);
    add("image_ids.npy", &strings);
    zip.finish().unwrap().into_inner()
}

fn hdf5(build: impl FnOnce(&mut FileBuilder)) -> Vec<u8> {
    let mut builder = FileBuilder::new();
    build(&mut builder);
    builder.finish().unwrap()
}

fn read_as(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Responses, NeuralError> {
    read(name, bytes.into(), &ReadOptions::default())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, NeuralError>, says: &[&str]) {
    let sentence = result.unwrap_err().to_string();
    for part in says {
        assert!(sentence.contains(part), "no `{part}` in: {sentence}");
    }
}

const ASSEMBLY: &[u8] = include_bytes!("../../tests/fixtures/neural/assembly.nc");
const BINS: &[u8] = include_bytes!("../../tests/fixtures/neural/bins.nc");
#[cfg(feature = "neural-parquet")]
const TABLE: &[u8] = include_bytes!("../../tests/fixtures/neural/responses.parquet");

/// What `make.py` puts there.
fn value(stimulus: usize, neuroid: usize, repetition: usize, bin: usize) -> f32 {
    (10 * stimulus + neuroid + 100 * repetition + 1000 * bin) as f32
}

fn expected([stimuli, repetitions, neuroids]: [usize; 3], bin: usize) -> impl Iterator<Item = f32> {
    let places = (0..stimuli)
        .flat_map(move |s| (0..repetitions).map(move |r| (s, r)))
        .flat_map(move |(s, r)| (0..neuroids).map(move |n| (s, r, n)));
    places.map(move |(s, r, n)| value(s, n, r, bin))
}

// What is read.

#[test]
fn an_assembly_of_xarray_is_read() {
    let found = read_as("assembly.nc", ASSEMBLY).unwrap();
    assert_eq!(found.shape(), [6, 3, 5]);
    assert!(expected([6, 3, 5], 0).eq(found.values().iter().copied()));
    assert_eq!(found.stimuli().unwrap()[5], "img_05");
    assert_eq!(found.names()[1].name, "filename");
    assert_eq!(found.regions().unwrap(), ["V4", "V4", "IT", "IT", "IT"]);
    assert_eq!(found.neuroids().unwrap()[4], "site_4");
    assert_eq!(found.objects().unwrap()[..2], ["car", "face"]);
    let notes = found.origin().notes.join("\n");
    assert!(notes.contains("70 to 170"), "{notes}");
    assert_eq!(found.origin().axes[1].name, "neuroid");
}

#[test]
fn several_time_bins_want_a_choice_and_axes_may_lie_in_any_order() {
    let open = |time_bin| {
        let options = ReadOptions {
            time_bin,
            ..ReadOptions::default()
        };
        read("bins.nc", BINS.to_vec(), &options)
    };
    refused(
        open(None),
        &["2 time bins", "0 (70 to 170), 1 (170 to 270)"],
    );
    refused(open(Some(2)), &["no time bin 2", "1 (170 to 270)"]);
    for bin in 0..2 {
        let found = open(Some(bin)).unwrap();
        assert_eq!(found.shape(), [6, 3, 5]);
        for (ours, theirs) in found.values().iter().zip(expected([6, 3, 5], bin)) {
            assert!(ours.is_nan() || *ours == theirs, "{ours} {theirs}");
        }
        // The third stimulus was shown once.
        let missing = found.values().iter().filter(|v| v.is_nan()).count();
        assert_eq!(missing, 2 * 5);
        let (understood, _) = interpret(&found, None).unwrap();
        assert_eq!(understood.repetitions, [1, 3]);
        assert_eq!(understood.not_finite, NotFinite::default());
    }
}

#[cfg(feature = "neural-parquet")]
#[test]
fn a_table_of_pandas_is_read() {
    let found = read_as("responses.parquet", TABLE).unwrap();
    assert_eq!(found.shape(), [6, 1, 5]);
    assert!(expected([6, 1, 5], 0).eq(found.values().iter().copied()));
    assert_eq!(found.stimuli().unwrap()[1], "img_01");
    assert_eq!(found.neuroids().unwrap()[4], "site_4");
}

#[test]
fn arrays_are_read() {
    assert_eq!(read_as("x.npy", npy(&[4, 3])).unwrap().shape(), [4, 1, 3]);
    let found = read_as("x.npy", npy(&[4, 2, 3])).unwrap();
    assert_eq!(found.shape(), [4, 2, 3]);
    assert_eq!(found.values()[..3], [0.0, 1.0, 2.0]);
    let options = ReadOptions {
        axes: Some(vec![Axis::Neuroid, Axis::Stimulus]),
        ..ReadOptions::default()
    };
    let turned = read("x.npy", npy(&[2, 3]), &options).unwrap();
    assert_eq!(turned.shape(), [3, 1, 2]);
    assert_eq!(turned.values(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn an_archive_with_names_is_read() {
    let bytes = npz_with_names(&array(&[3, 2]), &["b.png", "ä.png", "c.png"]);
    let found = read_as("x.npz", bytes).unwrap();
    assert_eq!(found.stimuli().unwrap(), ["b.png", "ä.png", "c.png"]);
    let numbered = [
        ("X", array(&[4, 2])),
        (
            "stimuli",
            Array::new(vec![4], Data::I64(vec![7, 8, 7, 8])).unwrap(),
        ),
    ];
    let found = read_as("x.npz", npz(&numbered)).unwrap();
    assert_eq!(found.shape(), [2, 2, 2]);
    assert_eq!(found.stimuli().unwrap(), ["7", "8"]);
    assert_eq!(found.values(), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
}

#[test]
fn tables_are_read_with_and_without_header_and_names() {
    let both = [[1.0, 2.5], [3.0, -4e-1]].concat();
    let table = [
        ("image_id,n1,n2\na,1,2.5\nb,3,-4e-1\n", true, true),
        ("a,1,2.5\nb,3,-4e-1\n", true, false),
        ("n1,n2\n1,2.5\n3,-0.4\n", false, true),
        ("1,2.5\n3,-0.4", false, false),
        (",0,1\r\na,1,2.5\r\nb,3,-0.4\r\n", true, true),
        (",n1,n2\n0,1,2.5\n1,3,-0.4\n", false, true),
        (
            "\u{feff}stimulus;n1;n2\n\"a\";1;2.5\nb;3;-0.4\n",
            true,
            true,
        ),
        (
            "# made by hand\nfilename\tn1\tn2\na\t 1\t2.5\nb\t3\t-0.4\n",
            true,
            true,
        ),
    ];
    for (text, named, header) in table {
        let found = read_as("x.csv", text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(found.shape(), [2, 1, 2], "{text}");
        assert_eq!(found.values(), both, "{text}");
        let names = found.stimuli().map(<[String]>::to_vec);
        assert_eq!(names, named.then(|| strings(&["a", "b"])), "{text}");
        assert_eq!(found.neuroids().is_some(), header, "{text}");
    }
}

#[test]
fn a_table_may_hold_gaps_classes_and_repetitions() {
    let text = "image_id,repetition,object_name,n1,n2\n\
                a,0,cat,1,\nb,0,dog,NA,4\na,1,cat,5,6\n";
    let found = read_as("x.csv", text).unwrap();
    assert_eq!(found.shape(), [2, 2, 2]);
    assert_eq!(found.objects().unwrap(), ["cat", "dog"]);
    let mean = found.mean();
    assert_eq!(mean[..2], [3.0, 6.0]);
    assert!(mean[2].is_nan() && mean[3] == 4.0);
}

#[test]
fn plain_hdf5_is_read_by_usual_order_and_labels() {
    let data: Vec<f64> = (0..6).map(f64::from).collect();
    let plain = hdf5(|file| {
        file.create_dataset("responses")
            .with_f64_data(&data)
            .with_shape(&[3, 2]);
        file.create_dataset("image_names")
            .with_vlen_strings(&["a", "b", "c"]);
        file.create_dataset("regions")
            .with_strings(&["V1", "IT"])
            .unwrap();
    });
    let found = read_as("x.h5", plain).unwrap();
    assert_eq!(found.shape(), [3, 1, 2]);
    assert_eq!(found.stimuli().unwrap(), ["a", "b", "c"]);
    assert_eq!(found.regions().unwrap(), ["V1", "IT"]);
    let labelled = hdf5(|file| {
        let labels = strings(&["neuron", "trial", "image"]);
        file.create_dataset("dff")
            .with_f32_data(&[0.0; 24])
            .with_shape(&[2, 3, 4])
            .set_attr("DIMENSION_LABELS", AttrValue::StringArray(labels));
    });
    assert_eq!(read_as("x.h5", labelled).unwrap().shape(), [4, 3, 2]);
}

#[test]
fn groups_numbers_and_fills_of_hdf5_are_read() {
    let bytes = hdf5(|file| {
        let mut group = file.create_group("V4");
        group
            .create_dataset("spikes")
            .with_i32_data(&[1, 2, -9, 4])
            .with_shape(&[2, 2])
            .set_attr("_FillValue", AttrValue::I32(-9));
        let group = group.finish();
        file.add_group(group);
    });
    let found = read_as("x.hdf5", bytes).unwrap();
    assert!(found.values()[2].is_nan());
    assert_eq!(found.values()[3], 4.0);
}

// What is made of it.

#[test]
fn means_and_halves_leave_out_what_was_not_recorded() {
    let nan = f32::NAN;
    let values = vec![1.0, 3.0, 5.0, nan, 2.0, nan, nan, 8.0];
    let responses = Responses::new([2, 4, 1], values).unwrap();
    assert_eq!(responses.mean(), [3.0, 5.0]);
    let (one, other) = responses.halves(0).unwrap();
    assert_eq!((one.len(), other.len()), (2, 2));
    assert_eq!(one[1] + other[1], 10.0);
    assert_eq!(responses.halves(0).unwrap(), (one, other));
    refused(
        Responses::new([2, 1, 1], vec![1.0, 2.0]).unwrap().halves(0),
        &["two repetitions"],
    );
}

#[test]
fn halves_share_nothing() {
    let values = (0..7).map(|i| (1 << i) as f32).collect();
    let responses = Responses::new([1, 7, 1], values).unwrap();
    for seed in 0..20 {
        let (one, other) = responses.halves(seed).unwrap();
        assert_eq!(3.0 * one[0] + 4.0 * other[0], 127.0);
    }
}

#[test]
fn parts_keep_their_labels() {
    let responses = Responses::new([3, 1, 2], (0..6).map(|i| i as f32).collect())
        .and_then(|r| r.with_stimuli(strings(&["a", "b", "c"])))
        .and_then(|r| r.with_regions(strings(&["V4", "IT"])))
        .and_then(|r| r.with_neuroids(strings(&["n", "m"])))
        .unwrap();
    let part = responses.keep_stimuli(&[2, 0, 9]);
    assert_eq!(part.stimuli().unwrap(), ["c", "a"]);
    let part = part.region("it").unwrap();
    assert_eq!((part.shape(), part.values()), ([2, 1, 1], &[5.0, 1.0][..]));
    assert_eq!(part.neuroids().unwrap(), ["m"]);
    refused(responses.region("V1"), &["V1", "IT, V4"]);
}

#[test]
fn names_match_exactly_then_by_stem_then_in_any_case() {
    let images = strings(&[
        "cat/A.png",
        "cat/b.jpg",
        "dog/C.PNG",
        "dog/d.png",
        "x/e.png",
    ]);
    let responses = Responses::new([5, 1, 1], vec![3.0, 1.0, 0.0, 2.0, 9.0])
        .and_then(|r| r.with_stimuli(strings(&["d.png", "b", "cat/A.png", "c", "zzz"])))
        .unwrap();
    let (understood, aligned) = interpret(&responses, Some(&images)).unwrap();
    assert_eq!(aligned.images, [0, 1, 2, 3]);
    assert_eq!(aligned.responses.values(), [0.0, 1.0, 2.0, 3.0]);
    let names = understood.names.as_ref().unwrap();
    let by = [
        (Rule::Exact, 1),
        (Rule::FileName, 1),
        (Rule::Stem, 1),
        (Rule::AnyCase, 1),
    ];
    assert_eq!(names.by, by);
    assert_eq!(names.missing.first, ["x/e.png"]);
    assert_eq!(names.extra.first, ["zzz"]);
    let said = understood.sentences().join("\n");
    assert!(
        said.contains("Pictures without responses: 1 (x/e.png)"),
        "{said}"
    );
    let json = serde_json::to_string(&understood).unwrap();
    assert_eq!(
        serde_json::from_str::<Interpretation>(&json).unwrap(),
        understood
    );
}

#[test]
fn the_column_that_matches_best_is_taken() {
    let found = read_as("assembly.nc", ASSEMBLY).unwrap();
    let images: Vec<String> = (0..6).map(|i| format!("pictures/img_{i:02}.png")).collect();
    let (understood, aligned) = interpret(&found, Some(&images)).unwrap();
    assert_eq!(aligned.images, [0, 1, 2, 3, 4, 5]);
    // Both columns match all of them; the identity stands first.
    let names = understood.names.as_ref().unwrap();
    assert_eq!(names.column.as_deref(), Some("image_id"));
    let regions: Vec<_> = understood.regions.iter().map(|r| r.neuroids).collect();
    assert_eq!(regions, [3, 2]);
}

#[test]
fn without_names_order_counts_and_is_said() {
    let found = read_as("x.npy", npy(&[3, 2])).unwrap();
    let (understood, aligned) = interpret(&found, Some(&names(3))).unwrap();
    assert_eq!(aligned.images, [0, 1, 2]);
    let said = understood.sentences().join("\n");
    assert!(
        said.contains("by their order, for the stimuli have no names"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_used_is_left_out_and_said() {
    let nan = f32::NAN;
    #[rustfmt::skip]
    let values = vec![
        1.0, 5.0, nan, 1.0,
        2.0, 5.0, nan, 2.0,
        nan, nan, nan, nan,
        4.0, 5.0, 1.0, f32::INFINITY,
        3.0, 5.0, nan, 4.0,
    ];
    let responses = Responses::new([5, 1, 4], values).unwrap();
    let (understood, aligned) = interpret(&responses, None).unwrap();
    assert_eq!(aligned.responses.shape(), [3, 1, 2]);
    assert_eq!(aligned.responses.values(), [1.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
    assert_eq!(aligned.images, [0, 1, 4]);
    assert_eq!(
        understood.unrecorded_stimuli.first,
        ["number 2", "number 3"]
    );
    assert_eq!(understood.unrecorded_neuroids.first, ["number 2"]);
    assert_eq!(understood.constant_neuroids.first, ["number 1"]);
    let NotFinite {
        nan,
        infinite,
        stimuli,
        ..
    } = understood.not_finite;
    assert_eq!((nan, infinite, stimuli), (7, 1, 5));
}

// What a visitor gets wrong.

#[test]
fn files_that_are_none() {
    refused(read_as("x.csv", ""), &["empty", "export"]);
    refused(read_as("x.csv", " \n \n"), &["empty"]);
    refused(read_as("x.docx", "text"), &["save the responses as .npy"]);
    refused(read_as("x.h5", "not so"), &["HDF5"]);
    refused(read_as("x.nc", b"CDF\x01\0\0\0\0"), &["NetCDF-3", "nccopy"]);
    refused(read_as("x.nc", &ASSEMBLY[..5000]), &["damaged or cut off"]);
    refused(read_as("x.npz", npz(&[])), &["no array of responses"]);
}

#[test]
fn counts_that_do_not_fit() {
    let found = read_as("x.npy", npy(&[4, 3])).unwrap();
    let wrong = interpret(&found, Some(&names(5)));
    refused(wrong, &["4 responses", "5 pictures", "as many"]);
    let bytes = npz_with_names(&array(&[3, 2]), &["a", "b"]);
    refused(read_as("x.npz", bytes), &["2 image_ids", "3 stimuli"]);
}

#[test]
fn axes_that_lie_the_other_way_round() {
    let found = read_as("x.npy", npy(&[3, 8])).unwrap();
    let wrong = interpret(&found, Some(&names(8)));
    refused(
        wrong,
        &[
            "8 pictures and as many neuroids",
            "transpose",
            "neuroid,stimulus",
        ],
    );
    let found = read_as("x.npy", npy(&[3, 8, 2])).unwrap();
    let wrong = interpret(&found, Some(&names(8)));
    refused(
        wrong,
        &["as many repetitions", "repetition,stimulus,neuroid"],
    );
    let text = "site,img_00.png,img_01.png\nunit a,1,2\nunit b,3,4\nunit c,5,7\n";
    refused(read_as("x.csv", text), &["one line a response"]);
    let text = text.replace("site", "x");
    let found = read_as("x.csv", text.as_str()).unwrap();
    refused(
        interpret(&found, Some(&names(2))),
        &["names of pictures", "transpose"],
    );
    let options = ReadOptions {
        axes: Some(vec![Axis::Neuroid, Axis::Stimulus]),
        ..ReadOptions::default()
    };
    let found = read("x.csv", text.into_bytes(), &options).unwrap();
    let (understood, aligned) = interpret(&found, Some(&names(2))).unwrap();
    assert_eq!(understood.kept, [2, 1, 3]);
    assert_eq!(aligned.responses.values(), [1.0, 3.0, 5.0, 2.0, 4.0, 7.0]);
    assert_eq!(aligned.responses.neuroids().unwrap()[2], "unit c");
}

#[test]
fn responses_of_nothing() {
    let of = |values: Vec<f32>| {
        let responses = Responses::new([3, 1, 1], values).unwrap();
        interpret(&responses, None)
    };
    refused(of(vec![f32::NAN; 3]), &["no value", "exported"]);
    refused(of(vec![2.0; 3]), &["alike", "nothing to align with"]);
    refused(
        of(vec![1.0, f32::NAN, f32::NAN]),
        &["2 stimuli are the least"],
    );
    refused(read_as("x.npy", npy(&[0, 3])), &["nothing in it"]);
}

#[test]
fn tables_with_slips() {
    let table: [(&str, &[&str]); 7] = [
        (
            "a,1,2\nb,3,x4\nc,5,6\n",
            &["“x4”", "line 2, column 3", "point"],
        ),
        ("image,n1\na,\"1,5\"\nb,2\nc,3\n", &["“1,5”", "not a comma"]),
        ("a,1,2\nb,3\n", &["line 2 has 2 columns", "3"]),
        ("image_id,n1\n", &["no lines of numbers"]),
        ("a,b\nc,d\n", &["no lines of numbers"]),
        (
            "a,1\nb,2\na,3\nc,4\n",
            &["“a” stands here 2 times", "repetition"],
        ),
        (
            "image_id,neuroid_id,value\na,n1,1\n",
            &["one line a response", "pivot"],
        ),
    ];
    for (text, says) in table {
        refused(read_as("x.csv", text), says);
    }
}

#[test]
fn names_of_nothing() {
    let found = read_as("x.csv", "a,1\nb,2\n").unwrap();
    refused(
        interpret(&found, Some(&names(2))),
        &["a, b", "img_00.png", "ending"],
    );
}

#[test]
fn arrays_that_are_not_taken_without_a_word() {
    refused(
        read_as("x.npy", npy(&[2, 2, 2, 2])),
        &["name them in order"],
    );
    let options = ReadOptions {
        axes: Some(vec![Axis::Stimulus, Axis::Stimulus]),
        ..ReadOptions::default()
    };
    refused(
        read("x.npy", npy(&[2, 2]), &options),
        &["two axes", "stimuli"],
    );
    let two = npz(&[
        ("a", array(&[2, 2])),
        ("b", array(&[2, 3])),
        ("c", array(&[2])),
    ]);
    refused(read_as("x.npz", two), &["several", "a, b"]);
    let flat = npz(&[("a", array(&[2])), ("labels", array(&[2]))]);
    refused(
        read_as("x.npz", flat),
        &["no array of responses", "a, labels"],
    );
    let options = ReadOptions {
        array: Some("z".to_owned()),
        ..ReadOptions::default()
    };
    refused(
        read("x.npz", npz(&[("a", array(&[2]))]), &options),
        &["`z`", "one of a"],
    );
    let strange = hdf5(|file| {
        let labels = strings(&["image", "wavelength", "neuron"]);
        file.create_dataset("x")
            .with_f32_data(&[0.0; 12])
            .with_shape(&[3, 2, 2])
            .set_attr("DIMENSION_LABELS", AttrValue::StringArray(labels));
    });
    refused(read_as("x.h5", strange), &["`wavelength` of 2 entries"]);
}

#[test]
fn arrays_of_python_objects_are_refused_with_the_way_out() {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut bytes = npy(&[2, 3]);
    let at = text(&bytes[10..128]).find("<f4").unwrap() + 10;
    bytes[at..at + 3].copy_from_slice(b"|O'");
    bytes[at + 3] = b' ';
    refused(read_as("x.npy", bytes), &["Python objects", "astype"]);
}

/// No header makes a reader take memory for what is not there.
#[test]
fn claims_are_not_believed() {
    let small = npy(&[2, 3]);
    let text = String::from_utf8_lossy(&small[10..128]).into_owned();
    for shape in ["(99999999999, 3)", "(16384, 16384)", "(0, 99999999999)"] {
        let claim = text.replace("(2, 3)", shape).trim_end().to_owned();
        let mut bytes = small[..8].to_vec();
        bytes.extend((claim.len() as u16).to_le_bytes());
        bytes.extend(claim.as_bytes());
        bytes.extend(&small[128..]);
        assert!(read_as("x.npy", bytes).is_err(), "{shape}");
    }
    // The first dimension of the recording, 18 presentations as 64 bits, wherever it stands.
    let mut bytes = ASSEMBLY.to_vec();
    let eighteen = 18u64.to_le_bytes();
    for at in 0..bytes.len() - 8 {
        if bytes[at..at + 8] == eighteen {
            bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        }
    }
    assert!(read_as("x.nc", bytes).is_err());
}

/// No bytes make a reader panic: cut off everywhere, bits turned everywhere.
#[test]
fn no_bytes_make_a_reader_panic() {
    let mut samples: Vec<(&str, Vec<u8>)> = vec![
        ("x.npy", npy(&[4, 3])),
        (
            "x.npz",
            npz_with_names(&array(&[3, 2]), &["b.png", "ä.png", "c.png"]),
        ),
        ("x.csv", b"image_id,n1,n2\na,1,2.5\nb,3,-4e-1\n".to_vec()),
        ("x.nc", ASSEMBLY.to_vec()),
        ("y.nc", BINS.to_vec()),
    ];
    #[cfg(feature = "neural-parquet")]
    samples.push(("x.parquet", TABLE.to_vec()));
    for (name, bytes) in samples {
        let try_it = |bytes: Vec<u8>| {
            if let Ok(found) = read_as(name, bytes) {
                let _ = interpret(&found, Some(&names(3)));
            }
        };
        let step = (bytes.len() / 400).max(1);
        for length in (0..bytes.len()).step_by(step) {
            try_it(bytes[..length].to_vec());
        }
        let mut rng = crate::rng::Rng::stream(1, name);
        for round in 0..1500 {
            let mut broken = bytes.clone();
            for _ in 0..=round % 3 {
                let at = rng.below(broken.len());
                broken[at] = match round % 4 {
                    0 => 0xFF,
                    1 => 0,
                    _ => broken[at] ^ (1 << rng.below(8)),
                };
            }
            try_it(broken);
        }
    }
}

// Labels and heat maps.

#[test]
fn labels_come_from_tables_and_folders() {
    let expected = Labels {
        classes: strings(&["cat", "dog"]),
        images: strings(&["a", "b", "c"]),
        labels: vec![1, 0, 1],
    };
    for text in [
        "a,dog\nb,cat\nc,dog\n",
        "filename,x,label\na,1,dog\nb,2,cat\nc,3,dog\n",
        "image\tclass\na\tdog\nb\tcat\nc\tdog\n",
    ] {
        assert_eq!(
            labels_from_csv("x.csv", text.as_bytes()).unwrap(),
            expected,
            "{text}"
        );
    }
    let images = strings(&["c.png", "a.png", "b.png"]);
    let (labels, _) = expected.for_images(&images).unwrap();
    assert_eq!(labels, [1, 1, 0]);
    let folders = labels_by_folder(&strings(&["x/dog/a", "cat/b", "dog/c"])).unwrap();
    assert_eq!(
        (folders.labels, folders.classes),
        (expected.labels, expected.classes)
    );
}

#[test]
fn labels_with_slips() {
    let of = |text: &str| labels_from_csv("x.csv", text.as_bytes());
    refused(of("a,dog\nb,\n"), &["line 2 has no class"]);
    refused(of("a,dog\na,cat\n"), &["“a”", "dog and cat"]);
    refused(of(""), &["empty"]);
    refused(of("a\nb\n"), &["no class"]);
    refused(labels_by_folder(&strings(&["a.png"])), &["a.png", "folder"]);
    let labels = of("a,dog\nb,cat\n").unwrap();
    refused(labels.for_images(&strings(&["a.png"])), &["“cat” has none"]);
    refused(
        labels.for_images(&strings(&["a", "b", "c"])),
        &["1 of the pictures", "c"],
    );
}

#[test]
fn heat_maps_are_read_from_arrays() {
    for shape in [&[2, 3, 4][..], &[2, 3, 4, 1], &[2, 1, 3, 4]] {
        assert_eq!(read_maps(&npy(shape)).unwrap().shape, [2, 3, 4]);
    }
    let maps = read_maps(&npz(&[("clickme", array(&[2, 3, 4]))])).unwrap();
    let (_, places, matched) = maps.for_images(&names(2)).unwrap();
    assert_eq!((places, matched.by), (vec![0, 1], vec![(Rule::Order, 2)]));
    refused(maps.for_images(&names(3)), &["3 pictures"]);
    refused(read_maps(&npy(&[3, 4])), &["[maps, height, width]"]);
    refused(read_maps(b""), &["empty"]);
    let nan = HeatMaps::new([1, 1, 2], vec![0.0, f32::NAN], Some(strings(&["a"])));
    refused(nan, &["heat map a"]);
}

#[cfg(feature = "picture")]
#[test]
fn heat_maps_are_read_from_grey_pictures_with_all_their_bits() {
    use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    let png = |pixels: &[u8], width, colour| {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(pixels, width, 1, colour)
            .unwrap();
        bytes
    };
    let deep: Vec<u8> = [1u16, 65535].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let deep = png(&deep, 2, ExtendedColorType::L16);
    let flat = png(&[0, 255], 2, ExtendedColorType::L8);
    let maps = maps_from_pictures([("a", &deep[..]), ("b", &flat)]).unwrap();
    assert_eq!(maps.shape, [2, 1, 2]);
    assert_eq!(maps.values, [1.0 / 65535.0, 1.0, 0.0, 1.0]);
    let colours = png(&[0, 9, 255, 0, 0, 0], 2, ExtendedColorType::Rgb8);
    refused(
        maps_from_pictures([("a", &colours[..])]),
        &["coloured", "grey"],
    );
    let wide = png(&[0, 1, 2], 3, ExtendedColorType::L8);
    let mixed = [("a", &flat[..]), ("b", &wide)];
    refused(maps_from_pictures(mixed), &["b is 3x1", "2x1"]);
    refused(maps_from_pictures([("a", &b"text"[..])]), &["a: "]);
    refused(maps_from_pictures([]), &["no heat maps"]);
}
