//! Every statement.

/// Inserts a workload unless its id is known or must not start.
pub(crate) const INSERT: &str = "INSERT INTO workloads (id, node_id, namespace, owner, state, reason, message, notes, spec, request, boot_id, deleting, created_at, admitted_at, started_at, log_bytes, version, accelerators) \
     SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS TEXT), $9, $10, CAST($11 AS TEXT), FALSE, CAST($12 AS BIGINT), CAST($13 AS BIGINT), CAST($14 AS BIGINT), 0, CAST($15 AS BIGINT), CAST($16 AS TEXT) \
     WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE id = $1) \
     ON CONFLICT (id) DO NOTHING";
/// Changes what may change, unless a later change is already there.
pub(crate) const UPDATE: &str = "UPDATE workloads SET state = $2, reason = $3, message = $4, notes = $5, result = $6, boot_id = $7, deleting = $8, \
     admitted_at = $9, started_at = $10, ended_at = $11, log_bytes = $12, version = $13, accelerators = $14, \
     request = CASE WHEN CAST($11 AS BIGINT) IS NULL THEN request ELSE NULL END \
     WHERE id = $1 AND version < $13";
pub(crate) const GET: &str = "SELECT * FROM workloads WHERE id = $1";
/// One more place than a page shows which of the unfinished ones the node has.
pub(crate) const LIVE: &str = "SELECT * FROM workloads WHERE node_id = $1 AND (ended_at IS NULL OR deleting) ORDER BY created_at, id";
pub(crate) const REMOVE: &str = "DELETE FROM workloads WHERE id = $1";
/// The beginning of a list; the builder adds conditions.
pub(crate) const LIST: &str = "SELECT * FROM workloads WHERE NOT deleting";
/// The same with those that are being removed.
pub(crate) const OWNED: &str = "SELECT * FROM workloads WHERE TRUE";
pub(crate) const COUNT_ID: &str = "SELECT COUNT(*) AS value FROM workloads WHERE id = $1";

pub(crate) const TOMBSTONE: &str = "SELECT * FROM tombstones WHERE id = $1";
pub(crate) const BURY: &str = "INSERT INTO tombstones (id, owner, reason, deleted, created_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (id) DO UPDATE SET deleted = (tombstones.deleted OR excluded.deleted)";
/// Marks of an owner, and marks without owner whose id begins as that owner's ids do.
pub(crate) const FORGET: &str = "DELETE FROM tombstones WHERE owner = $1 OR (owner >= $2 AND owner < $3) \
     OR (owner = '' AND id >= $4 AND id < $5)";
pub(crate) const EXPIRE: &str = "DELETE FROM tombstones WHERE owner = '' AND created_at < $1";

pub(crate) const TAKE_NODE: &str = "INSERT INTO nodes (id, epoch, holder) VALUES ($1, 1, $2) \
     ON CONFLICT (id) DO UPDATE SET epoch = nodes.epoch + 1, holder = excluded.holder RETURNING epoch AS value";
pub(crate) const NODE_EPOCH: &str = "SELECT epoch AS value FROM nodes WHERE id = $1";
pub(crate) const NODE_EPOCH_SHARED: &str =
    "SELECT epoch AS value FROM nodes WHERE id = $1 FOR SHARE";

pub(crate) const USE_ENVIRONMENT: &str = "INSERT INTO environments (key, node_id, builds, created_at, used_at) VALUES ($1, $2, 0, $3, $3) \
     ON CONFLICT (key, node_id) DO UPDATE SET used_at = excluded.used_at";
pub(crate) const COUNT_BUILD: &str = "INSERT INTO environments (key, node_id, builds, created_at, used_at) VALUES ($1, $2, 1, $3, $3) \
     ON CONFLICT (key, node_id) DO UPDATE SET builds = environments.builds + 1, used_at = excluded.used_at RETURNING builds AS value";
pub(crate) const UNUSED_ENVIRONMENTS: &str =
    "SELECT key AS value FROM environments WHERE node_id = $1 AND used_at < $2 ORDER BY key";
pub(crate) const DROP_ENVIRONMENT: &str =
    "DELETE FROM environments WHERE key = $1 AND node_id = $2 AND used_at < $3";

pub(crate) const MESSAGES: &str = "SELECT id, spec, request, result FROM workloads ORDER BY id";
pub(crate) const SET_MESSAGES: &str =
    "UPDATE workloads SET spec = $2, request = $3, result = $4 WHERE id = $1";

pub(crate) const NEW_REQUEST: &str = "INSERT INTO requests (id, method, target, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
pub(crate) const REQUEST: &str =
    "SELECT method || ' ' || target AS value FROM requests WHERE id = $1";
pub(crate) const EXPIRE_REQUESTS: &str = "DELETE FROM requests WHERE created_at < $1";

pub(crate) const NEW_BUNDLE: &str = "INSERT INTO bundles (kind, namespace, name, keys, body, key_id, created_at, updated_at, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1) ON CONFLICT (kind, namespace, name) DO NOTHING";
pub(crate) const PUT_BUNDLE: &str = "INSERT INTO bundles (kind, namespace, name, keys, body, key_id, created_at, updated_at, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1) ON CONFLICT (kind, namespace, name) DO UPDATE SET keys = excluded.keys, \
     body = excluded.body, key_id = excluded.key_id, updated_at = excluded.updated_at, version = bundles.version + 1";
pub(crate) const BUNDLE: &str =
    "SELECT * FROM bundles WHERE kind = $1 AND namespace = $2 AND name = $3";
pub(crate) const BUNDLES: &str =
    "SELECT * FROM bundles WHERE kind = $1 AND namespace = $2 AND name > $3 ORDER BY name LIMIT $4";
pub(crate) const DROP_BUNDLE: &str =
    "DELETE FROM bundles WHERE kind = $1 AND namespace = $2 AND name = $3";

pub(crate) const NEW_VOLUME: &str = "INSERT INTO volumes (namespace, name, node_id, size, access_modes, storage_class, created_by, deleting, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, FALSE, $8) ON CONFLICT (namespace, name) DO NOTHING";
pub(crate) const VOLUME: &str = "SELECT * FROM volumes WHERE namespace = $1 AND name = $2";
pub(crate) const VOLUMES: &str = "SELECT * FROM volumes WHERE namespace = $1 AND name > $2 AND NOT deleting ORDER BY name LIMIT $3";
pub(crate) const LEAVING_VOLUMES: &str =
    "SELECT * FROM volumes WHERE node_id = $1 AND deleting ORDER BY namespace, name";
pub(crate) const LEAVE_VOLUME: &str =
    "UPDATE volumes SET deleting = TRUE WHERE namespace = $1 AND name = $2";
pub(crate) const DROP_VOLUME: &str =
    "DELETE FROM volumes WHERE namespace = $1 AND name = $2 AND deleting";

/// All of them, for the test that prepares each on both databases; [`NODE_EPOCH_SHARED`] is for PostgreSQL alone.
pub(crate) const ALL: &[&str] = &[
    INSERT,
    UPDATE,
    GET,
    LIVE,
    REMOVE,
    LIST,
    OWNED,
    COUNT_ID,
    TOMBSTONE,
    BURY,
    FORGET,
    EXPIRE,
    TAKE_NODE,
    NODE_EPOCH,
    USE_ENVIRONMENT,
    COUNT_BUILD,
    UNUSED_ENVIRONMENTS,
    DROP_ENVIRONMENT,
    MESSAGES,
    SET_MESSAGES,
    NEW_REQUEST,
    REQUEST,
    EXPIRE_REQUESTS,
    NEW_BUNDLE,
    PUT_BUNDLE,
    BUNDLE,
    BUNDLES,
    DROP_BUNDLE,
    NEW_VOLUME,
    VOLUME,
    VOLUMES,
    LEAVING_VOLUMES,
    LEAVE_VOLUME,
    DROP_VOLUME,
];
