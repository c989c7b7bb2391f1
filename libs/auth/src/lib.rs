//! Who is calling: secrets that do not print, bearer tokens compared in constant time, the principal of a call, and the
//! rules that keep web pages of others out.
//!
//! This crate authenticates only; who may do what is decided elsewhere.

mod origin;
mod principal;
mod secret;

use aip::{ApiError, Code};
use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use origin::{OriginError, Origins};
pub use principal::{InvalidPrincipal, Kind, Principal};
pub use secret::{BearerToken, Secret, Unusable};

/// Why a caller is not known. The texts say nothing about the expected token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The call carries no `authorization` header.
    #[error("this server needs a token: send the header `authorization: Bearer TOKEN`")]
    Missing,
    /// The header is not `Bearer TOKEN`.
    #[error("the `authorization` header must be `Bearer TOKEN`")]
    Malformed,
    /// The token is not the one that this server expects.
    #[error("the token is not valid here")]
    Invalid,
}

impl ApiError for Error {
    fn code(&self) -> Code {
        Code::Unauthenticated
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "TOKEN_MISSING",
            Self::Malformed => "TOKEN_MALFORMED",
            Self::Invalid => "TOKEN_INVALID",
        }
    }
}

/// Tells who sent `headers`.
///
/// With an expected token, the call must carry it ([RFC 6750], section 2.1; the scheme's case does not matter, RFC 9110
/// section 11.1). Without one the server is open by its operator's choice, and every caller is [`Principal::local`].
///
/// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750
pub fn authenticate(
    headers: &HeaderMap,
    expected: Option<&BearerToken>,
) -> Result<Principal, Error> {
    let Some(expected) = expected else {
        return Ok(Principal::local());
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::Missing)?;
    if values.next().is_some() {
        return Err(Error::Malformed);
    }
    let text = value.to_str().map_err(|_| Error::Malformed)?;
    let (scheme, presented) = text.split_once(' ').ok_or(Error::Malformed)?;
    let presented = presented.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || presented.is_empty() {
        return Err(Error::Malformed);
    }
    if expected.matches(presented) {
        Ok(Principal::operator())
    } else {
        Err(Error::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token() -> BearerToken {
        BearerToken::new(&Secret::new("s3cret")).unwrap()
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (AUTHORIZATION, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_right_token_is_the_operator_whatever_the_case_of_the_scheme() {
        for value in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            let found = authenticate(&headers(&[value]), Some(&token()));
            assert_eq!(found, Ok(Principal::operator()), "{value}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let table: [(&[&'static str], Error); 8] = [
            (&[], Error::Missing),
            (&["Bearer s3cre"], Error::Invalid),
            (&["Bearer s3crets"], Error::Invalid),
            (&["Bearer"], Error::Malformed),
            (&["Bearer  "], Error::Malformed),
            (&["Basic s3cret"], Error::Malformed),
            (&["s3cret"], Error::Malformed),
            (&["Bearer s3cret", "Bearer s3cret"], Error::Malformed),
        ];
        for (values, error) in table {
            let found = authenticate(&headers(values), Some(&token()));
            assert_eq!(found, Err(error), "{values:?}");
            assert_eq!(error.code(), Code::Unauthenticated);
        }
    }

    #[test]
    fn an_open_server_knows_everybody_as_local() {
        let found = authenticate(&headers(&["nonsense"]), None);
        assert_eq!(found, Ok(Principal::local()));
    }
}
