//! Absolute paths that a program writes down, moved to a place of the attempt.
//!
//! A workflow of the SDK 1.8 says `/tmp/outputs/Output/data` in its arguments, and so does every other step. As processes of one
//! machine they would all write the same file, so each attempt has its own directory for such paths, and the text of
//! the command is changed accordingly.

/// Where the SDK's own components keep their files, whatever else is declared.
const TREES: [&str; 2] = ["/tmp/inputs", "/tmp/outputs"];

/// Paths and where they go.
#[derive(Debug, Clone)]
pub struct Moves {
    /// The longest first, so that a directory does not hide a file in it.
    paths: Vec<String>,
    /// Directories that are the attempt's own already.
    own: Vec<String>,
    root: String,
}

impl Moves {
    /// Moves these absolute paths, and the trees of the SDK, below `root`. What is mounted at `own` stays where it is, and all
    /// in it.
    pub fn new<'a>(
        paths: impl IntoIterator<Item = &'a str>,
        own: impl IntoIterator<Item = &'a str>,
        root: &str,
    ) -> Self {
        let own = own.into_iter().map(|path| path.trim_end_matches('/'));
        let own: Vec<String> = own.map(str::to_owned).collect();
        let paths = paths.into_iter().chain(TREES).map(str::to_owned);
        let mut paths: Vec<String> = paths.chain(own.iter().cloned()).collect();
        paths.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        paths.dedup();
        Self {
            paths,
            own,
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    /// Where a path goes.
    pub fn path(&self, path: &str) -> String {
        let within = |own: &String| {
            let rest = path.strip_prefix(own.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.own.iter().any(within) {
            return path.to_owned();
        }
        format!("{}/{}", self.root, path.trim_start_matches('/'))
    }

    /// The text with every mention of a path replaced. A longer word that only begins like a path stays.
    pub fn text(&self, text: &str) -> String {
        let mut moved = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while !rest.is_empty() {
            let found = self.paths.iter().find(|path| {
                rest.starts_with(path.as_str()) && starts_path(before) && ends(&rest[path.len()..])
            });
            let taken = match found {
                Some(path) => {
                    moved.push_str(&self.path(path));
                    path.len()
                }
                None => {
                    // Only a slash can begin a path.
                    let first = rest.chars().next().map_or(1, char::len_utf8);
                    let next = rest[first..].find('/');
                    let taken = next.map_or(rest.len(), |at| first + at);
                    moved.push_str(&rest[..taken]);
                    taken
                }
            };
            before = rest[..taken].chars().next_back();
            rest = &rest[taken..];
        }
        moved
    }
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || "._-".contains(c)
}

fn starts_path(before: Option<char>) -> bool {
    before.is_none_or(|c| !word(c) && c != '/' && c != '~' && c != '}')
}

/// Whether the path is over: `/tmp/out.` at the end of a sentence is, `/tmp/out.txt` is not.
fn ends(after: &str) -> bool {
    let mut chars = after.chars();
    match chars.next() {
        Some('.') => !chars.next().is_some_and(word),
        Some(c) => !word(c),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_moved_wherever_they_stand() {
        let moves = Moves::new(
            [
                "/tmp/out",
                "/tmp/out.txt",
                "/mlpipeline-metrics.json",
                "/data",
            ],
            [],
            "/d/root/",
        );
        for (text, want) in [
            ("/tmp/out", "/d/root/tmp/out"),
            (
                "/tmp/outputs/Output/data",
                "/d/root/tmp/outputs/Output/data",
            ),
            (
                "echo hi > /tmp/out.txt; cat '/tmp/out'.",
                "echo hi > /d/root/tmp/out.txt; cat '/d/root/tmp/out'.",
            ),
            ("--to=/data/x.csv", "--to=/d/root/data/x.csv"),
            (
                "open(\"/mlpipeline-metrics.json\")",
                "open(\"/d/root/mlpipeline-metrics.json\")",
            ),
            (
                "/tmp/outside /tmp/out-2 /database s3://b/data ./data a/tmp/out",
                "/tmp/outside /tmp/out-2 /database s3://b/data ./data a/tmp/out",
            ),
            ("ü/tmp/out é /data ü", "ü/tmp/out é /d/root/data ü"),
            ("mkdir -p /tmp/inputs/x", "mkdir -p /d/root/tmp/inputs/x"),
            ("", ""),
        ] {
            assert_eq!(moves.text(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_mounted_stays_where_it_is() {
        let moves = Moves::new(
            ["/tmp/outputs/a/data", "/mnt/out.txt", "/mnt-2"],
            ["/tmp/outputs/a", "/mnt/"],
            "/d/root",
        );
        for (path, want) in [
            ("/tmp/outputs/a/data", "/tmp/outputs/a/data"),
            ("/mnt/out.txt", "/mnt/out.txt"),
            ("/mnt", "/mnt"),
            ("/mnt-2", "/d/root/mnt-2"),
            ("/tmp/outputs/b/data", "/d/root/tmp/outputs/b/data"),
        ] {
            assert_eq!(moves.path(path), want, "{path}");
            assert_eq!(moves.text(path), want, "{path}");
        }
    }
}
