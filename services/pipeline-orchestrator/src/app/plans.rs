//! Plans of specifications, the last used ones in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_spec::{Features, Plan, Source};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sql::Conn;

use crate::domain::violation::{Violation, clip};
use crate::domain::{Spec, boundless, platform};
use crate::error::Error;
use crate::store::specs;

/// Plans that are kept; each takes a few times the memory of its document.
const KEPT: usize = 16;

/// Makes plans and remembers some. Clones share them.
#[derive(Clone, Default)]
pub struct Plans(Arc<Mutex<Kept>>);

/// Plans by the hash of their specification, the last used at the end.
type Kept = VecDeque<(String, Arc<Plan>)>;

/// A specification that was read and found valid.
pub struct Checked {
    /// The specification as it is stored.
    pub spec: Spec,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl Plans {
    /// Reads and plans a specification that came with a request. Faults carry `field` before their own place.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn check(&self, field: &str, value: Value) -> Result<Checked, Error> {
        let spec = spec_of(&value)?;
        if let Some(plan) = self.cached(&spec.hash) {
            return Ok(Checked { spec, plan });
        }
        let plan = Arc::new(plan_of(field.to_owned(), value).await?);
        if let Some(message) = boundless(&plan) {
            return Err(Error::field(field, message));
        }
        self.remember(&spec.hash, &plan);
        Ok(Checked { spec, plan })
    }

    /// The plan of a stored specification.
    ///
    /// # Errors
    /// It is gone, or not valid any more.
    pub async fn stored(&self, conn: &mut Conn, hash: &str) -> Result<Arc<Plan>, Error> {
        if let Some(plan) = self.cached(hash) {
            return Ok(plan);
        }
        let body = specs::get(conn, hash).await?;
        let body = body.ok_or_else(|| Error::Internal(format!("specification {hash} is gone")))?;
        self.of_text(hash, &body).await
    }

    /// The plan of a specification that was just read from the store.
    ///
    /// # Errors
    /// It is not valid any more.
    pub async fn of_text(&self, hash: &str, body: &str) -> Result<Arc<Plan>, Error> {
        if let Some(plan) = self.cached(hash) {
            return Ok(plan);
        }
        let value = serde_json::from_str(body)
            .map_err(|error| Error::Internal(format!("specification {hash}: {error}")))?;
        let plan = Arc::new(plan_of("pipeline_spec".to_owned(), value).await?);
        self.remember(hash, &plan);
        Ok(plan)
    }

    fn cached(&self, hash: &str) -> Option<Arc<Plan>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == hash)?;
        let entry = kept.remove(at)?;
        let plan = Arc::clone(&entry.1);
        kept.push_back(entry);
        Some(plan)
    }

    fn remember(&self, hash: &str, plan: &Arc<Plan>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((hash.to_owned(), Arc::clone(plan)));
    }
}

/// What the engine executes: see [`pipeline_spec::unsupported`].
pub(crate) fn features() -> Features {
    Features {
        conditions: true,
        loops: true,
        artifact_loops: true,
        exit_strategies: true,
        final_status: true,
        one_of: true,
        selectors: true,
        retries: true,
        workspace: true,
        platform: platform::EXECUTED.map(str::to_owned).into(),
        ..Features::default()
    }
}

/// What a plan asks for and the engine does not execute yet.
pub(crate) fn unsupported(field: &str, plan: &Plan) -> Vec<Violation> {
    let faults = pipeline_spec::unsupported(plan, &features());
    let faults = faults.into_iter().map(|fault| violation(field, fault));
    let boundless = boundless(plan).map(|message| Violation {
        field: field.to_owned(),
        message,
    });
    faults.chain(boundless).collect()
}

/// A fault of a specification or its parameters as one of the request.
pub(crate) fn violation(field: &str, fault: pipeline_spec::Fault) -> Violation {
    Violation {
        field: format!("{field}.{}", fault.field),
        message: fault.message,
    }
}

/// The stored form: JSON with sorted keys.
fn spec_of(value: &Value) -> Result<Spec, Error> {
    let body = serde_json::to_string(value)
        .map_err(|error| Error::Internal(format!("cannot write a specification: {error}")))?;
    if body.len() > pipeline_spec::MAX_BYTES {
        let message = format!(
            "must not be larger than {} MiB",
            pipeline_spec::MAX_BYTES >> 20
        );
        return Err(Error::field("pipeline_spec", message));
    }
    let hash = Sha256::digest(&body);
    let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Spec { hash, body })
}

/// Large documents take a while, so they are not planned where other calls wait.
async fn plan_of(field: String, value: Value) -> Result<Plan, Error> {
    let work = move || {
        let source = Source::from_value(value).map_err(|error| match error {
            pipeline_spec::Error::Field {
                field: place,
                message,
            } => Error::field(&format!("{field}.{}", clip(&place)), message),
            other => Error::field(&field, other.to_string()),
        })?;
        source.plan().map_err(|faults| {
            let violations = faults.into_iter().map(|fault| violation(&field, fault));
            Error::Invalid(violations.collect())
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("planning failed: {error}"))),
    }
}
