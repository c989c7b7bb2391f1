//! Pipelines and their versions.

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::{PipelineId, PipelineVersionId};
use serde_json::Value;
use sql::Conn;

use super::{App, Call, Reply};
use crate::domain::{Pipeline, Query, Spec, Version};
use crate::error::Error;
use crate::store::{Page, pipelines};

const PIPELINE: &str = "pipeline";
const VERSION: &str = "pipeline version";

/// A pipeline to create.
#[derive(Debug, Clone)]
pub struct NewPipeline {
    /// The name, unique.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A version to create.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The name, unique within the pipeline.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// The specification.
    pub spec: Value,
    /// Where the code is.
    pub code_source_url: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// What happens to tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagChange {
    /// They stay.
    Keep,
    /// They are replaced.
    Replace(BTreeMap<String, String>),
}

impl TagChange {
    fn apply(self, tags: &mut BTreeMap<String, String>) {
        match self {
            Self::Keep => {}
            Self::Replace(new) => *tags = new,
        }
    }
}

impl NewPipeline {
    fn build(self, now: Timestamp) -> Pipeline {
        Pipeline {
            id: PipelineId::generate(),
            name: self.name,
            display_name: self.display_name,
            description: self.description,
            created_at: now,
            tags: self.tags,
        }
    }
}

impl NewVersion {
    fn build(self, pipeline: PipelineId, spec: Spec, now: Timestamp) -> Version {
        Version {
            id: PipelineVersionId::generate(),
            pipeline_id: pipeline,
            name: self.name,
            display_name: self.display_name,
            description: self.description,
            created_at: now,
            spec,
            code_source_url: self.code_source_url,
            tags: self.tags,
        }
    }
}

impl App {
    /// Creates a pipeline without versions.
    pub async fn create_pipeline(
        &self,
        call: Call<Pipeline>,
        new: NewPipeline,
    ) -> Result<Reply<Pipeline>, Error> {
        let pipeline = new.build(self.parts().clock.now());
        let create = self.mutate(call, move |conn| {
            Box::pin(async move {
                insert(conn, &pipeline).await?;
                Ok(pipeline)
            })
        });
        create.await
    }

    /// Creates a pipeline with its first version. What is not executed yet may be stored; a run of it is refused.
    pub async fn create_pipeline_and_version(
        &self,
        call: Call<Pipeline>,
        new: NewPipeline,
        mut version: NewVersion,
    ) -> Result<Reply<Pipeline>, Error> {
        let spec = std::mem::take(&mut version.spec);
        let checked = self
            .parts()
            .plans
            .check("pipeline_version.pipeline_spec", spec)
            .await?;
        let now = self.parts().clock.now();
        let pipeline = new.build(now);
        let version = version.build(pipeline.id, checked.spec, now);
        let create = self.mutate(call, move |conn| {
            Box::pin(async move {
                insert(conn, &pipeline).await?;
                insert_version(conn, &version).await?;
                Ok(pipeline)
            })
        });
        create.await
    }

    /// Returns a pipeline.
    pub async fn get_pipeline(&self, id: PipelineId) -> Result<Pipeline, Error> {
        let found =
            self.read(move |conn| Box::pin(async move { Ok(pipelines::get(conn, id).await?) }));
        found.await?.ok_or_else(|| Error::not_found(PIPELINE, id))
    }

    /// Returns the pipeline of a name.
    pub async fn get_pipeline_by_name(&self, name: String) -> Result<Pipeline, Error> {
        let wanted = name.clone();
        let found = self.read(move |conn| {
            Box::pin(async move { Ok(pipelines::by_name(conn, &wanted).await?) })
        });
        found.await?.ok_or_else(|| Error::not_found(PIPELINE, name))
    }

    /// Returns a page of pipelines.
    pub async fn list_pipelines(&self, query: Query) -> Result<Page<Pipeline>, Error> {
        let page = self
            .read(move |conn| Box::pin(async move { Ok(pipelines::list(conn, &query).await?) }));
        page.await
    }

    /// Returns a page of pipelines with the newest version of each that has one; it ends early when these are large.
    pub async fn list_pipelines_with_latest(
        &self,
        query: Query,
    ) -> Result<(Page<Pipeline>, BTreeMap<PipelineId, Version>), Error> {
        let read = self.read(move |conn| {
            Box::pin(async move {
                let page = pipelines::list_with_latest(conn, &query).await?;
                let ids = page.items.iter().map(|pipeline| pipeline.id).collect();
                let latest = latest_of(conn, ids).await?;
                Ok((page, latest))
            })
        });
        read.await
    }

    /// Changes the display name, unless it is empty, and the tags.
    pub async fn update_pipeline(
        &self,
        call: Call<Pipeline>,
        id: PipelineId,
        display_name: String,
        tags: TagChange,
    ) -> Result<Reply<Pipeline>, Error> {
        let update = self.mutate(call, move |conn| {
            Box::pin(async move {
                let found = pipelines::get(conn, id).await?;
                let mut pipeline = found.ok_or_else(|| Error::not_found(PIPELINE, id))?;
                if !display_name.is_empty() {
                    pipeline.display_name = display_name;
                }
                tags.apply(&mut pipeline.tags);
                pipelines::update(conn, &pipeline).await?;
                Ok(pipeline)
            })
        });
        update.await
    }

    /// Deletes a pipeline; with versions only if `cascade` is set.
    pub async fn delete_pipeline(
        &self,
        call: Call<()>,
        id: PipelineId,
        cascade: bool,
    ) -> Result<Reply<()>, Error> {
        let delete = self.mutate(call, move |conn| {
            Box::pin(async move {
                if cascade {
                    pipelines::delete_versions(conn, id).await?;
                } else if pipelines::latest_version(conn, id).await?.is_some() {
                    return Err(Error::field(
                        "cascade",
                        format!("pipeline {id} has versions: delete them first, or set cascade"),
                    ));
                }
                match pipelines::delete(conn, id).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Error::not_found(PIPELINE, id)),
                    // A version came in between.
                    Err(sql::Error::ForeignKey) => Err(Error::Conflict),
                    Err(error) => Err(error.into()),
                }
            })
        });
        delete.await
    }

    /// Creates a version of a pipeline.
    pub async fn create_version(
        &self,
        call: Call<Version>,
        pipeline: PipelineId,
        mut new: NewVersion,
    ) -> Result<Reply<Version>, Error> {
        let spec = std::mem::take(&mut new.spec);
        let checked = self
            .parts()
            .plans
            .check("pipeline_version.pipeline_spec", spec)
            .await?;
        let version = new.build(pipeline, checked.spec, self.parts().clock.now());
        let create = self.mutate(call, move |conn| {
            Box::pin(async move {
                let exists = pipelines::get(conn, pipeline).await?.is_some();
                if !exists {
                    return Err(Error::not_found(PIPELINE, pipeline));
                }
                insert_version(conn, &version).await?;
                Ok(version)
            })
        });
        create.await
    }

    /// Returns a version.
    pub async fn get_version(
        &self,
        pipeline: PipelineId,
        id: PipelineVersionId,
    ) -> Result<Version, Error> {
        let found = self
            .read(move |conn| Box::pin(async move { version_of(conn, Some(pipeline), id).await }));
        found.await
    }

    /// Returns a version, whatever its pipeline.
    pub async fn find_version(&self, id: PipelineVersionId) -> Result<Version, Error> {
        let found =
            self.read(move |conn| Box::pin(async move { version_of(conn, None, id).await }));
        found.await
    }

    /// Returns the newest version of a pipeline, if it has one.
    pub async fn latest_version(&self, id: PipelineId) -> Result<Option<Version>, Error> {
        let read = self.read(move |conn| {
            Box::pin(async move { Ok(pipelines::latest_version(conn, id).await?) })
        });
        read.await
    }

    /// Returns a page of the versions of a pipeline.
    pub async fn list_versions(
        &self,
        pipeline: PipelineId,
        query: Query,
    ) -> Result<Page<Version>, Error> {
        let page = self.read(move |conn| {
            Box::pin(async move {
                if pipelines::get(conn, pipeline).await?.is_none() {
                    return Err(Error::not_found(PIPELINE, pipeline));
                }
                Ok(pipelines::list_versions(conn, pipeline, &query).await?)
            })
        });
        page.await
    }

    /// Changes the display name, unless it is empty, and the tags of a version.
    pub async fn update_version(
        &self,
        call: Call<Version>,
        pipeline: PipelineId,
        id: PipelineVersionId,
        display_name: String,
        tags: TagChange,
    ) -> Result<Reply<Version>, Error> {
        let update = self.mutate(call, move |conn| {
            Box::pin(async move {
                let mut version = version_of(conn, Some(pipeline), id).await?;
                if !display_name.is_empty() {
                    version.display_name = display_name;
                }
                tags.apply(&mut version.tags);
                pipelines::update_version(conn, &version).await?;
                Ok(version)
            })
        });
        update.await
    }

    /// Deletes a version; runs of it stay and still know what they execute.
    pub async fn delete_version(
        &self,
        call: Call<()>,
        pipeline: PipelineId,
        id: PipelineVersionId,
    ) -> Result<Reply<()>, Error> {
        let delete = self.mutate(call, move |conn| {
            Box::pin(async move {
                let version = version_of(conn, Some(pipeline), id).await?;
                Ok(pipelines::delete_version(conn, &version).await?)
            })
        });
        delete.await
    }
}

async fn latest_of(
    conn: &mut Conn,
    ids: Vec<PipelineId>,
) -> Result<BTreeMap<PipelineId, Version>, Error> {
    let mut found = BTreeMap::new();
    for id in ids {
        if let Some(version) = pipelines::latest_version(conn, id).await? {
            found.insert(id, version);
        }
    }
    Ok(found)
}

/// A version, which must belong to the pipeline if one is given.
pub(super) async fn version_of(
    conn: &mut Conn,
    pipeline: Option<PipelineId>,
    id: PipelineVersionId,
) -> Result<Version, Error> {
    let found = pipelines::get_version(conn, id).await?;
    found
        .filter(|version| pipeline.is_none_or(|pipeline| version.pipeline_id == pipeline))
        .ok_or_else(|| Error::not_found(VERSION, id))
}

async fn insert(conn: &mut Conn, pipeline: &Pipeline) -> Result<(), Error> {
    let inserted = pipelines::insert(conn, pipeline).await;
    inserted.map_err(|error| Error::taken(error, PIPELINE, &pipeline.name))
}

async fn insert_version(conn: &mut Conn, version: &Version) -> Result<(), Error> {
    let inserted = pipelines::insert_version(conn, version).await;
    inserted.map_err(|error| Error::taken(error, VERSION, &version.name))
}
