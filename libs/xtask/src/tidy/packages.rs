//! Packages that must not come in, and packages of which there must be one version.

use std::collections::{BTreeMap, BTreeSet};

use super::metadata::Package;

const BANNED: &[(&str, &str)] = &[
    (
        "aws-lc-sys",
        "ring is the one crypto provider; this one needs C and cmake",
    ),
    ("aws-lc-rs", "ring is the one crypto provider"),
    (
        "openssl-sys",
        "needs the machine's OpenSSL; ring is the one crypto provider",
    ),
    ("openssl", "ring is the one crypto provider"),
    ("native-tls", "rustls with ring"),
    ("reqwest", "hyper is here already"),
    ("serde_yaml", "unmaintained; serde-saphyr"),
    ("madsim", "needs forks of tokio, tonic and sqlx"),
    (
        "pbjson-types",
        "brings chrono; JSON goes through prost-reflect",
    ),
];

/// Two versions of these mean two types of one name, or two copies of something heavy.
const SINGLE: &[&str] = &[
    "axum",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "kube",
    "prost",
    "prost-types",
    "rustls",
    "sqlx",
    "tokio",
    "tonic",
];

/// What the lock file must not say.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
    }
    let banned = BANNED
        .iter()
        .filter(|(name, _)| versions.contains_key(name))
        .map(|(name, reason)| format!("the package {name} is banned: {reason}"));
    let doubled = SINGLE.iter().filter_map(|name| {
        let found = versions.get(name).filter(|found| found.len() > 1)?;
        let found: Vec<&str> = found.iter().copied().collect();
        Some(format!(
            "the package {name} is there {} times: {}",
            found.len(),
            found.join(", ")
        ))
    });
    banned.chain(doubled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(list: &[(&str, &str)]) -> Vec<Package> {
        list.iter()
            .map(|(name, version)| Package {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                license: None,
            })
            .collect()
    }

    #[test]
    fn a_banned_package_is_named_with_its_reason() {
        let wrong = check(&packages(&[("openssl-sys", "0.9.0"), ("serde", "1.0.0")]));
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("openssl-sys") && wrong[0].contains("ring"));
    }

    #[test]
    fn two_versions_of_a_single_package_are_refused() {
        let wrong = check(&packages(&[
            ("tonic", "0.14.0"),
            ("tonic", "0.13.0"),
            ("syn", "2.0.0"),
            ("syn", "3.0.0"),
        ]));
        assert_eq!(
            wrong,
            ["the package tonic is there 2 times: 0.13.0, 0.14.0"]
        );
    }
}
