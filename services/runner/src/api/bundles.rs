//! `flumina.runner.v1.SecretService` and `ConfigMapService`.

use std::collections::HashMap;

use aip::{FieldViolation, unary};
use api_runner::v1 as pb;
use api_runner::v1::config_map_service_server::ConfigMapService;
use api_runner::v1::secret_service_server::SecretService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::app::{Put, Runner, read_values};
use crate::domain::bundle::{Kind, is_name};
use crate::error::Error;
use crate::service::NAME;
use crate::store::Bundle;

const NAMED: &str =
    "expected 1 to 253 characters of a-z 0-9 . -, the first and last one a letter or digit";
const NAMESPACED: &str = "expected 1 to 63 characters of a-z A-Z 0-9 . _ -, not a leading dot";

/// Whether a text is a namespace; it is a part of paths too.
fn is_namespace(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('.')
}

/// Checks what names a thing, and the id of the request when there is one.
pub(super) fn check_target(
    namespace: &str,
    name: Option<&str>,
    request_id: &str,
) -> Result<(), Error> {
    violations(namespace, name, request_id).map_or(Ok(()), |found| Err(Error::Invalid(found)))
}

fn violations(
    namespace: &str,
    name: Option<&str>,
    request_id: &str,
) -> Option<Vec<FieldViolation>> {
    let mut found = Vec::new();
    if !is_namespace(namespace) {
        found.push(FieldViolation::new("namespace", NAMESPACED));
    }
    if name.is_some_and(|name| !is_name(name)) {
        found.push(FieldViolation::new("name", NAMED));
    }
    if !request_id.is_empty() && request_id.parse::<ids::RequestId>().is_err() {
        found.push(FieldViolation::new("request_id", "expected a UUID"));
    }
    (!found.is_empty()).then_some(found)
}

fn put(
    kind: Kind,
    (namespace, name): (String, String),
    data: HashMap<String, Vec<u8>>,
    replace: bool,
    request_id: String,
) -> Result<Put, Error> {
    let mut found = violations(&namespace, Some(&name), &request_id).unwrap_or_default();
    let values = read_values(data).map_err(|violation| found.push(violation));
    match values {
        Ok(values) if found.is_empty() => Ok(Put {
            kind,
            namespace,
            name,
            values,
            replace,
            request_id,
        }),
        _ => Err(Error::Invalid(found)),
    }
}

#[tonic::async_trait]
impl SecretService for Api {
    async fn put_secret(
        &self,
        request: Request<pb::PutSecretRequest>,
    ) -> Result<Response<pb::Secret>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let names = (request.namespace, request.name);
            let put = put(
                Kind::Secret,
                names,
                request.data,
                request.replace,
                request.request_id,
            )?;
            runner.put_bundle(put).await.map(secret)
        })
        .await
    }

    async fn get_secret(
        &self,
        request: Request<pb::GetSecretRequest>,
    ) -> Result<Response<pb::Secret>, Status> {
        let pb::GetSecretRequest { namespace, name } = request.into_inner();
        let answer = async {
            check_target(&namespace, Some(&name), "")?;
            let found = self.runner.bundle(Kind::Secret, &namespace, &name).await?;
            Ok::<_, Error>(secret(found))
        };
        unary(NAME, answer.await)
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Result<Response<pb::ListSecretsResponse>, Status> {
        let request = request.into_inner();
        let answer = async {
            check_target(&request.namespace, None, "")?;
            let (size, token) = (request.page_size, &request.page_token);
            let page = self
                .runner
                .bundles(Kind::Secret, &request.namespace, size, token);
            let (found, next_page_token) = page.await?;
            Ok::<_, Error>(pb::ListSecretsResponse {
                secrets: found.into_iter().map(secret).collect(),
                next_page_token,
            })
        };
        unary(NAME, answer.await)
    }

    async fn delete_secret(
        &self,
        request: Request<pb::DeleteSecretRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let (namespace, name) = (&request.namespace, &request.name);
            check_target(namespace, Some(name), &request.request_id)?;
            let id = request.request_id.clone();
            runner.drop_bundle(Kind::Secret, namespace, name, id).await
        })
        .await
    }
}

#[tonic::async_trait]
impl ConfigMapService for Api {
    async fn put_config_map(
        &self,
        request: Request<pb::PutConfigMapRequest>,
    ) -> Result<Response<pb::ConfigMap>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let names = (request.namespace, request.name);
            let put = put(
                Kind::ConfigMap,
                names,
                request.data,
                request.replace,
                request.request_id,
            )?;
            runner.put_bundle(put).await.map(config_map)
        })
        .await
    }

    async fn get_config_map(
        &self,
        request: Request<pb::GetConfigMapRequest>,
    ) -> Result<Response<pb::ConfigMap>, Status> {
        let pb::GetConfigMapRequest { namespace, name } = request.into_inner();
        let answer = async {
            check_target(&namespace, Some(&name), "")?;
            let found = self.runner.bundle(Kind::ConfigMap, &namespace, &name);
            let found = found.await?;
            let data = self.runner.values(&found)?.into_iter().collect();
            Ok::<_, Error>(pb::ConfigMap {
                data,
                ..config_map(found)
            })
        };
        unary(NAME, answer.await)
    }

    async fn list_config_maps(
        &self,
        request: Request<pb::ListConfigMapsRequest>,
    ) -> Result<Response<pb::ListConfigMapsResponse>, Status> {
        let request = request.into_inner();
        let answer = async {
            check_target(&request.namespace, None, "")?;
            let (size, token) = (request.page_size, &request.page_token);
            let page = self
                .runner
                .bundles(Kind::ConfigMap, &request.namespace, size, token);
            let (found, next_page_token) = page.await?;
            Ok::<_, Error>(pb::ListConfigMapsResponse {
                config_maps: found.into_iter().map(config_map).collect(),
                next_page_token,
            })
        };
        unary(NAME, answer.await)
    }

    async fn delete_config_map(
        &self,
        request: Request<pb::DeleteConfigMapRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let (namespace, name) = (&request.namespace, &request.name);
            check_target(namespace, Some(name), &request.request_id)?;
            let id = request.request_id.clone();
            runner
                .drop_bundle(Kind::ConfigMap, namespace, name, id)
                .await
        })
        .await
    }
}

fn secret(bundle: Bundle) -> pb::Secret {
    pb::Secret {
        namespace: bundle.namespace,
        name: bundle.name,
        keys: bundle.keys,
        created_at: Some(aip::time::to_proto(bundle.created_at)),
        updated_at: Some(aip::time::to_proto(bundle.updated_at)),
        version: bundle.version,
    }
}

fn config_map(bundle: Bundle) -> pb::ConfigMap {
    pb::ConfigMap {
        namespace: bundle.namespace,
        name: bundle.name,
        keys: bundle.keys,
        data: HashMap::new(),
        created_at: Some(aip::time::to_proto(bundle.created_at)),
        updated_at: Some(aip::time::to_proto(bundle.updated_at)),
        version: bundle.version,
    }
}
