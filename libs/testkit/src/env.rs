//! The programs and environments that `cargo xtask setup` found or built.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

/// How to get what is missing; every panic of this module ends with it.
const ADVICE: &str = "run `cargo xtask setup` once, or start the tests with `cargo xtask test`";

/// The file that `cargo xtask setup` wrote: from `FLUMINA_TESTENV`, or `target/testenv.json` of the checkout.
#[derive(Debug)]
pub struct TestEnv {
    path: PathBuf,
    all: Value,
}

/// The test environment. Panics with the line to run when there is none.
pub fn env() -> &'static TestEnv {
    static ENV: OnceLock<TestEnv> = OnceLock::new();
    ENV.get_or_init(|| {
        let path = std::env::var_os("FLUMINA_TESTENV").map_or_else(default_path, PathBuf::from);
        TestEnv::read(&path)
    })
}

/// One of our own programs, such as `flumina`, as `cargo xtask test` built it.
pub fn binary(name: &str) -> PathBuf {
    let path = env().path("bin").join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --bins`, or start the tests with `cargo xtask test`",
        path.display()
    );
    path
}

fn default_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testenv.json")
}

impl TestEnv {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| {
            panic!(
                "no test environment at {}: {error}; {ADVICE}",
                path.display()
            )
        });
        let all = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{} is no JSON: {error}; {ADVICE}", path.display()));
        Self {
            path: path.to_path_buf(),
            all,
        }
    }

    /// A path by its name in the file: `root`, `bin`, `cache`, `uv`, `postgres_bin`, `chromium`, `node`,
    /// `node_modules`, `strace`, `go`, `javac`, `maven`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.get(&self.all, name)
    }

    /// The interpreter of a Python environment, by the name of its list in `integration-tests/requirements`.
    pub fn python(&self, name: &str) -> PathBuf {
        self.get(&self.all["python"], name)
    }

    fn get(&self, from: &Value, name: &str) -> PathBuf {
        let found = from[name].as_str();
        let found =
            found.unwrap_or_else(|| panic!("{} has no `{name}`; {ADVICE}", self.path.display()));
        PathBuf::from(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(panic: Box<dyn std::any::Any + Send>) -> String {
        *panic.downcast::<String>().unwrap()
    }

    #[test]
    fn a_missing_environment_says_what_to_run() {
        let panic = std::panic::catch_unwind(|| TestEnv::read(Path::new("/nowhere/testenv.json")))
            .unwrap_err();
        assert!(message(panic).ends_with(ADVICE));
    }

    #[test]
    fn paths_are_read_by_name() {
        let folder = crate::temp_dir();
        let file = folder.path().join("testenv.json");
        std::fs::write(
            &file,
            r#"{"uv": "/x/uv", "python": {"kfp-2.17": "/x/python"}}"#,
        )
        .unwrap();
        let env = TestEnv::read(&file);
        assert_eq!(env.path("uv"), Path::new("/x/uv"));
        assert_eq!(env.python("kfp-2.17"), Path::new("/x/python"));
        let panic = std::panic::catch_unwind(|| env.python("kfp-9")).unwrap_err();
        assert!(message(panic).contains("`kfp-9`"));
    }
}
