use std::fmt;
use std::str::FromStr;

/// What kind of caller a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A person, or a program acting for one.
    User,
    /// One of our services, acting on its own behalf.
    Service,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// Who makes a call. Its text form, `user:NAME` or `service:NAME`, travels between services as metadata; bytes of the
/// name other than visible ASCII, and `%`, are percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The name, never empty.
    pub name: String,
    /// The kind of caller.
    pub kind: Kind,
}

/// The text is not a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a principal is `user:NAME` or `service:NAME`")]
pub struct InvalidPrincipal;

impl Principal {
    /// A person.
    pub fn user(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::User,
        }
    }

    /// One of our services.
    pub fn service(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Service,
        }
    }

    /// Everybody who reaches a server that asks for no token.
    pub fn local() -> Self {
        Self::user("local")
    }

    /// Who holds the server's one token.
    pub fn operator() -> Self {
        Self::user("operator")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind.as_str())?;
        for byte in self.name.bytes() {
            if byte.is_ascii_graphic() && byte != b'%' {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let (kind, name) = text.split_once(':').ok_or(InvalidPrincipal)?;
        let kind = match kind {
            "user" => Kind::User,
            "service" => Kind::Service,
            _ => return Err(InvalidPrincipal),
        };
        let name = decode(name).ok_or(InvalidPrincipal)?;
        if name.is_empty() {
            return Err(InvalidPrincipal);
        }
        Ok(Self { name, kind })
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let high = digit(bytes.next()?)?;
        let low = digit(bytes.next()?)?;
        plain.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        for principal in [
            Principal::local(),
            Principal::service("runner"),
            Principal::user("ada@example.org"),
            Principal::user("Zoë 100%:\r\n"),
        ] {
            let text = principal.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            assert_eq!(text.parse(), Ok(principal));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "ada", "user:", "root:ada", "user:%", "user:%zz", "user:%ff",
        ] {
            assert_eq!(text.parse::<Principal>(), Err(InvalidPrincipal), "{text}");
        }
    }
}
