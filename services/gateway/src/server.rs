//! The public port: HTTP/1.1 and HTTP/2 on one socket, within limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use runtime::{Listener, Shutdown, Stop};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Limits;
use crate::edge::Edge;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// What tells HTTP/2 from HTTP/1.1; before it is read no other time limit runs.
const PREFACE: usize = 24;

/// Accepts and serves until `shutdown`; then it accepts no more, ends streams and finishes what runs.
pub(crate) async fn serve(
    mut listener: Listener,
    edge: Arc<Edge>,
    limits: &Limits,
    shutdown: Shutdown,
    draining: Stop,
) {
    let builder = Arc::new(builder(limits));
    let patience = Duration::from_secs(limits.header_seconds);
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // The place comes first: a connection that cannot be served stays in the system's queue.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await.0, place)
        };
        let (stream, place) = tokio::select! {
            biased;
            () = shutdown.wait() => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let connection = connection(
            Arc::clone(&builder),
            stream,
            Arc::clone(&edge),
            patience,
            draining.signal(),
        );
        let gauge = edge.metrics.connections.clone();
        gauge.inc();
        connections.spawn(async move {
            connection.await;
            gauge.dec();
            drop(place);
        });
    }
    // Closes the socket, so that a successor can have the port while requests end here.
    drop(listener);
    draining.request();
    while connections.join_next().await.is_some() {}
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.header_seconds))
        .max_buf_size(limits.header_bytes as usize)
        .max_headers(MAX_HEADERS)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

async fn connection(
    builder: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    edge: Arc<Edge>,
    patience: Duration,
    draining: Shutdown,
) {
    let heard = Arc::new(AtomicUsize::new(0));
    let stream = Heard {
        stream,
        bytes: Arc::clone(&heard),
    };
    let served = Arc::new(AtomicBool::new(false));
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request: Request<Incoming>| {
            served.store(true, Ordering::Relaxed);
            let edge = Arc::clone(&edge);
            async move { Ok::<_, std::convert::Infallible>(edge.serve(request).await) }
        })
    };
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = silent(patience, &heard, &served) => {
            tracing::debug!("a connection said nothing");
            return;
        }
        () = draining.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Ends when the time is over and the connection has not even said which protocol it speaks.
async fn silent(patience: Duration, heard: &AtomicUsize, served: &AtomicBool) {
    tokio::time::sleep(patience).await;
    if heard.load(Ordering::Relaxed) >= PREFACE || served.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// A connection that counts what it reads.
struct Heard {
    stream: TcpStream,
    bytes: Arc<AtomicUsize>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.bytes.fetch_add(read, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
