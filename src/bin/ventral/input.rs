//! Input of the commands: arrays of pixels, pictures, folders of pictures.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ventral::image;
use ventral::image::dataset::pictures_below;
use ventral::model::checkpoint::Limits;
use ventral::model::checkpoint::npy::{Array, Data, read_npy};
use ventral::model::config::{ModelConfig, Preprocessing};

use crate::Failure;

/// Arrays are the user's files: only their size on the disk limits them.
const ARRAYS: Limits = Limits {
    max_tensors: 1,
    max_elements_per_tensor: 1 << 40,
    max_total_bytes: 1 << 42,
    max_pickle_bytes: 1 << 20,
    max_values: 1 << 10,
    max_depth: 1,
};

/// Whether a path names an array.
pub fn is_npy(path: &Path) -> bool {
    has_ending(path, "npy")
}

pub fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case(ending))
}

/// Reads an `.npy` file.
pub fn array(path: &Path) -> Result<Array, Failure> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let array = read_npy(BufReader::new(file), &ARRAYS);
    Ok(array.map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Pixels in [0, 1], `[n, channels, height, width]`.
pub struct Pixels {
    pub shape: [usize; 4],
    pub values: Vec<f32>,
}

/// Reads an `.npy` file of NCHW pixels in [0, 1], with `channels` to choose from.
pub fn pixels(path: &Path, channels: &[usize]) -> Result<Pixels, Failure> {
    let Array { shape, data } = array(path)?;
    let said = |problem: String| format!("{}: {problem}", path.display());
    let mut values: Vec<f32> = match data {
        Data::F32(values) => values,
        Data::F64(values) => values.iter().map(|v| *v as f32).collect(),
        // Bytes can mean one thing alone.
        Data::U8(values) => {
            eprintln!(
                "note: {} holds bytes, which were divided by 255",
                path.display()
            );
            values.iter().map(|v| f32::from(*v) / 255.0).collect()
        }
        _ => {
            let problem = "its values are integers; pixels are f32 from 0 to 1, or bytes";
            return Err(said(problem.to_owned()).into());
        }
    };
    let shape = match *shape.as_slice() {
        [n, c, height, width] if n > 0 && channels.contains(&c) => [n, c, height, width],
        _ => {
            let allowed: Vec<String> = channels.iter().map(usize::to_string).collect();
            let allowed = allowed.join(" or ");
            let problem = format!("the shape {shape:?} is not images x {allowed} x height x width");
            return Err(said(problem).into());
        }
    };
    let most_dust = -DUST..=1.0 + DUST;
    if let Some(outside) = values.iter().find(|v| !most_dust.contains(*v)) {
        return Err(said(format!("it holds the value {outside}{}", meant(&values))).into());
    }
    values.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    Ok(Pixels { shape, values })
}

/// What rounding leaves outside of [0, 1] where pixels were normalised and brought back.
const DUST: f32 = 1e-6;

/// What values outside of [0, 1] probably are.
fn meant(values: &[f32]) -> &'static str {
    let (least, most) = values
        .iter()
        .fold((f32::MAX, f32::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
    match (values.iter().all(|v| v.is_finite()), least, most) {
        (false, ..) => "; pixels go from 0 to 1, and every value must be a number",
        (_, 0.0.., 2.0..=255.0) => "; pixels go from 0 to 1: divide these by 255",
        (_, ..0.0, _) => {
            "; pixels go from 0 to 1: give them as they were before they were normalised, or to \
             `ventral infer` with --raw"
        }
        _ => "; pixels go from 0 to 1",
    }
}

/// Decodes a picture and sizes it for a model: `[3, crop, crop]` in [0, 1].
pub fn picture(bytes: &[u8], p: &Preprocessing) -> Result<Vec<f32>, image::ImageError> {
    let decoded = image::decode(bytes)?;
    image::to_input(&decoded.picture, p.into())
}

/// A picture on the disk.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its path below the folder that was given, with `/`; its own name where it was given itself.
    pub name: String,
    pub path: PathBuf,
}

/// The pictures at a path: the one it names, or all below the folder it names, in the order of
/// their names. Says how many files were left out.
pub fn pictures(path: &Path) -> Result<Vec<Listed>, Failure> {
    if !path.is_dir() {
        return Ok(vec![Listed {
            name: crate::recipe::file_name(path),
            path: path.to_owned(),
        }]);
    }
    let found = pictures_below(path)?;
    if found.others > 0 {
        eprintln!(
            "note: {} of the files in {} are no pictures by their names and are left out",
            found.others,
            path.display()
        );
    }
    if found.pictures.is_empty() {
        return Err(format!("there is no picture in {}", path.display()).into());
    }
    let listed = |(name, path)| Listed { name, path };
    Ok(found.pictures.into_iter().map(listed).collect())
}

/// The names with `.png` for their endings. Where that makes two names one, the ending stays:
/// `a.jpg` and `a.bmp` become `a.jpg.png` and `a.bmp.png`.
pub fn png_names(names: &[&str]) -> Vec<String> {
    let stem = |name: &str| match name.rsplit_once('.') {
        // A dot in a folder's name begins no ending.
        Some((stem, ending)) if !ending.contains('/') => stem.to_owned(),
        _ => name.to_owned(),
    };
    // Some file systems take two names that differ in case for one.
    let key = |name: &str| stem(name).to_lowercase();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for name in names {
        *counts.entry(key(name)).or_default() += 1;
    }
    names
        .iter()
        .map(|name| match counts.get(&key(name)) {
            Some(1) => format!("{}.png", stem(name)),
            _ => format!("{name}.png"),
        })
        .collect()
}

/// Refuses an output in the input's folder, or in its place.
pub fn keep_apart(input: &Path, output: &Path) -> Result<(), Failure> {
    let (input, output) = (real(input), real(output));
    if input != output && !(input.is_dir() && output.starts_with(&input)) {
        return Ok(());
    }
    Err(format!(
        "the output {} lies in the input; write it somewhere else",
        output.display()
    )
    .into())
}

/// Without links and detours, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            // Joining nothing would leave a slash behind a file.
            return match rest.as_os_str().is_empty() {
                true => real,
                false => real.join(rest),
            };
        }
    }
    path
}

/// Refuses images of a size that a network does not accept.
pub fn check_side(config: &ModelConfig, side: usize) -> Result<(), Failure> {
    let sides = config.sides();
    if sides.contains(&side) {
        return Ok(());
    }
    let (least, most) = sides.into_inner();
    let taken = match least == most {
        true => format!("{least} px a side"),
        false => format!("at least {least} px a side"),
    };
    Err(format!("the images have {side} px a side; this model takes {taken}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_become_png_and_names_stay_apart() {
        let names = ["a.jpg", "b/c.jpeg", "b/C.png", "v1.0/d", "e.f.tif"];
        let expected = [
            "a.png",
            "b/c.jpeg.png",
            "b/C.png.png",
            "v1.0/d.png",
            "e.f.png",
        ];
        assert_eq!(png_names(&names), expected);
    }

    #[test]
    fn an_output_in_the_input_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("in")).expect("a fresh folder");
        std::fs::write(at("x.png"), []).expect("a fresh file");
        for (input, output, fine) in [
            ("in", "out", true),
            ("in", "in", false),
            ("in", "in/deep/out", false),
            ("in", "inside", true),
            ("x.png", "y.png", true),
            ("x.png", "x.png", false),
            ("x.png", "in/../x.png", false),
        ] {
            let kept = keep_apart(&at(input), &at(output)).is_ok();
            assert_eq!(kept, fine, "{input} to {output}");
        }
    }
}
