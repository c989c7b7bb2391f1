//! Python environments: what makes two of them the same.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The SDK whose executor runs steps that were compiled with an older one of its major version: it reads what those
/// wrote, and one environment does for all of them.
const EXECUTOR: [u64; 3] = [2, 17, 0];
/// The oldest Python that it runs on.
const EXECUTOR_PYTHON: (u64, u64) = (3, 9);

/// An environment that a workload needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// The interpreter's absolute path, without links.
    pub interpreter: String,
    /// Its version, such as 3.11.7.
    pub version: String,
    /// User packages, sorted, each once.
    pub packages: Vec<String>,
    /// The kfp package, kept apart from the user's; empty for none.
    pub kfp: String,
    /// The kfp package that was asked for; [`Wanted::normalize`] may put a newer one in its place.
    pub pinned: String,
    /// Package indexes, the main one first; empty for the machine's setting.
    pub index_urls: Vec<String>,
    /// Hosts that need no certificate.
    pub trusted_hosts: Vec<String>,
}

impl Wanted {
    /// Sorts packages, since their order does not matter, drops repetitions, and takes the newer executor for an older pin.
    pub fn normalize(&mut self) {
        for package in &mut self.packages {
            *package = package.trim().to_owned();
        }
        self.packages.retain(|package| !package.is_empty());
        self.packages.sort();
        self.packages.dedup();
        self.pinned = self.kfp.trim().to_owned();
        self.kfp = match self.runs_executor() {
            true => newer(&self.pinned).unwrap_or_else(|| self.pinned.clone()),
            false => self.pinned.clone(),
        };
    }

    fn runs_executor(&self) -> bool {
        let mut parts = self.version.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= EXECUTOR_PYTHON,
            _ => false,
        }
    }

    /// Whether the bare interpreter will do.
    pub fn bare(&self) -> bool {
        self.packages.is_empty() && self.kfp.is_empty()
    }

    /// The name of its directory.
    pub fn key(&self) -> String {
        digest(&[
            &self.interpreter,
            &self.version,
            &self.packages.join("\n"),
            &self.kfp,
            &self.index_urls.join("\n"),
        ])
    }

    /// The name of the directory of a package that is installed by itself, without what it depends on.
    pub fn layer(&self, requirement: &str) -> String {
        digest(&[
            &self.interpreter,
            &self.version,
            requirement,
            &self.index_urls.join("\n"),
        ])
    }

    /// `3.11` of `3.11.7`.
    pub fn minor(&self) -> String {
        self.version
            .splitn(3, '.')
            .take(2)
            .collect::<Vec<_>>()
            .join(".")
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = String::new();
    for byte in &hash.finalize()[..12] {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// The numbers of a pinned requirement: `kfp==2.17.0` is `[2, 17, 0]`.
pub fn pin(requirement: &str) -> Option<Vec<u64>> {
    let (_, version) = requirement.split_once("==")?;
    let numbers: Option<Vec<u64>> = version
        .trim()
        .split('.')
        .map(|part| part.parse().ok())
        .collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

/// What runs a step in place of the pinned kfp, if that is older and of the same major version.
fn newer(requirement: &str) -> Option<String> {
    let pinned = pin(requirement).filter(|_| requirement.starts_with("kfp=="))?;
    let older = pinned.first() == EXECUTOR.first() && pinned.as_slice() < EXECUTOR.as_slice();
    older.then(|| format!("kfp=={}.{}.{}", EXECUTOR[0], EXECUTOR[1], EXECUTOR[2]))
}

/// Of the installed ones, what may stand in for a pin that cannot be installed: the newest that is not older.
pub fn stand_in<'a>(wanted: &str, installed: &'a [String]) -> Option<&'a str> {
    let pinned = pin(wanted)?;
    installed
        .iter()
        .filter_map(|other| Some((pin(other)?, other)))
        .filter(|(version, _)| *version >= pinned)
        .max_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, other)| other.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(packages: &[&str]) -> Wanted {
        let mut wanted = Wanted {
            interpreter: "/usr/bin/python3.11".to_owned(),
            version: "3.11.7".to_owned(),
            packages: packages
                .iter()
                .map(|package| (*package).to_owned())
                .collect(),
            kfp: "kfp==2.17.0".to_owned(),
            pinned: String::new(),
            index_urls: Vec::new(),
            trusted_hosts: Vec::new(),
        };
        wanted.normalize();
        wanted
    }

    #[test]
    fn order_and_repetition_do_not_make_another_environment() {
        assert_eq!(wanted(&["b", "a", "b "]).key(), wanted(&["a", "b"]).key());
        assert_ne!(wanted(&["a", "b"]).key(), wanted(&["ab"]).key());
        assert_ne!(wanted(&[]).key(), wanted(&["a"]).key());
        assert_eq!(wanted(&[]).minor(), "3.11");
    }

    #[test]
    fn an_older_pin_is_run_by_the_newer_executor() {
        let kfp = |pinned: &str, version: &str| {
            let mut wanted = wanted(&[]);
            pinned.clone_into(&mut wanted.kfp);
            version.clone_into(&mut wanted.version);
            wanted.normalize();
            assert_eq!(wanted.pinned, pinned);
            wanted.kfp
        };
        assert_eq!(kfp("kfp==2.4.0", "3.11.7"), "kfp==2.17.0");
        for same in [
            "kfp==2.17.0",
            "kfp==2.18",
            "kfp==1.8.22",
            "kfp==2.14.0rc1",
            "kfp",
            "",
            "kfp-x==2.1",
        ] {
            assert_eq!(kfp(same, "3.11.7"), same);
        }
        assert_eq!(kfp("kfp==2.4.0", "3.8.2"), "kfp==2.4.0");
    }

    #[test]
    fn only_a_newer_one_stands_in() {
        let installed = ["kfp==2.9.0", "kfp==2.17.0", "kfp==2.16.1", "kfp"].map(str::to_owned);
        assert_eq!(stand_in("kfp==2.14.3", &installed), Some("kfp==2.17.0"));
        assert_eq!(stand_in("kfp==3.0.0", &installed), None);
        assert_eq!(stand_in("kfp", &installed), None);
    }
}
