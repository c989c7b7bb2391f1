//! Configuration: defaults < file < environment < flags, refusing what it does not know.
//!
//! Defaults are the `Default` of the configuration's types (`#[serde(default, deny_unknown_fields)]` on each struct).
//! The file is TOML. The environment is `FLUMINA_<SERVICE>__SECTION__KEY`, flags are `--set section.key=value`; their
//! values are read as TOML values where that works and otherwise as text, except keys that end in `token`, `secret` or
//! `password`, which are always text.

use std::fmt;
use std::path::{Path, PathBuf};

use auth::BearerToken;
use figment::error::Kind;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::{AdminConfig, LogConfig};

/// What every service's configuration has.
pub trait ServiceConfig: DeserializeOwned + Serialize + Send + 'static {
    /// The options of the process.
    fn process(&self) -> &ProcessConfig;

    /// What is wrong beyond the types, all at once, as `key: what and what would be right`.
    fn validate(&self) -> Vec<String> {
        Vec::new()
    }

    /// The keys that take the variable `FLUMINA_TOKEN` unless the configuration says otherwise: what the service asks
    /// of its callers, and what it shows to its peers.
    fn token_keys() -> &'static [&'static str] {
        &[]
    }
}

/// The one token of an installation.
const TOKEN_VARIABLE: &str = "FLUMINA_TOKEN";

/// Options of a process, in the section `process`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// The log.
    pub log: LogConfig,
    /// The admin port.
    pub admin: AdminConfig,
    /// Worker threads; chosen by the number of cores when absent.
    pub threads: Option<usize>,
    /// How long calls and tasks may take to end, in seconds.
    pub grace_seconds: u64,
    /// How long to go on after readiness is withdrawn, so that load balancers notice, in seconds.
    pub pre_stop_seconds: u64,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            admin: AdminConfig::default(),
            threads: None,
            grace_seconds: 20,
            pre_stop_seconds: 0,
        }
    }
}

impl ProcessConfig {
    /// What is wrong beyond the types, as `process.KEY: what`.
    pub fn validate(&self) -> Vec<String> {
        let filter = EnvFilter::try_new(&self.log.filter)
            .err()
            .map(|error| format!("process.log.filter: {error}"));
        let token = self.admin.token.as_ref().and_then(|token| {
            let error = BearerToken::new(token).err()?;
            Some(format!("process.admin.token: {error}"))
        });
        filter.into_iter().chain(token).collect()
    }
}

/// The flags of every service.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CommonArgs {
    /// Read the configuration from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, such as `process.log.filter=debug`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration that results, with secrets masked, and exit
    #[arg(long)]
    pub dump_config: bool,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not valid: {}", self.0.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// Loads the configuration of `service` from the file and flags in `args` and the environment of this process.
pub fn load<C: ServiceConfig>(service: &str, args: &CommonArgs) -> Result<C, ConfigError> {
    load_from(
        service,
        C::token_keys(),
        args.config.as_deref(),
        &args.overrides,
        crate::env::vars(),
    )
}

/// Loads one configuration for several services: a file with a section per service, and for the section of each
/// service in `sections` the variables `FLUMINA_<SERVICE>__…` of this process. `overrides` are `section.key=value`.
pub fn load_sections<C: DeserializeOwned>(
    file: Option<&Path>,
    sections: &[&str],
    overrides: &[String],
) -> Result<C, ConfigError> {
    let prefixes = sections
        .iter()
        .map(|section| (variable_prefix(section), Some((*section).to_owned())));
    load_layers(
        Figment::new(),
        file,
        prefixes.collect(),
        overrides,
        crate::env::vars(),
    )
}

/// The name by which variables of a service begin.
fn variable_prefix(service: &str) -> String {
    format!("FLUMINA_{}__", service.to_uppercase().replace('-', "_"))
}

fn load_from<C: DeserializeOwned>(
    service: &str,
    token_keys: &[&str],
    file: Option<&Path>,
    overrides: &[String],
    env: Vec<(String, String)>,
) -> Result<C, ConfigError> {
    let token = env
        .iter()
        .find(|(name, value)| name == TOKEN_VARIABLE && !value.is_empty());
    let mut defaults = Figment::new();
    if let Some((name, value)) = token {
        for key in token_keys {
            let path = key.split('.').map(str::to_owned).collect();
            defaults = defaults.merge(Single::new(format!("the variable {name}"), path, value));
        }
    }
    let prefixes = vec![(variable_prefix(service), None)];
    load_layers(defaults, file, prefixes, overrides, env)
}

/// `prefixes`: how variables begin, and the section that they are about.
fn load_layers<C: DeserializeOwned>(
    mut figment: Figment,
    file: Option<&Path>,
    prefixes: Vec<(String, Option<String>)>,
    overrides: &[String],
    env: Vec<(String, String)>,
) -> Result<C, ConfigError> {
    if let Some(file) = file {
        // figment takes a missing file for an empty one.
        std::fs::metadata(file).map_err(|error| {
            ConfigError(vec![format!("cannot read {}: {error}", file.display())])
        })?;
        figment = figment.merge(Toml::file_exact(file));
    }
    for (name, value) in env {
        for (prefix, section) in &prefixes {
            let Some(key) = name.strip_prefix(prefix.as_str()) else {
                continue;
            };
            let key = key.to_lowercase();
            let path = section.iter().map(String::as_str).chain(key.split("__"));
            let path = path.map(str::to_owned).collect();
            figment = figment.merge(Single::new(format!("the variable {name}"), path, &value));
        }
    }
    for text in overrides {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| ConfigError(vec![format!("`--set {text}` is not KEY=VALUE")]))?;
        let path = key.split('.').map(str::to_owned).collect();
        figment = figment.merge(Single::new(format!("the flag --set {key}"), path, value));
    }
    figment
        .extract()
        .map_err(|errors| ConfigError(errors.into_iter().map(|error| explain(&error)).collect()))
}

/// One value at a path, from a named source.
struct Single {
    source: String,
    path: Vec<String>,
    value: Value,
}

impl Single {
    fn new(source: String, path: Vec<String>, text: &str) -> Self {
        let secret = path.last().is_some_and(|key| {
            ["token", "secret", "password"]
                .iter()
                .any(|end| key.ends_with(end))
        });
        let value = if secret {
            Value::from(text)
        } else {
            text.parse().unwrap_or_else(|_| Value::from(text))
        };
        Self {
            source,
            path,
            value,
        }
    }
}

impl Provider for Single {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut value = self.value.clone();
        for key in self.path.iter().rev() {
            value = Value::from(Dict::from([(key.clone(), value)]));
        }
        let dict = value.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

fn explain(error: &figment::Error) -> String {
    let key = |last: Option<&str>| {
        let path = error.path.iter().map(String::as_str);
        path.chain(last).collect::<Vec<_>>().join(".")
    };
    let text = match &error.kind {
        Kind::UnknownField(field, known) => {
            // The path may or may not end in the field itself.
            let name = match error.path.last() {
                Some(last) if last == field => key(None),
                _ => key(Some(field)),
            };
            format!("unknown key `{name}`, expected one of {}", known.join(", "))
        }
        Kind::MissingField(field) => format!("the key `{}` is missing", key(Some(field))),
        kind if error.path.is_empty() => kind.to_string(),
        kind => format!("the key `{}`: {kind}", key(None)),
    };
    let Some(metadata) = &error.metadata else {
        return text;
    };
    match metadata.source.as_ref() {
        Some(source) => format!("{text} (in {source})"),
        None => format!("{text} (in {})", metadata.name),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use auth::Secret;

    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        process: ProcessConfig,
        name: String,
        limit: u32,
        token: Option<Secret>,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn problem(file: Option<&Path>, overrides: &[&str], vars: &[(&str, &str)]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        load_from::<Sample>("sample", &["token"], file, &overrides, env(vars))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_installations_token_is_the_least_of_the_layers() {
        let one = ("FLUMINA_TOKEN", "everywhere");
        let load = |keys: &[&str], vars: &[(&str, &str)]| {
            let found: Sample = load_from("sample", keys, None, &[], env(vars)).unwrap();
            (found.token, found.process.admin.token)
        };
        let token = |text: &str| Some(Secret::new(text));
        let keys = ["token", "process.admin.token"];
        assert_eq!(
            load(&keys, &[one]),
            (token("everywhere"), token("everywhere"))
        );
        let own = ("FLUMINA_SAMPLE__TOKEN", "own");
        assert_eq!(
            load(&keys, &[own, one]),
            (token("own"), token("everywhere"))
        );
        assert_eq!(load(&[], &[one]), (None, None));
        assert_eq!(load(&keys, &[("FLUMINA_TOKEN", "")]), (None, None));
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let file = file("name = \"file\"\nlimit = 1\n[process.log]\nfilter = \"warn\"\n");
        let vars = [
            ("FLUMINA_SAMPLE__LIMIT", "2"),
            ("FLUMINA_SAMPLE__PROCESS__GRACE_SECONDS", "7"),
            ("FLUMINA_SAMPLE__TOKEN", "0123"),
            ("FLUMINA_OTHER__NAME", "other"),
            ("FLUMINA_ABORT", "x"),
        ];
        let overrides = ["process.grace_seconds=8".to_owned()];
        let found: Sample =
            load_from("sample", &[], Some(file.path()), &overrides, env(&vars)).unwrap();
        assert_eq!((found.name.as_str(), found.limit), ("file", 2));
        assert_eq!(found.process.grace_seconds, 8);
        assert_eq!(found.process.log.filter, "warn");
        assert_eq!(found.process.log.format, crate::LogFormat::Auto);
        assert_eq!(found.token, Some(Secret::new("0123")));
    }

    #[test]
    fn errors_name_the_key_and_the_source() {
        let unknown = file("[process.log]\nfiltre = \"warn\"\n");
        let text = problem(Some(unknown.path()), &[], &[]);
        assert!(text.contains("unknown key `process.log.filtre`"), "{text}");
        assert!(text.contains("format, filter"), "{text}");
        assert!(
            text.contains(unknown.path().file_name().unwrap().to_str().unwrap()),
            "{text}"
        );

        let text = problem(None, &[], &[("FLUMINA_SAMPLE__NO_SUCH", "1")]);
        assert!(text.contains("unknown key `no_such`"), "{text}");
        assert!(text.contains("FLUMINA_SAMPLE__NO_SUCH"), "{text}");

        let text = problem(None, &["limit=many"], &[]);
        assert!(text.contains("the key `limit`"), "{text}");
        assert!(text.contains("--set limit"), "{text}");
    }

    #[test]
    fn sections_take_the_variables_of_their_service() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Both {
            sample: Sample,
            #[serde(rename = "other-one")]
            other: Sample,
        }
        let prefixes = ["sample", "other-one"]
            .map(|name| (variable_prefix(name), Some(name.to_owned())))
            .to_vec();
        let vars = env(&[
            ("FLUMINA_SAMPLE__LIMIT", "2"),
            ("FLUMINA_OTHER_ONE__PROCESS__GRACE_SECONDS", "7"),
        ]);
        let both: Both = load_layers(Figment::new(), None, prefixes.clone(), &[], vars).unwrap();
        assert_eq!((both.sample.limit, both.other.limit), (2, 0));
        assert_eq!(both.other.process.grace_seconds, 7);
        let vars = env(&[("FLUMINA_OTHER_ONE__NO_SUCH", "2")]);
        let text = load_layers::<Both>(Figment::new(), None, prefixes, &[], vars)
            .unwrap_err()
            .to_string();
        assert!(text.contains("unknown key `other-one.no_such`"), "{text}");
    }

    #[test]
    fn unreadable_sources_are_errors() {
        assert!(
            problem(Some(Path::new("/nonexistent.toml")), &[], &[]).contains("/nonexistent.toml")
        );
        assert!(problem(None, &["limit"], &[]).contains("KEY=VALUE"));
        assert!(problem(Some(file("name = [").path()), &[], &[]).contains("not valid"));
    }
}
