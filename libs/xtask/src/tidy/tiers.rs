//! Who may depend on whom.
//!
//! | tier | crates | may depend on |
//! |---|---|---|
//! | 0 | `ids`, `clock`, `api/*`, `pipeline-spec`, `step`, `optimizers` | external crates; an `api/*` on another |
//! | 1 | `aip`, `sql`, `objects`, `auth` | tier 0; `auth` on `aip` |
//! | 2 | `runtime`, `rpc`, `reconcile`, `resource`, `k8s` | tiers 0 and 1; a few pairs of tier 2 |
//! | 3 | `services/*` | tiers 0 to 2, never another service; `agent` only tiers 0 and 1 |
//! | 4 | `single-node`, `cli`, `xtask`, `codegen`, `integration-tests` | everything; only `cli` and tests on `single-node` |
//! | dev | `testkit`, `testkit-s3` | tiers 0 to 2; used by tests only |

use super::metadata::{Crate, Graph};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Contract,
    Pure,
    Base,
    Platform,
    Service,
    Agent,
    Top,
    Testkit,
}

/// Pairs of tier 1 and of tier 2 that may depend on each other, in this direction.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("libs/auth", "libs/aip"),
    ("libs/rpc", "libs/runtime"),
    ("libs/reconcile", "libs/runtime"),
    ("libs/resource", "libs/reconcile"),
    ("libs/resource", "libs/k8s"),
];

/// Heavy packages, by prefix of their name, and the folders that own them. Services also own sqlx when they keep
/// a database.
const OWNERS: &[(&str, &[&str])] = &[
    ("kube", &["libs/k8s", "services/runner"]),
    ("k8s-openapi", &["libs/k8s", "services/runner"]),
    ("sqlx", &["libs/sql"]),
    ("envoy-types", &["services/mesh"]),
    ("object_store", &["libs/objects"]),
    ("opentelemetry", &["libs/runtime"]),
];

/// Everything that breaks the table above.
pub(crate) fn check(graph: &Graph) -> Vec<String> {
    graph.ours.iter().flat_map(check_crate).collect()
}

fn check_crate(from: &Crate) -> Vec<String> {
    let Some(place) = place_of(&from.folder) else {
        return vec![format!(
            "{}: a crate in a folder that belongs to no tier",
            from.folder
        )];
    };
    let mut wrong = Vec::new();
    for used in &from.uses {
        let allowed = place_of(&used.folder)
            .is_some_and(|to| may_use(&from.folder, place, &used.folder, to, used.dev));
        if !allowed {
            wrong.push(format!(
                "{} must not depend on {}",
                from.folder, used.folder
            ));
        }
    }
    for package in &from.external {
        let owners = OWNERS.iter().find(|(heavy, _)| package.starts_with(heavy));
        let Some((heavy, owners)) = owners else {
            continue;
        };
        let keeps_rows = *heavy == "sqlx" && place == Place::Service && from.has_store;
        if !owners.contains(&from.folder.as_str()) && !keeps_rows {
            wrong.push(format!(
                "{} must not depend on {package}; take its types from {}",
                from.folder,
                owners.join(" or ")
            ));
        }
    }
    wrong
}

fn place_of(folder: &str) -> Option<Place> {
    if folder
        .strip_prefix("libs/api/")
        .is_some_and(|name| !name.contains('/'))
    {
        return Some(Place::Contract);
    }
    Some(match folder {
        "libs/ids" | "libs/clock" | "libs/pipeline-spec" | "libs/step" | "libs/optimizers" => {
            Place::Pure
        }
        "libs/aip" | "libs/sql" | "libs/objects" | "libs/auth" => Place::Base,
        "libs/runtime" | "libs/rpc" | "libs/reconcile" | "libs/resource" | "libs/k8s" => {
            Place::Platform
        }
        "libs/testkit" | "libs/testkit-s3" => Place::Testkit,
        "libs/xtask"
        | "libs/codegen"
        | "integration-tests"
        | "services/single-node"
        | "services/cli" => Place::Top,
        "services/agent" => Place::Agent,
        _ if folder.starts_with("services/") => Place::Service,
        _ => return None,
    })
}

fn may_use(from: &str, place: Place, used: &str, to: Place, dev: bool) -> bool {
    use Place::{Agent, Base, Contract, Platform, Pure, Service, Testkit, Top};
    if NEIGHBOURS.contains(&(from, used)) {
        return true;
    }
    match (place, to) {
        (_, Testkit) => dev || from == "integration-tests",
        (Top, Top) => {
            used == "services/single-node" && matches!(from, "services/cli" | "integration-tests")
        }
        (Top, _) | (Contract, Contract) => true,
        (Base | Agent, Contract | Pure) | (Agent, Base) => true,
        (Platform | Testkit, Contract | Pure | Base) | (Testkit, Platform) => true,
        (Service, Contract | Pure | Base | Platform) => true,
        (Pure | Contract | Base | Platform | Service | Agent | Testkit, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::Use;

    fn wrong(folder: &str, used: &str, dev: bool) -> Vec<String> {
        let from = Crate {
            folder: folder.to_owned(),
            uses: vec![Use {
                folder: used.to_owned(),
                dev,
            }],
            ..Crate::default()
        };
        check_crate(&from)
    }

    #[test]
    fn services_do_not_depend_on_services() {
        assert_eq!(
            wrong("services/gateway", "services/runner", false),
            ["services/gateway must not depend on services/runner"]
        );
        assert!(!wrong("services/gateway", "services/runner", true).is_empty());
    }

    #[test]
    fn lower_tiers_do_not_look_up() {
        for (from, used) in [
            ("libs/ids", "libs/clock"),
            ("libs/step", "libs/api/step"),
            ("libs/api/kfp", "libs/ids"),
            ("libs/sql", "libs/aip"),
            ("libs/aip", "libs/rpc"),
            ("libs/runtime", "libs/rpc"),
            ("services/agent", "libs/rpc"),
            ("services/cli", "libs/xtask"),
            ("services/runner", "services/single-node"),
            ("libs/testkit", "services/runner"),
        ] {
            assert_eq!(wrong(from, used, false).len(), 1, "{from} -> {used}");
        }
    }

    #[test]
    fn the_allowed_directions_pass() {
        for (from, used) in [
            ("libs/api/pipelines", "libs/api/runner"),
            ("libs/auth", "libs/aip"),
            ("libs/rpc", "libs/runtime"),
            ("services/agent", "libs/step"),
            ("services/runner", "libs/reconcile"),
            ("services/cli", "services/single-node"),
            ("services/single-node", "services/runner"),
            ("integration-tests", "libs/testkit"),
        ] {
            assert!(wrong(from, used, false).is_empty(), "{from} -> {used}");
        }
    }

    #[test]
    fn testkit_is_for_tests() {
        assert!(wrong("libs/sql", "libs/testkit", true).is_empty());
        assert_eq!(wrong("libs/sql", "libs/testkit", false).len(), 1);
    }

    #[test]
    fn a_folder_without_a_tier_is_refused() {
        assert_eq!(wrong("libs/common", "libs/ids", false).len(), 1);
    }

    #[test]
    fn heavy_packages_have_one_owner() {
        let mut gateway = Crate {
            folder: "services/gateway".to_owned(),
            external: vec![
                "sqlx".to_owned(),
                "object_store".to_owned(),
                "kube-client".to_owned(),
            ],
            ..Crate::default()
        };
        assert_eq!(check_crate(&gateway).len(), 3);
        gateway.has_store = true;
        assert_eq!(check_crate(&gateway).len(), 2);
    }
}
