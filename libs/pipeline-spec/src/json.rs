//! JSON text to values, within the limits of documents.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::document::{MAX_DEPTH, MAX_NODES};

/// Reads one value; more nodes or levels than a document may have, and a key that stands twice in one object, are
/// errors. Without the count, a list of zeros would take thirty times its size in memory.
pub(crate) fn read(text: &str) -> Result<Value, serde_json::Error> {
    let mut nodes = 0;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Node {
        nodes: &mut nodes,
        depth: 0,
    };
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Node<'n> {
    nodes: &'n mut usize,
    depth: usize,
}

impl Node<'_> {
    fn inner(&mut self) -> Node<'_> {
        Node {
            nodes: self.nodes,
            depth: self.depth + 1,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.nodes += 1;
        if *self.nodes > MAX_NODES {
            return Err(D::Error::custom(format!("more than {MAX_NODES} values")));
        }
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format!("more than {MAX_DEPTH} levels")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.inner())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key '{key}' stands twice")));
            }
            let item = object.next_value_seed(self.inner())?;
            map.insert(key, item);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_serde_json_reads_it() {
        let text = r#" {"a": [1, -2, 2.5, 1e3, "x\n", true, null, {}], "b": {"c": 18446744073709551615}} "#;
        assert_eq!(
            read(text).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn limits_and_repeated_keys_are_errors() {
        let many = format!("[{}0]", "0,".repeat(MAX_NODES));
        let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
        for (text, expected) in [
            (many.as_str(), "more than 1000000 values"),
            (deep.as_str(), "more than 64 levels"),
            (r#"{"a": {"b": 1, "b": 2}}"#, "the key 'b' stands twice"),
            ("{} x", "trailing characters"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
