//! The gateway's options.

use std::net::SocketAddr;

use auth::{BearerToken, Secret};
use runtime::{ProcessConfig, ServiceConfig};
use serde::{Deserialize, Serialize};

/// Options of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Log, admin port and end of the process; unused when the gateway runs within another.
    pub process: ProcessConfig,
    /// Where the public port listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What every caller must present as `authorization: Bearer TOKEN`; required off loopback.
    pub token: Option<Secret>,
    /// Whether to listen off loopback without a token.
    pub insecure: bool,
    /// Names, or `NAME:PORT`, that the `Host` header may have besides the ones of the listen address.
    pub allowed_hosts: Vec<String>,
    /// The services behind the gateway; used when it is a process of its own.
    pub peers: PeersConfig,
    /// Limits.
    pub limits: Limits,
    /// Whether reflection answers.
    pub reflection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token: None,
            insecure: false,
            allowed_hosts: Vec::new(),
            peers: PeersConfig::default(),
            limits: Limits::default(),
            reflection: true,
        }
    }
}

/// Where the services are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// The address of the pipeline orchestrator.
    pub pipelines: String,
    /// The address of the runner.
    pub runner: String,
    /// What is presented to the peers.
    pub token: Option<Secret>,
    /// What is presented to the runner; absent for `token`.
    pub runner_token: Option<Secret>,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            pipelines: "http://127.0.0.1:9001".to_owned(),
            runner: "http://127.0.0.1:9002".to_owned(),
            token: None,
            runner_token: None,
        }
    }
}

/// What one caller may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time; more wait in the system's queue.
    pub connections: usize,
    /// HTTP/2 streams at a time on a connection.
    pub streams: u32,
    /// The largest list of headers, in bytes.
    pub header_bytes: u32,
    /// How long the headers of a request may take to arrive, in seconds.
    pub header_seconds: u64,
    /// How long a body may pause, in seconds.
    pub body_idle_seconds: u64,
    /// The largest body of an API request, in bytes.
    pub body_bytes: usize,
    /// The largest uploaded specification, packed or unpacked, in bytes.
    pub spec_bytes: usize,
    /// How long an upload may take to arrive as a whole, in seconds.
    pub upload_seconds: u64,
    /// How long a unary call may take unless its caller says otherwise, and its body to arrive, in seconds. Streams of
    /// answers have no limit.
    pub unary_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 256,
            header_bytes: 32 * 1024,
            header_seconds: 15,
            body_idle_seconds: 30,
            body_bytes: rpc::MAX_MESSAGE_BYTES,
            spec_bytes: 32 << 20,
            upload_seconds: 600,
            unary_seconds: 60,
        }
    }
}

impl ServiceConfig for Config {
    fn process(&self) -> &ProcessConfig {
        &self.process
    }

    fn token_keys() -> &'static [&'static str] {
        &[
            "token",
            "process.admin.token",
            "peers.token",
            "peers.runner_token",
        ]
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        let usable = |token: &Option<Secret>| {
            token
                .as_ref()
                .is_none_or(|token| BearerToken::new(token).is_ok())
        };
        check(
            usable(&self.token),
            "token: must be visible ASCII without spaces",
        );
        check(
            usable(&self.peers.token),
            "peers.token: must be visible ASCII without spaces",
        );
        check(
            usable(&self.peers.runner_token),
            "peers.runner_token: must be visible ASCII without spaces",
        );
        let limits = &self.limits;
        check(
            limits.connections > 0,
            "limits.connections: must be at least 1",
        );
        check(limits.streams > 0, "limits.streams: must be at least 1");
        check(
            limits.header_bytes >= 8192,
            "limits.header_bytes: must be at least 8192",
        );
        check(
            limits.body_bytes <= rpc::MAX_MESSAGE_BYTES,
            "limits.body_bytes: must be at most 67108864, the largest message",
        );
        check(
            limits.spec_bytes <= pipeline_spec::MAX_BYTES,
            "limits.spec_bytes: must be at most 33554432, the largest specification",
        );
        for (key, seconds) in [
            ("header_seconds", limits.header_seconds),
            ("body_idle_seconds", limits.body_idle_seconds),
            ("upload_seconds", limits.upload_seconds),
            ("unary_seconds", limits.unary_seconds),
        ] {
            if seconds == 0 {
                problems.push(format!("limits.{key}: must be at least 1"));
            }
        }
        problems
    }
}
