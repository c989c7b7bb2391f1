use std::fmt;

use http::HeaderValue;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const MASK: &str = "***";

/// Text that must not appear in logs or dumps: it prints and serialises as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Always the mask, so that a dumped configuration holds no secret.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// The secret cannot travel in an `authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token must be at least one visible ASCII character, without spaces")]
pub struct Unusable;

/// A token that a caller presents as `authorization: Bearer TOKEN`.
#[derive(Clone)]
pub struct BearerToken {
    digest: [u8; 32],
    header: HeaderValue,
}

impl BearerToken {
    /// Checks that the secret can be sent in a header.
    pub fn new(secret: &Secret) -> Result<Self, Unusable> {
        let text = secret.expose();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unusable);
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| Unusable)?;
        header.set_sensitive(true);
        Ok(Self {
            digest: Sha256::digest(text).into(),
            header,
        })
    }

    /// Compares in a time that depends on the length of `presented` only.
    pub fn matches(&self, presented: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        digest.ct_eq(&self.digest).into()
    }

    /// The value of the `authorization` header, marked sensitive so that it is neither logged nor indexed by HPACK.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(***)")
    }
}

impl TryFrom<&Secret> for BearerToken {
    type Error = Unusable;

    fn try_from(secret: &Secret) -> Result<Self, Unusable> {
        Self::new(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_print() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        let token = BearerToken::new(&secret).unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("hunter2"));
    }

    #[test]
    fn tokens_that_no_header_can_carry_are_refused() {
        for text in ["", "two words", "line\nbreak", "schlüssel"] {
            assert_eq!(
                BearerToken::new(&Secret::new(text)).err(),
                Some(Unusable),
                "{text}"
            );
        }
    }
}
