//! Pages of own contracts: keyset tokens that are opaque, versioned, and refuse another query.
//!
//! A token is base64url of a version byte, a checksum, a digest of the query and the key of the last item. It
//! holds no secret; the checksum is against damage, not against forgery, so a key is data like any other input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::{ApiError, Code};

/// Items of a page when the caller does not say.
pub const DEFAULT_SIZE: u32 = 50;
/// The most items of a page.
pub const MAX_SIZE: u32 = 1000;

const VERSION: u8 = 1;
const DIGEST: usize = 8;

/// A page was asked for in a way that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a token that this server made.
    #[error("page_token is not one that this server returned")]
    Foreign,
    /// A token of another query.
    #[error("page_token belongs to a request with another filter, order or parent")]
    OtherQuery,
    /// A negative size.
    #[error("page_size must not be negative, got {0}")]
    NegativeSize(i32),
}

impl ApiError for Error {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Foreign | Self::OtherQuery => "PAGE_TOKEN_INVALID",
            Self::NegativeSize(_) => "PAGE_SIZE_INVALID",
        }
    }
}

/// The number of items that a request for `size` gets.
pub fn size(size: i32) -> Result<u32, Error> {
    match u32::try_from(size) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err(Error::NegativeSize(size)),
    }
}

/// The token after an item: `query` is everything but the page that the request asked, `key` the item's place.
pub fn encode(query: &str, key: &[&str]) -> String {
    let mut body = digest(query.as_bytes()).to_vec();
    for part in key {
        body.extend_from_slice(&(part.len() as u32).to_be_bytes());
        body.extend_from_slice(part.as_bytes());
    }
    let mut token = vec![VERSION];
    token.extend_from_slice(&digest(&body));
    token.extend_from_slice(&body);
    URL_SAFE_NO_PAD.encode(token)
}

/// The key of a token; none for the empty token, which asks for the first page.
pub fn decode(query: &str, token: &str) -> Result<Option<Vec<String>>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::Foreign)?;
    let (&[version], rest) = bytes.split_first_chunk::<1>().ok_or(Error::Foreign)?;
    let (checksum, body) = rest.split_first_chunk::<DIGEST>().ok_or(Error::Foreign)?;
    if version != VERSION || *checksum != digest(body) {
        return Err(Error::Foreign);
    }
    let (asked, mut rest) = body.split_first_chunk::<DIGEST>().ok_or(Error::Foreign)?;
    if *asked != digest(query.as_bytes()) {
        return Err(Error::OtherQuery);
    }
    let mut key = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or(Error::Foreign)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (part, tail) = tail.split_at_checked(length).ok_or(Error::Foreign)?;
        key.push(String::from_utf8(part.to_vec()).map_err(|_| Error::Foreign)?);
        rest = tail;
    }
    Ok(Some(key))
}

fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    let hash = Sha256::digest(bytes);
    let mut short = [0; DIGEST];
    short.copy_from_slice(&hash[..DIGEST]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_key_back() {
        let token = encode("runs/r1", &["7", "", "ü"]);
        let key = vec!["7".to_owned(), String::new(), "ü".to_owned()];
        assert_eq!(decode("runs/r1", &token), Ok(Some(key)));
        assert_eq!(decode("runs/r1", ""), Ok(None));
    }

    #[test]
    fn a_token_of_another_query_is_refused() {
        assert_eq!(
            decode("runs/r2", &encode("runs/r1", &["7"])),
            Err(Error::OtherQuery)
        );
    }

    #[test]
    fn damaged_tokens_are_foreign() {
        let token = encode("q", &["7"]);
        for cut in 1..token.len() {
            assert_eq!(decode("q", &token[..cut]), Err(Error::Foreign), "{cut}");
        }
        for foreign in ["x", "AAAA", "eyJhIjoxfQ", "äöü", " "] {
            assert_eq!(decode("q", foreign), Err(Error::Foreign), "{foreign}");
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_cap() {
        assert_eq!(size(0), Ok(50));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(5000), Ok(1000));
        assert_eq!(size(-1), Err(Error::NegativeSize(-1)));
    }
}
