//! What a URI says: the scheme, the bucket and the key.

use crate::Error;

/// Longest URI that is looked at, in bytes; keys have at most 1024.
const MAX_URI: usize = 4096;

/// The kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `s3://`.
    S3,
    /// `minio://`: S3 at an endpoint of its own.
    Minio,
    /// `gs://`.
    Gcs,
    /// `az://`, `azure://`, `abfs://`, `abfss://`.
    Azure,
    /// `http://` and `https://`: read only.
    Http,
}

/// A place in a store that is not a directory of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    scheme: Scheme,
    uri: String,
    bucket: String,
    key: String,
    account: Option<String>,
}

impl Location {
    /// Whether a text has the form of a URI of a remote store, known or not.
    pub fn is_remote(uri: &str) -> bool {
        uri.contains("://") && !uri.starts_with("file://") && !uri.starts_with('/')
    }

    /// Reads a URI.
    ///
    /// # Errors
    /// The scheme is unknown, the bucket or the key is missing, or the key has empty, `.` or `..` parts.
    pub fn parse(uri: &str) -> Result<Self, Error> {
        let foreign = |reason| Error::Foreign {
            uri: shown(uri),
            reason,
        };
        if uri.len() > MAX_URI || uri.chars().any(char::is_control) {
            return Err(foreign("it is too long or has control characters"));
        }
        let (scheme, rest) = Self::split(uri)?;
        if scheme == Scheme::Http {
            if rest.is_empty() || rest.starts_with('/') {
                return Err(foreign("it has no host"));
            }
            return Ok(Self {
                scheme,
                uri: uri.to_owned(),
                bucket: String::new(),
                key: String::new(),
                account: None,
            });
        }
        let rest = rest.trim_end_matches('/');
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, account) = match authority.split_once('@') {
            Some((container, host)) if scheme == Scheme::Azure => {
                (container, host.split('.').next().map(str::to_owned))
            }
            Some(_) => return Err(foreign("a URI must not have a user in it")),
            None => (authority, None),
        };
        if bucket.is_empty() {
            return Err(foreign("it names no bucket"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
        if !bucket.chars().all(plain) || bucket.starts_with('.') {
            return Err(foreign("its bucket has characters that no bucket has"));
        }
        // The name becomes a part of the host that credentials are sent to.
        let account_name = |name: &String| {
            (3..=24).contains(&name.len())
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        if account.as_ref().is_some_and(|name| !account_name(name)) {
            return Err(foreign("its account is no name of a storage account"));
        }
        let whole = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !key.is_empty() && !key.split('/').all(whole) {
            return Err(foreign("its key has empty parts, `.` or `..`"));
        }
        Ok(Self {
            scheme,
            uri: uri.trim_end_matches('/').to_owned(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            account,
        })
    }

    /// The scheme of what may also be no more than that, such as `minio://`.
    pub(crate) fn parse_prefix(uri: &str) -> Result<Scheme, Error> {
        match Self::split(uri)? {
            (Scheme::Minio, "") => Ok(Scheme::Minio),
            _ => Self::parse(uri).map(|location| location.scheme),
        }
    }

    fn split(uri: &str) -> Result<(Scheme, &str), Error> {
        let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "minio" => Scheme::Minio,
            "gs" => Scheme::Gcs,
            "az" | "azure" | "abfs" | "abfss" => Scheme::Azure,
            "http" | "https" => Scheme::Http,
            _ => {
                return Err(Error::Foreign {
                    uri: shown(uri),
                    reason: "the schemes are file, s3, minio, gs, az, abfs, http and https",
                });
            }
        };
        Ok((scheme, rest))
    }

    /// The kind of store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URI, without a slash at the end.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The URI without what may be a secret in it.
    pub fn shown(&self) -> String {
        shown(&self.uri)
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key; empty for the bucket itself.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Whether artifacts can be stored there.
    pub fn writable(&self) -> bool {
        self.scheme != Scheme::Http
    }

    /// The last part, which programs may look at for an extension.
    pub fn name(&self) -> &str {
        let path = match self.scheme {
            Scheme::Http => self.uri.split(['?', '#']).next().unwrap_or_default(),
            _ => &self.uri,
        };
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
    }
}

/// A URI without user, query and fragment, any of which may be a secret. What stands before the host in Azure's names a
/// container, unless it looks like a user with a password.
pub(crate) fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let rest = if scheme.starts_with("http") {
        rest.split(['?', '#']).next().unwrap_or_default()
    } else {
        rest
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) if !scheme.starts_with("ab") || user.contains(':') => host,
        _ => authority,
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read() {
        let table = [
            ("s3://bucket/a/b", Scheme::S3, "bucket", "a/b"),
            ("gs://bucket", Scheme::Gcs, "bucket", ""),
            ("minio://b/k/", Scheme::Minio, "b", "k"),
            ("az://container/k", Scheme::Azure, "container", "k"),
            (
                "abfss://c@account.dfs.core.windows.net/k",
                Scheme::Azure,
                "c",
                "k",
            ),
            ("s3://b/a%20b+c", Scheme::S3, "b", "a%20b+c"),
        ];
        for (uri, scheme, bucket, key) in table {
            let location = Location::parse(uri).unwrap();
            assert_eq!(
                (
                    location.scheme,
                    location.bucket.as_str(),
                    location.key.as_str()
                ),
                (scheme, bucket, key),
                "{uri}"
            );
        }
        let azure = Location::parse("abfss://c@account.dfs.core.windows.net/k").unwrap();
        assert_eq!(azure.account(), Some("account"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for uri in [
            "ftp://host/x",
            "s3://",
            "s3:///key",
            "s3://b/a//b",
            "s3://b/../x",
            "s3://b/a/./b",
            "s3://user@b/k",
            "s3://b/\u{0}",
            "plain",
            "https://",
        ] {
            assert!(Location::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (uri, seen) in [
            ("https://user:pw@host/a?token=1#x", "https://host/a"),
            ("http://host?token=1", "http://host"),
            ("s3://b/a?b", "s3://b/a?b"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(shown(uri), seen);
        }
        let location = Location::parse("https://host/d/data.csv?sig=1").unwrap();
        assert_eq!(location.name(), "data.csv");
    }
}
