//! Stored paths after the artifact store was moved, with the data directory or out of a backup.
//!
//! Locations of artifacts are absolute paths, since programs use them as they are. They stand in columns of their own
//! and as strings in documents, also in documents within strings, whose quotes are escaped: there, a path is what
//! follows a quote.

use sql::{Db, Error, args};

use super::sql as statements;
use crate::Config;

/// Rewrites every stored path beneath `from` to one beneath `to`, in one transaction. Nobody else may use the database.
/// Doing it again changes nothing, unless `to` lies beneath `from`.
///
/// # Errors
/// The database cannot be used; then nothing has changed.
pub async fn relocate(config: &Config, from: &str, to: &str) -> Result<(), Error> {
    let db = Db::open(&config.database(), &super::migrations()).await?;
    let (from, to) = (from.to_owned(), to.to_owned());
    let outcome = db
        .write(move |conn| {
            Box::pin(async move {
                let (old, new) = (quoted(&from), quoted(&to));
                let [whole, beneath] = [format!("{old}\""), format!("{old}/")];
                let [new_whole, new_beneath] = [format!("{new}\""), format!("{new}/")];
                for statement in [
                    statements::RELOCATE_RUNS,
                    statements::RELOCATE_TASKS,
                    statements::RELOCATE_SCHEDULES,
                    statements::RELOCATE_ARTIFACTS,
                    statements::RELOCATE_CACHE,
                ] {
                    let values = args![
                        whole.as_str(),
                        new_whole.as_str(),
                        beneath.as_str(),
                        new_beneath.as_str(),
                        from.as_str(),
                        to.as_str()
                    ];
                    conn.execute(statement, values).await?;
                }
                Ok::<(), Error>(())
            })
        })
        .await;
    db.close().await;
    outcome
}

/// A path at the beginning of a JSON string.
fn quoted(path: &str) -> String {
    let text = serde_json::Value::from(path).to_string();
    text.trim_end_matches('"').to_owned()
}
