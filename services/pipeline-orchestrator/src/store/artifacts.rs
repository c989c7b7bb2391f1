//! Artifacts, and which runs use them.

use std::collections::HashMap;

use ids::{ArtifactId, RunId};
use pipeline_spec::plan::ArtifactType;
use sql::{Builder, Conn, Db, Error, FromRow, Row, Value, args};

use super::engine_sql as statements;
use super::facts;
use crate::domain::Artifact;

/// Rows of one insert; the time of it grows with the square of its binds, as for tasks.
const CHUNK: usize = 100;
/// Artifacts of a URI that are looked at.
const OF_URI: u32 = 100;
/// Artifacts of metrics that are taken over.
const TAKEN_OVER: u32 = 200;

impl FromRow for Artifact {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let metadata: String = row.get("metadata")?;
        let size: i64 = row.get("size_bytes")?;
        Ok(Self {
            id: row.get("id")?,
            run_id: row.get("run_id")?,
            task_id: row.get("task_id")?,
            name: row.get("name")?,
            artifact_type: ArtifactType {
                schema_title: row.get("type")?,
                schema_version: row.get("schema_version")?,
                instance_schema: row.get("instance_schema")?,
            },
            uri: row.get("uri")?,
            metadata: serde_json::from_str(&metadata)
                .map_err(|error| Error::corrupt("metadata", error))?,
            size_bytes: u64::try_from(size).unwrap_or(0),
            sha256: row.get("sha256")?,
            present: row.get("present")?,
            directory: row.get("directory")?,
            created_at: row.get("created_at")?,
        })
    }
}

/// Where an artifact is, for its removal; their number has no limit, so the rest of them is not read.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: ArtifactId,
    pub(crate) run_id: RunId,
    pub(crate) uri: String,
}

impl FromRow for Place {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            run_id: row.get("run_id")?,
            uri: row.get("uri")?,
        })
    }
}

/// Adds artifacts and notes that their run uses them.
pub(crate) async fn insert(conn: &mut Conn, artifacts: &[Artifact]) -> Result<(), Error> {
    for chunk in artifacts.chunks(CHUNK) {
        let mut builder = Builder::new(statements::INSERT_ARTIFACTS);
        builder.bind_rows(chunk.iter().map(columns));
        let (sql, args) = builder.finish();
        conn.execute(sql, args).await?;
    }
    for artifact in artifacts {
        let one = std::slice::from_ref(artifact);
        facts::metrics_of(conn, artifact.run_id, one).await?;
    }
    let uses: Vec<(RunId, ArtifactId)> = artifacts
        .iter()
        .map(|artifact| (artifact.run_id, artifact.id))
        .collect();
    add_uses(conn, &uses).await
}

/// Notes that runs use artifacts of other runs; saying it twice is fine.
pub(crate) async fn insert_uses(
    conn: &mut Conn,
    uses: Vec<(RunId, ArtifactId)>,
) -> Result<(), Error> {
    facts::metrics_taken_over(conn, &uses).await?;
    add_uses(conn, &uses).await
}

async fn add_uses(conn: &mut Conn, uses: &[(RunId, ArtifactId)]) -> Result<(), Error> {
    for chunk in uses.chunks(CHUNK) {
        let mut builder = Builder::new(statements::INSERT_USES);
        builder.bind_rows(chunk.iter().map(|(run, artifact)| args![*run, *artifact]));
        builder.push(statements::OR_NOTHING);
        let (sql, args) = builder.finish();
        conn.execute(sql, args).await?;
    }
    Ok(())
}

fn columns(artifact: &Artifact) -> Vec<Value> {
    let metadata = serde_json::Value::Object(artifact.metadata.clone()).to_string();
    args![
        artifact.id,
        artifact.run_id,
        artifact.task_id,
        &artifact.name,
        &artifact.artifact_type.schema_title,
        &artifact.artifact_type.schema_version,
        &artifact.artifact_type.instance_schema,
        &artifact.uri,
        metadata,
        i64::try_from(artifact.size_bytes).unwrap_or(i64::MAX),
        &artifact.sha256,
        artifact.present,
        artifact.directory,
        artifact.created_at,
    ]
}

/// The artifacts that a run recorded or uses.
pub(crate) async fn used_by(conn: &mut Conn, run: RunId) -> Result<Vec<Artifact>, Error> {
    conn.fetch_all(statements::ARTIFACTS_USED, args![run]).await
}

/// The artifacts that this run alone uses: they go when it goes.
pub(crate) async fn used_by_only(conn: &mut Conn, run: RunId) -> Result<Vec<Place>, Error> {
    conn.fetch_all(statements::ARTIFACTS_USED_ONLY, args![run])
        .await
}

/// The artifacts of runs that are gone which this run alone uses: they go when it goes.
pub(crate) async fn left_behind(conn: &mut Conn, run: RunId) -> Result<Vec<Place>, Error> {
    conn.fetch_all(statements::ARTIFACTS_LEFT_BEHIND, args![run])
        .await
}

/// Notes that the artifacts of a run stay, whoever uses them.
pub(crate) async fn keep(conn: &mut Conn, run: RunId) -> Result<(), Error> {
    conn.execute(statements::KEEP_ARTIFACTS, args![run]).await?;
    Ok(())
}

/// The newest artifacts of a URI, for an importer that may use one again; as many as fit.
pub(crate) async fn by_uri(conn: &mut Conn, uri: &str) -> Result<Vec<Artifact>, Error> {
    let newest = conn.fetch_fitting(
        statements::ARTIFACTS_BY_URI_SIZES,
        statements::ARTIFACTS_BY_URI,
        args![uri, OF_URI],
    );
    Ok(newest.await?.0)
}

/// The artifact of an id.
pub(crate) async fn by_id(conn: &mut Conn, id: ArtifactId) -> Result<Option<Artifact>, Error> {
    conn.fetch_optional(statements::ARTIFACT_BY_ID, args![id])
        .await
}

/// Artifacts by their ids.
pub(crate) async fn by_ids(
    db: &Db,
    ids: &[ArtifactId],
) -> Result<HashMap<ArtifactId, Artifact>, Error> {
    let mut found = HashMap::new();
    for chunk in ids.chunks(CHUNK) {
        let mut builder = Builder::new(statements::ARTIFACTS_BY_IDS);
        builder.bind_list(chunk.iter().copied()).push(")");
        let (sql, args) = builder.finish();
        let artifacts: Vec<Artifact> = db.fetch_all(sql, args).await?;
        found.extend(
            artifacts
                .into_iter()
                .map(|artifact| (artifact.id, artifact)),
        );
    }
    Ok(found)
}

/// A page of artifacts, newest first, before an artifact, and whether there are more.
pub(crate) async fn page(
    conn: &mut Conn,
    run: Option<RunId>,
    artifact_type: &str,
    before: ArtifactId,
    limit: u32,
) -> Result<(Vec<Artifact>, bool), Error> {
    let statement = |begin| {
        let mut builder = Builder::new(begin);
        builder.bind(before);
        if let Some(run) = run {
            builder.push(" AND run_id = ").bind(run);
        }
        if !artifact_type.is_empty() {
            builder.push(" AND type = ").bind(artifact_type);
        }
        builder.push(" ORDER BY id DESC LIMIT ").bind(limit);
        builder.finish()
    };
    let (sizes, _) = statement(statements::ARTIFACTS_PAGE_SIZES);
    let (sql, args) = statement(statements::ARTIFACTS_PAGE);
    conn.fetch_fitting(sizes, sql, args).await
}

/// The metrics that a run took over from other runs with the outputs of cached steps, oldest first.
pub(crate) async fn metrics_taken_over(
    conn: &mut Conn,
    run: RunId,
) -> Result<Vec<Artifact>, Error> {
    let oldest = conn.fetch_fitting(
        statements::METRICS_TAKEN_OVER_SIZES,
        statements::METRICS_TAKEN_OVER,
        args![run, TAKEN_OVER],
    );
    Ok(oldest.await?.0)
}

/// Removes artifacts.
pub(crate) async fn delete(conn: &mut Conn, ids: &[ArtifactId]) -> Result<(), Error> {
    for id in ids {
        conn.execute(statements::DELETE_ARTIFACT, args![*id])
            .await?;
    }
    Ok(())
}

/// The paths at or below `base` that other runs than `run` use or write to.
pub(crate) async fn in_use(conn: &mut Conn, run: RunId, base: &str) -> Result<Vec<String>, Error> {
    let args = args![
        run,
        base,
        format!("{base}/"),
        format!("{base}0"),
        format!("file://{base}"),
        format!("file://{base}/"),
        format!("file://{base}0"),
    ];
    let places: Vec<String> = conn.fetch_all(statements::PLACES_IN_USE, args).await?;
    let path = |uri: &String| {
        let path = uri.strip_prefix("file://").unwrap_or(uri);
        path.trim_end_matches('/').to_owned()
    };
    Ok(places.iter().map(path).collect())
}
