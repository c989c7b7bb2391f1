//! The fields by which a list may be ordered and filtered.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A time; it compares by whole seconds, as upstream stores it.
    Time,
    /// One of these names.
    Names(&'static [&'static str]),
}

/// A field of a resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The name in the contract.
    pub name: &'static str,
    /// Other names: those of the older contract.
    pub aliases: &'static [&'static str],
    /// The expression in the resource's table.
    pub column: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether lists can be ordered by it.
    pub sortable: bool,
}

/// The fields of a resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields {
    /// The resource; tokens carry it.
    pub resource: &'static str,
    /// All fields.
    pub all: &'static [Field],
    /// The expression of the id, which ends every order.
    pub key: &'static str,
    /// Whether `tags.KEY` can be filtered by.
    pub tags: bool,
}

impl Fields {
    /// The field of a name or an alias.
    pub fn find(&'static self, name: &str) -> Option<&'static Field> {
        let named = |field: &&Field| field.name == name || field.aliases.contains(&name);
        self.all.iter().find(named)
    }
}

impl Field {
    /// A text that can be ordered by.
    pub const fn text(
        name: &'static str,
        aliases: &'static [&'static str],
        column: &'static str,
    ) -> Self {
        Self::of(name, aliases, column, FieldKind::Text)
    }

    /// A time.
    pub const fn time(name: &'static str, column: &'static str) -> Self {
        Self::of(name, &[], column, FieldKind::Time)
    }

    /// One of some names.
    pub const fn names(
        name: &'static str,
        aliases: &'static [&'static str],
        column: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        Self::of(name, aliases, column, FieldKind::Names(names))
    }

    const fn of(
        name: &'static str,
        aliases: &'static [&'static str],
        column: &'static str,
        kind: FieldKind,
    ) -> Self {
        Self {
            name,
            aliases,
            column,
            kind,
            sortable: true,
        }
    }

    /// The same, for filters only.
    pub const fn unsortable(mut self) -> Self {
        self.sortable = false;
        self
    }
}
