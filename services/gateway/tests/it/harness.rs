//! A gateway on a free port, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;

use api_kfp::v2beta1::pipeline_service_server::PipelineServiceServer;
use api_kfp::v2beta1::run_service_server::RunServiceServer;
use api_pipelines::v1::artifact_service_server::ArtifactServiceServer;
use api_pipelines::v1::run_service_server::RunServiceServer as OwnRunServiceServer;
use bytes::Bytes;
use flumina_gateway::{Config, Peers};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rpc::{Services, Switchboard};
use runtime::Host;
use serde_json::Value;

use crate::fake::{Fake, Shared};

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) host: Host,
    pub(crate) fake: Arc<Fake>,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn test_config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..Config::default()
    }
}

/// A gateway with the usual configuration.
pub(crate) fn gateway() -> Gateway {
    gateway_with(test_config())
}

pub(crate) fn gateway_with(config: Config) -> Gateway {
    let host = Host::detached("gateway-test");
    let fake = Arc::new(Fake::default());
    let shared = || Shared(Arc::clone(&fake));
    let limit = rpc::MAX_MESSAGE_BYTES;
    let services = Services::new("fake")
        .descriptor(api_kfp::DESCRIPTOR)
        .descriptor(api_pipelines::DESCRIPTOR)
        .add(PipelineServiceServer::new(shared()).max_decoding_message_size(limit))
        .add(RunServiceServer::new(shared()).max_decoding_message_size(limit))
        .add(OwnRunServiceServer::new(shared()))
        .add(ArtifactServiceServer::new(shared()));
    let switchboard = Switchboard::new();
    switchboard.register(services, &host.metrics);
    let service = flumina_gateway::build(config, Peers::local(&switchboard)).unwrap();
    let address = service.start(&host).unwrap();
    Gateway {
        address,
        host,
        fake,
        client: Client::builder(TokioExecutor::new()).build_http(),
    }
}

impl Gateway {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_owned()).await
    }
}
