//! Logs on standard error: text for people, JSON for machines.

use std::fmt;
use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, otherwise JSON.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always JSON, one object a line.
    Json,
}

/// Options of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged: a level, or `target=level` pairs joined by commas. Can be changed on the admin port.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            filter: "info".to_owned(),
        }
    }
}

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct LogControl(Option<reload::Handle<EnvFilter, Registry>>);

impl LogControl {
    /// Starts logging for the whole process. When a subscriber is already there it stays, and the control does nothing.
    pub fn init(config: &LogConfig) -> Result<Self, ParseError> {
        let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.filter)?);
        let terminal = std::io::stderr().is_terminal();
        let json = match config.format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if json {
            lines.json().with_current_span(false).boxed()
        } else {
            lines.with_ansi(terminal).boxed()
        };
        let installed = Registry::default().with(filter).with(lines).try_init();
        Ok(Self(installed.is_ok().then_some(handle)))
    }

    /// A control without a log, for tests.
    pub fn none() -> Self {
        Self(None)
    }

    /// Replaces the filter.
    pub fn set_filter(&self, filter: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::try_new(filter)?;
        if let Some(handle) = &self.0
            && let Err(error) = handle.reload(filter)
        {
            tracing::warn!(%error, "the log filter is not replaced");
        }
        Ok(())
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused() {
        assert!(LogControl::none().set_filter("info,rpc=debug").is_ok());
        assert!(LogControl::none().set_filter("rpc=loud").is_err());
    }
}
