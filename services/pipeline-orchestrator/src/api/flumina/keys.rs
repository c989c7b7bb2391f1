//! What makes the repetition of a mutation of the own contract harmless.

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::app::Call;
use crate::error::Error;
use crate::store::CallKey;

/// The call of a mutation. `maps` are the request's maps, taken out of it, since those are encoded in any order.
pub(super) fn call<T: 'static, Q: Message, M: Message + 'static>(
    caller: String,
    method: &'static str,
    request_id: &str,
    request: &Q,
    maps: &BTreeMap<String, String>,
    render: fn(&T) -> M,
) -> Result<Call<T>, Error> {
    let encode = Box::new(move |value: &T| render(value).encode_to_vec());
    if request_id.is_empty() {
        return Ok(Call { key: None, encode });
    }
    let request_id: ids::RequestId = request_id
        .parse()
        .map_err(|invalid: ids::InvalidId| Error::field("request_id", invalid.to_string()))?;
    let mut hash = Sha256::new();
    for part in maps.iter().flat_map(|(key, value)| [key, value]) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update(request.encode_to_vec());
    let digest = hash.finalize();
    Ok(Call {
        key: Some(CallKey {
            caller,
            method,
            request_id: request_id.to_string(),
            body_hash: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }),
        encode,
    })
}
