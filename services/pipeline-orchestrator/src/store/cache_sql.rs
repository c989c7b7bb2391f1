//! The statements over the cache.

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $text;)*

        /// All that are whole statements, for the test that prepares each on both databases.
        #[cfg_attr(not(test), expect(dead_code, reason = "read by a test"))]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

macro_rules! entry_columns {
    () => {
        "cache_entries.id, cache_entries.pipeline_name, cache_entries.key, cache_entries.kind, cache_entries.run_id, \
         cache_entries.task_path, cache_entries.outputs, cache_entries.created_at, cache_entries.expires_at, \
         cache_entries.hits, cache_entries.last_hit_at"
    };
}

statements! {
    BY_ID = concat!("SELECT ", entry_columns!(), " FROM cache_entries WHERE id = $1 AND NOT running");
    USES =
        "SELECT run_id, task_id FROM cache_uses WHERE entry_id = $1 ORDER BY task_id DESC LIMIT $2";
    DELETE = "DELETE FROM cache_entries WHERE id = $1";
    DELETE_ENTRY = "DELETE FROM cache_entries WHERE id = $1 AND NOT running";
    SUCCEED =
        "UPDATE cache_entries SET running = FALSE, outputs = $2, created_at = $3, expires_at = $4 WHERE id = $1";
    /// Also holds the entry against being removed meanwhile.
    COUNT_USE =
        "UPDATE cache_entries SET hits = hits + 1, last_hit_at = $2 WHERE id = $1 AND NOT running";
    INSERT_USE =
        "INSERT INTO cache_uses (entry_id, task_id, run_id) VALUES ($1, $2, $3) \
         ON CONFLICT (entry_id, task_id) DO NOTHING";
    RELEASE_RUN =
        "DELETE FROM cache_entries WHERE run_id = $1 AND running RETURNING id AS value";
    KEEP_RUN = "UPDATE cache_entries SET kept = TRUE WHERE run_id = $1 AND NOT running";
    /// What a run leaves that nobody needs: see [`super::cache::forget_run`].
    FORGET_RUN =
        "DELETE FROM cache_entries WHERE NOT running AND NOT kept \
         AND (run_id = $1 OR id IN (SELECT entry_id FROM cache_uses WHERE run_id = $1)) \
         AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = cache_entries.run_id AND runs.id <> $1) \
         AND NOT EXISTS (SELECT 1 FROM cache_uses WHERE cache_uses.entry_id = cache_entries.id \
         AND cache_uses.run_id <> $1)";
    PURGE = "DELETE FROM cache_entries WHERE expires_at > 0 AND expires_at <= $1 AND NOT running";
}

/// The beginning of a look-up of several keys of a pipeline.
pub(crate) const LOOK_UP: &str = concat!(
    "SELECT ",
    entry_columns!(),
    ", cache_entries.running, ",
    "(runs.id IS NULL OR runs.status IN ('SUCCEEDED', 'FAILED', 'CANCELED')) AS run_ended ",
    "FROM cache_entries LEFT JOIN runs ON runs.id = cache_entries.run_id ",
    "WHERE cache_entries.id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER ",
    "(PARTITION BY key, running ORDER BY created_at DESC, id DESC) AS place FROM cache_entries ",
    "WHERE namespace = '' AND pipeline_name = "
);
/// The beginning of a look-up of several tasks.
pub(crate) const RUNNING: &str = "SELECT id AS value FROM cache_entries WHERE running AND id IN (";
/// The beginning of an insert of several rows.
pub(crate) const INSERT_LEADERS: &str = "INSERT INTO cache_entries (id, namespace, pipeline_name, key, kind, running, \
     run_id, task_path, outputs, created_at, expires_at) VALUES ";
/// The end of [`INSERT_LEADERS`].
pub(crate) const UNLESS_RUNNING: &str =
    " ON CONFLICT (namespace, pipeline_name, key) WHERE running DO NOTHING";
/// The same as [`PAGE`] for the sizes of the entries.
pub(crate) const PAGE_SIZES: &str = "SELECT CAST(octet_length(outputs) AS BIGINT) AS value \
     FROM cache_entries WHERE NOT running AND id < ";
/// The beginning of a page of entries.
pub(crate) const PAGE: &str = concat!(
    "SELECT ",
    entry_columns!(),
    " FROM cache_entries WHERE NOT running AND id < "
);
