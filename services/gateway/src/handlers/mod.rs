//! What no contract describes: files, logs, probes and the page.

mod archive;
mod files;
mod logs;
pub(crate) mod page;
mod plain;
mod upload;

use std::borrow::Cow;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use rpc::{Channel, Context};
use runtime::{Readiness, Shutdown};
use tonic::Status;
use tonic::body::Body;

use self::upload::Contract;
use crate::config::Limits;
use crate::rest::{Failure, Handler, Transcoder, query, segment};
use crate::{Error, Peers};

/// What the handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Handlers {
    pub(crate) peers: Peers,
    pub(crate) transcoder: Transcoder,
    pub(crate) readiness: Readiness,
    pub(crate) limits: Limits,
    pub(crate) draining: Shutdown,
}

/// A request for a handler.
pub(crate) struct Call<'a> {
    pub(crate) context: &'a Context,
    pub(crate) parts: &'a Parts,
    /// The segments of the path's variables, still encoded.
    pub(crate) variables: &'a [&'a str],
}

impl Call<'_> {
    fn variable(&self, index: usize) -> Result<String, Error> {
        let text = self.variables.get(index).copied().unwrap_or_default();
        let text = segment(text)?;
        if text.contains('\0') {
            return Err(Error::Url("the path must not contain NUL".to_owned()));
        }
        Ok(text.into_owned())
    }

    /// The query parameters; empty ones mean that they are not set.
    fn query(&self) -> Result<Query<'_>, Error> {
        let pairs = query(self.parts.uri.query().unwrap_or_default())?;
        if pairs.iter().any(|(_, value)| value.contains('\0')) {
            return Err(Error::Url(
                "query parameters must not contain NUL".to_owned(),
            ));
        }
        Ok(Query(pairs))
    }
}

struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| &**value)
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Error::field(name, "must be true or false")),
        }
    }

    fn number<T: std::str::FromStr + Default>(&self, name: &str) -> Result<T, Error> {
        match self.get(name) {
            None => Ok(T::default()),
            Some(text) => text
                .parse()
                .map_err(|_| Error::field(name, "must be a number that is not negative")),
        }
    }
}

impl Handlers {
    pub(crate) async fn serve(
        &self,
        handler: Handler,
        call: Call<'_>,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        match handler {
            Handler::Livez => Ok(plain::text("ok\n")),
            Handler::Readyz => Ok(plain::readyz(&self.readiness)),
            Handler::Page(file) => Ok(page::serve(file, &call.parts.headers)),
            Handler::KfpHealthz => Ok(plain::kfp_healthz()),
            Handler::UploadPipeline => {
                Box::pin(self.upload_pipeline(call, body, Contract::V2)).await
            }
            Handler::UploadVersion => Box::pin(self.upload_version(call, body, Contract::V2)).await,
            Handler::UploadPipelineV1 => {
                Box::pin(self.upload_pipeline(call, body, Contract::V1)).await
            }
            Handler::UploadVersionV1 => {
                Box::pin(self.upload_version(call, body, Contract::V1)).await
            }
            Handler::ReadKfpArtifact => self.read_kfp_artifact(call).await,
            Handler::DownloadArtifact => self.download_artifact(call).await,
            Handler::NodeLog | Handler::TaskLog => self.read_log(call).await,
        }
    }

    fn unary_timeout(&self) -> Duration {
        self.transcoder.unary_timeout
    }
}

/// The channel of a peer, which the table of peers always has.
fn reach(channel: Option<&Channel>) -> Result<Channel, Error> {
    channel
        .cloned()
        .ok_or_else(|| Error::NoService(String::new()))
}

/// The status that a stream ends with when the server does.
fn draining() -> Status {
    Error::Draining.status()
}
