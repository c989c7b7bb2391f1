//! Pipelines and their versions.

use std::collections::BTreeMap;

use ids::{PipelineId, PipelineVersionId};
use sql::{Conn, Error, args};

use super::lists::{self, Page, Select};
use super::rows::tags_text;
use super::specs;
use super::sql as text;
use crate::domain::{Pipeline, Query, Version};

pub(super) const LIST: Select = Select {
    columns: text::PIPELINE_COLUMNS,
    from: "pipelines",
    counted: "pipelines",
    base: "1 = 1",
    bytes: "octet_length(pipelines.description) + octet_length(pipelines.tags)",
};

/// The same with the newest version of each, of which the parameters are shown.
pub(super) const LIST_WITH_LATEST: Select = Select {
    bytes: text::PIPELINE_BYTES_WITH_LATEST,
    ..LIST
};

pub(super) const LIST_VERSIONS: Select = Select {
    columns: text::VERSION_COLUMNS,
    from: text::VERSION_FROM,
    counted: text::VERSION_FROM,
    base: "1 = 1",
    bytes: "octet_length(pipeline_versions.description) + octet_length(specs.body)",
};

/// Adds a pipeline; its name must be free.
pub(crate) async fn insert(conn: &mut Conn, pipeline: &Pipeline) -> Result<(), Error> {
    let args = args![
        pipeline.id,
        &pipeline.name,
        &pipeline.display_name,
        &pipeline.description,
        pipeline.created_at,
        tags_text(&pipeline.tags)?
    ];
    conn.execute(text::INSERT_PIPELINE, args).await?;
    insert_tags(conn, pipeline.id, &pipeline.tags).await
}

async fn insert_tags(
    conn: &mut Conn,
    id: PipelineId,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    for (tag, content) in tags {
        conn.execute(text::INSERT_TAG, args![id, tag, content])
            .await?;
    }
    Ok(())
}

/// The pipeline of an id.
pub(crate) async fn get(conn: &mut Conn, id: PipelineId) -> Result<Option<Pipeline>, Error> {
    conn.fetch_optional(text::GET_PIPELINE, args![id]).await
}

/// The pipeline of a name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Pipeline>, Error> {
    conn.fetch_optional(text::GET_PIPELINE_BY_NAME, args![name])
        .await
}

/// A page of pipelines.
pub(crate) async fn list(conn: &mut Conn, query: &Query) -> Result<Page<Pipeline>, Error> {
    lists::page(conn, LIST, None, query).await
}

/// A page of pipelines that are few enough to read the newest version of each.
pub(crate) async fn list_with_latest(
    conn: &mut Conn,
    query: &Query,
) -> Result<Page<Pipeline>, Error> {
    lists::page(conn, LIST_WITH_LATEST, None, query).await
}

/// Writes the display name and the tags.
pub(crate) async fn update(conn: &mut Conn, pipeline: &Pipeline) -> Result<(), Error> {
    let tags = tags_text(&pipeline.tags)?;
    conn.execute(
        text::UPDATE_PIPELINE,
        args![pipeline.id, &pipeline.display_name, tags],
    )
    .await?;
    conn.execute(text::DELETE_TAGS, args![pipeline.id]).await?;
    insert_tags(conn, pipeline.id, &pipeline.tags).await
}

/// Removes a pipeline, which must have no versions; false when there is none.
pub(crate) async fn delete(conn: &mut Conn, id: PipelineId) -> Result<bool, Error> {
    Ok(conn.execute(text::DELETE_PIPELINE, args![id]).await? > 0)
}

/// Adds a version; its name must be free within the pipeline, which must exist.
pub(crate) async fn insert_version(conn: &mut Conn, version: &Version) -> Result<(), Error> {
    specs::keep(conn, &version.spec).await?;
    let args = args![
        version.id,
        version.pipeline_id,
        &version.name,
        &version.display_name,
        &version.description,
        version.created_at,
        &version.spec.hash,
        &version.code_source_url,
        tags_text(&version.tags)?
    ];
    conn.execute(text::INSERT_VERSION, args).await.map(drop)
}

/// The version of an id.
pub(crate) async fn get_version(
    conn: &mut Conn,
    id: PipelineVersionId,
) -> Result<Option<Version>, Error> {
    conn.fetch_optional(text::GET_VERSION, args![id]).await
}

/// The newest version of a pipeline.
pub(crate) async fn latest_version(
    conn: &mut Conn,
    id: PipelineId,
) -> Result<Option<Version>, Error> {
    conn.fetch_optional(text::LATEST_VERSION, args![id]).await
}

/// A page of the versions of a pipeline.
pub(crate) async fn list_versions(
    conn: &mut Conn,
    pipeline: PipelineId,
    query: &Query,
) -> Result<Page<Version>, Error> {
    let parent = ("pipeline_versions.pipeline_id", pipeline.to_string());
    lists::page(conn, LIST_VERSIONS, Some(parent), query).await
}

/// Writes the display name and the tags.
pub(crate) async fn update_version(conn: &mut Conn, version: &Version) -> Result<(), Error> {
    let args = args![version.id, &version.display_name, tags_text(&version.tags)?];
    conn.execute(text::UPDATE_VERSION, args).await.map(drop)
}

/// Removes a version, and its specification unless a run executes it.
pub(crate) async fn delete_version(conn: &mut Conn, version: &Version) -> Result<(), Error> {
    conn.execute(text::DELETE_VERSION, args![version.id])
        .await?;
    specs::forget(conn, &version.spec.hash).await
}

/// Removes all versions of a pipeline.
pub(crate) async fn delete_versions(conn: &mut Conn, id: PipelineId) -> Result<(), Error> {
    let hashes: Vec<String> = conn.fetch_all(text::VERSION_HASHES, args![id]).await?;
    conn.execute(text::DELETE_VERSIONS, args![id]).await?;
    for hash in hashes {
        specs::forget(conn, &hash).await?;
    }
    Ok(())
}
