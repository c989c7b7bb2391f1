//! The HTTP client that the stores are reached by: HTTP/1.1, TLS by rustls with the certificates of the machine.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};

use crate::access::Access;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a request to the head of its answer; a part of eight mebibytes may be on a slow line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE: Duration = Duration::from_secs(60);
/// How often an unsigned download may be sent elsewhere.
const MAX_REDIRECTS: usize = 5;
/// What one connection buffers at most, in bytes.
const BUFFER: usize = 256 * 1024;

/// Gives every store the same client; cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connector(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    /// Where the certificates of authorities are, when not where the machine has them.
    authorities: Option<Authorities>,
    plain: OnceLock<Client<Tcp, HttpRequestBody>>,
    secure: OnceLock<Client<HttpsConnector<Tcp>, HttpRequestBody>>,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.follow(request)).await;
        answer.map_err(|elapsed| HttpError::new(HttpErrorKind::Timeout, elapsed))?
    }
}

/// A file and a directory with certificates, as `SSL_CERT_FILE` and `SSL_CERT_DIR` name them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authorities {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
}

/// None of the certificates can be used.
#[derive(Debug, thiserror::Error)]
#[error("there is no certificate where SSL_CERT_FILE or SSL_CERT_DIR says")]
pub(crate) struct NoAuthorities;

impl Authorities {
    fn of(access: &Access) -> Option<Self> {
        let path = |name| access.variable(&[name]).map(PathBuf::from);
        let (file, dir) = (path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
        (file.is_some() || dir.is_some()).then_some(Self { file, dir })
    }

    fn roots(&self) -> Result<rustls::RootCertStore, NoAuthorities> {
        let (file, dir) = (self.file.as_deref(), self.dir.as_deref());
        let found = rustls_native_certs::load_certs_from_paths(file, dir);
        let mut roots = rustls::RootCertStore::empty();
        match roots.add_parsable_certificates(found.certs) {
            (0, _) => Err(NoAuthorities),
            _ => Ok(roots),
        }
    }
}

impl Connector {
    /// A client for an installation, whose environment may say which authorities it trusts. A transfer has an environment
    /// of its own.
    pub(crate) fn new(access: &Access) -> Self {
        Self(Arc::new(Clients {
            authorities: Authorities::of(access),
            ..Clients::default()
        }))
    }

    /// Sends a request; unsigned reads are followed to where they are sent.
    async fn follow(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        if !reads || request.headers().contains_key(header::AUTHORIZATION) {
            return self.send(request).await;
        }
        let mut uri = request.uri().clone();
        let (parts, _) = request.into_parts();
        for _ in 0..=MAX_REDIRECTS {
            let mut next = HttpRequest::new(HttpRequestBody::empty());
            *next.method_mut() = parts.method.clone();
            *next.headers_mut() = parts.headers.clone();
            next.headers_mut().remove(header::HOST);
            *next.uri_mut() = uri.clone();
            let response = self.send(next).await?;
            match redirected(&uri, &response) {
                Some(next) => uri = next,
                None => return Ok(response),
            }
        }
        let error = std::io::Error::other("the server redirects without end");
        Err(HttpError::new(HttpErrorKind::Unknown, error))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = match request.uri().scheme_str() {
            Some("https") => self.secure()?.request(request).await,
            _ => self.plain().request(request).await,
        };
        let answer = answer.map_err(|error| {
            let kind = if error.is_connect() {
                HttpErrorKind::Connect
            } else {
                kind_of(&error)
            };
            HttpError::new(kind, error)
        })?;
        Ok(answer.map(|body| {
            HttpResponseBody::new(body.map_err(|error| HttpError::new(kind_of(&error), error)))
        }))
    }

    fn plain(&self) -> &Client<Tcp, HttpRequestBody> {
        self.0.plain.get_or_init(|| builder().build(tcp()))
    }

    fn secure(&self) -> Result<&Client<HttpsConnector<Tcp>, HttpRequestBody>, HttpError> {
        if let Some(known) = self.0.secure.get() {
            return Ok(known);
        }
        let mut tcp = tcp();
        tcp.enforce_http(false);
        let provider = rustls::crypto::ring::default_provider();
        let https = hyper_rustls::HttpsConnectorBuilder::new();
        let https = match &self.0.authorities {
            None => https
                .with_provider_and_native_roots(provider)
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?,
            Some(authorities) => {
                let roots = authorities.roots();
                let roots = roots.map_err(|none| HttpError::new(HttpErrorKind::Unknown, none))?;
                let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
                    .with_safe_default_protocol_versions()
                    .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
                https.with_tls_config(config.with_root_certificates(roots).with_no_client_auth())
            }
        };
        let connector = https.https_only().enable_http1().wrap_connector(tcp);
        Ok(self.0.secure.get_or_init(|| builder().build(connector)))
    }
}

fn tcp() -> Tcp {
    let mut tcp = Tcp::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(BUFFER);
    builder
}

fn redirected(from: &Uri, response: &HttpResponse) -> Option<Uri> {
    let moved = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !moved.contains(&response.status()) {
        return None;
    }
    let target = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let absolute = if target.starts_with('/') {
        format!("{}://{}{target}", from.scheme_str()?, from.authority()?)
    } else {
        target.to_owned()
    };
    let next: Uri = absolute.parse().ok()?;
    // A secret in the address must not go over the wire in the clear.
    let downgraded = from.scheme_str() == Some("https") && next.scheme_str() != Some("https");
    (next.host().is_some() && !downgraded).then_some(next)
}

/// Whether trying again may help.
fn kind_of(error: &(dyn StdError + 'static)) -> HttpErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
                return HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.kind() {
                std::io::ErrorKind::TimedOut => return HttpErrorKind::Timeout,
                std::io::ErrorKind::ConnectionAborted
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::UnexpectedEof => return HttpErrorKind::Interrupted,
                _ => {}
            }
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Environment;

    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBdDCCARugAwIBAgIUCrtzSh1T2UPmGuw1r8mCNlhcKdMwCgYIKoZIzj0EAwIw\n\
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjQwMDI1NDBaGA8yMTI2MTAzMTAwMjU0\n\
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPok\n\
j/x0EbQmxdYQxmEs12zV/SZlUxsi3EoceXYy/22xy7MqkkCHr7ahb0jQgwi+jNXf\n\
LA5OhKjnqnjJJlPBxR+jUzBRMB0GA1UdDgQWBBSKTxjuqvK6i8QUq/6elSoUpOvn\n\
3DAfBgNVHSMEGDAWgBSKTxjuqvK6i8QUq/6elSoUpOvn3DAPBgNVHRMBAf8EBTAD\n\
AQH/MAoGCCqGSM49BAMCA0cAMEQCIHKwgeSa/6zYC0PdnUr1ExdWyFc28rOcfSaf\n\
41s4Rzg8AiBWCswnv3P5MaSUAbN5YNmtwXF/tKXvXDUlk9ATvhbVDA==\n\
-----END CERTIFICATE-----\n\n";

    fn authorities(path: &std::path::Path) -> Authorities {
        let path = path.to_str().unwrap();
        let environment = Environment::of([("SSL_CERT_FILE", path)]);
        Authorities::of(&Access::new(&[], &environment)).unwrap()
    }

    #[test]
    fn authorities_of_the_environment_are_the_only_ones() {
        assert_eq!(Authorities::of(&Access::default()), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authorities.pem");
        assert!(authorities(&path).roots().is_err());
        std::fs::write(&path, AUTHORITY).unwrap();
        assert_eq!(authorities(&path).roots().unwrap().len(), 1);
    }
}
