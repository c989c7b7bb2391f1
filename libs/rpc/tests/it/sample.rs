//! A small service: the messages of `grpc.health.v1.Health` under another name, with a handler that does what the
//! request's `service` says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use flumina_rpc::{self as rpc, Channel, Context, Services};
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{Request as HttpRequest, Response as HttpResponse};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;
use tower::Service;

pub(crate) const NAME: &str = "sample.v1.Sample";
const PATIENCE: Duration = Duration::from_secs(10);

/// What the handler saw, and what it waits for.
#[derive(Clone, Default)]
pub(crate) struct Sample {
    pub(crate) seen: Arc<Mutex<Vec<Context>>>,
    pub(crate) gate: Arc<Notify>,
    pub(crate) entered: Arc<Notify>,
    pub(crate) next: Option<Channel>,
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

fn answer() -> HealthCheckResponse {
    HealthCheckResponse { status: 1 }
}

#[tonic::async_trait]
impl Health for Sample {
    type WatchStream = Answers;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let context = rpc::context(&request);
        self.seen.lock().unwrap().push(context.clone());
        match request.get_ref().service.as_str() {
            "panic" => panic!("as asked"),
            "missing" => Err(aip::status("sample", &Missing)),
            "wait" => {
                self.entered.notify_one();
                self.gate.notified().await;
                Ok(Response::new(answer()))
            }
            "forward" => {
                let request = context.request(PATIENCE, message("end"));
                let next = self.next.clone().unwrap();
                rpc::raw::unary(&next, path("Check"), request).await?;
                Ok(Response::new(answer()))
            }
            _ => Ok(Response::new(answer())),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Answers>, Status> {
        let mut left = match request.get_ref().service.as_str() {
            "panic" => 1,
            "finite" => 2,
            _ => usize::MAX,
        };
        let panics = request.get_ref().service == "panic";
        let gate = Arc::clone(&self.gate);
        let endless = left == usize::MAX;
        let stream = futures_util::stream::unfold((), move |()| {
            let gate = Arc::clone(&gate);
            let last = left == 0;
            left = left.saturating_sub(1);
            async move {
                assert!(!(last && panics), "as asked");
                if endless {
                    gate.notified().await;
                }
                (!last).then_some((Ok(answer()), ()))
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("sample s1 does not exist")]
struct Missing;

impl aip::ApiError for Missing {
    fn code(&self) -> aip::Code {
        aip::Code::NotFound
    }

    fn reason(&self) -> &'static str {
        "SAMPLE_MISSING"
    }
}

/// The generated server under the sample's name.
#[derive(Clone)]
struct Renamed(HealthServer<Sample>);

impl NamedService for Renamed {
    const NAME: &'static str = NAME;
}

impl Service<HttpRequest<Body>> for Renamed {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = <HealthServer<Sample> as Service<HttpRequest<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Service::<HttpRequest<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, mut request: HttpRequest<Body>) -> Self::Future {
        let path = request.uri().path().replace(NAME, "grpc.health.v1.Health");
        *request.uri_mut() = path.parse().unwrap();
        self.0.call(request)
    }
}

fn descriptor() -> &'static [u8] {
    let mut set = FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
    let file = set
        .file
        .iter_mut()
        .find(|file| !file.service.is_empty())
        .unwrap();
    file.name = Some("sample.proto".to_owned());
    file.package = Some("sample.v1".to_owned());
    file.service[0].name = Some("Sample".to_owned());
    for text in file.service[0].method.iter_mut() {
        let rename = |name: &str| Some(name.replace("grpc.health.v1", "sample.v1"));
        text.input_type = rename(text.input_type());
        text.output_type = rename(text.output_type());
    }
    for message in &mut file.message_type {
        for field in message.field.iter_mut().chain(
            message
                .nested_type
                .iter_mut()
                .flat_map(|nested| nested.field.iter_mut()),
        ) {
            if field.type_name.is_some() {
                field.type_name = Some(field.type_name().replace("grpc.health.v1", "sample.v1"));
            }
        }
    }
    Vec::leak(set.encode_to_vec())
}

impl Sample {
    pub(crate) fn services(&self) -> Services {
        Services::new("sample")
            .descriptor(descriptor())
            .add(Renamed(HealthServer::new(self.clone())))
    }

    pub(crate) fn last(&self) -> Context {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

pub(crate) fn message(text: &str) -> Bytes {
    let message = HealthCheckRequest {
        service: text.to_owned(),
    };
    Bytes::from(message.encode_to_vec())
}

pub(crate) fn path(method: &str) -> PathAndQuery {
    format!("/{NAME}/{method}").parse().unwrap()
}

pub(crate) async fn check(channel: &Channel, request: Request<Bytes>) -> Result<(), Status> {
    let answer = soon(rpc::raw::unary(channel, path("Check"), request)).await?;
    let answer = HealthCheckResponse::decode(answer.into_inner()).unwrap();
    assert_eq!(answer.status, 1);
    Ok(())
}

pub(crate) async fn watch(
    channel: &Channel,
    request: Request<Bytes>,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let answer = soon(rpc::raw::server_streaming(channel, path("Watch"), request)).await?;
    Ok(answer.into_inner())
}

/// Reads a stream to its end: how many messages, and the status if it is an error.
pub(crate) async fn drain(mut stream: tonic::Streaming<Bytes>) -> (usize, Option<Status>) {
    let mut count = 0;
    loop {
        match soon(stream.message()).await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(status) => return (count, Some(status)),
        }
    }
}

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("it did not happen in time"),
    }
}

pub(crate) fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}
