//! Volumes: rows that go with named directories.

use ::sql::{Error, FromRow, Row, args};
use clock::Timestamp;

use super::requests::{self, Mutation, Refused};
use super::{Store, sql};

/// A volume as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How much was asked for; empty for nothing in particular.
    pub size: String,
    /// Access modes as Kubernetes names them.
    pub access_modes: Vec<String>,
    /// The storage class.
    pub storage_class: String,
    /// The workload that made it; empty when a call did.
    pub created_by: String,
    /// Whether it is being removed.
    pub deleting: bool,
    pub created_at: Timestamp,
}

impl FromRow for Volume {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let modes: String = row.get("access_modes")?;
        Ok(Self {
            namespace: row.get("namespace")?,
            name: row.get("name")?,
            size: row.get("size")?,
            access_modes: modes.lines().map(str::to_owned).collect(),
            storage_class: row.get("storage_class")?,
            created_by: row.get("created_by")?,
            deleting: row.get("deleting")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl Store {
    /// Makes the row of a volume; the one that has the name when there is one.
    pub async fn new_volume(
        &self,
        volume: Volume,
        mutation: Mutation,
    ) -> Result<(Volume, bool), Refused> {
        let node = self.node_id().to_owned();
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    let (namespace, name) = (&volume.namespace, &volume.name);
                    let fresh = requests::begin(conn, &mutation).await?;
                    let mut made = !fresh;
                    if fresh {
                        let values = args![
                            namespace,
                            name,
                            node,
                            &volume.size,
                            volume.access_modes.join("\n"),
                            &volume.storage_class,
                            &volume.created_by,
                            volume.created_at,
                        ];
                        made = conn.execute(sql::NEW_VOLUME, values).await? == 1;
                    }
                    let stored = conn.fetch_optional(sql::VOLUME, args![namespace, name]);
                    let stored = stored.await?.ok_or(Refused::Missing)?;
                    Ok((stored, made))
                })
            })
            .await
    }

    /// Reads a volume.
    pub async fn volume(&self, namespace: &str, name: &str) -> Result<Option<Volume>, Error> {
        let values = args![namespace, name];
        self.db.fetch_optional(sql::VOLUME, values).await
    }

    /// Volumes of a namespace by name, after one.
    pub async fn volumes(
        &self,
        namespace: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Volume>, Error> {
        let values = args![namespace, after, limit];
        self.db.fetch_all(sql::VOLUMES, values).await
    }

    /// Volumes of this node whose removal is not finished.
    pub async fn leaving_volumes(&self) -> Result<Vec<Volume>, Error> {
        let values = args![&self.node.id];
        self.db.fetch_all(sql::LEAVING_VOLUMES, values).await
    }

    /// Marks a volume as being removed; false when there is none and nothing to repeat.
    pub async fn leave_volume(
        &self,
        namespace: &str,
        name: &str,
        mutation: Mutation,
    ) -> Result<bool, Refused> {
        let values = args![namespace, name];
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    let fresh = requests::begin(conn, &mutation).await?;
                    let marked = fresh && conn.execute(sql::LEAVE_VOLUME, values).await? == 1;
                    Ok(marked || !fresh)
                })
            })
            .await
    }

    /// Removes the row of a volume whose directory is gone.
    pub async fn drop_volume(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let values = args![namespace, name];
        self.db.execute(sql::DROP_VOLUME, values).await.map(drop)
    }
}
