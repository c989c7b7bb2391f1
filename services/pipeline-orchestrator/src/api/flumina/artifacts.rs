//! `flumina.pipelines.v1.ArtifactService`.

use api_pipelines::v1 as own;
use api_pipelines::v1::artifact_service_server::ArtifactService;
use futures_util::stream::unfold;
use ids::ArtifactId;
use tonic::{Request, Response, Status};

use super::runs::page_key;
use super::{Flumina, Streaming, render, run_id, status};
use crate::domain::Artifact;
use crate::error::{Error, SERVICE};
use crate::store::artifacts;

#[tonic::async_trait]
impl ArtifactService for Flumina {
    type ReadArtifactStream = Streaming<own::ReadArtifactResponse>;

    async fn list_artifacts(
        &self,
        request: Request<own::ListArtifactsRequest>,
    ) -> Result<Response<own::ListArtifactsResponse>, Status> {
        let request = request.into_inner();
        let run = match request.run_id.as_str() {
            "" => None,
            text => Some(run_id(text)?),
        };
        let query = format!("artifacts of {} {}", request.run_id, request.r#type);
        let size = aip::page::size(request.page_size).map_err(|error| status(&error))?;
        let key = aip::page::decode(&query, &request.page_token).map_err(|error| status(&error))?;
        let before = page_key(key)
            .map_err(|error| status(&error))?
            .unwrap_or(i64::MAX);
        let kind = request.r#type;
        let read = self.app.db().read(move |conn| {
            Box::pin(
                async move { artifacts::page(conn, run, &kind, ArtifactId(before), size).await },
            )
        });
        let answer = read
            .await
            .map_err(Error::from)
            .map(|(found, more): (Vec<Artifact>, bool)| {
                let next = found
                    .last()
                    .filter(|_| more)
                    .map(|last| last.id.to_string());
                own::ListArtifactsResponse {
                    artifacts: found.iter().map(render::artifact).collect(),
                    next_page_token: next
                        .map_or_else(String::new, |key| aip::page::encode(&query, &[&key])),
                }
            });
        aip::unary(SERVICE, answer)
    }

    async fn get_artifact(
        &self,
        request: Request<own::GetArtifactRequest>,
    ) -> Result<Response<own::Artifact>, Status> {
        let found = self.artifact(request.into_inner().artifact_id).await;
        aip::unary(SERVICE, found.map(|artifact| render::artifact(&artifact)))
    }

    async fn list_artifact_files(
        &self,
        request: Request<own::ListArtifactFilesRequest>,
    ) -> Result<Response<own::ListArtifactFilesResponse>, Status> {
        let request = request.into_inner();
        let query = format!("files of {}", request.artifact_id);
        let size = aip::page::size(request.page_size).map_err(|error| status(&error))? as usize;
        let key = aip::page::decode(&query, &request.page_token).map_err(|error| status(&error))?;
        let after = key.and_then(|mut key| key.pop()).unwrap_or_default();
        aip::unary(
            SERVICE,
            self.files(request.artifact_id, &query, &after, size).await,
        )
    }

    async fn read_artifact(
        &self,
        request: Request<own::ReadArtifactRequest>,
    ) -> Result<Response<Self::ReadArtifactStream>, Status> {
        let request = request.into_inner();
        let found = self
            .artifact(request.artifact_id)
            .await
            .map_err(|error| status(&error))?;
        let reader = self
            .objects
            .read(&found.uri, &request.path, request.offset)
            .await;
        let reader = reader.map_err(|error| status(&Error::from(error)))?;
        let first = Some(reader.size);
        let stream = unfold(Some((reader, first)), |state| async move {
            let (mut reader, first) = state?;
            match reader.next().await {
                Ok(data) if data.is_empty() && first.is_none() => None,
                Ok(data) => {
                    let total_bytes = first.unwrap_or(0);
                    let rest = (!data.is_empty()).then_some((reader, None));
                    Some((Ok(own::ReadArtifactResponse { data, total_bytes }), rest))
                }
                Err(error) => Some((Err(status(&Error::from(error))), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Flumina {
    async fn artifact(&self, id: i64) -> Result<Artifact, Error> {
        let read = self.app.db().read(move |conn| {
            Box::pin(async move { artifacts::by_id(conn, ArtifactId(id)).await })
        });
        read.await?.ok_or_else(|| Error::not_found("artifact", id))
    }

    async fn files(
        &self,
        id: i64,
        query: &str,
        after: &str,
        size: usize,
    ) -> Result<own::ListArtifactFilesResponse, Error> {
        let artifact = self.artifact(id).await?;
        let mut found = self.objects.list(&artifact.uri, after, size + 1).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more).map(|last| last.path.clone());
        Ok(own::ListArtifactFilesResponse {
            files: found
                .into_iter()
                .map(|file| own::ArtifactFile {
                    path: file.path,
                    size_bytes: file.size,
                })
                .collect(),
            next_page_token: next.map_or_else(String::new, |key| aip::page::encode(query, &[&key])),
        })
    }
}
