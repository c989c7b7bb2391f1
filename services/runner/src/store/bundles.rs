//! Secrets and config maps.

use ::sql::{Error, FromRow, Row, args};
use clock::Timestamp;

use super::requests::{self, Mutation, Refused};
use super::{Store, sql};
use crate::domain::bundle::Kind;

/// A secret or config map as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What it is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The names of its keys, sorted.
    pub keys: Vec<String>,
    /// The values, encoded, and encrypted where there is a key id.
    pub body: Vec<u8>,
    /// The key that it was encrypted with; empty for none.
    pub key_id: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// How often it was stored.
    pub version: i64,
}

impl FromRow for Bundle {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let kind: String = row.get("kind")?;
        let keys: String = row.get("keys")?;
        Ok(Self {
            kind: Kind::parse(&kind)
                .ok_or_else(|| Error::corrupt("kind", format!("unknown kind {kind}")))?,
            namespace: row.get("namespace")?,
            name: row.get("name")?,
            keys: keys.lines().map(str::to_owned).collect(),
            body: row.get("body")?,
            key_id: row.get("key_id")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            version: row.get("version")?,
        })
    }
}

impl Store {
    /// Stores a bundle and returns it as it is then; its times and version are the store's.
    pub async fn put_bundle(
        &self,
        bundle: Bundle,
        replace: bool,
        mutation: Mutation,
    ) -> Result<Bundle, Refused> {
        let statement = if replace {
            sql::PUT_BUNDLE
        } else {
            sql::NEW_BUNDLE
        };
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    let (kind, namespace, name) =
                        (bundle.kind.as_str(), &bundle.namespace, &bundle.name);
                    if requests::begin(conn, &mutation).await? {
                        let values = args![
                            kind,
                            namespace,
                            name,
                            bundle.keys.join("\n"),
                            bundle.body,
                            &bundle.key_id,
                            mutation.now,
                        ];
                        if conn.execute(statement, values).await? == 0 {
                            return Err(Refused::Exists);
                        }
                    }
                    let stored = conn.fetch_optional(sql::BUNDLE, args![kind, namespace, name]);
                    stored.await?.ok_or(Refused::Missing)
                })
            })
            .await
    }

    /// Reads a bundle.
    pub async fn bundle(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bundle>, Error> {
        let values = args![kind.as_str(), namespace, name];
        self.db.fetch_optional(sql::BUNDLE, values).await
    }

    /// Bundles of a namespace by name, after one.
    pub async fn bundles(
        &self,
        kind: Kind,
        namespace: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Bundle>, Error> {
        let values = args![kind.as_str(), namespace, after, limit];
        self.db.fetch_all(sql::BUNDLES, values).await
    }

    /// Removes a bundle.
    pub async fn drop_bundle(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        mutation: Mutation,
    ) -> Result<(), Refused> {
        let values = args![kind.as_str(), namespace, name];
        self.db
            .write(move |conn| {
                Box::pin(async move {
                    let fresh = requests::begin(conn, &mutation).await?;
                    if fresh && conn.execute(sql::DROP_BUNDLE, values).await? == 0 {
                        return Err(Refused::Missing);
                    }
                    Ok(())
                })
            })
            .await
    }
}
