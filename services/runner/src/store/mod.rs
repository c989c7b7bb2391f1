//! The runner's database.

mod bundles;
mod relocate;
mod requests;
mod rows;
pub(crate) mod sql;
mod volumes;

use std::sync::Arc;

use ::sql::{Builder, Conn, Db, Error, Migrations, Options, args};
use clock::Timestamp;
use ids::WorkloadId;
use prost::Message as _;

pub use bundles::Bundle;
pub use relocate::{RelocateError, relocate};
pub use requests::{Mutation, Refused};
pub use rows::{Record, Tombstone, Unfinished};
pub use volumes::Volume;

/// What became of an insert.
#[derive(Debug)]
pub enum Inserted {
    /// The row is there now.
    New,
    /// The id was known.
    Known(Box<Record>),
    /// The id must not start.
    Buried(Tombstone),
}

/// The database, as one node sees it.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    id: String,
    epoch: i64,
}

/// The schema.
pub fn migrations() -> Migrations {
    Migrations {
        sqlite: sqlx::migrate!("migrations/sqlite"),
        postgres: sqlx::migrate!("migrations/postgres"),
    }
}

/// Every statement, for tests.
pub fn statements() -> &'static [&'static str] {
    sql::ALL
}

impl Store {
    /// Opens the database and takes the node: from now on, whoever had it before cannot write.
    pub async fn open(options: &Options, node_id: &str, holder: &str) -> Result<Self, Error> {
        let db = Db::open(options, &migrations()).await?;
        let (id, name) = (node_id.to_owned(), holder.to_owned());
        let epoch = db
            .write(move |conn| {
                Box::pin(async move { conn.fetch_one(sql::TAKE_NODE, args![id, name]).await })
            })
            .await?;
        let node = Arc::new(Node {
            id: node_id.to_owned(),
            epoch,
        });
        Ok(Self { db, node })
    }

    /// The node.
    pub fn node_id(&self) -> &str {
        &self.node.id
    }

    /// The database, for backups and tests.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Writes a new workload with what was asked.
    pub async fn insert(&self, record: &Record, request: Vec<u8>) -> Result<Inserted, Error> {
        let node = Arc::clone(&self.node);
        let id = record.id.clone();
        let values = args![
            &record.id,
            &record.node_id,
            &record.namespace,
            &record.owner,
            record.state.as_str(),
            text(&record.reason),
            text(&record.message),
            text(&record.notes.join("\n")),
            record.spec.encode_to_vec(),
            request,
            &record.boot_id,
            record.created_at,
            record.admitted_at,
            record.started_at,
            record.version,
            devices(record),
        ];
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    check_fence(conn, &node).await?;
                    if conn.execute(sql::INSERT, values).await? == 1 {
                        return Ok(Inserted::New);
                    }
                    if let Some(known) = conn.fetch_optional(sql::GET, args![&id]).await? {
                        return Ok(Inserted::Known(Box::new(known)));
                    }
                    let mark = conn.fetch_one(sql::TOMBSTONE, args![&id]).await?;
                    Ok(Inserted::Buried(mark))
                })
            })
            .await
    }

    /// Writes what changed in several workloads, all or nothing.
    pub async fn save(&self, records: &[Record]) -> Result<(), Error> {
        let node = Arc::clone(&self.node);
        let updates: Vec<_> = records.iter().map(update_args).collect();
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    check_fence(conn, &node).await?;
                    for values in updates {
                        conn.execute(sql::UPDATE, values).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Reads a workload.
    pub async fn get(&self, id: &WorkloadId) -> Result<Option<Record>, Error> {
        self.db.fetch_optional(sql::GET, args![id]).await
    }

    /// Reads a workload with what was asked.
    pub async fn find(&self, id: &WorkloadId) -> Result<Option<Unfinished>, Error> {
        self.db.fetch_optional(sql::GET, args![id]).await
    }

    /// The mark of an id, if it must not start.
    pub async fn tombstone(&self, id: &WorkloadId) -> Result<Option<Tombstone>, Error> {
        self.db.fetch_optional(sql::TOMBSTONE, args![id]).await
    }

    /// The node's workloads that have not ended, or whose deletion is not finished, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        self.db.fetch_all(sql::LIVE, args![&self.node.id]).await
    }

    /// A page of workloads, oldest first, after a key.
    pub async fn page(
        &self,
        owner: &str,
        after: Option<(Timestamp, String)>,
        live_only: bool,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let mut query = Builder::new(sql::LIST);
        if !owner.is_empty() {
            push_owner(&mut query, owner);
        }
        if live_only {
            query.push(" AND ended_at IS NULL");
        }
        if let Some((created_at, id)) = after {
            query.push(" AND (created_at, id) > (");
            query.bind_list([::sql::Value::from(created_at), ::sql::Value::from(id)]);
            query.push(")");
        }
        query.push(" ORDER BY created_at, id LIMIT ");
        query.bind(i64::from(limit));
        let (sql, values) = query.finish();
        self.db.fetch_all(sql, values).await
    }

    /// Some workloads of an owner, also those that are being removed.
    pub async fn owned(&self, owner: &str, limit: u32) -> Result<Vec<Record>, Error> {
        let mut query = Builder::new(sql::OWNED);
        push_owner(&mut query, owner);
        query.push(" ORDER BY id LIMIT ");
        query.bind(i64::from(limit));
        let (sql, values) = query.finish();
        self.db.fetch_all(sql, values).await
    }

    /// Marks an id that is not known, so that it never starts; false when a workload has it.
    pub async fn bury_unknown(
        &self,
        id: &WorkloadId,
        reason: &str,
        deleted: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let node = Arc::clone(&self.node);
        let (id, reason) = (id.clone(), text(reason));
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    check_fence(conn, &node).await?;
                    let known: i64 = conn.fetch_one(sql::COUNT_ID, args![&id]).await?;
                    if known > 0 {
                        return Ok(false);
                    }
                    let values = args![&id, "", reason, deleted, now];
                    conn.execute(sql::BURY, values).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Marks the ids of workloads and records that their files and rows are to go, all or nothing.
    pub async fn bury(&self, records: &[Record], now: Timestamp) -> Result<(), Error> {
        let node = Arc::clone(&self.node);
        let rows: Vec<_> = records
            .iter()
            .map(|record| {
                let mark = args![&record.id, &record.owner, "deleted", true, now];
                (mark, update_args(record))
            })
            .collect();
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    check_fence(conn, &node).await?;
                    for (mark, values) in rows {
                        conn.execute(sql::BURY, mark).await?;
                        conn.execute(sql::UPDATE, values).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Removes the rows of workloads; their marks stay.
    pub async fn remove(&self, ids: &[WorkloadId]) -> Result<(), Error> {
        let ids = ids.to_vec();
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    for id in ids {
                        conn.execute(sql::REMOVE, args![&id]).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Forgets the ids of an owner that is gone.
    pub async fn forget(&self, owner: &str) -> Result<(), Error> {
        let last = owner.rsplit('/').next().unwrap_or_default();
        // `/` is followed by `0`, `.` by `/`: half-open ranges of texts that begin with the prefix.
        let values = args![
            owner,
            format!("{owner}/"),
            format!("{owner}0"),
            format!("{last}."),
            format!("{last}/"),
        ];
        self.db.execute(sql::FORGET, values).await.map(drop)
    }

    /// Forgets marks of ids that nobody launched for long.
    pub async fn expire_marks(&self, before: Timestamp) -> Result<u64, Error> {
        self.db.execute(sql::EXPIRE, args![before]).await
    }

    /// Records that an environment is used now.
    pub async fn use_environment(&self, key: &str, now: Timestamp) -> Result<(), Error> {
        let values = args![key, &self.node.id, now];
        self.db
            .execute(sql::USE_ENVIRONMENT, values)
            .await
            .map(drop)
    }

    /// Numbers the next build of an environment.
    pub async fn count_build(&self, key: &str, now: Timestamp) -> Result<i64, Error> {
        let values = args![key, &self.node.id, now];
        self.db
            .write(move |conn| {
                Box::pin(async move { conn.fetch_one(sql::COUNT_BUILD, values).await })
            })
            .await
    }

    /// Environments that were not used since `before`.
    pub async fn unused_environments(&self, before: Timestamp) -> Result<Vec<String>, Error> {
        let values = args![&self.node.id, before];
        self.db.fetch_all(sql::UNUSED_ENVIRONMENTS, values).await
    }

    /// Drops an environment's row unless it was used after all.
    pub async fn drop_environment(&self, key: &str, before: Timestamp) -> Result<bool, Error> {
        let values = args![key, &self.node.id, before];
        let dropped = self.db.execute(sql::DROP_ENVIRONMENT, values).await?;
        Ok(dropped > 0)
    }
}

fn push_owner(query: &mut Builder, owner: &str) {
    query.push(" AND (owner = ");
    query.bind(owner);
    query.push(" OR (owner >= ");
    query.bind(format!("{owner}/"));
    query.push(" AND owner < ");
    query.bind(format!("{owner}0"));
    query.push("))");
}

/// PostgreSQL takes no NUL in text, and what a program printed may have some.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn update_args(record: &Record) -> Vec<::sql::Value> {
    args![
        &record.id,
        record.state.as_str(),
        text(&record.reason),
        text(&record.message),
        text(&record.notes.join("\n")),
        record.result.as_ref().map(|result| result.encode_to_vec()),
        &record.boot_id,
        record.deleting,
        record.admitted_at,
        record.started_at,
        record.ended_at,
        i64::try_from(record.log_bytes).unwrap_or(i64::MAX),
        record.version,
        devices(record),
    ]
}

fn devices(record: &Record) -> String {
    let lines: Vec<String> = record
        .accelerators
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}

/// On a server, another runner may have taken the node; the lock on the data directory covers a file.
async fn check_fence(conn: &mut Conn, node: &Node) -> Result<(), Error> {
    if !conn.postgres() {
        return Ok(());
    }
    let epoch: i64 = conn
        .fetch_one(sql::NODE_EPOCH_SHARED, args![&node.id])
        .await?;
    if epoch == node.epoch {
        return Ok(());
    }
    Err(Error::corrupt(
        "epoch",
        format!(
            "node {} was taken by another runner (epoch {epoch}, ours is {})",
            node.id, node.epoch
        ),
    ))
}
