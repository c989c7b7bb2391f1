//! What runs are found by: tags, parameters and metrics, and the lists that they make.

use std::collections::{BTreeMap, HashMap};

use ids::{ArtifactId, RunId};
use sql::{Builder, Conn, Error, FromRow, Row, Sql, Value, args, fitting};

use super::lists::pattern;
use super::sql as text;
use crate::domain::{
    Artifact, Compare, Condition, RunKey, RunRecord, RunTest, TaskBody, TaskRecord, cut,
};

/// Parameters or metrics of a run that it is found by.
const MAX_FACTS: usize = 500;
/// Bytes of the parameters of a run that a list shows before the run has begun.
const MAX_GIVEN: i64 = 8 << 10;
/// Bytes of a name; longer ones are not kept.
const MAX_NAME: usize = 255;
const METRICS: &str = "system.Metrics";

/// The kind of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Tag,
    Parameter,
    Metric,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tag => "t",
            Self::Parameter => "p",
            Self::Metric => "m",
        }
    }
}

/// The tags, parameters and metrics of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Parameters as text; long ones are cut.
    pub parameters: BTreeMap<String, String>,
    /// Metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// Writes a fact of a run, in place of one of its name.
pub(crate) async fn put(
    conn: &mut Conn,
    run: RunId,
    kind: Kind,
    name: &str,
    value: &serde_json::Value,
) -> Result<(), Error> {
    if name.len() > MAX_NAME || name.contains('\0') {
        return Ok(());
    }
    let content = pipeline_spec::text_form(value).replace('\0', "\u{fffd}");
    let number = match kind {
        // A tag has no type: what reads as a number can be compared with one.
        Kind::Tag => content
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite()),
        Kind::Parameter | Kind::Metric => value.as_f64(),
    };
    let args = args![run, kind.as_str(), name, cut(&content), number];
    conn.execute(text::PUT_FACT, args).await.map(drop)
}

/// Removes a tag of a run.
pub(crate) async fn remove_tag(conn: &mut Conn, run: RunId, name: &str) -> Result<(), Error> {
    let args = args![run, Kind::Tag.as_str(), name];
    conn.execute(text::REMOVE_FACT, args).await.map(drop)
}

/// Notes the parameters of a run when its root task comes to be: they have the pipeline's defaults.
pub(crate) async fn parameters_of(conn: &mut Conn, record: &TaskRecord) -> Result<(), Error> {
    let body: TaskBody =
        serde_json::from_str(&record.body).map_err(|error| Error::corrupt("body", error))?;
    for (name, value) in body.inputs.parameters.iter().take(MAX_FACTS) {
        put(conn, record.run_id, Kind::Parameter, name, value).await?;
    }
    Ok(())
}

/// Notes the numbers of metrics artifacts of a run.
pub(crate) async fn metrics_of(
    conn: &mut Conn,
    run: RunId,
    artifacts: &[Artifact],
) -> Result<(), Error> {
    let metrics = artifacts
        .iter()
        .filter(|artifact| artifact.artifact_type.schema_title == METRICS);
    for artifact in metrics {
        let numbers = artifact
            .metadata
            .iter()
            .filter(|(_, value)| value.is_number());
        for (name, value) in numbers.take(MAX_FACTS) {
            put(conn, run, Kind::Metric, name, value).await?;
        }
    }
    Ok(())
}

/// The same of artifacts that the run took over from other runs.
pub(crate) async fn metrics_taken_over(
    conn: &mut Conn,
    uses: &[(RunId, ArtifactId)],
) -> Result<(), Error> {
    for (run, artifact) in uses {
        let found: Option<Artifact> = conn
            .fetch_optional(super::engine_sql::METRICS_BY_ID, args![*artifact])
            .await?;
        if let Some(artifact) = found {
            metrics_of(conn, *run, &[artifact]).await?;
        }
    }
    Ok(())
}

struct Fact {
    run: RunId,
    kind: String,
    name: String,
    content: String,
    number: Option<f64>,
}

impl FromRow for Fact {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            run: row.get("run_id")?,
            kind: row.get("kind")?,
            name: row.get("name")?,
            content: row.get("content")?,
            number: row.get("number")?,
        })
    }
}

/// The facts of runs.
pub(crate) async fn of_runs(
    conn: &mut Conn,
    runs: &[RunId],
) -> Result<BTreeMap<RunId, Facts>, Error> {
    let mut all: BTreeMap<RunId, Facts> = BTreeMap::new();
    if runs.is_empty() {
        return Ok(all);
    }
    let mut builder =
        Builder::new("SELECT run_id, kind, name, content, number FROM run_facts WHERE run_id IN (");
    builder.bind_list(runs.iter().copied()).push(")");
    let (statement, args) = builder.finish();
    let found: Vec<Fact> = conn.fetch_all(statement, args).await?;
    for fact in found {
        let facts = all.entry(fact.run).or_default();
        match (fact.kind.as_str(), fact.number) {
            ("t", _) => drop(facts.tags.insert(fact.name, fact.content)),
            ("p", _) => drop(facts.parameters.insert(fact.name, fact.content)),
            (_, Some(number)) => drop(facts.metrics.insert(fact.name, number)),
            (_, None) => {}
        }
    }
    Ok(all)
}

/// A run and its size.
struct Sized {
    id: RunId,
    bytes: i64,
}

impl FromRow for Sized {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            bytes: row.get("bytes")?,
        })
    }
}

const FACTS_SIZES: &str = "SELECT run_id AS id, \
     CAST(SUM(octet_length(name) + octet_length(content)) AS BIGINT) AS bytes FROM run_facts WHERE run_id IN (";

/// A page of runs, newest first, before the place (time, id), and whether there are more.
pub(crate) async fn list(
    conn: &mut Conn,
    conditions: &[Condition],
    before: Option<&(i64, String)>,
    limit: u32,
) -> Result<(Vec<RunRecord>, bool), Error> {
    let (statement, args) = list_statement(conditions, before, limit.saturating_add(1));
    let mut found: Vec<Sized> = conn.fetch_all(statement, args).await?;
    let beyond = found.len() > limit as usize;
    found.truncate(limit as usize);
    let (runs, left) = read_fitting(conn, found).await?;
    Ok((runs, beyond || !left.is_empty()))
}

/// Those of the runs that fulfil the conditions, in no order, and those that did not fit beside them.
pub(crate) async fn among(
    conn: &mut Conn,
    conditions: &[Condition],
    ids: &[RunId],
) -> Result<(Vec<RunRecord>, Vec<RunId>), Error> {
    if ids.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (statement, args) = among_statement(conditions, ids);
    let found = conn.fetch_all(statement, args).await?;
    read_fitting(conn, found).await
}

/// Reads the first runs of which what they are found by fits into one page; also returns the others. Of the parameters
/// that were given stays what a list shows, so that large ones make no page shorter.
async fn read_fitting(
    conn: &mut Conn,
    mut found: Vec<Sized>,
) -> Result<(Vec<RunRecord>, Vec<RunId>), Error> {
    if found.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut builder = Builder::new(FACTS_SIZES);
    builder.bind_list(found.iter().map(|run| run.id));
    builder.push(") GROUP BY run_id");
    let (statement, args) = builder.finish();
    let facts: Vec<Sized> = conn.fetch_all(statement, args).await?;
    let facts: HashMap<RunId, i64> = facts.into_iter().map(|run| (run.id, run.bytes)).collect();
    let shown = |run: &Sized| run.bytes.min(MAX_GIVEN) + facts.get(&run.id).copied().unwrap_or(0);
    let left = found.split_off(fitting(found.iter().map(shown)));
    let mut records = Vec::with_capacity(found.len());
    let mut rest = &found[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest.iter().map(|run| run.bytes)));
        records.extend(read(conn, now).await?);
        rest = later;
    }
    Ok((records, left.into_iter().map(|run| run.id).collect()))
}

async fn read(conn: &mut Conn, runs: &[Sized]) -> Result<Vec<RunRecord>, Error> {
    let mut builder = Builder::new("SELECT ");
    builder.push(text::RUN_COLUMNS);
    builder.push(" FROM runs WHERE runs.id IN (");
    builder.bind_list(runs.iter().map(|run| run.id)).push(")");
    let (statement, args) = builder.finish();
    let records: Vec<RunRecord> = conn.fetch_all(statement, args).await?;
    let mut by_id: HashMap<RunId, RunRecord> = records
        .into_iter()
        .map(|record| (record.run.id, record))
        .collect();
    let in_order = runs.iter().filter_map(|run| by_id.remove(&run.id));
    Ok(in_order.map(shortened).collect())
}

/// With the beginnings of the parameters that were given, as text.
fn shortened(mut record: RunRecord) -> RunRecord {
    let given = std::mem::take(&mut record.run.body.parameters);
    let (mut bytes, mut kept) = (0, serde_json::Map::new());
    for (name, value) in given.into_iter().take(MAX_FACTS) {
        let value = cut(&pipeline_spec::text_form(&value));
        bytes += name.len() + value.len();
        if bytes as i64 > MAX_GIVEN {
            break;
        }
        kept.insert(name, value.into());
    }
    record.run.body.parameters = kept;
    record
}

pub(crate) fn among_statement(conditions: &[Condition], ids: &[RunId]) -> (Sql, Vec<Value>) {
    let mut builder = Builder::new("SELECT ");
    builder.push(text::SIZED_RUN);
    builder.push(" FROM runs WHERE runs.id IN (");
    builder.bind_list(ids.iter().copied()).push(")");
    builder.push(" AND NOT runs.deleting");
    for condition in conditions {
        builder.push(" AND ");
        fulfils(&mut builder, false, condition);
    }
    builder.finish()
}

pub(crate) fn list_statement(
    conditions: &[Condition],
    before: Option<&(i64, String)>,
    limit: u32,
) -> (Sql, Vec<Value>) {
    // A fact that some runs have is looked up in its own index, which has the order of the list too.
    let leader = leader(conditions);
    let mut builder = Builder::new("SELECT ");
    builder.push(text::SIZED_RUN);
    let (time, id) = match leader {
        Some(_) => {
            // A join that SQLite does not turn around.
            builder.push_pair(
                " FROM run_facts AS leader CROSS JOIN runs WHERE runs.id = leader.run_id AND NOT runs.deleting",
                " FROM run_facts AS leader JOIN runs ON runs.id = leader.run_id WHERE NOT runs.deleting",
            );
            ("leader.created_at", "leader.run_id")
        }
        None => {
            builder.push(" FROM runs WHERE NOT runs.deleting");
            ("runs.created_at", "runs.id")
        }
    };
    for (index, condition) in conditions.iter().enumerate() {
        builder.push(" AND ");
        match &condition.key {
            RunKey::Fact(kind, name) if leader == Some(index) => {
                builder.push("leader.kind = ").bind(*kind);
                builder.push(" AND leader.name = ").bind(name.as_str());
                builder.push(" AND ");
                self::test(
                    &mut builder,
                    "leader.content",
                    "leader.number",
                    &condition.test,
                );
            }
            _ => fulfils(&mut builder, leader.is_some(), condition),
        }
    }
    if let Some((at, before)) = before {
        builder
            .push(" AND (")
            .push(time)
            .push(", ")
            .push(id)
            .push(") < (");
        builder.bind(*at).push(", ").bind(before.as_str()).push(")");
    }
    builder
        .push(" ORDER BY ")
        .push(time)
        .push(" DESC, ")
        .push(id);
    builder.push(" DESC LIMIT ").bind(limit);
    builder.finish()
}

/// A condition on a run; with a leading fact, on the run of that fact.
fn fulfils(builder: &mut Builder, led: bool, condition: &Condition) {
    let (kind, name) = match &condition.key {
        RunKey::Text(column) | RunKey::Time(column) => {
            return test(builder, column, column, &condition.test);
        }
        RunKey::Fact(kind, name) => (*kind, name.as_str()),
    };
    let (test, negated) = positive(&condition.test);
    builder.push(if negated { "NOT EXISTS (" } else { "EXISTS (" });
    builder.push("SELECT 1 FROM run_facts AS f");
    if led {
        // Beside the leading fact, in an index of the same order that holds all that is asked: neither the row of the
        // fact nor that of the run is read for those that do not fulfil it. SQLite would take the primary key.
        match &test {
            RunTest::Number(..) => builder.push_pair(" INDEXED BY run_facts_number", ""),
            RunTest::Text(Compare::Equal, _) => {
                builder.push_pair(" INDEXED BY run_facts_content", "")
            }
            RunTest::Text(..) | RunTest::Contains(_) | RunTest::Time(..) => builder,
        };
        builder.push(" WHERE f.run_id = leader.run_id AND f.created_at = leader.created_at");
    } else {
        builder.push(" WHERE f.run_id = runs.id");
    }
    builder.push(" AND f.kind = ").bind(kind);
    builder.push(" AND f.name = ").bind(name).push(" AND ");
    self::test(builder, "f.content", "f.number", &test);
    // Else SQLite makes a join of it, and reads the run's row first.
    builder.push(if led { ") IS TRUE" } else { ")" });
}

/// The condition that finds the fewest runs, as far as can be said without looking.
fn leader(conditions: &[Condition]) -> Option<usize> {
    let rank = |condition: &Condition| match (&condition.key, &condition.test) {
        (RunKey::Fact(..), RunTest::Text(Compare::Equal, _)) => Some(0),
        (RunKey::Fact(..), RunTest::Number(compare, _)) if *compare != Compare::NotEqual => Some(1),
        _ => None,
    };
    let ranked = conditions.iter().enumerate();
    let ranked = ranked.filter_map(|(index, condition)| Some((rank(condition)?, index)));
    ranked.min().map(|(_, index)| index)
}

/// A test and whether its opposite is meant: a run without the fact is different from every value.
fn positive(test: &RunTest) -> (RunTest, bool) {
    match test {
        RunTest::Text(Compare::NotEqual, text) => {
            (RunTest::Text(Compare::Equal, text.clone()), true)
        }
        RunTest::Number(Compare::NotEqual, number) => {
            (RunTest::Number(Compare::Equal, *number), true)
        }
        other => (other.clone(), false),
    }
}

fn test(builder: &mut Builder, text: &'static str, number: &'static str, test: &RunTest) {
    let sign = super::lists::sign;
    match test {
        RunTest::Text(compare, value) => {
            builder.push(text).push(sign(*compare)).bind(value.as_str());
        }
        RunTest::Contains(value) => {
            builder.push(text).push_pair(" LIKE ", " ILIKE ");
            builder.bind(pattern(value)).push(" ESCAPE '\\'");
        }
        RunTest::Number(compare, value) => {
            builder.push(number).push(sign(*compare)).bind(*value);
        }
        RunTest::Time(compare, value) => {
            if number == "runs.finished_at" {
                // 0 stands for "not yet", which is neither before nor after anything.
                builder.push("runs.finished_at > 0 AND ");
            }
            builder.push(number).push(sign(*compare)).bind(*value);
        }
    }
}
