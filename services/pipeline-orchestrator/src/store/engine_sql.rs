//! The engine's statements over tasks and artifacts.

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $text;)*

        /// All that are whole statements, for the test that prepares each on both databases.
        #[cfg_attr(not(test), expect(dead_code, reason = "read by a test"))]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

macro_rules! task_columns {
    () => {
        "id, run_id, parent_id, name, path, kind, status, iteration, created_at, started_at, ended_at, version, body"
    };
}

macro_rules! artifact_columns {
    () => {
        "id, run_id, task_id, name, type, schema_version, instance_schema, uri, metadata, size_bytes, sha256, \
         present, directory, created_at"
    };
}

/// The bytes of what users decide the size of.
macro_rules! task_bytes {
    () => {
        "CAST(octet_length(body) AS BIGINT) AS value"
    };
}

macro_rules! artifact_bytes {
    () => {
        "CAST(octet_length(metadata) + octet_length(uri) + octet_length(instance_schema) AS BIGINT) AS value"
    };
}

/// What removing an artifact needs of it.
macro_rules! place_columns {
    () => {
        "id, run_id, uri"
    };
}

macro_rules! tasks_page {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM tasks WHERE run_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        )
    };
}

macro_rules! tasks_changed {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM tasks WHERE run_id = $1 AND (version > $2 OR (version = $2 AND id > $3)) \
             ORDER BY version, id LIMIT $4"
        )
    };
}

macro_rules! artifacts_by_uri {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM artifacts WHERE uri = $1 ORDER BY id DESC LIMIT $2"
        )
    };
}

macro_rules! metrics_taken_over {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM artifacts WHERE run_id <> $1 AND type = 'system.Metrics' \
             AND id IN (SELECT artifact_id FROM artifact_uses WHERE run_id = $1) ORDER BY id LIMIT $2"
        )
    };
}

statements! {
    UPDATE_TASK =
        "UPDATE tasks SET status = $2, started_at = $3, ended_at = $4, version = $5, body = $6 WHERE id = $1";
    TASKS_OF_RUN = concat!("SELECT ", task_columns!(), " FROM tasks WHERE run_id = $1 ORDER BY id");
    TASKS_PAGE = tasks_page!(task_columns);
    TASKS_PAGE_SIZES = tasks_page!(task_bytes);
    TASKS_CHANGED = tasks_changed!(task_columns);
    TASKS_CHANGED_SIZES = tasks_changed!(task_bytes);
    TASK_BY_ID = concat!("SELECT ", task_columns!(), " FROM tasks WHERE run_id = $1 AND id = $2");
    TASK_BY_PATH = concat!("SELECT ", task_columns!(), " FROM tasks WHERE run_id = $1 AND path = $2");
    TASKS_BY_NAME =
        concat!("SELECT ", task_columns!(), " FROM tasks WHERE run_id = $1 AND name = $2 ORDER BY id LIMIT 2");

    /// What a run recorded or uses.
    ARTIFACTS_USED = concat!(
        "SELECT ", artifact_columns!(), " FROM artifacts WHERE id IN \
         (SELECT artifact_id FROM artifact_uses WHERE run_id = $1) ORDER BY id"
    );
    /// What a run recorded and no other run uses.
    ARTIFACTS_USED_ONLY = concat!(
        "SELECT ", place_columns!(), " FROM artifacts WHERE run_id = $1 \
         AND NOT EXISTS (SELECT 1 FROM artifact_uses WHERE artifact_uses.artifact_id = artifacts.id \
         AND artifact_uses.run_id <> $1) ORDER BY id"
    );
    /// What this run alone uses, of runs that are gone.
    ARTIFACTS_LEFT_BEHIND = concat!(
        "SELECT ", place_columns!(), " FROM artifacts WHERE NOT kept AND run_id <> $1 \
         AND id IN (SELECT artifact_id FROM artifact_uses WHERE run_id = $1) \
         AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = artifacts.run_id) \
         AND NOT EXISTS (SELECT 1 FROM artifact_uses WHERE artifact_uses.artifact_id = artifacts.id \
         AND artifact_uses.run_id <> $1) ORDER BY id"
    );
    KEEP_ARTIFACTS = "UPDATE artifacts SET kept = TRUE WHERE run_id = $1";
    /// The places at or below a path that other runs use, and the roots of other runs there. A path's descendants
    /// sort between the path with `/` and the path with `0`, the character after it.
    PLACES_IN_USE =
        "SELECT artifacts.uri AS value FROM artifacts \
         JOIN artifact_uses ON artifact_uses.artifact_id = artifacts.id \
         WHERE artifact_uses.run_id <> $1 AND (artifacts.uri = $2 OR artifacts.uri = $5 \
         OR (artifacts.uri >= $3 AND artifacts.uri < $4) OR (artifacts.uri >= $6 AND artifacts.uri < $7)) \
         UNION SELECT runs.pipeline_root AS value FROM runs \
         WHERE runs.id <> $1 AND (runs.pipeline_root = $2 OR (runs.pipeline_root >= $3 AND runs.pipeline_root < $4))";
    ARTIFACTS_BY_URI = artifacts_by_uri!(artifact_columns);
    ARTIFACTS_BY_URI_SIZES = artifacts_by_uri!(artifact_bytes);
    ARTIFACT_BY_ID = concat!("SELECT ", artifact_columns!(), " FROM artifacts WHERE id = $1");
    METRICS_BY_ID = concat!(
        "SELECT ", artifact_columns!(), " FROM artifacts WHERE id = $1 AND type = 'system.Metrics'"
    );
    /// The metrics of others that a run took over.
    METRICS_TAKEN_OVER = metrics_taken_over!(artifact_columns);
    METRICS_TAKEN_OVER_SIZES = metrics_taken_over!(artifact_bytes);
    DELETE_ARTIFACT = "DELETE FROM artifacts WHERE id = $1";
}

/// The beginning of an insert of several rows.
pub(crate) const INSERT_TASKS: &str = concat!("INSERT INTO tasks (", task_columns!(), ") VALUES ");
/// The beginning of an insert of several rows.
pub(crate) const INSERT_ARTIFACTS: &str =
    concat!("INSERT INTO artifacts (", artifact_columns!(), ") VALUES ");
/// The beginning of an insert of several rows.
pub(crate) const INSERT_USES: &str = "INSERT INTO artifact_uses (run_id, artifact_id) VALUES ";
/// The end of [`INSERT_USES`].
pub(crate) const OR_NOTHING: &str = " ON CONFLICT (run_id, artifact_id) DO NOTHING";
/// The beginning of a look-up of several artifacts.
pub(crate) const ARTIFACTS_BY_IDS: &str = concat!(
    "SELECT ",
    artifact_columns!(),
    " FROM artifacts WHERE id IN ("
);
/// The beginning of a page of artifacts.
pub(crate) const ARTIFACTS_PAGE: &str = concat!(
    "SELECT ",
    artifact_columns!(),
    " FROM artifacts WHERE id < "
);
/// The same for their sizes.
pub(crate) const ARTIFACTS_PAGE_SIZES: &str =
    concat!("SELECT ", artifact_bytes!(), " FROM artifacts WHERE id < ");
