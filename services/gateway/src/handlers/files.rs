//! Contents of artifacts.

use std::collections::VecDeque;

use api_pipelines::v1::artifact_service_client::ArtifactServiceClient;
use api_pipelines::v1::run_service_client::RunServiceClient;
use api_pipelines::v1::{
    GetArtifactRequest, GetTaskRequest, ReadArtifactRequest, ReadArtifactResponse,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};
use tonic::body::Body;
use tonic::{Status, Streaming};

use super::logs::until;
use super::{Call, Handlers, reach};
use crate::Error;
use crate::rest::{Failure, streamed};

impl Handlers {
    /// Kubeflow's `…:read`: the first artifact of an output as base64 within JSON, piece by piece.
    pub(super) async fn read_kfp_artifact(
        &self,
        call: Call<'_>,
    ) -> Result<Response<Body>, Failure> {
        let (run_id, task, output) = (call.variable(0)?, call.variable(1)?, call.variable(2)?);
        let request = GetTaskRequest { run_id, task };
        let task = RunServiceClient::new(reach(self.peers.runs())?)
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
            .get_task(call.context.request(self.unary_timeout(), request))
            .await?
            .into_inner();
        let artifact_id = task
            .output_artifacts
            .get(&output)
            .and_then(|ids| ids.ids.first().copied())
            .ok_or_else(|| {
                Error::NoRoute(format!("the output {output:?} of the task {:?}", task.name))
            })?;
        let request = ReadArtifactRequest {
            artifact_id,
            ..Default::default()
        };
        let (_, content) = self.content(&call, request).await?;
        let body = streamed(until(base64_json(content), self.draining.clone()));
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// An artifact, or with `path=` a file of one, as a file to save: a browser neither shows nor runs it.
    pub(super) async fn download_artifact(
        &self,
        call: Call<'_>,
    ) -> Result<Response<Body>, Failure> {
        let artifact_id = call
            .variable(0)?
            .parse()
            .map_err(|_| Error::field("artifact_id", "must be a number"))?;
        let path = call.query()?.text("path");
        let artifact = ArtifactServiceClient::new(reach(self.peers.artifacts())?)
            .get_artifact(
                call.context
                    .request(self.unary_timeout(), GetArtifactRequest { artifact_id }),
            )
            .await?
            .into_inner();
        let name = path
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(&artifact.name);
        let disposition = disposition(name);
        let request = ReadArtifactRequest {
            artifact_id,
            path,
            offset: 0,
        };
        let (size, content) = self.content(&call, request).await?;
        let mut response = Response::new(streamed(until(content, self.draining.clone())));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(CONTENT_DISPOSITION, disposition);
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        Ok(response)
    }

    /// The size and the bytes of a file. The first message is awaited, so that failures become answers.
    async fn content(
        &self,
        call: &Call<'_>,
        request: ReadArtifactRequest,
    ) -> Result<
        (
            u64,
            impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
        ),
        Failure,
    > {
        let mut stream: Streaming<ReadArtifactResponse> =
            ArtifactServiceClient::new(reach(self.peers.artifacts())?)
                .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
                .read_artifact(call.context.stream_request(request))
                .await?
                .into_inner();
        let first = stream.message().await?.unwrap_or_default();
        let size = first.total_bytes;
        let rest = stream.map(|part| part.map(|part| part.data));
        let first = futures_util::stream::once(std::future::ready(Ok(first.data)));
        Ok((size, first.chain(rest)))
    }
}

/// `{"data":"…"}` with the bytes in base64; up to two bytes wait for the next piece.
fn base64_json(
    content: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    let begin = futures_util::stream::once(std::future::ready(Ok(None)));
    let end = futures_util::stream::once(std::future::ready(Ok(Some(None))));
    let pieces = content.map(|piece| piece.map(|piece| Some(Some(piece))));
    let mut carry: VecDeque<u8> = VecDeque::new();
    begin.chain(pieces).chain(end).map(move |piece| {
        Ok(match piece? {
            None => Bytes::from_static(b"{\"data\":\""),
            Some(Some(piece)) => {
                carry.extend(piece);
                let whole = carry.len() - carry.len() % 3;
                let bytes: Vec<u8> = carry.drain(..whole).collect();
                STANDARD.encode(bytes).into()
            }
            Some(None) => {
                let rest: Vec<u8> = carry.drain(..).collect();
                (STANDARD.encode(rest) + "\"}").into()
            }
        })
    })
}

/// RFC 6266: a plain name for old clients, and the exact one in UTF-8.
fn disposition(name: &str) -> HeaderValue {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let plain: String = name
        .chars()
        .take(100)
        .map(|letter| if safe(letter) { letter } else { '_' })
        .collect();
    let mut exact = String::new();
    for byte in name.bytes().take(200) {
        if safe(char::from(byte)) {
            exact.push(char::from(byte));
        } else {
            exact.push_str(&format!("%{byte:02X}"));
        }
    }
    let plain = if plain.is_empty() { "artifact" } else { &plain };
    let exact = if exact.is_empty() { "artifact" } else { &exact };
    HeaderValue::try_from(format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
    ))
    .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_cannot_leave_their_quotes() {
        let found = disposition("mo\"del\r\nx: y/ü.pkl");
        assert_eq!(
            found.to_str().unwrap(),
            "attachment; filename=\"mo_del__x__y__.pkl\"; \
             filename*=UTF-8''mo%22del%0D%0Ax%3A%20y%2F%C3%BC.pkl"
        );
        assert_eq!(
            disposition("").to_str().unwrap(),
            "attachment; filename=\"artifact\"; filename*=UTF-8''artifact"
        );
    }

    #[tokio::test]
    async fn base64_does_not_depend_on_the_pieces() {
        let data = b"0123456789";
        for size in 1..=data.len() {
            let pieces: Vec<Result<Bytes, Status>> = data
                .chunks(size)
                .map(|piece| Ok(Bytes::copy_from_slice(piece)))
                .collect();
            let text: Vec<u8> = base64_json(futures_util::stream::iter(pieces))
                .map(Result::unwrap)
                .collect::<Vec<_>>()
                .await
                .concat();
            assert_eq!(text, b"{\"data\":\"MDEyMzQ1Njc4OQ==\"}", "{size}");
        }
    }
}
