//! `cargo xtask tidy`: rules of this repository that the compiler does not know.
//!
//! Each check is a pure function over text or over [`metadata::Graph`], returns what is wrong in words, and has a
//! test that it can fail.

mod graph;
mod licences;
mod links;
mod metadata;
mod packages;
mod page;
mod sources;
mod tiers;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::report::Report;
use crate::workspace::Workspace;

/// Where the call graph is committed.
const CALL_GRAPH: &str = "docs/call-graph.txt";

pub(crate) fn run(workspace: &Workspace, renew: bool) -> Result<ExitCode> {
    if renew {
        let graph = metadata::load(workspace)?;
        files::write_atomically(&workspace.root.join(CALL_GRAPH), &graph::render(&graph)?)?;
    }
    let mut report = Report::new(workspace.logs())?;
    check(workspace, &mut report);
    Ok(if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every check as one step of the report.
pub(crate) fn check(workspace: &Workspace, report: &mut Report) {
    report.step("tidy", || everything(workspace), |notes| notes.join("; "));
    report.step(
        "generated code",
        || crate::codegen::check(workspace),
        |()| String::new(),
    );
}

fn everything(workspace: &Workspace) -> Result<Vec<String>> {
    let graph = metadata::load(workspace)?;
    let mut wrong = tiers::check(&graph);
    wrong.extend(packages::check(&graph.external));
    wrong.extend(licences::check(&graph.external));
    wrong.extend(call_graph(workspace, &graph)?);
    wrong.extend(page::check(&workspace.root)?);

    let mut notes = Vec::new();
    let files = files::walk(&workspace.root)?;
    for name in &files {
        if !sources::is_text(name) {
            continue;
        }
        let Some(text) = files::read_text(&workspace.root.join(name))? else {
            continue;
        };
        let findings = sources::check(name, &text);
        wrong.extend(findings.wrong);
        notes.extend(findings.note);
        wrong.extend(links::check(name, &text, |target| {
            workspace.root.join(target).exists()
        }));
    }
    if wrong.is_empty() {
        return Ok(notes);
    }
    bail!("{}", wrong.join("\n"))
}

/// The committed call graph against the manifests.
fn call_graph(workspace: &Workspace, graph: &metadata::Graph) -> Result<Option<String>> {
    let fresh = graph::render(graph)?;
    let path = workspace.root.join(CALL_GRAPH);
    let committed = files::read_text(&path).context(CALL_GRAPH)?;
    Ok((committed.as_deref() != Some(fresh.as_str())).then(|| {
        format!("{CALL_GRAPH} differs from the manifests; review and run `cargo xtask tidy --write`:\n{fresh}")
    }))
}
