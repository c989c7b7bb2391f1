//! Which requests a port of HTTP listens to: names it answers for, pages it listens to.
//!
//! A browser will send requests to loopback for any page. Three rules keep pages out: the name in `Host` must be ours
//! (a rebound name is not), `Origin` must be our own page's, and `Sec-Fetch-Site` must not speak of another site.
//! Programs send neither of the last two.

use std::net::{IpAddr, SocketAddr};

use aip::{ApiError, Code};
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};

/// Why a request is not listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The name in `Host` is not one of this server. The text is what was named.
    #[error("the host {0:?} is not one that this server answers for")]
    Host(String),
    /// The request comes from another web page.
    #[error("requests from web pages of other origins are not allowed")]
    Foreign,
}

impl ApiError for OriginError {
    fn code(&self) -> Code {
        Code::PermissionDenied
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "HOST_NOT_ALLOWED",
            Self::Foreign => "ORIGIN_NOT_ALLOWED",
        }
    }
}

/// The rules for one listener.
#[derive(Debug, Clone)]
pub struct Origins {
    address: SocketAddr,
    allowed: Vec<String>,
}

impl Origins {
    /// The rules of the listener that is bound to `address`. Beside it the `allowed` names may be in `Host`, each as
    /// `NAME` or `NAME:PORT`.
    pub fn new(address: SocketAddr, allowed: &[String]) -> Self {
        Self {
            address,
            allowed: allowed
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        }
    }

    /// Checks where a request comes from; `page` tells that it asks for an HTML page, to which links may lead.
    pub fn check(&self, parts: &Parts, page: bool) -> Result<(), OriginError> {
        let host = host(parts)?;
        if !self.answers_for(host) {
            return Err(OriginError::Host(host.chars().take(255).collect()));
        }
        let mut origins = parts.headers.get_all(ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let own = origin.to_str().is_ok_and(|origin| is_own(origin, host));
            if !own || origins.next().is_some() {
                return Err(OriginError::Foreign);
            }
        }
        let site = header(&parts.headers, "sec-fetch-site");
        match site {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) if page && is_navigation(parts) => Ok(()),
            Some(_) => Err(OriginError::Foreign),
        }
    }

    fn answers_for(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Some((name, port)) = split(&host) else {
            return false;
        };
        // A name that the operator allowed may be reached through a proxy at any port, unless the port is named too.
        if self
            .allowed
            .iter()
            .any(|allowed| *allowed == host || allowed == name)
        {
            return true;
        }
        if port.unwrap_or(80) != self.address.port() {
            return false;
        }
        let bound = self.address.ip().to_canonical();
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                // An address cannot be rebound to: who uses one means it.
                ip == bound || ip.is_loopback() || bound.is_unspecified()
            }
            Err(_) => name == "localhost",
        }
    }
}

/// The authority of the request: `:authority` in HTTP/2, `Host` in HTTP/1.1; both must agree where both are.
fn host(parts: &Parts) -> Result<&str, OriginError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let header = match hosts.next() {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| OriginError::Host(String::new()))?,
        ),
        None => None,
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let differ = matches!((header, authority), (Some(one), Some(two)) if one != two);
    match header.or(authority) {
        Some(host) if hosts.next().is_none() && !differ => Ok(host),
        other => Err(OriginError::Host(other.unwrap_or_default().to_owned())),
    }
}

fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let end_of_name = host.rfind(']').map_or(0, |at| at + 1);
    match host[end_of_name..].rfind(':') {
        Some(at) => {
            let at = end_of_name + at;
            Some((&host[..at], Some(host[at + 1..].parse().ok()?)))
        }
        None => Some((host, None)),
    }
}

/// An origin is ours when it is the host that the request names; the scheme is https behind a proxy.
fn is_own(origin: &str, host: &str) -> bool {
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn is_navigation(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
        && header(&parts.headers, "sec-fetch-mode") == Some("navigate")
        && matches!(
            header(&parts.headers, "sec-fetch-dest"),
            None | Some("document")
        )
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or("unreadable"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn origins(address: &str, allowed: &[&str]) -> Origins {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        Origins::new(address.parse().unwrap(), &allowed)
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/apis/v2beta1/runs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_our_own_names_are_answered_for() {
        let table = [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "localhost:8080", true),
            ("127.0.0.1:8080", "LOCALHOST:8080", true),
            ("127.0.0.1:8080", "[::1]:8080", true),
            ("127.0.0.1:8080", "127.0.0.2:8080", true),
            ("127.0.0.1:8080", "127.0.0.1", false),
            ("127.0.0.1:80", "127.0.0.1", true),
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1:8080", "evil.example:8080", false),
            ("127.0.0.1:8080", "localhost.evil.example:8080", false),
            ("127.0.0.1:8080", "evil.localhost:8080", false),
            ("127.0.0.1:8080", "192.0.2.7:8080", false),
            ("127.0.0.1:8080", "localhost:80800", false),
            ("127.0.0.1:8080", "", false),
            ("127.0.0.1:8080", "flumina.example", true),
            ("127.0.0.1:8080", "flumina.example:443", true),
            ("127.0.0.1:8080", "with-port.example:9443", true),
            ("127.0.0.1:8080", "with-port.example", false),
            ("192.0.2.7:8080", "192.0.2.7:8080", true),
            ("192.0.2.7:8080", "192.0.2.8:8080", false),
            ("0.0.0.0:8080", "192.0.2.8:8080", true),
            ("0.0.0.0:8080", "evil.example:8080", false),
        ];
        for (address, host, expected) in table {
            let origins = origins(address, &["Flumina.example", "with-port.example:9443"]);
            let outcome = origins.check(&parts(&[("host", host)]), false);
            assert_eq!(outcome.is_ok(), expected, "{address} {host}");
        }
    }

    #[test]
    #[expect(
        clippy::type_complexity,
        reason = "a table says what it holds where it stands"
    )]
    fn pages_of_other_origins_are_kept_out() {
        let table: &[(&[(&str, &str)], bool, bool)] = &[
            (&[], true, true),
            (&[("origin", "http://localhost:8080")], true, true),
            (&[("origin", "https://localhost:8080")], true, true),
            (&[("origin", "http://127.0.0.1:8080")], false, false),
            (&[("origin", "http://localhost:3000")], false, false),
            (&[("origin", "http://evil.example")], false, false),
            (&[("origin", "null")], false, false),
            (&[("origin", "")], false, false),
            (
                &[
                    ("origin", "http://localhost:8080"),
                    ("origin", "http://evil.example"),
                ],
                false,
                false,
            ),
            (&[("sec-fetch-site", "same-origin")], true, true),
            (&[("sec-fetch-site", "none")], true, true),
            (&[("sec-fetch-site", "cross-site")], false, false),
            (&[("sec-fetch-site", "same-site")], false, false),
            (&[("sec-fetch-site", "whatever")], false, false),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                false,
                true,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                false,
                false,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                false,
                false,
            ),
        ];
        let origins = origins("127.0.0.1:8080", &[]);
        for (headers, api, page) in table {
            let mut headers = headers.to_vec();
            headers.push(("host", "localhost:8080"));
            let parts = parts(&headers);
            assert_eq!(origins.check(&parts, false).is_ok(), *api, "{headers:?}");
            assert_eq!(
                origins.check(&parts, true).is_ok(),
                *page,
                "page {headers:?}"
            );
        }
    }

    #[test]
    fn two_different_hosts_are_refused() {
        let origins = origins("127.0.0.1:8080", &[]);
        let (mut parts, ()) = Request::get("http://localhost:8080/")
            .header("host", "127.0.0.1:8080")
            .body(())
            .unwrap()
            .into_parts();
        assert!(origins.check(&parts, false).is_err());
        parts.headers.remove("host");
        assert!(origins.check(&parts, false).is_ok());
        let twice = self::parts(&[("host", "localhost:8080"), ("host", "localhost:8080")]);
        assert!(origins.check(&twice, false).is_err());
    }
}
