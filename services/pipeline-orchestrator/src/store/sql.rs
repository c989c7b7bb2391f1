//! Every statement that is not built for a list. `$1` placeholders are read by both databases.

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $text;)*

        /// All of them by name, for the test that prepares each on both databases.
        #[cfg_attr(not(test), expect(dead_code, reason = "read by a test"))]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

macro_rules! experiment_columns {
    () => {
        "experiments.id, experiments.name, experiments.description, experiments.created_at, \
         experiments.last_run_created_at, experiments.storage_state"
    };
}

macro_rules! pipeline_columns {
    () => {
        "pipelines.id, pipelines.name, pipelines.display_name, pipelines.description, pipelines.created_at, \
         pipelines.tags"
    };
}

macro_rules! version_columns {
    () => {
        "pipeline_versions.id, pipeline_versions.pipeline_id, pipeline_versions.name, \
         pipeline_versions.display_name, pipeline_versions.description, pipeline_versions.created_at, \
         pipeline_versions.spec_hash, pipeline_versions.code_source_url, pipeline_versions.tags, \
         specs.body AS spec_body"
    };
}

macro_rules! run_columns {
    () => {
        "runs.id, runs.experiment_id, runs.display_name, runs.description, runs.storage_state, runs.status, \
         runs.pipeline_id, runs.pipeline_version_id, runs.inline, runs.spec_hash, runs.pipeline_name, \
         runs.pipeline_root, runs.requested_root, runs.service_account, runs.recurring_run_id, runs.created_at, \
         runs.scheduled_at, runs.finished_at, runs.version, runs.body, runs.cancel_requested_at, \
         runs.cancel_reason, runs.cancel_exit_tasks, runs.deleting, runs.keep_artifacts"
    };
}

macro_rules! run_bytes {
    () => {
        "octet_length(runs.body) + octet_length(runs.description)"
    };
}

pub(crate) const EXPERIMENT_COLUMNS: &str = experiment_columns!();
pub(crate) const PIPELINE_COLUMNS: &str = pipeline_columns!();
pub(crate) const VERSION_COLUMNS: &str = version_columns!();
pub(crate) const RUN_COLUMNS: &str = run_columns!();
/// With the specification of runs that brought their own.
pub(crate) const LISTED_RUN_COLUMNS: &str = concat!(run_columns!(), ", specs.body AS spec_body");
pub(crate) const LISTED_RUN_FROM: &str =
    "runs LEFT JOIN specs ON runs.inline AND specs.hash = runs.spec_hash";
/// The bytes of what users decide the size of, in a row of a list of runs.
pub(crate) const LISTED_RUN_BYTES: &str =
    concat!(run_bytes!(), " + COALESCE(octet_length(specs.body), 0)");
/// What a page of runs reads first.
pub(crate) const SIZED_RUN: &str =
    concat!("runs.id AS id, CAST(", run_bytes!(), " AS BIGINT) AS bytes");
/// The same of a pipeline with its newest version, whose parameters are shown twice.
pub(crate) const PIPELINE_BYTES_WITH_LATEST: &str = "octet_length(pipelines.description) + octet_length(pipelines.tags) + \
     2 * COALESCE((SELECT octet_length(specs.body) FROM pipeline_versions JOIN specs ON specs.hash = pipeline_versions.spec_hash \
     WHERE pipeline_versions.pipeline_id = pipelines.id \
     ORDER BY pipeline_versions.created_at DESC, pipeline_versions.id DESC LIMIT 1), 0)";
pub(crate) const VERSION_FROM: &str =
    "pipeline_versions JOIN specs ON specs.hash = pipeline_versions.spec_hash";

/// A document in which strings that are a path ($1 to $2) or begin with one ($3 to $4) are replaced.
macro_rules! moved_document {
    ($column:literal) => {
        concat!(
            "replace(replace(",
            $column,
            ", CAST($1 AS TEXT), CAST($2 AS TEXT)), CAST($3 AS TEXT), CAST($4 AS TEXT))"
        )
    };
}

/// A path that is $5 or beneath it, with $6 in its place.
macro_rules! moved_path {
    ($column:literal) => {
        concat!(
            "CASE WHEN ",
            $column,
            " = CAST($5 AS TEXT) OR substr(",
            $column,
            ", 1, length(CAST($5 AS TEXT)) + 1) = ",
            "CAST($5 AS TEXT) || '/' THEN CAST($6 AS TEXT) || substr(",
            $column,
            ", length(CAST($5 AS TEXT)) + 1) ELSE ",
            $column,
            " END"
        )
    };
}

statements! {
    INSERT_EXPERIMENT =
        "INSERT INTO experiments (id, namespace, name, description, created_at, last_run_created_at, storage_state) \
         VALUES ($1, '', $2, $3, $4, 0, 'AVAILABLE')";
    /// Does nothing when there is an experiment of the name.
    ENSURE_EXPERIMENT =
        "INSERT INTO experiments (id, namespace, name, description, created_at, last_run_created_at, storage_state) \
         VALUES ($1, '', $2, $3, $4, 0, 'AVAILABLE') ON CONFLICT (namespace, name) DO NOTHING";
    GET_EXPERIMENT = concat!("SELECT ", experiment_columns!(), " FROM experiments WHERE id = $1");
    GET_EXPERIMENT_BY_NAME =
        concat!("SELECT ", experiment_columns!(), " FROM experiments WHERE namespace = '' AND name = $1");
    SET_EXPERIMENT_STORAGE = "UPDATE experiments SET storage_state = $2 WHERE id = $1";
    /// Also locks the experiment against being archived meanwhile.
    TOUCH_EXPERIMENT =
        "UPDATE experiments SET last_run_created_at = $2 WHERE id = $1 AND storage_state = 'AVAILABLE'";
    DELETE_EXPERIMENT = "DELETE FROM experiments WHERE id = $1";

    INSERT_PIPELINE =
        "INSERT INTO pipelines (id, namespace, name, display_name, description, created_at, tags) \
         VALUES ($1, '', $2, $3, $4, $5, $6)";
    GET_PIPELINE = concat!("SELECT ", pipeline_columns!(), " FROM pipelines WHERE id = $1");
    GET_PIPELINE_BY_NAME =
        concat!("SELECT ", pipeline_columns!(), " FROM pipelines WHERE namespace = '' AND name = $1");
    UPDATE_PIPELINE = "UPDATE pipelines SET display_name = $2, tags = $3 WHERE id = $1";
    DELETE_PIPELINE = "DELETE FROM pipelines WHERE id = $1";
    INSERT_TAG = "INSERT INTO pipeline_tags (pipeline_id, tag, content) VALUES ($1, $2, $3)";
    DELETE_TAGS = "DELETE FROM pipeline_tags WHERE pipeline_id = $1";

    INSERT_VERSION =
        "INSERT INTO pipeline_versions (id, pipeline_id, name, display_name, description, created_at, spec_hash, \
         package_url, code_source_url, tags) VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9)";
    GET_VERSION = concat!(
        "SELECT ", version_columns!(), " FROM pipeline_versions JOIN specs ON specs.hash = pipeline_versions.spec_hash \
         WHERE pipeline_versions.id = $1"
    );
    LATEST_VERSION = concat!(
        "SELECT ", version_columns!(), " FROM pipeline_versions JOIN specs ON specs.hash = pipeline_versions.spec_hash \
         WHERE pipeline_versions.pipeline_id = $1 \
         ORDER BY pipeline_versions.created_at DESC, pipeline_versions.id DESC LIMIT 1"
    );
    VERSION_HASHES = "SELECT DISTINCT spec_hash AS value FROM pipeline_versions WHERE pipeline_id = $1";
    UPDATE_VERSION = "UPDATE pipeline_versions SET display_name = $2, tags = $3 WHERE id = $1";
    DELETE_VERSION = "DELETE FROM pipeline_versions WHERE id = $1";
    DELETE_VERSIONS = "DELETE FROM pipeline_versions WHERE pipeline_id = $1";

    /// Of a node and a name, the first report counts.
    REPORT_METRIC =
        "INSERT INTO run_metrics (run_id, node_id, name, number_value, format, reported_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    METRICS_OF_RUN =
        "SELECT node_id, name, number_value, format FROM run_metrics WHERE run_id = $1 \
         ORDER BY reported_at, node_id, name LIMIT $2";

    GET_SPEC = "SELECT body AS value FROM specs WHERE hash = $1";
    /// Removes a specification that nothing executes or holds any more.
    FORGET_SPEC =
        "DELETE FROM specs WHERE hash = $1 AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.spec_hash = $1) \
         AND NOT EXISTS (SELECT 1 FROM pipeline_versions WHERE pipeline_versions.spec_hash = $1) \
         AND NOT EXISTS (SELECT 1 FROM schedules WHERE schedules.spec_hash = $1)";

    INSERT_RUN =
        "INSERT INTO runs (id, experiment_id, namespace, display_name, description, storage_state, status, state, \
         state_history, pipeline_id, pipeline_version_id, inline, spec_hash, pipeline_name, pipeline_root, \
         requested_root, service_account, recurring_run_id, created_at, scheduled_at, finished_at, version, body, \
         cancel_requested_at, cancel_reason, deleting, keep_artifacts) \
         VALUES ($1, $2, '', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
         $22, 0, '', FALSE, FALSE)";
    GET_RUN = concat!("SELECT ", run_columns!(), " FROM runs WHERE id = $1");
    /// The engine's write. A request to stop is never hidden again, although the engine may not have seen it.
    UPDATE_RUN =
        "UPDATE runs SET status = $2, state = CASE WHEN cancel_requested_at > 0 AND $3 IN ('PENDING', 'RUNNING') \
         THEN 'CANCELING' ELSE $3 END, state_history = $4, finished_at = $5, version = $6, body = $7 WHERE id = $1";
    SET_RUN_STORAGE = "UPDATE runs SET storage_state = $2 WHERE id = $1 AND NOT deleting";
    ARCHIVE_RUNS_OF_EXPERIMENT =
        "UPDATE runs SET storage_state = 'ARCHIVED' WHERE experiment_id = $1 AND storage_state = 'AVAILABLE'";
    /// Who asks again, or asks while a run that took too long is being stopped, means its exit tasks too; an ended run is
    /// not asked.
    REQUEST_CANCEL =
        "UPDATE runs SET state = 'CANCELING', \
         cancel_exit_tasks = (cancel_requested_at > 0 OR status = 'CANCELING'), \
         cancel_reason = CASE WHEN cancel_requested_at = 0 THEN $3 ELSE cancel_reason END, \
         cancel_requested_at = CASE WHEN cancel_requested_at = 0 THEN $2 ELSE cancel_requested_at END \
         WHERE id = $1 AND NOT deleting AND status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED')";
    /// An ended run starts again unless somebody changed it meanwhile; what asked for its end is forgotten.
    RETRY_RUN =
        "UPDATE runs SET status = $3, state = $4, state_history = $5, finished_at = 0, version = $6, body = $7, \
         cancel_requested_at = 0, cancel_reason = '', cancel_exit_tasks = FALSE WHERE id = $1 AND version = $2 AND NOT deleting";
    REQUEST_DELETE =
        "UPDATE runs SET deleting = TRUE, keep_artifacts = $2 WHERE id = $1 AND NOT deleting";
    DELETE_RUN = "DELETE FROM runs WHERE id = $1 RETURNING spec_hash AS value";
    /// Runs that the engine has something to do for.
    OPEN_RUNS =
        "SELECT id AS value FROM runs \
         WHERE deleting OR status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED') ORDER BY id";

    /// The time of the run is copied, since lists are read from the facts' own indexes.
    PUT_FACT =
        "INSERT INTO run_facts (run_id, kind, name, content, number, created_at) \
         SELECT id, $2, $3, $4, CAST($5 AS DOUBLE PRECISION), created_at FROM runs WHERE id = $1 \
         ON CONFLICT (run_id, kind, name) DO UPDATE SET content = EXCLUDED.content, number = EXCLUDED.number";
    REMOVE_FACT = "DELETE FROM run_facts WHERE run_id = $1 AND kind = $2 AND name = $3";

    TAKE_NUMBERS = "UPDATE sequences SET next = next + $2 WHERE name = $1 RETURNING next AS value";

    GET_ANSWER =
        "SELECT body_hash, response FROM idempotency WHERE caller = $1 AND method = $2 AND request_id = $3";
    INSERT_ANSWER =
        "INSERT INTO idempotency (caller, method, request_id, body_hash, response, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)";
    PURGE_ANSWERS = "DELETE FROM idempotency WHERE created_at < $1";

    RELOCATE_RUNS = concat!(
        "UPDATE runs SET body = ", moved_document!("body"), ", pipeline_root = ", moved_path!("pipeline_root"),
        ", requested_root = ", moved_path!("requested_root"));
    RELOCATE_SCHEDULES = concat!(
        "UPDATE schedules SET body = ", moved_document!("body"), " WHERE CAST($5 AS TEXT) <> CAST($6 AS TEXT)");
    /// A task has no path of its own; the comparison gives the last two placeholders a type.
    RELOCATE_TASKS = concat!(
        "UPDATE tasks SET body = ", moved_document!("body"), " WHERE CAST($5 AS TEXT) <> CAST($6 AS TEXT)");
    RELOCATE_CACHE = concat!(
        "UPDATE cache_entries SET outputs = ", moved_document!("outputs"),
        " WHERE CAST($5 AS TEXT) <> CAST($6 AS TEXT)");
    RELOCATE_ARTIFACTS = concat!(
        "UPDATE artifacts SET metadata = ", moved_document!("metadata"), ", uri = ", moved_path!("uri"));
}

/// Keeps a specification. On PostgreSQL the row is locked, so that nobody removes it meanwhile.
pub(crate) const KEEP_SPEC: (&str, &str) = (
    "INSERT INTO specs (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING",
    "INSERT INTO specs (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET hash = EXCLUDED.hash",
);

/// Reads the number of the newest start of the service and, on PostgreSQL, holds it.
pub(crate) const GET_EPOCH: (&str, &str) = (
    "SELECT next AS value FROM sequences WHERE name = 'epoch'",
    "SELECT next AS value FROM sequences WHERE name = 'epoch' FOR SHARE",
);
