//! Listening, under the rule that nothing is open to a network without authentication.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use auth::BearerToken;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BACKLOG: u32 = 1024;
/// How long to wait when the process or the machine has no more descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What protects an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Callers must present a token.
    Token,
    /// The operator said that no protection is wanted.
    Insecure,
    /// Nothing: only loopback is allowed.
    Loopback,
    /// Nothing either, and the operator's word would not do.
    TokenOnly,
}

impl Guard {
    /// The protection that a configuration gives.
    pub fn new(token: Option<&BearerToken>, insecure: bool) -> Self {
        match (token, insecure) {
            (Some(_), _) => Self::Token,
            (None, true) => Self::Insecure,
            (None, false) => Self::Loopback,
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is open to a network and nothing protects it.
    #[error("{what} must not listen on {address} without authentication: {remedy}")]
    Exposed {
        /// Which listener.
        what: String,
        /// The address asked for.
        address: SocketAddr,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The system refuses.
    #[error("{what} cannot listen on {address}")]
    Bind {
        /// Which listener.
        what: String,
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// A bound TCP address.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one. `what` names the listener in errors, such as `the admin port`.
    ///
    /// Must be called within a tokio runtime.
    pub fn bind(what: &str, address: SocketAddr, guard: Guard) -> Result<Self, ListenError> {
        let remedy = match guard {
            Guard::Token | Guard::Insecure => None,
            Guard::Loopback => Some(
                "set a token (FLUMINA_TOKEN), use 127.0.0.1, or set `insecure` (`flumina up --insecure`) if everybody \
                 who reaches this address may use it",
            ),
            Guard::TokenOnly => Some("set a token (FLUMINA_TOKEN), or use 127.0.0.1"),
        };
        if let Some(remedy) = remedy
            && !address.ip().to_canonical().is_loopback()
        {
            return Err(ListenError::Exposed {
                what: what.to_owned(),
                address,
                remedy,
            });
        }
        let listener = open(address).map_err(|source| ListenError::Bind {
            what: what.to_owned(),
            address,
            source,
        })?;
        tracing::info!(what, address = %listener.address, "listening");
        Ok(listener)
    }

    /// The bound address, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a connection. Errors of a single connection are skipped; when the machine is out of descriptors or
    /// memory it tries again after a pause. TCP_NODELAY is set: without it each call waits for a delayed
    /// acknowledgement.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection ended before it began");
                        continue;
                    }
                    return (stream, peer);
                }
                Err(error) if belongs_to_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// So that `axum::serve` can use it.
impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

fn open(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restarted service must get its port back while old connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let inner = socket.listen(BACKLOG)?;
    let address = inner.local_addr()?;
    Ok(Listener { inner, address })
}

fn belongs_to_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use auth::Secret;

    use super::*;

    #[tokio::test]
    async fn off_loopback_needs_a_token_or_the_operators_word() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let address = address.parse().unwrap();
            let error = Listener::bind("the API", address, Guard::Loopback).unwrap_err();
            assert!(matches!(error, ListenError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains("set a token"), "{error}");
        }
        let any = "0.0.0.0:0".parse().unwrap();
        for guard in [Guard::Token, Guard::Insecure] {
            assert_ne!(
                Listener::bind("the API", any, guard)
                    .unwrap()
                    .local_addr()
                    .port(),
                0
            );
        }
    }

    #[tokio::test]
    async fn connections_have_no_delay() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let mut listener = Listener::bind("the API", loopback, Guard::Loopback).unwrap();
        let address = listener.local_addr();
        let (client, (server, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert!(server.nodelay().unwrap());
        drop(client);
        let taken = Listener::bind("the API", address, Guard::Loopback).unwrap_err();
        assert!(matches!(taken, ListenError::Bind { .. }), "{taken}");
    }

    #[test]
    fn a_token_is_better_than_insecure() {
        let token = BearerToken::new(&Secret::new("t")).unwrap();
        assert_eq!(Guard::new(Some(&token), true), Guard::Token);
        assert_eq!(Guard::new(None, true), Guard::Insecure);
        assert_eq!(Guard::new(None, false), Guard::Loopback);
    }
}
