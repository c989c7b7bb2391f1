//! A real S3 server for tests, on a directory, which can be told to fail.
//!
//! A bucket is a directory of the server's root. Apart from `testkit`, because what speaks the protocol takes minutes
//! to build and few tests need it. Only tests depend on this crate, so it panics where other crates return errors.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "for tests: a failure here is a failed test"
)]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

/// The key that the server knows.
pub const ACCESS_KEY: &str = "test-key";
/// Its secret.
pub const SECRET_KEY: &str = "test-secret-do-not-show";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The server answers with this status.
    Status(u16),
    /// The connection ends after so many bytes of the request or, of one without a body, of the answer.
    Cut(u64),
}

/// A failure to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The method of the requests that fail.
    pub method: String,
    /// What their path and query contain.
    pub contains: String,
    /// How many such requests pass before.
    pub skip: u64,
    /// How many fail.
    pub times: u64,
    /// How.
    pub what: What,
}

/// A running server; it ends with the runtime that it was started in.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Vec<Fault>>,
    /// Method, path and query of what was asked.
    asked: Mutex<Vec<String>>,
    root: PathBuf,
}

impl Server {
    /// Serves a directory on a free port of loopback.
    pub async fn start(root: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let files = s3s_fs::FileSystem::new(root).expect("a directory for buckets");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let server = Self {
            address,
            shared: Arc::new(Shared {
                root: root.to_owned(),
                ..Shared::default()
            }),
        };
        tokio::spawn(accept(
            listener,
            builder.build(),
            Arc::clone(&server.shared),
        ));
        server
    }

    /// `http://…` of the server.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket and returns its directory.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let path = self.shared.root.join(name);
        std::fs::create_dir_all(&path).expect("a directory for a bucket");
        path
    }

    /// Lets requests fail.
    pub fn fail(&self, fault: Fault) {
        self.shared.faults().push(fault);
    }

    /// Lets no more requests fail.
    pub fn heal(&self) {
        self.shared.faults().clear();
    }

    /// `METHOD PATH?QUERY` of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked().clone()
    }
}

impl Shared {
    fn faults(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a test in another process asks for: `fail?method=PUT&contains=KEY&status=500&times=1&skip=0`, with `cut=BYTES` in
    /// place of the status; `heal`; `asked`.
    fn obey(&self, order: &str) -> Answer {
        let (verb, words) = order.split_once('?').unwrap_or((order, ""));
        let word = |name: &str| {
            let mut words = words.split('&').filter_map(|word| word.split_once('='));
            words
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let number = |name: &str| word(name).and_then(|value| value.parse::<u64>().ok());
        match verb {
            "fail" => {
                let status = number("status").and_then(|status| u16::try_from(status).ok());
                let what = status.map(What::Status).or(number("cut").map(What::Cut));
                self.faults().push(Fault {
                    method: word("method").unwrap_or("GET").to_owned(),
                    contains: word("contains").unwrap_or_default().to_owned(),
                    skip: number("skip").unwrap_or(0),
                    times: number("times").unwrap_or(1),
                    what: what.expect("a status or a cut"),
                });
                text(200, "")
            }
            "heal" => {
                self.faults().clear();
                text(200, "")
            }
            "asked" => text(200, &self.asked().join("\n")),
            _ => text(404, "no such order"),
        }
    }

    /// What happens to a request.
    fn decide(&self, method: &str, path: &str) -> Option<What> {
        let mut faults = self.faults();
        let fault = faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == method && path.contains(&fault.contains)
        })?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.what)
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

async fn accept(listener: tokio::net::TcpListener, service: S3Service, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let (service, shared) = (service.clone(), Arc::clone(&shared));
                async move { answer(&service, &shared, request).await }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that was cut is an error, as it should be.
            drop(builder.serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}

async fn answer(
    service: &S3Service,
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Answer, io::Error> {
    let method = request.method().as_str().to_owned();
    let path = request.uri().to_string();
    if let Some(order) = path.strip_prefix("/-/") {
        return Ok(shared.obey(order));
    }
    shared.asked().push(format!("{method} {path}"));
    // A folder is no object, but a directory of the server fails it.
    let key = request.uri().path().trim_start_matches('/');
    let reads = ["GET", "HEAD"].contains(&method.as_str()) && request.uri().query().is_none();
    if reads && key.contains('/') && shared.root.join(key).is_dir() {
        return Ok(text(404, ""));
    }
    let what = shared.decide(&method, &path);
    match what {
        Some(What::Status(status)) => {
            // The whole request is read, so that the client sees the answer.
            drop(request.into_body().collect().await);
            Ok(text(
                status,
                "<Error><Code>Told</Code><Message>told to fail</Message></Error>",
            ))
        }
        Some(What::Cut(bytes)) if !request.body().is_end_stream() => {
            let mut body = request.into_body();
            let mut seen = 0;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, |data| data.len() as u64);
                if seen >= bytes {
                    break;
                }
            }
            Err(io::Error::other("told to end the connection"))
        }
        Some(What::Cut(bytes)) => Ok(cut(call(service, request).await, bytes)),
        None => Ok(call(service, request).await),
    }
}

async fn call(service: &S3Service, request: Request<Incoming>) -> Answer {
    match service.call(request.map(s3s::Body::from)).await {
        Ok(response) => response.map(|body| body.map_err(io::Error::other).boxed_unsync()),
        Err(error) => text(500, &format!("{error:?}")),
    }
}

fn text(status: u16, text: &str) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let never = |never: Infallible| match never {};
    let mut answer = Response::new(body.map_err(never).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

/// An answer whose connection ends after some bytes of it.
fn cut(answer: Answer, left: u64) -> Answer {
    answer.map(|body| CutBody { body, left }.boxed_unsync())
}

struct CutBody {
    body: UnsyncBoxBody<Bytes, io::Error>,
    left: u64,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = next else {
            return next;
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(io::Error::other("told to end the connection")))),
        }
    }
}
