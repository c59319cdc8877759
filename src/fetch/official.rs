//! The published files of weights.

/// A published file of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Official {
    /// Its name for `ventral fetch`.
    pub name: &'static str,
    /// For people: "CORnet-S".
    pub title: &'static str,
    /// The address of its folder, with a slash at the end.
    pub base: &'static str,
    /// The name of the file.
    pub file: &'static str,
    /// The first eight digits of its SHA-256 where the publisher put them into the name.
    pub sha256: Option<&'static str>,
}

impl Official {
    /// The published address.
    pub fn url(&self) -> String {
        format!("{}{}", self.base, self.file)
    }

    /// The address at a mirror: `from` itself, or, where it ends in a slash, this file in it.
    pub fn at(&self, from: &str) -> String {
        if from.ends_with('/') {
            format!("{from}{}", self.file)
        } else {
            from.to_owned()
        }
    }
}

/// Given in dicarlolab/CORnet, `cornet/__init__.py`.
const CORNET: &str = "https://s3.amazonaws.com/cornet-models/";

/// Given in dicarlolab/vonenet, `vonenet/__init__.py`. No hashes were published.
const VONENET: &str = "https://vonenet-models.s3.us-east-2.amazonaws.com/";

/// Given in pytorch/vision, `torchvision/models/`; the `IMAGENET1K_V1` weights.
const TORCHVISION: &str = "https://download.pytorch.org/models/";

/// All files that `ventral fetch` can download.
#[rustfmt::skip]
pub const OFFICIAL: &[Official] = &[
    row("cornet-s", "CORnet-S", CORNET, "cornet_s-1d3f7974.pth", Some("1d3f7974")),
    row("cornet-z", "CORnet-Z", CORNET, "cornet_z-5c427c9c.pth", Some("5c427c9c")),
    row("cornet-rt", "CORnet-RT", CORNET, "cornet_rt-933c001c.pth", Some("933c001c")),
    row("cornet-r", "CORnet-R", CORNET, "cornet_r-5930a990.pth", Some("5930a990")),
    row("voneresnet50", "VOneResNet-50", VONENET, "voneresnet50_e70.pth.tar", None),
    row("vonecornet-s", "VOneCORnet-S", VONENET, "vonecornets_e70.pth.tar", None),
    row("vonealexnet", "VOneAlexNet", VONENET, "vonealexnet_e70.pth.tar", None),
    row("voneresnet50-ns", "VOneResNet-50, no stochasticity", VONENET, "voneresnet50_ns_e70.pth.tar", None),
    row("voneresnet50-at", "VOneResNet-50, adversarially trained", VONENET, "voneresnet50_at_e96.pth.tar", None),
    row("resnet50", "ResNet-50", TORCHVISION, "resnet50-0676ba61.pth", Some("0676ba61")),
    row("resnet18", "ResNet-18", TORCHVISION, "resnet18-f37072fd.pth", Some("f37072fd")),
    row("alexnet", "AlexNet", TORCHVISION, "alexnet-owt-7be5be79.pth", Some("7be5be79")),
];

const fn row(
    name: &'static str,
    title: &'static str,
    base: &'static str,
    file: &'static str,
    sha256: Option<&'static str>,
) -> Official {
    Official {
        name,
        title,
        base,
        file,
        sha256,
    }
}

/// The published file of this name.
pub fn official(name: &str) -> Option<&'static Official> {
    OFFICIAL.iter().find(|official| official.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_in_the_names() {
        for official in OFFICIAL {
            let stem = official.file.split('.').next().unwrap();
            let in_name = stem.rsplit_once('-').map(|(_, hash)| hash);
            assert_eq!(official.sha256, in_name, "{}", official.name);
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        for row in OFFICIAL {
            assert_eq!(official(row.name), Some(row));
        }
        assert_eq!(official("cornet-x"), None);
    }

    #[test]
    fn a_mirror_is_a_folder_or_a_file() {
        let cornet = official("cornet-s").unwrap();
        assert_eq!(
            cornet.at("http://here/models/"),
            "http://here/models/cornet_s-1d3f7974.pth"
        );
        assert_eq!(cornet.at("http://here/other.pth"), "http://here/other.pth");
        assert_eq!(
            cornet.url(),
            "https://s3.amazonaws.com/cornet-models/cornet_s-1d3f7974.pth"
        );
    }
}
