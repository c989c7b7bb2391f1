//! Message types as tables, compiled once from descriptors.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

/// A message type of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId(pub(super) usize);

/// An enum type of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnumId(pub(super) usize);

/// How a message looks in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    Timestamp,
    Duration,
    Struct,
    Value,
    ListValue,
    Any,
    FieldMask,
    Wrapper,
}

/// The type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `double`
    Double,
    /// `float`
    Float,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `sint32`
    Sint32,
    /// `sint64`
    Sint64,
    /// `fixed32`
    Fixed32,
    /// `fixed64`
    Fixed64,
    /// `sfixed32`
    Sfixed32,
    /// `sfixed64`
    Sfixed64,
    /// `bool`
    Bool,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// An enum.
    Enum(EnumId),
    /// A message.
    Message(MessageId),
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Once; the default value means that it is not set.
    Implicit,
    /// Once, and set or not; the number of its oneof, if it has one.
    Explicit(Option<usize>),
    /// A list; packed when the flag says so.
    Repeated(bool),
    /// A map; the field's kind is the entry message.
    Map,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// The field's number.
    pub number: u32,
    /// The name as the proto spells it.
    pub name: Box<str>,
    /// The type of the value.
    pub kind: Kind,
    /// How often it occurs.
    pub shape: Shape,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: Box<str>,
    pub(super) form: Form,
    pub(super) fields: Vec<Field>,
    by_number: Vec<(u32, usize)>,
    by_name: HashMap<Box<str>, usize>,
}

impl Message {
    pub(super) fn by_number(&self, number: u32) -> Option<usize> {
        let at = self
            .by_number
            .binary_search_by_key(&number, |entry| entry.0)
            .ok()?;
        Some(self.by_number[at].1)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

#[derive(Debug)]
pub(super) struct Enumeration {
    pub(super) null: bool,
    names: HashMap<i32, Box<str>>,
    numbers: HashMap<Box<str>, i32>,
}

impl Enumeration {
    pub(super) fn name(&self, number: i32) -> Option<&str> {
        self.names.get(&number).map(AsRef::as_ref)
    }

    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.numbers.get(name).copied()
    }
}

/// All message types of some descriptor pools.
#[derive(Debug, Default)]
pub struct Schema {
    messages: Vec<Message>,
    enums: Vec<Enumeration>,
    message_ids: HashMap<Box<str>, MessageId>,
    enum_ids: HashMap<Box<str>, EnumId>,
}

impl Schema {
    /// Compiles all messages of the pools; of a type that several pools have, the first counts.
    pub fn new<'a>(pools: impl IntoIterator<Item = &'a DescriptorPool>) -> Self {
        let mut schema = Self::default();
        for pool in pools {
            for descriptor in pool.all_messages() {
                schema.message(&descriptor);
            }
        }
        schema
    }

    /// Finds a message by its full name.
    pub fn find(&self, name: &str) -> Option<MessageId> {
        self.message_ids.get(name).copied()
    }

    /// Finds a field by its path, such as `pipeline.pipeline_id`; the fields from the outside in.
    pub fn path(&self, mut at: MessageId, path: &str) -> Option<Vec<&Field>> {
        let mut found = Vec::new();
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let message = self.get(at);
            let field = &message.fields[message.by_name(name)?];
            found.push(field);
            if names.peek().is_some() {
                match (field.kind, field.shape) {
                    (Kind::Message(inner), Shape::Explicit(_)) => at = inner,
                    _ => return None,
                }
            }
        }
        Some(found)
    }

    pub(super) fn get(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }

    pub(super) fn enumeration(&self, id: EnumId) -> &Enumeration {
        &self.enums[id.0]
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> MessageId {
        if let Some(id) = self.find(descriptor.full_name()) {
            return id;
        }
        let id = MessageId(self.messages.len());
        self.message_ids.insert(descriptor.full_name().into(), id);
        // Types refer to each other, so the place is taken before the fields are known.
        self.messages.push(Message {
            name: descriptor.full_name().into(),
            form: form(descriptor.full_name()),
            fields: Vec::new(),
            by_number: Vec::new(),
            by_name: HashMap::new(),
        });
        let fields: Vec<Field> = declared(descriptor)
            .iter()
            .map(|field| self.field(field))
            .collect();
        let message = &mut self.messages[id.0];
        for (index, descriptor) in declared(descriptor).iter().enumerate() {
            message.by_number.push((descriptor.number(), index));
            message.by_name.insert(descriptor.name().into(), index);
            message
                .by_name
                .entry(descriptor.json_name().into())
                .or_insert(index);
        }
        message.by_number.sort_unstable();
        message.fields = fields;
        id
    }

    fn field(&mut self, descriptor: &FieldDescriptor) -> Field {
        let shape = if descriptor.is_map() {
            Shape::Map
        } else if descriptor.is_list() {
            Shape::Repeated(descriptor.is_packed())
        } else if descriptor.supports_presence() {
            let oneof = descriptor
                .containing_oneof()
                .filter(|oneof| !oneof.is_synthetic());
            Shape::Explicit(oneof.and_then(|oneof| {
                let mut all = oneof.parent_message().oneofs();
                all.position(|other| other == oneof)
            }))
        } else {
            Shape::Implicit
        };
        Field {
            number: descriptor.number(),
            name: descriptor.name().into(),
            kind: self.kind(&descriptor.kind()),
            shape,
        }
    }

    fn kind(&mut self, kind: &prost_reflect::Kind) -> Kind {
        use prost_reflect::Kind as K;
        match kind {
            K::Double => Kind::Double,
            K::Float => Kind::Float,
            K::Int32 => Kind::Int32,
            K::Int64 => Kind::Int64,
            K::Uint32 => Kind::Uint32,
            K::Uint64 => Kind::Uint64,
            K::Sint32 => Kind::Sint32,
            K::Sint64 => Kind::Sint64,
            K::Fixed32 => Kind::Fixed32,
            K::Fixed64 => Kind::Fixed64,
            K::Sfixed32 => Kind::Sfixed32,
            K::Sfixed64 => Kind::Sfixed64,
            K::Bool => Kind::Bool,
            K::String => Kind::String,
            K::Bytes => Kind::Bytes,
            K::Enum(descriptor) => Kind::Enum(self.enum_id(descriptor)),
            K::Message(descriptor) => Kind::Message(self.message(descriptor)),
        }
    }

    fn enum_id(&mut self, descriptor: &EnumDescriptor) -> EnumId {
        if let Some(id) = self.enum_ids.get(descriptor.full_name()) {
            return *id;
        }
        let id = EnumId(self.enums.len());
        self.enum_ids.insert(descriptor.full_name().into(), id);
        let mut enumeration = Enumeration {
            null: descriptor.full_name() == "google.protobuf.NullValue",
            names: HashMap::new(),
            numbers: HashMap::new(),
        };
        for value in descriptor.values() {
            enumeration
                .names
                .entry(value.number())
                .or_insert_with(|| value.name().into());
            enumeration
                .numbers
                .insert(value.name().into(), value.number());
        }
        self.enums.push(enumeration);
        id
    }
}

/// The fields in the order of the file: JSON shows them as the contract does.
fn declared(descriptor: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let proto = descriptor.descriptor_proto();
    proto
        .field
        .iter()
        .filter_map(|field| descriptor.get_field(u32::try_from(field.number()).ok()?))
        .collect()
}

fn form(name: &str) -> Form {
    match name {
        "google.protobuf.Timestamp" => Form::Timestamp,
        "google.protobuf.Duration" => Form::Duration,
        "google.protobuf.Struct" => Form::Struct,
        "google.protobuf.Value" => Form::Value,
        "google.protobuf.ListValue" => Form::ListValue,
        "google.protobuf.Any" => Form::Any,
        "google.protobuf.FieldMask" => Form::FieldMask,
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => Form::Wrapper,
        _ => Form::Object,
    }
}
