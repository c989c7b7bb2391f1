//! Reading the parts of a workflow: what is not known is a fault, by its place.

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::validate::Fault;

/// Faults of one document that are reported; a broken document has the same one everywhere.
const MAX_FAULTS: usize = 100;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, at: &str, message: impl Into<String>) {
        let mut faults = self.0.borrow_mut();
        let fault = Fault::new(at, message);
        // Some parts are read more than once.
        if faults.len() < MAX_FAULTS && !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.0.into_inner()
    }

    /// The value, or none and a fault at the place.
    pub(super) fn keep<T>(&self, at: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(at, message)).ok()
    }
}

/// An object of the document with its place.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) at: String,
    map: Option<&'a Map<String, Value>>,
    faults: &'a Faults,
}

impl<'a> Node<'a> {
    pub(super) fn new(at: impl Into<String>, value: &'a Value, faults: &'a Faults) -> Self {
        let at = at.into();
        let map = value.as_object();
        if map.is_none() && !value.is_null() {
            faults.add(&at, "must be an object");
        }
        Self { at, map, faults }
    }

    /// The value of a key that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn place(&self, key: &str) -> String {
        if self.at.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.at)
        }
    }

    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        self.faults.add(&self.place(key), message);
    }

    /// An inner object; one without content when it is missing.
    pub(super) fn node(&self, key: &str) -> Node<'a> {
        Node::new(
            self.place(key),
            self.get(key).unwrap_or(&Value::Null),
            self.faults,
        )
    }

    /// The objects of a list.
    pub(super) fn nodes(&self, key: &str) -> Vec<Node<'a>> {
        let at = self.place(key);
        let items = self.items(key).iter().enumerate();
        items
            .map(|(index, item)| Node::new(format!("{at}[{index}]"), item, self.faults))
            .collect()
    }

    /// A value of this object at another place.
    pub(super) fn inner(&self, at: String, value: &'a Value) -> Node<'a> {
        Node::new(at, value, self.faults)
    }

    /// Shows every value of the object.
    pub(super) fn each_value(&self, show: &mut dyn FnMut(&Value)) {
        for value in self.map.into_iter().flat_map(Map::values) {
            show(value);
        }
    }

    /// The items of a list; none when it is missing.
    pub(super) fn items(&self, key: &str) -> &'a [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.fault(key, "must be a list");
                &[]
            }
        }
    }

    /// A text. YAML writes some texts as numbers or flags.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let found = self.get(key)?;
        let text = scalar(found);
        if text.is_none() {
            self.fault(key, "must be text");
        }
        text
    }

    /// Its name, or no text.
    pub(super) fn name(&self) -> String {
        self.text("name").unwrap_or_default()
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &str) -> String {
        match self.text(key) {
            Some(text) if !text.is_empty() => text,
            Some(_) => {
                self.fault(key, "must not be empty");
                String::new()
            }
            None => {
                if !self.has(key) {
                    self.fault(key, "must be given");
                }
                String::new()
            }
        }
    }

    /// A list of texts; a text alone is a list of one.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        if let Some(text) = self.get(key).and_then(scalar) {
            return vec![text];
        }
        let mut texts = Vec::new();
        for (index, item) in self.items(key).iter().enumerate() {
            match scalar(item) {
                Some(text) => texts.push(text),
                None => self.fault(&format!("{key}[{index}]"), "must be text"),
            }
        }
        texts
    }

    /// The texts of an object by key.
    pub(super) fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let inner = self.node(key);
        let mut pairs = Vec::new();
        for name in inner.keys() {
            if let Some(text) = inner.text(name) {
                pairs.push((name.to_owned(), text));
            }
        }
        pairs
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Names every key that is neither used nor without effect here.
    pub(super) fn only(&self, used: &[&str], without_effect: &[&str]) {
        for key in self.keys() {
            let known = used.contains(&key) || without_effect.contains(&key);
            if !known && self.has(key) {
                self.fault(key, format!("`{key}` of Argo workflows is not supported"));
            }
        }
    }

    /// A whole number, also one that is written as text.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let text = self.text(key)?;
        let number = text.trim().parse();
        if number.is_err() {
            self.fault(key, "must be a whole number, and no expression");
        }
        number.ok()
    }
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
