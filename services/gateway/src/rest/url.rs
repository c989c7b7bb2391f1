//! Percent-encoding, decoded exactly once, and query strings.

use std::borrow::Cow;

use crate::Error;

/// Decodes one segment of a path.
pub(crate) fn segment(text: &str) -> Result<Cow<'_, str>, Error> {
    decode(text, false)
}

/// A decoded name and its value.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Splits a query string into names and values, both decoded. `+` is a space, as forms and Python's urllib write it.
pub(crate) fn query(text: &str) -> Result<Vec<Pair<'_>>, Error> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

fn decode(text: &str, form: bool) -> Result<Cow<'_, str>, Error> {
    let special = |byte: u8| byte == b'%' || (form && byte == b'+');
    if !text.bytes().any(special) {
        return Ok(Cow::Borrowed(text));
    }
    let invalid = || Error::Url("the URL has a malformed percent-encoding".to_owned());
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if form => plain.push(b' '),
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(invalid());
                };
                plain.push((high << 4 | low) as u8);
            }
            _ => plain.push(byte),
        }
    }
    String::from_utf8(plain)
        .map(Cow::Owned)
        .map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_decoded_exactly_once() {
        assert_eq!(segment("a%2Fb%252F+").unwrap(), "a/b%2F+");
        assert_eq!(
            query("filter=%7B%22a%22%3A+1%7D&empty=&flag&&x=%2B").unwrap(),
            [
                ("filter", "{\"a\": 1}"),
                ("empty", ""),
                ("flag", ""),
                ("x", "+")
            ]
            .map(|(name, value)| (Cow::from(name), Cow::from(value)))
        );
    }

    #[test]
    fn broken_encodings_are_refused() {
        for text in ["%", "%2", "%zz", "%ff", "a%"] {
            assert!(segment(text).is_err(), "{text}");
        }
    }
}
