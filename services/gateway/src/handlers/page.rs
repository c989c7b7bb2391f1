//! The web page: files of `services/dashboard`, built beforehand and carried by the program.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tonic::body::Body;

use crate::rest::full;

/// The page runs its own script and style, talks to this server and to nobody else, and nobody frames it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The frame that draws HTML artifacts is of an origin of its own, whoever opens it: scripts of an artifact run, and
/// reach neither the API nor any host.
const FRAME_POLICY: &str = "sandbox allow-scripts; default-src 'none'; \
     script-src 'unsafe-inline' 'unsafe-eval' data: blob:; style-src 'unsafe-inline' data:; \
     img-src data: blob:; font-src data:; media-src data: blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'self'";

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    /// The page itself.
    Index,
    /// Its program.
    Script,
    /// Its style.
    Style,
    /// What draws HTML artifacts.
    Frame,
}

impl File {
    const ALL: [Self; 4] = [Self::Index, Self::Script, Self::Style, Self::Frame];

    /// The path that it is served under.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Index => "/",
            Self::Script => "/page.js",
            Self::Style => "/page.css",
            Self::Frame => "/frame.html",
        }
    }

    fn content(self) -> &'static [u8] {
        match self {
            Self::Index => include_bytes!("../../../dashboard/dist/index.html"),
            Self::Script => include_bytes!("../../../dashboard/dist/page.js"),
            Self::Style => include_bytes!("../../../dashboard/dist/page.css"),
            Self::Frame => include_bytes!("../../../dashboard/dist/frame.html"),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Index | Self::Frame => "text/html; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
            Self::Style => "text/css; charset=utf-8",
        }
    }
}

/// Whether the path is one of the page's files. They hold no data, so they come without a token.
pub(crate) fn is_file(path: &str) -> bool {
    File::ALL.iter().any(|file| file.path() == path)
}

/// A file of the page, or word that the browser's copy is the same.
pub(super) fn serve(file: File, asked: &HeaderMap) -> Response<Body> {
    let content = file.content();
    let tag = tag(content);
    let known = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|value| value.to_str().is_ok_and(|known| known.contains(&tag)));
    let mut response = if known {
        let mut response = Response::new(full(&b""[..]));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(full(content))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind()));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    let policy = if file == File::Frame {
        // Older browsers look at this one only; ours alone may frame it.
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
        FRAME_POLICY
    } else {
        PAGE_POLICY
    };
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// Tells one build from another.
fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_files_as_they_are_served() {
        let index = String::from_utf8_lossy(File::Index.content());
        for file in [File::Script, File::Style] {
            let name = format!("=\".{}\"", file.path());
            assert!(index.contains(&name), "{name} is not in {index}");
        }
        assert!(!index.contains("<style"), "{index}");
        assert!(!index.contains("<script>"), "{index}");
    }

    #[test]
    fn no_file_names_another_host_to_load_from() {
        for file in File::ALL {
            let text = String::from_utf8_lossy(file.content());
            for start in [
                "src=\"http",
                "src=\"//",
                "href=\"http",
                "href=\"//",
                "url(http",
                "@import",
            ] {
                assert!(!text.contains(start), "{} has {start}", file.path());
            }
        }
    }

    #[test]
    fn the_page_is_small() {
        let size: usize = File::ALL.iter().map(|file| file.content().len()).sum();
        assert!(size < 300_000, "{size} bytes");
    }
}
