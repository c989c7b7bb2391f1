//! Checks of what callers send. All faults of a request are collected before it is refused.

use std::collections::BTreeMap;

/// Characters of a pipeline's name.
pub const PIPELINE_NAME: usize = 128;
/// Characters of a version's name.
pub const VERSION_NAME: usize = 127;
/// Characters of an experiment's name.
pub const EXPERIMENT_NAME: usize = 128;
/// Characters of a namespace.
pub const NAMESPACE: usize = 63;
/// Characters of a run's name. Clients put a pipeline's name and a time into it, so it is longer than that.
pub const RUN_NAME: usize = 255;
/// Characters of a description.
pub const DESCRIPTION: usize = 65_535;
/// Characters of a URL, a path or an account.
pub const LINE: usize = 2_048;
/// Tags of a pipeline or a version.
pub const TAGS: usize = 20;
/// Characters of a tag's key or value.
pub const TAG: usize = 63;

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, as the contract names it.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The faults that were found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            message: message.into(),
        });
    }

    /// Adds those of a part.
    pub fn extend(&mut self, others: Vec<Violation>) {
        self.0.extend(others);
    }

    /// Text of at most `max` characters. NUL is refused, since PostgreSQL cannot store it.
    pub fn text(&mut self, field: &str, text: &str, max: usize) {
        if text.contains('\0') {
            self.add(field, "must not contain the character NUL");
        }
        // Bytes first: counting characters of a huge text takes long.
        if text.len() > max && (text.len() > max * 4 || text.chars().count() > max) {
            self.add(field, format!("must not be longer than {max} characters"));
        }
    }

    /// Text that must not be blank.
    pub fn name(&mut self, field: &str, text: &str, max: usize) {
        if text.trim().is_empty() {
            self.add(field, "must not be empty");
        }
        self.text(field, text, max);
    }

    /// Tags: few, short, and without dots in their keys, since filters name them `tags.KEY`.
    pub fn tags(&mut self, field: &str, tags: &BTreeMap<String, String>) {
        if tags.len() > TAGS {
            self.add(field, format!("must not have more than {TAGS} entries"));
        }
        for (key, value) in tags.iter().take(TAGS) {
            let place = format!("{field}.{}", clip(key));
            self.name(&place, key, TAG);
            if key.contains('.') {
                self.add(&place, "the key must not contain a dot");
            }
            self.text(&place, value, TAG);
        }
    }

    /// The result, or all the faults.
    pub fn into_result<T>(self, value: T) -> Result<T, Vec<Violation>> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self.0)
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that was found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

/// The start of a text, for messages.
pub fn clip(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn limits_count_characters() {
        let mut found = Violations::new();
        found.name("a", &"ü".repeat(128), PIPELINE_NAME);
        assert!(found.is_empty());
        found.name("b", &"ü".repeat(129), PIPELINE_NAME);
        found.name("c", " ", PIPELINE_NAME);
        found.name("d", "x\0", PIPELINE_NAME);
        let fields: Vec<String> = found.into_vec().into_iter().map(|one| one.field).collect();
        assert_eq!(fields, ["b", "c", "d"]);
    }

    #[test]
    fn tags_are_few_and_short() {
        let mut found = Violations::new();
        found.tags("tags", &tags(&[("team", "ml"), ("empty", "")]));
        assert!(found.is_empty(), "{found:?}");
        found.tags(
            "tags",
            &tags(&[("a.b", "x"), ("", "x"), ("k", &"v".repeat(64))]),
        );
        let many: Vec<String> = (0..21).map(|number| format!("k{number}")).collect();
        let many: BTreeMap<_, _> = many.into_iter().map(|key| (key, String::new())).collect();
        found.tags("tags", &many);
        let fields: Vec<String> = found.into_vec().into_iter().map(|one| one.field).collect();
        assert_eq!(fields, ["tags.", "tags.a.b", "tags.k", "tags"]);
    }
}
