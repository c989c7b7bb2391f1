//! Statements over schedules and backfills.

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $text;)*

        /// All that are whole statements, for the test that prepares each on both databases.
        #[cfg_attr(not(test), expect(dead_code, reason = "read by a test"))]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

macro_rules! schedule_columns {
    () => {
        "schedules.id, schedules.experiment_id, schedules.display_name, schedules.description, schedules.enabled, \
         schedules.pipeline_id, schedules.pipeline_version_id, schedules.inline, schedules.spec_hash, \
         schedules.created_at, schedules.updated_at, schedules.cursor_at, schedules.next_at, \
         schedules.blocked_until, schedules.runs, schedules.version, schedules.body"
    };
}

macro_rules! backfill_columns {
    () => {
        "id, schedule_id, state, created_at, next_run, skipped, blocked_until, body"
    };
}

/// The bytes of what users decide the size of.
macro_rules! bytes {
    () => {
        "CAST(octet_length(body) AS BIGINT) AS value"
    };
}

/// What a statement that reads a page of due schedules says after its columns.
macro_rules! due_schedules {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM schedules WHERE enabled AND next_at > 0 AND next_at <= $1 AND (next_at, id) > ($2, $3) \
             AND (blocked_until <= $1 OR blocked_until > $4) ORDER BY next_at, id LIMIT $5"
        )
    };
}

macro_rules! backfills_of {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM backfills WHERE schedule_id = $1 AND (created_at, id) < ($2, $3) \
             ORDER BY created_at DESC, id DESC LIMIT $4"
        )
    };
}

macro_rules! active_backfills {
    ($columns:ident) => {
        concat!(
            "SELECT ",
            $columns!(),
            " FROM backfills WHERE state = 'ACTIVE' AND id > $2 \
             AND (blocked_until <= $1 OR blocked_until > $3) ORDER BY id LIMIT $4"
        )
    };
}

/// The bytes of what users decide the size of, in a row of a list.
pub(crate) const LISTED_BYTES: &str = "octet_length(schedules.body) + octet_length(schedules.description) + \
     COALESCE(octet_length(specs.body), 0)";
/// A schedule with its own specification.
pub(crate) const LISTED_COLUMNS: &str = concat!(schedule_columns!(), ", specs.body AS spec_body");
pub(crate) const LISTED_FROM: &str =
    "schedules LEFT JOIN specs ON schedules.inline AND specs.hash = schedules.spec_hash";

statements! {
    INSERT_SCHEDULE =
        "INSERT INTO schedules (id, experiment_id, namespace, display_name, description, enabled, pipeline_id, \
         pipeline_version_id, inline, spec_hash, created_at, updated_at, cursor_at, next_at, blocked_until, runs, \
         version, body) \
         VALUES ($1, $2, '', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    /// Only the version that was read is replaced.
    UPDATE_SCHEDULE =
        "UPDATE schedules SET experiment_id = $2, display_name = $3, description = $4, enabled = $5, \
         pipeline_id = $6, pipeline_version_id = $7, inline = $8, spec_hash = $9, updated_at = $10, cursor_at = $11, \
         next_at = $12, blocked_until = $13, runs = $14, version = version + 1, body = $15 \
         WHERE id = $1 AND version = $16";
    GET_SCHEDULE = concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE id = $1");
    GET_LISTED_SCHEDULE = concat!(
        "SELECT ", schedule_columns!(), ", specs.body AS spec_body FROM schedules \
         LEFT JOIN specs ON schedules.inline AND specs.hash = schedules.spec_hash WHERE schedules.id = $1"
    );
    DELETE_SCHEDULE = "DELETE FROM schedules WHERE id = $1 RETURNING spec_hash AS value";
    DISABLE_OF_EXPERIMENT =
        "UPDATE schedules SET enabled = FALSE, version = version + 1 WHERE experiment_id = $1 AND enabled";
    /// In the order of the slots, after ($2, $3). A blocked schedule waits, unless the clock was set back since.
    DUE_SCHEDULES = due_schedules!(schedule_columns);
    DUE_SCHEDULES_SIZES = due_schedules!(bytes);
    /// Whose cursor is ahead of an instant.
    AHEAD_SCHEDULES =
        "SELECT id AS value FROM schedules WHERE enabled AND cursor_at > $1 AND id > $2 ORDER BY id LIMIT $3";
    NEXT_DUE = "SELECT MIN(next_at) AS value FROM schedules WHERE enabled AND next_at > 0 AND next_at > $1";
    /// Those of backfills have a limit of their own.
    ACTIVE_RUNS =
        "SELECT COUNT(*) AS value FROM runs WHERE recurring_run_id = $1 AND recurring_run_id <> '' \
         AND status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED') \
         AND NOT EXISTS (SELECT 1 FROM backfill_runs WHERE backfill_runs.run_id = runs.id)";
    KNOWN_RUN = "SELECT COUNT(*) AS value FROM runs WHERE id = $1";

    INSERT_BACKFILL = concat!(
        "INSERT INTO backfills (", backfill_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    );
    UPDATE_BACKFILL =
        "UPDATE backfills SET state = $2, next_run = $3, skipped = $4, blocked_until = $5, body = $6 \
         WHERE id = $1 AND state = 'ACTIVE'";
    GET_BACKFILL = concat!("SELECT ", backfill_columns!(), " FROM backfills WHERE id = $1");
    BACKFILLS_OF = backfills_of!(backfill_columns);
    BACKFILLS_OF_SIZES = backfills_of!(bytes);
    ACTIVE_BACKFILLS = active_backfills!(backfill_columns);
    ACTIVE_BACKFILLS_SIZES = active_backfills!(bytes);
    COUNT_ACTIVE_BACKFILLS = "SELECT COUNT(*) AS value FROM backfills WHERE schedule_id = $1 AND state = 'ACTIVE'";
    INSERT_BACKFILL_RUN = "INSERT INTO backfill_runs (backfill_id, run_id) VALUES ($1, $2)";
    ACTIVE_OF_BACKFILL =
        "SELECT COUNT(*) AS value FROM backfill_runs JOIN runs ON runs.id = backfill_runs.run_id \
         WHERE backfill_runs.backfill_id = $1 AND runs.status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED')";
}

/// Reads a schedule and, on PostgreSQL, keeps others from changing it.
pub(crate) const LOCK_SCHEDULE: (&str, &str) = (
    GET_SCHEDULE,
    concat!(
        "SELECT ",
        schedule_columns!(),
        " FROM schedules WHERE id = $1 FOR UPDATE"
    ),
);

/// Reads a backfill and, on PostgreSQL, keeps others from changing it.
pub(crate) const LOCK_BACKFILL: (&str, &str) = (
    GET_BACKFILL,
    concat!(
        "SELECT ",
        backfill_columns!(),
        " FROM backfills WHERE id = $1 FOR UPDATE"
    ),
);
