//! Which service calls which, from the contracts in the manifests, and the order in which they start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Result, bail};

use super::metadata::Graph;

/// The service that serves each contract. A contract of messages only has none.
const SERVERS: &[(&str, Option<&str>)] = &[
    ("google", None),
    ("kfp", Some("pipeline-orchestrator")),
    ("kfp1", Some("pipeline-orchestrator")),
    ("pipelines", Some("pipeline-orchestrator")),
    ("runner", Some("runner")),
    ("step", None),
];

/// Composition roots and clients: they talk to everything and nothing waits for them.
const CLIENTS: &[&str] = &["single-node", "cli", "agent"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    serves: BTreeSet<String>,
    /// Contract and the service behind it.
    calls: BTreeSet<(String, String)>,
}

/// The text of `docs/call-graph.txt`.
pub(crate) fn render(graph: &Graph) -> Result<String> {
    let calls = calls(graph)?;
    let mut text = String::from(
        "# Which service calls which, read from the manifests. Compared by `cargo xtask tidy`, renewed by\n\
         # `cargo xtask tidy --write`. A service starts after those that it calls, so there is no cycle.\n\n",
    );
    for (service, Calls { serves, calls }) in &calls {
        let serves: Vec<&str> = serves.iter().map(String::as_str).collect();
        let calls: Vec<String> = calls
            .iter()
            .map(|(contract, server)| format!("{server} by {contract}"))
            .collect();
        let or_nothing = |list: String| {
            if list.is_empty() {
                "nothing".to_owned()
            } else {
                list
            }
        };
        writeln!(text, "{service}")?;
        writeln!(text, "  serves {}", or_nothing(serves.join(", ")))?;
        writeln!(text, "  calls  {}", or_nothing(calls.join(", ")))?;
    }
    writeln!(text, "\nstart order: {}", start_order(&calls)?.join(", "))?;
    Ok(text)
}

fn calls(graph: &Graph) -> Result<BTreeMap<String, Calls>> {
    let mut all = BTreeMap::new();
    for ours in &graph.ours {
        let Some(service) = ours.folder.strip_prefix("services/") else {
            continue;
        };
        if CLIENTS.contains(&service) {
            continue;
        }
        let mut found = Calls::default();
        for used in ours.uses.iter().filter(|used| !used.dev) {
            let Some(contract) = used.folder.strip_prefix("libs/api/") else {
                continue;
            };
            let server = SERVERS.iter().find(|(known, _)| *known == contract);
            match server {
                None => bail!(
                    "say in libs/xtask/src/tidy/graph.rs who serves the contract `{contract}`"
                ),
                Some((_, None)) => {}
                Some((_, Some(server))) if *server == service => {
                    found.serves.insert(contract.to_owned());
                }
                Some((_, Some(server))) => {
                    found
                        .calls
                        .insert((contract.to_owned(), (*server).to_owned()));
                }
            }
        }
        all.insert(service.to_owned(), found);
    }
    Ok(all)
}

/// Callees before callers.
fn start_order(calls: &BTreeMap<String, Calls>) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    let mut left: BTreeSet<&String> = calls.keys().collect();
    while !left.is_empty() {
        let ready: Vec<&String> = left
            .iter()
            .copied()
            .filter(|service| {
                calls[*service]
                    .calls
                    .iter()
                    .all(|(_, server)| order.contains(server))
            })
            .collect();
        if ready.is_empty() {
            let names: Vec<&str> = left.iter().map(|name| name.as_str()).collect();
            bail!(
                "services wait for each other at start: {}",
                names.join(", ")
            );
        }
        for service in ready {
            left.remove(service);
            order.push(service.clone());
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::{Crate, Use};

    fn service(name: &str, contracts: &[&str]) -> Crate {
        Crate {
            folder: format!("services/{name}"),
            uses: contracts
                .iter()
                .map(|contract| Use {
                    folder: format!("libs/api/{contract}"),
                    dev: false,
                })
                .collect(),
            ..Crate::default()
        }
    }

    fn graph(ours: Vec<Crate>) -> Graph {
        Graph {
            ours,
            external: Vec::new(),
        }
    }

    #[test]
    fn callees_start_first() {
        let graph = graph(vec![
            service("gateway", &["kfp", "runner"]),
            service("pipeline-orchestrator", &["kfp", "runner", "step"]),
            service("runner", &["runner"]),
        ]);
        let text = render(&graph).unwrap();
        assert!(
            text.contains("start order: runner, pipeline-orchestrator, gateway"),
            "{text}"
        );
        assert!(
            text.contains("pipeline-orchestrator by kfp, runner by runner"),
            "{text}"
        );
    }

    #[test]
    fn a_cycle_is_refused() {
        let graph = graph(vec![
            service("pipeline-orchestrator", &["runner"]),
            service("runner", &["kfp"]),
        ]);
        let error = render(&graph).unwrap_err().to_string();
        assert!(error.contains("pipeline-orchestrator, runner"), "{error}");
    }

    #[test]
    fn a_contract_without_a_known_server_is_refused() {
        let error = render(&graph(vec![service("gateway", &["tuner"])])).unwrap_err();
        assert!(error.to_string().contains("`tuner`"));
    }
}
