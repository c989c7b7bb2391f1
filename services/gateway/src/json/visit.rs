//! The walk over a JSON document, guided by the types of the message that it becomes.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::read::{Reader, Step};
use super::scalar::{self, Given};
use super::schema::{Form, MessageId};
use super::wire;
use super::{Field, Kind, Shape};

/// The members of a message, without key and length.
pub(super) struct MessageSeed<'r, 's> {
    pub(super) reader: &'r mut Reader<'s>,
    pub(super) message: MessageId,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// A missing body is an empty message.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        match self.reader.schema.get(self.message).form {
            Form::ListValue => list_items(self.reader, self.message, source),
            _ => Err(A::Error::custom("expected an object, found a list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        match self.reader.schema.get(self.message).form {
            Form::Object => object(self.reader, self.message, source),
            Form::Struct => entries(
                self.reader,
                &self.reader.schema.get(self.message).fields[0],
                source,
            ),
            Form::Any => Err(A::Error::custom(
                "values of type Any are not accepted in requests",
            )),
            _ => Err(A::Error::custom("must not be an object")),
        }
    }
}

fn object<'de, A: MapAccess<'de>>(
    reader: &mut Reader<'_>,
    id: MessageId,
    mut source: A,
) -> Result<(), A::Error> {
    let schema = reader.schema;
    let message = schema.get(id);
    let mut seen = vec![false; message.fields.len()];
    let mut oneofs: Vec<usize> = Vec::new();
    while let Some(index) = source.next_key_seed(NameSeed {
        reader: &mut *reader,
        id,
    })? {
        let field = &message.fields[index];
        if std::mem::replace(&mut seen[index], true) {
            return Err(A::Error::custom("the field is given twice"));
        }
        let before = reader.out.len();
        source.next_value_seed(FieldSeed {
            reader: &mut *reader,
            field,
        })?;
        if let Shape::Explicit(Some(oneof)) = field.shape
            && reader.out.len() > before
        {
            if oneofs.contains(&oneof) {
                return Err(A::Error::custom(
                    "only one field of this choice may be given",
                ));
            }
            oneofs.push(oneof);
        }
        reader.path.pop();
    }
    Ok(())
}

/// The name of a field; leaves it on the path.
struct NameSeed<'r, 's> {
    reader: &'r mut Reader<'s>,
    id: MessageId,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<usize, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let message = self.reader.schema.get(self.id);
        if let Some(index) = message.by_name(name) {
            let name = message.fields[index].name.clone();
            self.reader.path.push(Step::Name(name));
            return Ok(index);
        }
        let short: String = name.chars().take(100).collect();
        self.reader.path.push(Step::Name(short.into()));
        let short_type = message.name.rsplit('.').next().unwrap_or_default();
        Err(E::custom(format!("{short_type} has no such field")))
    }
}

/// The value of a field, key and length included; null writes nothing.
pub(super) struct FieldSeed<'r, 's, 'f> {
    pub(super) reader: &'r mut Reader<'s>,
    pub(super) field: &'f Field,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        match self.field.shape {
            Shape::Repeated(_) => source.deserialize_any(ListVisitor(self)),
            Shape::Map => source.deserialize_any(MapVisitor(self)),
            Shape::Implicit | Shape::Explicit(_) => source.deserialize_any(SingleVisitor {
                seed: self,
                element: false,
            }),
        }
    }
}

struct ListVisitor<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> Visitor<'de> for ListVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let FieldSeed { reader, field } = self.0;
        let mut index = 0;
        loop {
            reader.path.push(Step::Index(index));
            let seed = ElementSeed(FieldSeed {
                reader: &mut *reader,
                field,
            });
            let more = source.next_element_seed(seed)?.is_some();
            reader.path.pop();
            reader.check_size()?;
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// One element of a list, or one value of a map: null is not allowed unless the type has it.
struct ElementSeed<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(SingleVisitor {
            seed: self.0,
            element: true,
        })
    }
}

struct MapVisitor<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> Visitor<'de> for MapVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        let FieldSeed { reader, field } = self.0;
        let before = reader.out.len();
        entries(reader, field, source)?;
        if reader.out.len() == before {
            let path = reader.path_text();
            reader.emptied.push(path);
        }
        Ok(())
    }
}

/// The entries of a map field.
fn entries<'de, A: MapAccess<'de>>(
    reader: &mut Reader<'_>,
    field: &Field,
    mut source: A,
) -> Result<(), A::Error> {
    let Kind::Message(entry) = field.kind else {
        return Err(A::Error::custom("is not a map"));
    };
    let schema = reader.schema;
    let [key, value] = &schema.get(entry).fields[..] else {
        return Err(A::Error::custom("is not a map"));
    };
    // Where the keys are in the output, to find those given twice without a copy of them.
    let mut keys: Vec<(usize, usize)> = Vec::new();
    reader.enter()?;
    loop {
        let start = wire::begin(&mut reader.out, field.number);
        let seed = KeySeed {
            reader: &mut *reader,
            field: key,
        };
        if source.next_key_seed(seed)?.is_none() {
            // Takes back the key and the length that were written in advance.
            let written = wire::varint_len((field.number as usize) << 3) + 1;
            reader.out.truncate(start - written);
            break;
        }
        let key_length = reader.out.len() - start;
        source.next_value_seed(ElementSeed(FieldSeed {
            reader: &mut *reader,
            field: value,
        }))?;
        let start = wire::end(&mut reader.out, start);
        keys.push((start, key_length));
        reader.path.pop();
        reader.check_size()?;
    }
    reader.leave();
    let out = &reader.out;
    let bytes = |&(start, length): &(usize, usize)| &out[start..start + length];
    keys.sort_unstable_by(|left, right| bytes(left).cmp(bytes(right)));
    let twice = keys
        .windows(2)
        .find(|pair| bytes(&pair[0]) == bytes(&pair[1]));
    if let Some(pair) = twice {
        let text = String::from_utf8_lossy(bytes(&pair[0]).get(2..).unwrap_or_default());
        let message = format!(
            "the key {:?} is given twice",
            text.chars().take(100).collect::<String>()
        );
        return Err(A::Error::custom(message));
    }
    Ok(())
}

/// The key of a map; leaves it on the path.
struct KeySeed<'r, 's, 'f> {
    reader: &'r mut Reader<'s>,
    field: &'f Field,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let short: String = text.chars().take(100).collect();
        self.reader.path.push(Step::Name(short.into()));
        let given = scalar::from_text(self.field.kind, text);
        self.reader.put(self.field, given).map_err(E::custom)
    }
}

/// A single value of a field.
struct SingleVisitor<'r, 's, 'f> {
    seed: FieldSeed<'r, 's, 'f>,
    element: bool,
}

impl SingleVisitor<'_, '_, '_> {
    fn put<E: serde::de::Error>(self, given: Given<'_>) -> Result<(), E> {
        let FieldSeed { reader, field } = self.seed;
        reader.put(field, given).map_err(E::custom)
    }

    fn form(&self) -> Option<(MessageId, Form)> {
        match self.seed.field.kind {
            Kind::Message(id) => Some((id, self.seed.reader.schema.get(id).form)),
            _ => None,
        }
    }
}

impl<'de> Visitor<'de> for SingleVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(scalar::expectation(self.seed.field.kind))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Given::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.put(Given::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Given::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Given::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Given::Text(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let FieldSeed { reader, field } = self.seed;
        match field.kind {
            Kind::Message(id) if reader.schema.get(id).form == Form::Value => {
                // null_value = 1 is an enum whose one number is 0.
                wire::put_len(&mut reader.out, field.number, &[1 << 3, 0]);
                Ok(())
            }
            Kind::Enum(id) if reader.schema.enumeration(id).null => {
                wire::put_key(&mut reader.out, field.number, wire::VARINT);
                reader.out.push(0);
                Ok(())
            }
            _ if self.element => Err(E::custom("must not be null")),
            _ => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let form = self.form();
        let FieldSeed { reader, field } = self.seed;
        match form {
            Some((id, Form::ListValue)) => {
                let start = wire::begin(&mut reader.out, field.number);
                list_items(reader, id, source)?;
                wire::end(&mut reader.out, start);
                Ok(())
            }
            Some((id, Form::Value)) => {
                let list = &reader.schema.get(id).fields[5];
                let Kind::Message(list_id) = list.kind else {
                    return Err(A::Error::custom("is not a list"));
                };
                reader.enter()?;
                let outer = wire::begin(&mut reader.out, field.number);
                let inner = wire::begin(&mut reader.out, list.number);
                list_items(reader, list_id, source)?;
                wire::end(&mut reader.out, inner);
                wire::end(&mut reader.out, outer);
                reader.leave();
                Ok(())
            }
            _ => {
                // Skips nothing: the error ends the whole document.
                source.next_element::<IgnoredAny>().ok();
                let expected = scalar::expectation(field.kind);
                Err(A::Error::custom(format!("a list is not {expected}")))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        let form = self.form();
        let FieldSeed { reader, field } = self.seed;
        let Some((id, form)) = form else {
            let expected = scalar::expectation(field.kind);
            return Err(A::Error::custom(format!("an object is not {expected}")));
        };
        reader.enter()?;
        let start = wire::begin(&mut reader.out, field.number);
        if form == Form::Value {
            let inner_field = &reader.schema.get(id).fields[4];
            let Kind::Message(inner) = inner_field.kind else {
                return Err(A::Error::custom("is not an object"));
            };
            reader.enter()?;
            let inner_start = wire::begin(&mut reader.out, inner_field.number);
            MessageSeed {
                reader: &mut *reader,
                message: inner,
            }
            .visit_map(source)?;
            wire::end(&mut reader.out, inner_start);
            reader.leave();
        } else {
            MessageSeed {
                reader: &mut *reader,
                message: id,
            }
            .visit_map(source)?;
        }
        wire::end(&mut reader.out, start);
        reader.leave();
        Ok(())
    }
}

fn list_items<'de, A: SeqAccess<'de>>(
    reader: &mut Reader<'_>,
    list: MessageId,
    source: A,
) -> Result<(), A::Error> {
    let field = &reader.schema.get(list).fields[0];
    reader.enter()?;
    ListVisitor(FieldSeed {
        reader: &mut *reader,
        field,
    })
    .visit_seq(source)?;
    reader.leave();
    Ok(())
}
