//! `flumina.pipelines.v1.CacheService`.

use api_pipelines::v1 as own;
use api_pipelines::v1::cache_service_server::CacheService;
use ids::TaskId;
use tonic::{Request, Response, Status};

use super::runs::page_key;
use super::{Flumina, render, run_id, status};
use crate::error::{Error, SERVICE};
use crate::store::cache;

/// Uses of an entry that are shown.
const USES: u32 = 100;

#[tonic::async_trait]
impl CacheService for Flumina {
    async fn list_cache_entries(
        &self,
        request: Request<own::ListCacheEntriesRequest>,
    ) -> Result<Response<own::ListCacheEntriesResponse>, Status> {
        let request = request.into_inner();
        let run = match request.run_id.as_str() {
            "" => None,
            text => Some(run_id(text)?),
        };
        let query = format!("cache of {} {}", request.run_id, request.pipeline_name);
        let size = aip::page::size(request.page_size).map_err(|error| status(&error))?;
        let key = aip::page::decode(&query, &request.page_token).map_err(|error| status(&error))?;
        let before = page_key(key).map_err(|error| status(&error))?;
        let before = TaskId(before.unwrap_or(i64::MAX));
        let pipeline = request.pipeline_name;
        let read = self.app.db().read(move |conn| {
            Box::pin(async move { cache::page(conn, &pipeline, run, before, size).await })
        });
        let answer = read.await.map_err(Error::from).map(|(found, more)| {
            let last = found.last().filter(|_| more);
            let next = last.map(|last| aip::page::encode(&query, &[&last.id.to_string()]));
            own::ListCacheEntriesResponse {
                entries: found.iter().map(render::cache_entry).collect(),
                next_page_token: next.unwrap_or_default(),
            }
        });
        aip::unary(SERVICE, answer)
    }

    async fn get_cache_entry(
        &self,
        request: Request<own::GetCacheEntryRequest>,
    ) -> Result<Response<own::CacheEntry>, Status> {
        let id = entry_id(&request.get_ref().entry_id)?;
        let read = self.app.db().read(move |conn| {
            Box::pin(async move {
                let entry = cache::by_id(conn, id).await?.ok_or_else(|| missing(id))?;
                Ok::<_, Error>((entry, cache::uses(conn, id, USES).await?))
            })
        });
        let answer = read.await.map(|(entry, uses)| {
            let used_by = uses.into_iter().map(|(run, task)| own::CacheUse {
                run_id: run.to_string(),
                task_id: task.to_string(),
            });
            own::CacheEntry {
                used_by: used_by.collect(),
                ..render::cache_entry(&entry)
            }
        });
        aip::unary(SERVICE, answer)
    }

    async fn delete_cache_entry(
        &self,
        request: Request<own::DeleteCacheEntryRequest>,
    ) -> Result<Response<()>, Status> {
        let id = entry_id(&request.get_ref().entry_id)?;
        let write = self.app.db().write(move |conn| {
            Box::pin(async move {
                match cache::delete(conn, id).await? {
                    true => Ok(()),
                    false => Err(missing(id)),
                }
            })
        });
        aip::unary(SERVICE, write.await)
    }
}

fn missing(id: TaskId) -> Error {
    Error::not_found("cache entry", id)
}

fn entry_id(text: &str) -> Result<TaskId, Status> {
    text.parse()
        .map_err(|_| status(&Error::not_found("cache entry", text)))
}
