//! Uploads of compiled pipelines.

use std::collections::HashMap;
use std::time::Duration;

use api_kfp::v2beta1::{
    CreatePipelineAndVersionRequest, CreatePipelineVersionRequest, Pipeline, PipelineVersion,
};
use api_kfp1::v1beta1::{GetPipelineRequest, GetPipelineVersionRequest};
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use prost::Message as _;
use prost_types::{ListValue, Struct, Value, value};
use tonic::body::Body;

use super::archive::specification;
use super::{Call, Handlers, Query, reach};
use crate::Error;
use crate::rest::{Failure, Patience};

/// Room for the form around the file, in bytes.
const FORM_OVERHEAD: usize = 64 * 1024;
/// Nesting of JSON that fits the nesting of messages which every protobuf library reads: an object counts three times.
const MAX_DEPTH: usize = 30;
const FILE_FIELD: &str = "uploadfile";

/// In whose shape the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    V1,
    V2,
}

const V2: &str = "kubeflow.pipelines.backend.api.v2beta1";

struct Uploaded {
    name: String,
    spec: Struct,
}

impl Handlers {
    /// `POST …/pipelines/upload`: a pipeline and its first version, of the same name.
    pub(super) async fn upload_pipeline(
        &self,
        call: Call<'_>,
        body: Body,
        contract: Contract,
    ) -> Result<Response<Body>, Failure> {
        let query = call.query()?;
        let tags = tags(&query)?;
        let file = self.receive(&call, body).await?;
        let name = name(&query, file.name);
        let request = CreatePipelineAndVersionRequest {
            pipeline: Some(Pipeline {
                name: name.clone(),
                display_name: query.get("display_name").unwrap_or(&name).to_owned(),
                description: query.text("description"),
                namespace: query.text("namespace"),
                tags: tags.clone(),
                ..Default::default()
            }),
            pipeline_version: Some(version(&query, name, file.spec, tags)),
        };
        let answer = self
            .create(&call, "CreatePipelineAndVersion", &request)
            .await?;
        if contract == Contract::V2 {
            return self.answer(&format!("{V2}.Pipeline"), answer).await;
        }
        let created = Pipeline::decode(answer).map_err(|_| malformed())?;
        let request = GetPipelineRequest {
            id: created.pipeline_id,
        };
        let answer = self.get_v1(&call, "GetPipelineV1", &request).await?;
        self.answer("api.Pipeline", answer).await
    }

    /// `POST …/pipelines/upload_version?pipelineid=`: a version of a pipeline.
    pub(super) async fn upload_version(
        &self,
        call: Call<'_>,
        body: Body,
        contract: Contract,
    ) -> Result<Response<Body>, Failure> {
        let query = call.query()?;
        let tags = tags(&query)?;
        let pipeline_id = query.text("pipelineid");
        if pipeline_id.is_empty() {
            return Err(Error::field("pipelineid", "must be the id of a pipeline").into());
        }
        let file = self.receive(&call, body).await?;
        let name = name(&query, file.name);
        let request = CreatePipelineVersionRequest {
            pipeline_id: pipeline_id.clone(),
            pipeline_version: Some(PipelineVersion {
                pipeline_id,
                ..version(&query, name, file.spec, tags)
            }),
        };
        let answer = self
            .create(&call, "CreatePipelineVersion", &request)
            .await?;
        if contract == Contract::V2 {
            return self.answer(&format!("{V2}.PipelineVersion"), answer).await;
        }
        let created = PipelineVersion::decode(answer).map_err(|_| malformed())?;
        let request = GetPipelineVersionRequest {
            version_id: created.pipeline_version_id,
        };
        let answer = self.get_v1(&call, "GetPipelineVersionV1", &request).await?;
        self.answer("api.PipelineVersion", answer).await
    }

    async fn create(
        &self,
        call: &Call<'_>,
        method: &str,
        request: &impl prost::Message,
    ) -> Result<Bytes, Failure> {
        let channel = reach(self.peers.kfp_pipelines())?;
        let path = format!("/{V2}.PipelineService/{method}");
        let path = path.parse().map_err(|_| Error::NoRoute(path))?;
        let mut request = call
            .context
            .request(self.unary_timeout(), Bytes::from(request.encode_to_vec()));
        crate::rest::forward(&call.parts.headers, &mut request);
        Ok(rpc::raw::unary(&channel, path, request).await?.into_inner())
    }

    /// What was created, as the older contract shows it.
    async fn get_v1(
        &self,
        call: &Call<'_>,
        method: &str,
        request: &impl prost::Message,
    ) -> Result<Bytes, Failure> {
        let channel = reach(self.peers.kfp1_pipelines())?;
        let path = format!("/api.PipelineService/{method}");
        let path = path.parse().map_err(|_| Error::NoRoute(path))?;
        let request = call
            .context
            .request(self.unary_timeout(), Bytes::from(request.encode_to_vec()));
        Ok(rpc::raw::unary(&channel, path, request).await?.into_inner())
    }

    async fn answer(&self, output: &str, answer: Bytes) -> Result<Response<Body>, Failure> {
        let output = self.transcoder.schema.find(output);
        let output = output.ok_or_else(malformed)?;
        self.transcoder.answer(output, answer).await
    }

    /// Reads the form and the specification in it. Nothing of it is kept when that fails.
    async fn receive(&self, call: &Call<'_>, body: Body) -> Result<Uploaded, Error> {
        let (name, file) = self.receive_file(call, body).await?;
        let limit = self.limits.spec_bytes;
        let heavy = &self.transcoder.heavy;
        heavy
            .run(move || {
                let text = specification(&name, &file, limit)?;
                drop(file);
                let document = pipeline_spec::Source::parse(&text)
                    .map_err(|error| Error::Upload(error.to_string()))?;
                let spec = structure(document.to_value())?;
                Ok(Uploaded { name, spec })
            })
            .await?
    }

    async fn receive_file(&self, call: &Call<'_>, body: Body) -> Result<(String, Bytes), Error> {
        let headers = &call.parts.headers;
        let kind = headers
            .get(CONTENT_TYPE)
            .map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned())
            .unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            return Err(Error::ContentType {
                expected: "multipart/form-data",
                found: kind,
            });
        }
        let mut request = Request::new(axum::body::Body::new(body));
        *request.headers_mut() = headers.clone();
        DefaultBodyLimit::max(self.limits.spec_bytes + FORM_OVERHEAD).apply(&mut request);
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|error| Error::Upload(error.body_text()))?;
        let whole = Duration::from_secs(self.limits.upload_seconds);
        let patience = Patience::new(self.transcoder.body_idle, whole);
        let limit = self.limits.spec_bytes;
        let mut file = None;
        loop {
            let field = patience.wait(form.next_field()).await?;
            let Some(mut field) = field.map_err(|error| form_error(&error, limit))? else {
                break;
            };
            if field.name() != Some(FILE_FIELD) {
                continue;
            }
            if file.is_some() {
                return Err(Error::Upload(format!(
                    "the form has two fields {FILE_FIELD}"
                )));
            }
            let name = base_name(field.file_name().unwrap_or_default());
            let mut content = Vec::new();
            loop {
                let chunk = patience.wait(field.chunk()).await?;
                let Some(chunk) = chunk.map_err(|error| form_error(&error, limit))? else {
                    break;
                };
                if content.len() + chunk.len() > limit {
                    return Err(Error::TooLarge(limit));
                }
                content.extend_from_slice(&chunk);
            }
            file = Some((name, Bytes::from(content)));
        }
        file.ok_or_else(|| {
            Error::Upload(format!(
                "the form has no file in a field named {FILE_FIELD}"
            ))
        })
    }
}

fn malformed() -> Error {
    Error::from(crate::json::Malformed)
}

fn form_error(error: &MultipartError, limit: usize) -> Error {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Error::TooLarge(limit);
    }
    Error::Upload(format!(
        "the form is broken or ends too early: {}",
        error.body_text()
    ))
}

/// What is left of a name that may be a path of another system.
fn base_name(name: &str) -> String {
    name.rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A version as the query describes it.
fn version(
    query: &Query<'_>,
    name: String,
    spec: Struct,
    tags: HashMap<String, String>,
) -> PipelineVersion {
    PipelineVersion {
        display_name: query.get("display_name").unwrap_or(&name).to_owned(),
        name,
        description: query.text("description"),
        code_source_url: query.text("code_source_url"),
        pipeline_spec: Some(spec),
        tags,
        ..Default::default()
    }
}

/// The name, else the display name, else the name of the file.
fn name(query: &Query<'_>, file: String) -> String {
    query
        .get("name")
        .or_else(|| query.get("display_name"))
        .map_or(file, str::to_owned)
}

fn tags(query: &Query<'_>) -> Result<HashMap<String, String>, Error> {
    let Some(text) = query.get("tags") else {
        return Ok(HashMap::new());
    };
    serde_json::from_str(text)
        .map_err(|_| Error::field("tags", "must be a JSON object whose values are strings"))
}

/// A JSON object as `google.protobuf.Struct`.
fn structure(value: serde_json::Value) -> Result<Struct, Error> {
    match convert(value, 0)?.kind {
        Some(value::Kind::StructValue(structure)) => Ok(structure),
        _ => Err(Error::Upload(
            "the specification is not an object".to_owned(),
        )),
    }
}

fn convert(value: serde_json::Value, depth: usize) -> Result<Value, Error> {
    use serde_json::Value as Json;
    if depth > MAX_DEPTH {
        return Err(Error::Upload(format!(
            "the specification is nested more than {MAX_DEPTH} levels deep"
        )));
    }
    let kind = match value {
        Json::Null => value::Kind::NullValue(0),
        Json::Bool(flag) => value::Kind::BoolValue(flag),
        Json::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) if text.contains('\0') => {
            let problem = "the specification contains the character NUL";
            return Err(Error::Upload(problem.to_owned()));
        }
        Json::String(text) => value::Kind::StringValue(text),
        Json::Array(items) => value::Kind::ListValue(ListValue {
            values: items
                .into_iter()
                .map(|item| convert(item, depth + 1))
                .collect::<Result<_, _>>()?,
        }),
        Json::Object(members) => value::Kind::StructValue(Struct {
            fields: members
                .into_iter()
                .map(|(key, member)| Ok((key, convert(member, depth + 1)?)))
                .collect::<Result<_, Error>>()?,
        }),
    };
    Ok(Value { kind: Some(kind) })
}
