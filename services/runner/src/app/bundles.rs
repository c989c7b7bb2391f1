//! Secrets and config maps.

use std::collections::HashMap;

use aip::FieldViolation;
use api_runner::v1 as pb;
use prost::Message as _;

use super::Runner;
use super::vault::Sealed;
use crate::domain::bundle::{self, Kind, Values};
use crate::error::Error;
use crate::store::{Bundle, Mutation, Refused};

/// A bundle to store.
pub(crate) struct Put {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) values: Values,
    pub(crate) replace: bool,
    pub(crate) request_id: String,
}

impl Runner {
    /// Stores a bundle.
    pub(crate) async fn put_bundle(&self, put: Put) -> Result<Bundle, Error> {
        let Put {
            kind,
            namespace,
            name,
            values,
            replace,
            request_id,
        } = put;
        let keys = values.keys().cloned().collect();
        let text = encode(values);
        let sealed = match kind {
            Kind::ConfigMap => Sealed {
                key_id: String::new(),
                body: text,
            },
            Kind::Secret => {
                let belongs_to = belongs_to(kind, &namespace, &name);
                let sealed = self.0.vault.seal(&belongs_to, &text);
                sealed.map_err(|source| Error::Vault {
                    name: name.clone(),
                    source,
                })?
            }
        };
        let mutation = self.mutation(request_id, "put", target(kind, &namespace, &name));
        let bundle = Bundle {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
            keys,
            body: sealed.body,
            key_id: sealed.key_id,
            created_at: mutation.now,
            updated_at: mutation.now,
            version: 1,
        };
        let stored = self.0.store.put_bundle(bundle, replace, mutation).await;
        let stored = stored.map_err(refused(kind.word(), &namespace, &name))?;
        tracing::info!(%namespace, %name, version = stored.version, "stored a {}", kind.word());
        Ok(stored)
    }

    /// Reads a bundle without opening it.
    pub(crate) async fn bundle(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Bundle, Error> {
        let found = self.0.store.bundle(kind, namespace, name).await?;
        found.ok_or_else(|| missing(kind.word(), namespace, name))
    }

    /// The values of a bundle.
    pub(crate) fn values(&self, bundle: &Bundle) -> Result<Values, Error> {
        if bundle.key_id.is_empty() {
            return decode(&bundle.body);
        }
        let sealed = Sealed {
            key_id: bundle.key_id.clone(),
            body: bundle.body.clone(),
        };
        let belongs_to = belongs_to(bundle.kind, &bundle.namespace, &bundle.name);
        let opened = self.0.vault.open(&belongs_to, &sealed);
        decode(&opened.map_err(|source| Error::Vault {
            name: bundle.name.clone(),
            source,
        })?)
    }

    /// A page of bundles by name, and the token of the next.
    pub(crate) async fn bundles(
        &self,
        kind: Kind,
        namespace: &str,
        size: i32,
        token: &str,
    ) -> Result<(Vec<Bundle>, String), Error> {
        let query = format!("{}/{namespace}", kind.as_str());
        let (after, size) = after(&query, size, token)?;
        let found = self.0.store.bundles(kind, namespace, &after, size + 1);
        Ok(cut(found.await?, size, &query, |bundle| &bundle.name))
    }

    /// Removes a bundle.
    pub(crate) async fn drop_bundle(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        request_id: String,
    ) -> Result<(), Error> {
        let mutation = self.mutation(request_id, "delete", target(kind, namespace, name));
        let dropped = self.0.store.drop_bundle(kind, namespace, name, mutation);
        dropped
            .await
            .map_err(refused(kind.word(), namespace, name))?;
        tracing::info!(%namespace, %name, "removed a {}", kind.word());
        Ok(())
    }

    pub(super) fn mutation(
        &self,
        request_id: String,
        method: &'static str,
        target: String,
    ) -> Mutation {
        Mutation {
            request_id,
            method,
            target,
            now: self.0.clock.now(),
        }
    }
}

/// The name that a page begins after, and how many it has.
pub(super) fn after(query: &str, size: i32, token: &str) -> Result<(String, u32), Error> {
    let size = aip::page::size(size)?;
    let after = match aip::page::decode(query, token)?.as_deref() {
        None => String::new(),
        Some([name]) => name.clone(),
        Some(_) => return Err(aip::page::Error::Foreign.into()),
    };
    Ok((after, size))
}

/// A page of what was read with one more than it has.
pub(super) fn cut<T>(
    mut found: Vec<T>,
    size: u32,
    query: &str,
    name: impl Fn(&T) -> &String,
) -> (Vec<T>, String) {
    let more = found.len() > size as usize;
    found.truncate(size as usize);
    let next = match found.last().filter(|_| more) {
        Some(last) => aip::page::encode(query, &[name(last)]),
        None => String::new(),
    };
    (found, next)
}

pub(super) fn missing(kind: &'static str, namespace: &str, name: &str) -> Error {
    Error::NoObject {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn refused(
    kind: &'static str,
    namespace: &str,
    name: &str,
) -> impl FnOnce(Refused) -> Error + use<> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    move |refused| match refused {
        Refused::Exists => Error::ObjectExists {
            kind,
            namespace,
            name,
        },
        Refused::Missing => missing(kind, &namespace, &name),
        Refused::Reused => Error::RequestReused,
        Refused::Database(error) => error.into(),
    }
}

fn target(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.as_str())
}

/// What a sealed text is bound to.
fn belongs_to(kind: Kind, namespace: &str, name: &str) -> String {
    target(kind, namespace, name)
}

/// The stored form of values: that of the message which brings them.
fn encode(values: Values) -> Vec<u8> {
    pb::PutConfigMapRequest {
        data: values.into_iter().collect(),
        ..Default::default()
    }
    .encode_to_vec()
}

fn decode(bytes: &[u8]) -> Result<Values, Error> {
    let message = pb::PutConfigMapRequest::decode(bytes)
        .map_err(|error| Error::Store(sql::Error::corrupt("body", error)))?;
    Ok(message.data.into_iter().collect())
}

/// Reads the values of a request.
pub(crate) fn read_values(data: HashMap<String, Vec<u8>>) -> Result<Values, FieldViolation> {
    // Bounded before it is sorted.
    if data.len() > bundle::MAX_KEYS {
        let text = format!("at most {} keys", bundle::MAX_KEYS);
        return Err(FieldViolation::new("data", text));
    }
    let values: Values = data.into_iter().collect();
    match bundle::problem(&values) {
        None => Ok(values),
        Some(text) => Err(FieldViolation::new("data", text)),
    }
}
