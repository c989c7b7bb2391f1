//! Mutations that callers may repeat: the key in the metadata or in the request, and answers kept for it.

use std::collections::HashMap;

use api_kfp::v2beta1 as kfp;
use ids::RequestId;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use super::parse;
use crate::app::{Call, Reply};
use crate::error::Error;
use crate::store::CallKey;

/// The metadata that makes the repetition of a call harmless.
const KEY_HEADER: &str = "idempotency-key";
/// Characters of a key.
const MAX_KEY: usize = 255;

/// A request that changes something.
pub(in crate::api) trait Mutation: Message + Clone {
    /// Takes the maps out as bytes in a fixed order; maps are encoded in any order otherwise.
    fn take_maps(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// The key of a request that carries one itself, empty when the caller gave none; other requests have it in the
    /// metadata.
    fn request_id(&self) -> Option<&str> {
        None
    }
}

/// The call of a mutation. `render` makes the answer that is kept.
///
/// # Errors
/// The key is not usable.
pub(super) fn call<Q: Mutation, T: 'static, M: Message + 'static>(
    request: &Request<Q>,
    method: &'static str,
    render: fn(&T) -> M,
) -> Result<Call<T>, Error> {
    let key = match key(request)? {
        None => None,
        Some(request_id) => Some(CallKey {
            caller: rpc::context(request).principal.to_string(),
            method,
            request_id,
            body_hash: digest(request.get_ref().clone(), &parse::cache(request)?),
        }),
    };
    Ok(Call {
        key,
        encode: Box::new(move |value| render(value).encode_to_vec()),
    })
}

/// The answer of a mutation: rendered, or the one that was kept.
///
/// # Errors
/// The kept answer is damaged.
pub(super) fn answer<T, M: Message + Default>(
    reply: Reply<T>,
    render: fn(&T) -> M,
) -> Result<M, Error> {
    match reply {
        Reply::Fresh(value) => Ok(render(&value)),
        Reply::Replayed(bytes) => M::decode(bytes.as_slice())
            .map_err(|error| Error::Internal(format!("cannot read a kept answer: {error}"))),
    }
}

/// The answer of mutations that return nothing.
pub(super) fn nothing(_: &()) {}

fn key<Q: Mutation>(request: &Request<Q>) -> Result<Option<String>, Error> {
    if let Some(given) = request.get_ref().request_id() {
        let parsed = (!given.is_empty()).then(|| given.parse::<RequestId>());
        let parsed = parsed.transpose();
        return parsed
            .map(|id| id.map(|id| id.to_string()))
            .map_err(|invalid| Error::field("request_id", invalid.to_string()));
    }
    let Some(given) = request.metadata().get(KEY_HEADER) else {
        return Ok(None);
    };
    match given.to_str() {
        Ok(text) if usable(text) => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(Error::field(
            KEY_HEADER,
            format!("must be 1 to {MAX_KEY} visible ASCII characters"),
        )),
    }
}

fn usable(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A digest of all that a request says; how it uses the cache is said beside the message.
fn digest(mut request: impl Mutation, cache: &str) -> String {
    let maps = request.take_maps();
    let mut hash = Sha256::new();
    hash.update(maps.len().to_be_bytes());
    hash.update(maps);
    let message = request.encode_to_vec();
    if !cache.is_empty() {
        // Keys of calls that say nothing stay what they were.
        hash.update(message.len().to_be_bytes());
    }
    hash.update(message);
    hash.update(cache);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(in crate::api) fn sorted<V>(
    map: &mut HashMap<String, V>,
    encode: impl Fn(V) -> Vec<u8>,
) -> Vec<u8> {
    let mut entries: Vec<(String, V)> = map.drain().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bytes = Vec::new();
    for (key, value) in entries {
        for part in [key.into_bytes(), encode(value)] {
            bytes.extend_from_slice(&part.len().to_be_bytes());
            bytes.extend_from_slice(&part);
        }
    }
    bytes
}

fn tags(pipeline: Option<&mut kfp::Pipeline>) -> Vec<u8> {
    pipeline.map_or_else(Vec::new, |one| sorted(&mut one.tags, String::into_bytes))
}

fn version_tags(version: Option<&mut kfp::PipelineVersion>) -> Vec<u8> {
    version.map_or_else(Vec::new, |one| sorted(&mut one.tags, String::into_bytes))
}

impl Mutation for kfp::CreatePipelineRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        tags(self.pipeline.as_mut())
    }
}

impl Mutation for kfp::UpdatePipelineRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        tags(self.pipeline.as_mut())
    }
}

impl Mutation for kfp::CreatePipelineAndVersionRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        let mut bytes = tags(self.pipeline.as_mut());
        bytes.push(0);
        bytes.extend(version_tags(self.pipeline_version.as_mut()));
        bytes
    }
}

impl Mutation for kfp::CreatePipelineVersionRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        version_tags(self.pipeline_version.as_mut())
    }
}

impl Mutation for kfp::UpdatePipelineVersionRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        version_tags(self.pipeline_version.as_mut())
    }
}

impl Mutation for kfp::CreateRunRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        let config = self
            .run
            .as_mut()
            .and_then(|run| run.runtime_config.as_mut());
        config.map_or_else(Vec::new, |config| {
            sorted(&mut config.parameters, |value| value.encode_to_vec())
        })
    }
}

impl Mutation for kfp::CreateRecurringRunRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        let config = self
            .recurring_run
            .as_mut()
            .and_then(|run| run.runtime_config.as_mut());
        config.map_or_else(Vec::new, |config| {
            sorted(&mut config.parameters, |value| value.encode_to_vec())
        })
    }
}

impl Mutation for kfp::EnableRecurringRunRequest {}
impl Mutation for kfp::DisableRecurringRunRequest {}
impl Mutation for kfp::DeleteRecurringRunRequest {}
impl Mutation for kfp::DeletePipelineRequest {}
impl Mutation for kfp::DeletePipelineVersionRequest {}
impl Mutation for kfp::CreateExperimentRequest {}
impl Mutation for kfp::ArchiveExperimentRequest {}
impl Mutation for kfp::UnarchiveExperimentRequest {}
impl Mutation for kfp::DeleteExperimentRequest {}
impl Mutation for kfp::ArchiveRunRequest {}
impl Mutation for kfp::UnarchiveRunRequest {}
impl Mutation for kfp::DeleteRunRequest {}
impl Mutation for kfp::TerminateRunRequest {}
impl Mutation for kfp::RetryRunRequest {}
