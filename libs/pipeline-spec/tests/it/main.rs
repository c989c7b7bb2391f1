//! The specification through its public functions.

#![expect(clippy::unwrap_used, reason = "tests panic")]

mod argo;
mod argo_faults;
mod argo_large;
mod argo_more;
mod argo_volumes;
mod body_faults;
mod descriptor;
mod documents;
mod faults;
mod features;
mod fixtures;
mod parameters;
mod random;

use flumina_pipeline_spec::{Document, Plan};

/// Compiled by the SDK; see `tests/fixtures/compile.py`.
fn fixture(name: &str) -> Document {
    let path = format!("{}/tests/fixtures/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    flumina_pipeline_spec::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn planned(name: &str) -> Plan {
    flumina_pipeline_spec::plan(&fixture(name))
        .unwrap_or_else(|faults| panic!("{name}: {faults:#?}"))
}

/// Faults as lines.
fn lines(faults: &[flumina_pipeline_spec::Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}
