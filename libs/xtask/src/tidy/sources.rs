//! Rules about the text of source files: size, purity of domains, no skipped tests, no promises in comments.

use std::path::Path;

/// Lines of a source file: above this it must be split.
const MOST_LINES: usize = 600;
/// Above this the report mentions it.
const MANY_LINES: usize = 500;

/// What `services/*/src/domain` must not use: it decides and does no input or output.
const IMPURE: &[&str] = &["tokio", "tonic", "prost", "sqlx", "kube", "tracing"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) wrong: Vec<String>,
    pub(crate) note: Option<String>,
}

/// Whether the file is source or documentation of ours.
pub(crate) fn is_text(name: &Path) -> bool {
    let extension = name.extension().and_then(|extension| extension.to_str());
    is_source(name) || extension == Some("md")
}

fn is_source(name: &Path) -> bool {
    let extension = name.extension().and_then(|extension| extension.to_str());
    let code = [
        "rs", "py", "ts", "tsx", "js", "mjs", "css", "go", "java", "sh",
    ];
    extension.is_some_and(|extension| code.contains(&extension))
}

fn is_generated(name: &Path) -> bool {
    name.components()
        .any(|part| part.as_os_str() == "gen" || part.as_os_str() == "dist")
}

/// Everything wrong with one file.
pub(crate) fn check(name: &Path, text: &str) -> Findings {
    let mut findings = Findings::default();
    if !is_source(name) || is_generated(name) {
        return findings;
    }
    let shown = name.display();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        findings.wrong.push(format!(
            "{shown} has {lines} lines; split it ({MOST_LINES} is the most)"
        ));
    } else if lines > MANY_LINES {
        findings.note = Some(format!("{shown} has {lines} lines"));
    }
    // Written apart, so that this file passes.
    let (todo, fixme, ignore) = (
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[", "ignore"),
    );
    for (number, line) in text.lines().enumerate() {
        let at = format!("{shown}:{}", number + 1);
        if line.contains(todo) || line.contains(fixme) {
            findings
                .wrong
                .push(format!("{at}: do it, or leave it out of the code"));
        }
        if line.contains(ignore) {
            findings
                .wrong
                .push(format!("{at}: a test that does not run proves nothing"));
        }
        if is_domain(name)
            && let Some(package) = impure(line)
        {
            findings
                .wrong
                .push(format!("{at}: the domain must not use {package}"));
        }
    }
    findings
}

/// Whether the file is `services/X/src/domain.rs` or below `services/X/src/domain/`.
fn is_domain(name: &Path) -> bool {
    let parts: Vec<&str> = name
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    matches!(
        parts.as_slice(),
        ["services", _, "src", "domain" | "domain.rs", ..]
    )
}

/// The package that a line of code names in a path, or in a `use`, and that the domain must not.
fn impure(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let imports = code.trim_start().starts_with("use ");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code;
    while let Some(start) = rest.find(is_word) {
        let tail = &rest[start..];
        let end = tail.find(|c: char| !is_word(c)).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        let package = IMPURE.iter().copied().find(|package| {
            let suffix = word.strip_prefix(package);
            suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('_'))
        });
        if package.is_some() && (imports || after.starts_with("::")) {
            return package;
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str, text: &str) -> Vec<String> {
        check(Path::new(name), text).wrong
    }

    #[test]
    fn long_files_are_refused_unless_generated() {
        let text = "x\n".repeat(MOST_LINES + 1);
        assert_eq!(wrong("libs/a/src/lib.rs", &text).len(), 1);
        assert_eq!(wrong("examples/a.py", &text).len(), 1);
        assert!(wrong("libs/api/kfp/src/gen/a.rs", &text).is_empty());
        assert!(wrong("docs/a.md", &text).is_empty());
        let findings = check(Path::new("a.rs"), &"x\n".repeat(MANY_LINES + 1));
        assert!(findings.wrong.is_empty() && findings.note.is_some());
    }

    #[test]
    fn promises_and_skipped_tests_are_refused() {
        assert_eq!(
            wrong("a.rs", concat!("// TO", "DO later")),
            ["a.rs:1: do it, or leave it out of the code"]
        );
        assert_eq!(wrong("a.rs", concat!("\n    #[", "ignore]")).len(), 1);
    }

    #[test]
    fn the_domain_does_no_input_or_output() {
        let domain = "services/x/src/domain/plan.rs";
        for line in [
            "use tokio::time;",
            "use prost_types::Struct;",
            "    let x = tonic::Code::Ok;",
            "tracing::info!()",
        ] {
            assert_eq!(wrong(domain, line).len(), 1, "{line}");
            assert!(wrong("services/x/src/app/plan.rs", line).is_empty());
        }
        assert_eq!(wrong("services/x/src/domain.rs", "use sqlx::Row;").len(), 1);
    }

    #[test]
    fn words_in_comments_and_names_are_free() {
        let domain = "services/x/src/domain/plan.rs";
        for line in [
            "// unlike tokio::time",
            "let kube = 1;",
            "std::mem::take(&mut tracing)",
            "fn tonic() {}",
        ] {
            assert!(wrong(domain, line).is_empty(), "{line}");
        }
    }
}
