//! What cargo knows: our crates with their dependencies, and every package of the lock file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

/// The workspace as checks see it.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) ours: Vec<Crate>,
    pub(crate) external: Vec<Package>,
}

/// One of our crates.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    /// Its folder from the root, such as `libs/api/kfp`: where a crate lives says what it may do.
    pub(crate) folder: String,
    /// Our crates that it depends on, by folder.
    pub(crate) uses: Vec<Use>,
    /// External packages that it depends on outside tests.
    pub(crate) external: Vec<String>,
    /// Whether it keeps a database: it has `src/store` or `src/store.rs`.
    pub(crate) has_store: bool,
}

/// A dependency on one of our crates.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) folder: String,
    /// Only for tests.
    pub(crate) dev: bool,
}

/// A package from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

/// Asks cargo. The lock file must be up to date.
pub(crate) fn load(workspace: &Workspace) -> Result<Graph> {
    let output = workspace
        .cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&workspace.root, &serde_json::from_slice(&output.stdout)?)
}

fn parse(root: &Path, metadata: &Value) -> Result<Graph> {
    let mut graph = Graph::default();
    for package in list(&metadata["packages"]) {
        if package["source"].is_null() {
            graph.ours.push(own(root, package)?);
        } else {
            graph.external.push(Package {
                name: text(&package["name"])?,
                version: text(&package["version"])?,
                license: package["license"].as_str().map(str::to_owned),
            });
        }
    }
    graph.ours.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(graph)
}

fn own(root: &Path, package: &Value) -> Result<Crate> {
    let manifest = text(&package["manifest_path"])?;
    let folder = Path::new(&manifest)
        .parent()
        .context("a manifest without a folder")?;
    let mut found = Crate {
        folder: relative(root, folder)?,
        has_store: folder.join("src/store").is_dir() || folder.join("src/store.rs").is_file(),
        ..Crate::default()
    };
    for dependency in list(&package["dependencies"]) {
        let dev = dependency["kind"].as_str() == Some("dev");
        match dependency["path"].as_str() {
            Some(path) => found.uses.push(Use {
                folder: relative(root, Path::new(path))?,
                dev,
            }),
            None if !dev => found.external.push(text(&dependency["name"])?),
            None => {}
        }
    }
    found.uses.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

fn relative(root: &Path, folder: &Path) -> Result<String> {
    let inside = folder
        .strip_prefix(root)
        .context("a path dependency outside the checkout")?;
    Ok(inside.display().to_string())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .context("cargo metadata has another shape than expected")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn our_crates_are_told_from_packages() {
        let metadata = json!({"packages": [
            {"name": "serde", "version": "1.0.0", "source": "registry", "license": "MIT"},
            {"name": "flumina-rpc", "source": null, "manifest_path": "/r/libs/rpc/Cargo.toml", "dependencies": [
                {"name": "flumina-ids", "path": "/r/libs/ids", "kind": null},
                {"name": "flumina-testkit", "path": "/r/libs/testkit", "kind": "dev"},
                {"name": "tonic", "kind": null},
                {"name": "insta", "kind": "dev"},
            ]},
        ]});
        let graph = parse(Path::new("/r"), &metadata).unwrap();
        assert_eq!(graph.external[0].name, "serde");
        let rpc = &graph.ours[0];
        assert_eq!(rpc.folder, "libs/rpc");
        assert_eq!(rpc.external, ["tonic"]);
        let uses: Vec<(&str, bool)> = rpc
            .uses
            .iter()
            .map(|used| (used.folder.as_str(), used.dev))
            .collect();
        assert_eq!(uses, [("libs/ids", false), ("libs/testkit", true)]);
    }
}
