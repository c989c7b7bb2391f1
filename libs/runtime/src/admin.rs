//! The admin port: metrics, health, log filter.

use std::net::SocketAddr;
use std::sync::Arc;

use auth::{BearerToken, OriginError, Origins, Secret};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde::{Deserialize, Serialize};

use crate::{Guard, ListenError, Listener, LogControl, Metrics, Readiness, Supervisor};

/// Options of the admin port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where it listens; off loopback it needs a token. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// What callers must present; `/livez` and `/readyz` answer without it.
    pub token: Option<Secret>,
    /// Names, or `NAME:PORT`, that the `Host` header may have besides the ones of the listen address.
    pub allowed_hosts: Vec<String>,
    /// Whether there is an admin port.
    pub enabled: bool,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            token: None,
            allowed_hosts: Vec::new(),
            enabled: true,
        }
    }
}

/// What the admin port shows.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) log: LogControl,
    pub(crate) token: Option<BearerToken>,
}

impl Admin {
    /// Listens and answers until the supervisor ends; returns the bound address.
    pub(crate) fn start(
        self,
        supervisor: &Supervisor,
        options: &AdminConfig,
    ) -> Result<SocketAddr, ListenError> {
        // The operator's word `insecure` is about the API; this port stays closed without a token.
        let guard = match &self.token {
            Some(_) => Guard::Token,
            None => Guard::TokenOnly,
        };
        let listener = Listener::bind("the admin port", options.listen, guard)?;
        let bound = listener.local_addr();
        let origins = Origins::new(bound, &options.allowed_hosts);
        let router = self.router(origins);
        // Probes of a draining process must be answered to the end, so this server is simply dropped.
        supervisor.spawn_once(crate::OnCancel::Abort, "admin", async move {
            axum::serve(listener, router).await
        });
        Ok(bound)
    }

    fn router(self, origins: Origins) -> Router {
        let guarded = Router::new()
            .route("/metrics", get(metrics))
            .route("/log-filter", put(log_filter))
            .route_layer(middleware::from_fn_with_state(self.clone(), authenticate));
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .merge(guarded)
            .layer(middleware::from_fn_with_state(
                Arc::new(origins),
                check_origin,
            ))
            .with_state(self)
    }
}

/// Web pages of others have no business here, and neither has a name that somebody bound to this address.
async fn check_origin(
    State(origins): State<Arc<Origins>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let problem = match origins.check(&parts, false) {
        Ok(()) => return next.run(Request::from_parts(parts, body)).await,
        Err(error @ OriginError::Host(_)) => {
            format!("{error}; add it to `process.admin.allowed_hosts` of the configuration\n")
        }
        Err(error) => format!("{error}\n"),
    };
    (StatusCode::FORBIDDEN, problem).into_response()
}

async fn authenticate(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match auth::authenticate(request.headers(), admin.token.as_ref()) {
        Ok(_) => next.run(request).await,
        Err(error) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            format!("{error}\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.encode()).into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    let text = missing.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn log_filter(State(admin): State<Admin>, filter: String) -> Response {
    match admin.log.set_filter(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "the log filter changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}
