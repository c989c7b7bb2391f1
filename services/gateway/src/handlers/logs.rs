//! Logs of tasks as text, as they grow.

use api_pipelines::v1::ReadLogsRequest;
use api_pipelines::v1::run_service_client::RunServiceClient;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use runtime::Shutdown;
use tonic::body::Body;

use super::{Call, Handlers, draining, reach};
use crate::rest::{Failure, streamed};

impl Handlers {
    /// `…/nodes/{node}/log` of Kubeflow and `…/tasks/{task}/logs`: the bytes as the program wrote them. With
    /// `follow=true` the answer goes on until the task ends.
    pub(super) async fn read_log(&self, call: Call<'_>) -> Result<Response<Body>, Failure> {
        let query = call.query()?;
        let request = ReadLogsRequest {
            run_id: call.variable(0)?,
            task: call.variable(1)?,
            attempt: query.number::<u16>("attempt")?.into(),
            offset: query.number("offset")?,
            follow: query.flag("follow")?,
            tail_bytes: query.number("tail_bytes")?,
        };
        let mut client = RunServiceClient::new(reach(self.peers.runs())?)
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES);
        let stream = client
            .read_logs(call.context.stream_request(request))
            .await?
            .into_inner();
        let data = stream
            .map(|part| part.map(|part| part.data))
            .filter(|part| std::future::ready(!part.as_ref().is_ok_and(bytes::Bytes::is_empty)));
        let mut response = Response::new(streamed(until(data, self.draining.clone())));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        // Proxies that collect answers would hold back what is shown live.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}

/// A stream that fails when the server ends: a log that was cut off must not look complete.
pub(super) fn until<T>(
    stream: impl futures_util::Stream<Item = Result<T, tonic::Status>> + Send + 'static,
    shutdown: Shutdown,
) -> impl futures_util::Stream<Item = Result<T, tonic::Status>> + Send + 'static
where
    T: Send + 'static,
{
    let state = Some(Box::pin(stream));
    futures_util::stream::unfold(state, move |state| {
        let shutdown = shutdown.clone();
        async move {
            let mut stream = state?;
            match shutdown.guard(stream.next()).await {
                None => Some((Err(draining()), None)),
                Some(item) => item.map(|item| (item, Some(stream))),
            }
        }
    })
}
