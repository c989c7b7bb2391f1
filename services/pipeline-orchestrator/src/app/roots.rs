//! Where runs may put their outputs.

/// The artifact store as this service sees it: paths beneath one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    root: String,
}

impl Roots {
    /// Outputs go beneath this absolute path.
    pub fn new(root: impl Into<String>) -> Self {
        let root: String = root.into();
        Self {
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    /// The place of a run's outputs: what was asked for, or the store's own root.
    ///
    /// # Errors
    /// The place is not in the store; what would be right.
    pub fn resolve(&self, asked: &str) -> Result<String, String> {
        if asked.is_empty() {
            return Ok(self.root.clone());
        }
        let path = asked
            .strip_prefix("file://")
            .unwrap_or(asked)
            .trim_end_matches('/');
        let beneath = path
            .strip_prefix(self.root.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let plain = path
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..");
        if beneath && plain {
            return Ok(path.to_owned());
        }
        Err(format!(
            "\"{}\" is not in this installation's artifact store; give a path beneath {}, or submit the run with that \
             as its pipeline root",
            crate::domain::violation::clip(asked),
            self.root
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_in_the_store_are_taken() {
        let roots = Roots::new("/data/artifacts/");
        let good = [
            ("", "/data/artifacts"),
            ("/data/artifacts", "/data/artifacts"),
            ("/data/artifacts/team/", "/data/artifacts/team"),
            ("file:///data/artifacts/x", "/data/artifacts/x"),
        ];
        for (asked, expected) in good {
            assert_eq!(roots.resolve(asked).as_deref(), Ok(expected), "{asked}");
        }
        for asked in [
            "gs://bucket/x",
            "minio://mlpipeline/v2/artifacts",
            "/data/artifacts2",
            "/data/artifacts/../secrets",
            "/data/artifacts//x",
            "data/artifacts",
            "/etc",
        ] {
            assert!(roots.resolve(asked).is_err(), "{asked}");
        }
    }
}
