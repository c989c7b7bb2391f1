//! `cargo xtask setup`: what tests need from the machine, found, installed or built, and written down for them.
//!
//! The result is one JSON file. Tests get its path in `FLUMINA_TESTENV`; `libs/testkit` reads it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::environments::Environments;
use crate::files;
use crate::system::{self, Tool};
use crate::workspace::Workspace;

/// Python environments by the name of their list in `integration-tests/requirements`.
const PYTHONS: &[&str] = &["tools", "kfp-2.17", "kfp-2.9", "kfp-2.4", "kfp-1.8"];
/// The one that the demo and the Rust tests use.
pub(crate) const KFP: &str = "kfp-2.17";

/// How much is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The demo: Python and the current kfp.
    Demo,
    /// Rust tests: also PostgreSQL and strace.
    Rust,
    /// All of it, with the real clients in four languages and a browser.
    Everything,
}

impl Need {
    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Demo => &[Tool::Python],
            Self::Rust => &[Tool::Python, Tool::Postgres, Tool::Strace],
            Self::Everything => &[
                Tool::Python,
                Tool::Postgres,
                Tool::Strace,
                Tool::Chromium,
                Tool::Node,
                Tool::Npm,
                Tool::Go,
                Tool::Javac,
                Tool::Maven,
            ],
        }
    }

    fn pythons(self) -> &'static [&'static str] {
        match self {
            Self::Demo | Self::Rust => &[KFP],
            Self::Everything => PYTHONS,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct TestEnv {
    /// The `uv` program; its folder belongs on the PATH of whatever builds Python environments.
    pub(crate) uv: PathBuf,
    pythons: Vec<(&'static str, PathBuf)>,
    fields: Map<String, Value>,
}

/// Finds, installs and builds.
pub(crate) fn prepare(workspace: &Workspace, need: Need) -> Result<TestEnv> {
    system::provide(need.tools())?;
    let python = Tool::Python.get()?;
    let lists = workspace.root.join("integration-tests/requirements");
    let environments = Environments::new(&workspace.cache, &lists);
    let uv = environments.uv(&python)?;
    let mut pythons = Vec::new();
    for name in need.pythons() {
        pythons.push((*name, environments.python(&uv, &python, name)?));
    }
    let mut fields = Map::new();
    for (key, tool) in [
        ("postgres_bin", Tool::Postgres),
        ("strace", Tool::Strace),
        ("chromium", Tool::Chromium),
        ("node", Tool::Node),
        ("go", Tool::Go),
        ("javac", Tool::Javac),
        ("maven", Tool::Maven),
    ] {
        if let Some(path) = tool.find() {
            fields.insert(key.to_owned(), json!(path));
        }
    }
    if need == Need::Everything {
        let modules = environments.node_modules(&Tool::Npm.get()?)?;
        fields.insert("node_modules".to_owned(), json!(modules));
    }
    Ok(TestEnv {
        uv,
        pythons,
        fields,
    })
}

impl TestEnv {
    /// An environment's interpreter.
    pub(crate) fn python(&self, name: &str) -> Result<&PathBuf> {
        let found = self.pythons.iter().find(|(known, _)| *known == name);
        let (_, path) =
            found.with_context(|| format!("no Python environment `{name}` was prepared"))?;
        Ok(path)
    }

    /// Writes the file that tests read and returns its path. What an earlier, larger preparation wrote stays.
    pub(crate) fn write(&self, workspace: &Workspace) -> Result<PathBuf> {
        // Ignored by git, and known to testkit without any variable.
        let path = workspace.root.join("target/testenv.json");
        let old = files::read_text(&path)?.and_then(|text| serde_json::from_str(&text).ok());
        let mut text = serde_json::to_string_pretty(&self.merged(workspace, old))?;
        text.push('\n');
        files::write_atomically(&path, &text)?;
        Ok(path)
    }

    fn merged(&self, workspace: &Workspace, old: Option<Value>) -> Value {
        let mut all = match old {
            Some(Value::Object(old)) => old,
            _ => Map::new(),
        };
        all.extend(self.fields.clone());
        all.insert("root".to_owned(), json!(workspace.root));
        all.insert("cache".to_owned(), json!(workspace.cache));
        all.insert("bin".to_owned(), json!(workspace.target.join("debug")));
        all.insert("uv".to_owned(), json!(self.uv));
        let mut pythons = match all.remove("python") {
            Some(Value::Object(old)) => old,
            _ => Map::new(),
        };
        for (name, path) in &self.pythons {
            pythons.insert((*name).to_owned(), json!(path));
        }
        all.insert("python".to_owned(), Value::Object(pythons));
        Value::Object(all)
    }

    /// The PATH for programs that build Python environments: ours, with uv's folder in front.
    pub(crate) fn path(&self) -> Result<std::ffi::OsString> {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let uv = self.uv.parent().map(PathBuf::from);
        let folders = uv.into_iter().chain(std::env::split_paths(&old));
        std::env::join_paths(folders).context("a folder on PATH has a colon in its name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        Workspace {
            root: "/checkout".into(),
            cache: "/cache".into(),
            target: "/target".into(),
        }
    }

    #[test]
    fn a_small_preparation_keeps_what_a_large_one_found() {
        let env = TestEnv {
            uv: "/uv/bin/uv".into(),
            pythons: vec![(KFP, "/new/python".into())],
            fields: Map::new(),
        };
        let old = json!({"chromium": "/usr/bin/chromium", "python": {"tools": "/t", KFP: "/old"}, "bin": "/x"});
        let merged = env.merged(&workspace(), Some(old));
        assert_eq!(merged["chromium"], "/usr/bin/chromium");
        assert_eq!(merged["python"]["tools"], "/t");
        assert_eq!(merged["python"][KFP], "/new/python");
        assert_eq!(merged["bin"], "/target/debug");
    }

    #[test]
    fn a_python_that_was_not_prepared_is_an_error_by_name() {
        let env = TestEnv {
            uv: "/uv".into(),
            pythons: Vec::new(),
            fields: Map::new(),
        };
        let error = env.python("tools").unwrap_err().to_string();
        assert!(error.contains("`tools`"), "{error}");
    }
}
