//! Images as processes: which interpreter and which packages stand for an image.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What stands for the images that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The image with its registry and tag; `*` stands for any text.
    pub image: String,
    /// The Python interpreter: a name on PATH or an absolute path; absent for the default one.
    #[serde(default)]
    pub python: Option<String>,
    /// Packages that the image brings, as pip requirement specifiers.
    #[serde(default)]
    pub packages: Vec<String>,
    /// A directory of this machine whose files and folders the image has in its working directory; programs find them in
    /// theirs. For containerised Python components it is the one with `kfp_config.ini`.
    #[serde(default)]
    pub source: Option<PathBuf>,
}

/// What an image is to the process back end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A configured rule.
    Rule(&'a Rule),
    /// A Python image, official or of Red Hat's; the version when its name or tag tells it.
    Python(Option<(u32, u32)>),
    /// No image is named.
    None,
    /// Something else: its programs may or may not be on this machine.
    Unknown,
}

/// Finds what `image` means; the first rule that matches wins.
pub fn meaning<'a>(image: &str, rules: &'a [Rule]) -> Meaning<'a> {
    if image.is_empty() {
        return Meaning::None;
    }
    if let Some(rule) = rules.iter().find(|rule| matches(&rule.image, image)) {
        return Meaning::Rule(rule);
    }
    match name_and_tag(image) {
        ("python", tag) => Meaning::Python(tag.and_then(python_version)),
        (name, _) => match red_hat_version(name) {
            Some(version) => Meaning::Python(Some(version)),
            None => Meaning::Unknown,
        },
    }
}

/// Whether the `sh` of an image is one that knows little more than POSIX, as on Debian; that of Alpine, BusyBox, Fedora and
/// their kin knows `[[`, and scripts that were written for them use it.
pub fn plain_shell(image: &str) -> bool {
    let (name, tag) = name_and_tag(image);
    let debian = matches!(name, "" | "python" | "debian" | "ubuntu");
    debian && !tag.is_some_and(|tag| tag.contains("alpine"))
}

/// The last component of an image's path and its tag: `registry:5000/library/python:3.11-slim@sha256:…` is
/// `python`, `3.11-slim`.
fn name_and_tag(image: &str) -> (&str, Option<&str>) {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    match last.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (last, None),
    }
}

fn python_version(tag: &str) -> Option<(u32, u32)> {
    let version = tag.split('-').next()?;
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

/// The version of an image that Red Hat names after it: `python-39`, `python-312-minimal`.
fn red_hat_version(name: &str) -> Option<(u32, u32)> {
    let digits = name.strip_prefix("python-")?;
    let digits = digits.strip_suffix("-minimal").unwrap_or(digits);
    let (major, minor) = digits.split_at_checked(1)?;
    let short = digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
    short.then_some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether `text` matches `pattern`, where `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = rest.get(at + middle.len()..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_images_name_their_version() {
        for (image, version) in [
            ("python:3.11", Some((3, 11))),
            ("python:3.9.7-slim-bookworm", Some((3, 9))),
            ("docker.io/library/python:3.12@sha256:00", Some((3, 12))),
            ("localhost:5000/python", None),
            ("python:latest", None),
            ("registry.access.redhat.com/ubi9/python:3.11", Some((3, 11))),
            (
                "registry.access.redhat.com/ubi9/python-311:latest",
                Some((3, 11)),
            ),
            ("ubi8/python-39", Some((3, 9))),
            ("ubi10/python-312-minimal:10.0-1", Some((3, 12))),
        ] {
            assert_eq!(meaning(image, &[]), Meaning::Python(version), "{image}");
        }
        assert_eq!(meaning("alpine", &[]), Meaning::Unknown);
        for image in ["my/python-app:3.11", "python-", "python-3", "python-31100"] {
            assert_eq!(meaning(image, &[]), Meaning::Unknown, "{image}");
        }
        assert_eq!(meaning("", &[]), Meaning::None);
    }

    #[test]
    fn the_shell_of_an_image_is_told_by_its_name() {
        for image in [
            "",
            "python",
            "python:3.11-slim",
            "docker.io/library/ubuntu:24.04",
        ] {
            assert!(plain_shell(image), "{image}");
        }
        for image in [
            "alpine",
            "ghcr.io/containerd/busybox",
            "python:3.12-alpine",
            "registry.access.redhat.com/ubi9/python-311:latest",
        ] {
            assert!(!plain_shell(image), "{image}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rule = |image: &str| Rule {
            image: image.to_owned(),
            python: None,
            packages: Vec::new(),
            source: None,
        };
        let rules = [rule("*/pandas:*"), rule("python:3.*"), rule("*")];
        assert_eq!(meaning("me/pandas:1", &rules), Meaning::Rule(&rules[0]));
        assert_eq!(meaning("python:3.8", &rules), Meaning::Rule(&rules[1]));
        assert_eq!(meaning("x", &rules), Meaning::Rule(&rules[2]));
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("a*b*c", "a-c-b-c", true),
            ("abc", "abc", true),
            ("ab", "abc", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
