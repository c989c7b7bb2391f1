//! Path templates of `google.api.http`, as far as adopted contracts use them: literals, `{field}`, `{field.inner}` and
//! a `:verb` at the end. Each variable takes one segment.

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Variable(String),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) parts: Vec<Part>,
    /// Empty for none.
    pub(super) verb: String,
}

impl Template {
    /// Parses a template; `None` when it uses what is not supported.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('/')?;
        let (path, verb) = match text.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, verb),
            _ => (text, ""),
        };
        let parts = path.split('/').map(part).collect::<Option<Vec<_>>>()?;
        Some(Self {
            parts,
            verb: verb.to_owned(),
        })
    }

    /// The template with every variable as `*`: two templates that are equal in this form match the same paths.
    pub(super) fn shape(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            text.push('/');
            text.push_str(match part {
                Part::Literal(literal) => literal,
                Part::Variable(_) => "*",
            });
        }
        if !self.verb.is_empty() {
            text.push(':');
            text.push_str(&self.verb);
        }
        text
    }
}

fn part(text: &str) -> Option<Part> {
    match text.strip_prefix('{') {
        Some(inner) => {
            let name = inner.strip_suffix('}')?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
            (!name.is_empty() && name.bytes().all(plain)).then(|| Part::Variable(name.to_owned()))
        }
        None => (!text.contains(['{', '}', '*'])).then(|| Part::Literal(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_split_into_parts_and_verb() {
        let template = Template::parse("/a/{b.c}/d/{e}:read").unwrap();
        assert_eq!(template.shape(), "/a/*/d/*:read");
        assert_eq!(template.parts[1], Part::Variable("b.c".to_owned()));
        assert_eq!(Template::parse("/a/{b}").unwrap().verb, "");
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for text in ["a", "/a/{b=**}", "/a/**", "/a/{b", "/a/{}"] {
            assert_eq!(Template::parse(text), None, "{text}");
        }
    }
}
