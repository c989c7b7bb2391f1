//! Secrets and config maps: named values in a namespace.

use std::collections::BTreeMap;

/// The largest sum of keys and values, in bytes; Kubernetes has the same.
pub const MAX_BYTES: usize = 1024 * 1024;
/// How many keys there may be.
pub const MAX_KEYS: usize = 1000;
/// The longest name, key or volume name.
const MAX_NAME: usize = 253;

/// What a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its values are encrypted at rest and shown to workloads alone.
    Secret,
    /// Its values are for everybody.
    ConfigMap,
}

impl Kind {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "config_map",
        }
    }

    /// The inverse of [`Kind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Secret, Self::ConfigMap]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "config map",
        }
    }

    /// As the command line has it.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
        }
    }
}

/// Values by key.
pub type Values = BTreeMap<String, Vec<u8>>;

/// Whether a text can name a secret, a config map or a volume. It is a part of paths too.
pub fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let inside = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-'
    };
    text.len() <= MAX_NAME
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(inside)
}

/// Whether a text can be a key, which becomes the name of a file.
pub fn is_key(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(inside)
        && text != "."
        && !text.starts_with("..")
}

/// What is wrong with values, in words; none when they are fine.
pub fn problem(values: &Values) -> Option<String> {
    if let Some(key) = values.keys().find(|key| !is_key(key)) {
        return Some(format!(
            "`{}` is no key: expected 1 to {MAX_NAME} characters of a-z A-Z 0-9 . _ -, not beginning with `..`",
            key.chars().take(64).collect::<String>()
        ));
    }
    if values.len() > MAX_KEYS {
        return Some(format!("at most {MAX_KEYS} keys"));
    }
    let bytes: usize = values
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    (bytes > MAX_BYTES).then(|| format!("at most {MAX_BYTES} bytes in all, these are {bytes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_parts_of_paths() {
        for name in ["a", "my-secret", "a.b", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in [
            "", ".", "..", "a/b", "-a", "a-", "A", "a_b", "a\0", "ä", &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
        for key in ["a", ".netrc", "KEY_1", "tls.crt"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", ".", "..", "..data", "a/b", "a b", &long] {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn values_are_bounded() {
        let values = |size: usize| Values::from([("k".to_owned(), vec![0; size])]);
        assert_eq!(problem(&values(MAX_BYTES - 1)), None);
        assert!(problem(&values(MAX_BYTES)).unwrap().contains("1048577"));
        let many = (0..=MAX_KEYS).map(|n| (n.to_string(), Vec::new()));
        assert!(problem(&many.collect()).unwrap().contains("1000 keys"));
    }
}
