//! YAML text to values, by the rules of the one who writes it: the compiler's PyYAML.
//!
//! Plain scalars are resolved as PyYAML's `SafeLoader` does (YAML 1.1 with its own patterns, `yaml/resolver.py`), so
//! that whatever it dumps reads back as the same value. `1e3`, `0o17` and `08` are text for it, and it writes them
//! without quotes; `yes`, `010` and `1:30` are not, and it quotes the text. Only three things differ: dates and a
//! lone `=` stay text, numbers that are not finite are refused, and so is a key that stands twice.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{
    self as parser, Event, Marker, Parser, ScalarStyle, StrInput, Tag,
};

use crate::document::{MAX_BYTES, MAX_DEPTH, MAX_NODES};
use crate::scalar::resolve;

/// How many documents a file may hold; more than a pipeline ever has, so that the error can count them.
const MAX_DOCUMENTS: usize = 16;

/// All documents of a text; what is wrong is said with its line.
pub(crate) fn read(text: &str) -> Result<Vec<Value>, String> {
    let mut options = parser::options! { block_scalar_eof_without_line_feed: true };
    options.set_emit_comments(false);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
    };
    let mut documents = Vec::new();
    loop {
        let (event, at) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(..) if documents.len() == MAX_DOCUMENTS => {
                return Err(wrong(at, format!("more than {MAX_DOCUMENTS} documents")));
            }
            Event::DocumentStart(..) => {
                let (event, at) = reader.next()?;
                documents.push(reader.node(event, at, 0)?.value);
                reader.anchors.clear();
            }
            _ => {}
        }
    }
}

fn wrong(at: Marker, message: impl std::fmt::Display) -> String {
    format!("line {} column {}: {message}", at.line(), at.col() + 1)
}

/// A value and what it costs to have it once more.
#[derive(Clone)]
struct Node {
    value: Value,
    nodes: usize,
    bytes: usize,
    depth: usize,
    /// As a key: the text as it stands, and whether it says that the value is to be merged.
    key: Option<String>,
    merge: bool,
}

impl Node {
    fn collection() -> Node {
        Node {
            value: Value::Null,
            nodes: 1,
            bytes: 0,
            depth: 1,
            key: None,
            merge: false,
        }
    }

    fn take_in(&mut self, inner: &Node) {
        self.nodes += inner.nodes;
        self.bytes += inner.bytes;
        self.depth = self.depth.max(inner.depth + 1);
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Marker), String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(wrong(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }

    /// Counts what is about to be held; aliases multiply a small text, so copies count like the rest.
    fn charge(&mut self, nodes: usize, bytes: usize, at: Marker) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > MAX_NODES {
            return Err(wrong(at, format!("more than {MAX_NODES} values")));
        }
        if self.bytes > MAX_BYTES {
            return Err(wrong(at, format!("more than {MAX_BYTES} bytes of text")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, at: Marker, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(wrong(at, format!("more than {MAX_DEPTH} levels")));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => return self.alias(id, at, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(1, text.len(), at)?;
                (scalar(text, style, tag.as_deref(), at)?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.charge(1, 0, at)?;
                known(tag.as_deref(), "seq", at)?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.charge(1, 0, at)?;
                known(tag.as_deref(), "map", at)?;
                (self.mapping(depth)?, anchor)
            }
            _ => return Err(wrong(at, "a value is missing")),
        };
        if anchor != 0 {
            self.charge(node.nodes, node.bytes, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Marker, depth: usize) -> Result<Node, String> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(wrong(at, "an anchor may not hold its own alias"));
        };
        if depth + node.depth > MAX_DEPTH {
            return Err(wrong(at, format!("more than {MAX_DEPTH} levels")));
        }
        self.charge(node.nodes, node.bytes, at)?;
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut list = Node::collection();
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                list.value = Value::Array(items);
                return Ok(list);
            }
            let item = self.node(event, at, depth + 1)?;
            list.take_in(&item);
            items.push(item.value);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, String> {
        let mut mapping = Node::collection();
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, at, depth + 1)?;
            mapping.take_in(&key);
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            mapping.take_in(&value);
            if key.merge {
                merged.push((value.value, value_at));
                continue;
            }
            let Some(key) = key.key else {
                return Err(wrong(at, "a key must be text"));
            };
            if map.contains_key(&key) {
                return Err(wrong(at, format!("the key '{key}' stands twice")));
            }
            map.insert(key, value.value);
        }
        for (value, at) in merged {
            merge(&mut map, value, at)?;
        }
        mapping.value = Value::Object(map);
        Ok(mapping)
    }
}

/// Adds what `<<` names: a mapping, or a list of them. Keys that are there stay.
fn merge(map: &mut Map<String, Value>, from: Value, at: Marker) -> Result<(), String> {
    let mappings = match from {
        Value::Array(items) => items,
        one => vec![one],
    };
    for mapping in mappings {
        let Value::Object(entries) = mapping else {
            return Err(wrong(at, "only mappings can be merged"));
        };
        for (key, value) in entries {
            map.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn known(tag: Option<&Tag>, kind: &str, at: Marker) -> Result<(), String> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(kind) && tag.original() != "!" => Err(wrong(
            at,
            format!("the tag {} is not known", tag.original()),
        )),
        _ => Ok(()),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Marker,
) -> Result<Node, String> {
    let plain = style == ScalarStyle::Plain;
    let value = match tag {
        None if plain => resolve(&text),
        None => Some(Value::from(&*text)),
        Some(tag) => tagged(&text, tag, at)?,
    };
    let Some(value) = value else {
        return Err(wrong(at, format!("{text} is no finite number")));
    };
    let bytes = text.len();
    Ok(Node {
        value,
        nodes: 1,
        bytes,
        depth: 0,
        merge: plain && tag.is_none() && text == "<<",
        key: Some(text.into_owned()),
    })
}

/// A scalar whose type is written before it.
fn tagged(text: &str, tag: &Tag, at: Marker) -> Result<Option<Value>, String> {
    let kind = match tag.core_suffix() {
        _ if tag.original() == "!" => "str",
        Some(kind) => kind,
        None => {
            return Err(wrong(
                at,
                format!("the tag {} is not known", tag.original()),
            ));
        }
    };
    let fits = |value: &Value| match kind {
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_u64() || value.is_i64(),
        "float" => value.is_number(),
        _ => false,
    };
    match resolve(text) {
        _ if kind == "str" => Ok(Some(Value::from(text))),
        Some(value) if !fits(&value) => Err(wrong(at, format!("{text} is no {kind}"))),
        Some(value) if kind == "float" => Ok(value.as_f64().map(Value::from)),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyYAML dumps for values that look like others, and what it reads back.
    const DUMPED: &str = include_str!("../tests/fixtures/scalars.yaml");
    const EXPECTED: &str = include_str!("../tests/fixtures/scalars.json");

    #[test]
    fn what_pyyaml_dumps_reads_back_as_pyyaml_reads_it() {
        let expected: Vec<Value> = serde_json::from_str(EXPECTED).unwrap();
        let documents = read(DUMPED).unwrap();
        assert_eq!(documents.len(), expected.len());
        for (document, expected) in documents.iter().zip(&expected) {
            let (Value::Object(found), Value::Object(expected)) = (document, expected) else {
                panic!("{document} is no table");
            };
            for (name, expected) in expected {
                assert_eq!(found.get(name), Some(expected), "{name}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }

    #[test]
    fn dates_and_a_lone_equals_sign_are_text() {
        for text in ["2020-01-31", "2020-01-31T10:00:00Z", "="] {
            assert_eq!(read(text).unwrap(), [Value::from(text)]);
        }
    }

    #[test]
    fn tags_and_merges_are_followed() {
        let text = "base: &base {a: !!str 1, b: ! 2}\nx: {<<: *base, b: !!int '7'}\ny: {<<: [{c: 1}, {c: 2}]}\n\"<<\": 1\n";
        let expected = serde_json::json!({
            "base": {"a": "1", "b": "2"}, "x": {"a": "1", "b": 7}, "y": {"c": 1}, "<<": 1,
        });
        assert_eq!(read(text).unwrap(), [expected]);
    }

    #[test]
    fn what_json_cannot_hold_is_refused_with_its_line() {
        for (text, expected) in [
            ("a: 1\nb: .inf", "line 2 column 4: .inf is no finite number"),
            ("a: -.INF", "line 1 column 4: -.INF is no finite number"),
            ("a: .nan", "line 1 column 4: .nan is no finite number"),
            (
                "a: 1.0e+999",
                "line 1 column 4: 1.0e+999 is no finite number",
            ),
            (
                "a: !!python/tuple [1]",
                "the tag !!python/tuple is not known",
            ),
            ("a: !!binary aGk=", "the tag !!binary is not known"),
            ("? [1]\n: 2", "a key must be text"),
            ("a: &x [*x]", "an anchor may not hold its own alias"),
            ("a: 1\na: 2", "line 2 column 1: the key 'a' stands twice"),
            ("<<: 1", "only mappings can be merged"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn copies_by_aliases_are_bounded_in_number_size_and_depth() {
        let text = "x".repeat(1 << 20);
        let large = format!("a: &a {text}\nb: [{}]", vec!["*a"; 40].join(", "));
        let mut deep = String::from("a0: &a0 [1]\n");
        for level in 1..80 {
            deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        for (text, expected) in [(large, "bytes of text"), (deep, "more than 64 levels")] {
            let message = read(&text).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
