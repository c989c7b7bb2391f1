//! Where runs may put their outputs.

use objects::{Access, Location};
use pipeline_spec::Plan;

use crate::domain::violation::clip;

/// The artifact stores as this service sees them: paths beneath a few folders, and stores of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Absolute paths; the first is where outputs go when nobody says otherwise.
    folders: Vec<String>,
    access: Access,
}

/// A place that runs cannot put their outputs into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// What names the place, within the request.
    pub field: &'static str,
    /// Why not, and what would be right.
    pub message: String,
}

impl Roots {
    /// Outputs go beneath the first of these absolute paths; runs may ask for the others and for stores of the network.
    pub fn new<S: Into<String>>(folders: impl IntoIterator<Item = S>, access: Access) -> Self {
        let plain = |folder: S| -> String {
            let folder: String = folder.into();
            folder.trim_end_matches('/').to_owned()
        };
        Self {
            folders: folders.into_iter().map(plain).collect(),
            access,
        }
    }

    /// The place of a run's outputs: what was asked for, else what the pipeline says, else the store's own root.
    ///
    /// Many pipelines name a store that their author had. Where nothing is put there, it does not matter.
    ///
    /// # Errors
    /// The place is in no store that can be written.
    pub fn of(&self, plan: &Plan, asked: &str) -> Result<String, Misplaced> {
        let misplaced = |field, message| Misplaced { field, message };
        if !asked.is_empty() {
            let resolved = self.resolve(asked);
            return resolved.map_err(|message| misplaced("runtime_config.pipeline_root", message));
        }
        match self.resolve(&plan.default_root) {
            Err(message) if plan.stores_artifacts() => {
                Err(misplaced("pipeline_spec.default_pipeline_root", message))
            }
            Err(_) => self
                .resolve("")
                .map_err(|message| misplaced("pipeline_spec.default_pipeline_root", message)),
            Ok(place) => Ok(place),
        }
    }

    /// The place that was asked for, or the store's own root.
    ///
    /// # Errors
    /// The place is in no store that can be written; what would be right.
    fn resolve(&self, asked: &str) -> Result<String, String> {
        let own = self.folders.first().map_or("", String::as_str);
        if asked.is_empty() {
            return Ok(own.to_owned());
        }
        if Location::is_remote(asked) {
            return self.remote(asked);
        }
        let path = asked
            .strip_prefix("file://")
            .unwrap_or(asked)
            .trim_end_matches('/');
        let beneath = self.folders.iter().any(|folder| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let plain = path
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..");
        if beneath && plain {
            return Ok(path.to_owned());
        }
        Err(format!(
            "\"{}\" is not in this installation's artifact store; give a path beneath {own}, or submit the run with that \
             as its pipeline root",
            clip(asked)
        ))
    }

    fn remote(&self, asked: &str) -> Result<String, String> {
        let own = self.folders.first().map_or("", String::as_str);
        let location = Location::parse(asked).map_err(|error| error.to_string())?;
        if !location.writable() {
            return Err(format!(
                "\"{}\" can only be read; give a bucket, or a path beneath {own}",
                clip(&location.shown())
            ));
        }
        if !self.access.can_write(&location, objects::NAMESPACE) {
            return Err(format!(
                "\"{}\" is in no store that this installation can sign in to; add it to `stores` of the configuration, or \
                 submit the run with a path beneath {own} as its pipeline root",
                clip(&location.shown())
            ));
        }
        Ok(location.uri().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_in_the_store_are_taken() {
        let bucket = objects::StoreConfig {
            uri: "s3://ours".to_owned(),
            ..objects::StoreConfig::default()
        };
        let access = Access::new(&[bucket], &objects::Environment::default());
        let roots = Roots::new(["/data/artifacts/", "/mnt/nfs"], access);
        let good = [
            ("", "/data/artifacts"),
            ("/data/artifacts", "/data/artifacts"),
            ("/data/artifacts/team/", "/data/artifacts/team"),
            ("file:///data/artifacts/x", "/data/artifacts/x"),
            ("/mnt/nfs/team", "/mnt/nfs/team"),
            ("s3://ours", "s3://ours"),
            ("s3://ours/team/", "s3://ours/team"),
        ];
        for (asked, expected) in good {
            assert_eq!(roots.resolve(asked).as_deref(), Ok(expected), "{asked}");
        }
        for asked in [
            "gs://bucket/x",
            "s3://others/x",
            "s3://ours/../x",
            "https://host/x",
            "ftp://host/x",
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

    #[test]
    fn a_root_of_the_pipeline_matters_only_where_something_is_put() {
        let access = Access::new(&[], &objects::Environment::default());
        let roots = Roots::new(["/data/artifacts"], access);
        let plan = |outputs: &str| {
            let text = format!(
                "pipelineInfo: {{name: p}}\nschemaVersion: 2.1.0\ndefaultPipelineRoot: s3://theirs/x\n\
                 root: {{dag: {{tasks: {{t: {{componentRef: {{name: c}}, taskInfo: {{name: t}}}}}}}}}}\n\
                 components: {{c: {{executorLabel: e, outputDefinitions: {{{outputs}}}}}}}\n\
                 deploymentSpec: {{executors: {{e: {{container: {{image: i, command: [echo]}}}}}}}}\n"
            );
            let document = pipeline_spec::parse(text.as_bytes()).expect("it is read");
            pipeline_spec::plan(&document).expect("it is valid")
        };
        let values = plan("parameters: {o: {parameterType: STRING}}");
        assert_eq!(roots.of(&values, "").as_deref(), Ok("/data/artifacts"));
        let asked = roots
            .of(&values, "s3://theirs/x")
            .expect_err("it was asked for");
        assert_eq!(asked.field, "runtime_config.pipeline_root");

        let artifacts = plan(
            "artifacts: {o: {artifactType: {schemaTitle: system.Model, schemaVersion: 0.0.1}}}",
        );
        let wrong = roots
            .of(&artifacts, "")
            .expect_err("the model would be put there");
        assert_eq!(wrong.field, "pipeline_spec.default_pipeline_root");
        assert!(wrong.message.contains("s3://theirs/x"), "{wrong:?}");
        let given = roots.of(&artifacts, "/data/artifacts/y");
        assert_eq!(given.as_deref(), Ok("/data/artifacts/y"));
    }
}
