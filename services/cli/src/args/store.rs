//! What the runner keeps for steps: secrets, config maps and volumes.

use clap::{Args, Subcommand};

use super::page::Paging;

/// Which namespace.
#[derive(Debug, Args)]
pub(crate) struct Namespace {
    /// The namespace; runs that name none use `default`
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
}

/// A part of a list that goes by name.
#[derive(Debug, Args)]
pub(crate) struct NamePage {
    #[command(flatten)]
    pub(crate) namespace: Namespace,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

/// Something with a name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) namespace: Namespace,
}

/// Where values come from.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// A key with the content of a file; without `KEY=`, the file's name is the key
    #[arg(long, value_name = "[KEY=]PATH")]
    pub(crate) from_file: Vec<String>,
    /// A key with what standard input says; one final newline is left out. At a terminal it is asked for without echo
    #[arg(long, value_name = "KEY")]
    pub(crate) from_stdin: Option<String>,
    /// Replace an existing one, with all of its keys
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        from: From,
    },
    /// Show the names of a secret's keys
    Get(Named),
    /// List secrets without their values
    List(NamePage),
    /// Remove a secret
    Delete(Named),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Configmap {
    /// Store a config map
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        from: From,
        /// A key and its value
        #[arg(long, value_name = "KEY=VALUE")]
        from_literal: Vec<String>,
    },
    /// Show a config map with its values
    Get(Named),
    /// List config maps
    List(NamePage),
    /// Remove a config map
    Delete(Named),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Make a volume
    Create {
        #[command(flatten)]
        named: Named,
        /// How much it is to hold, such as 1Gi; recorded, not enforced
        #[arg(long, default_value = "", hide_default_value = true)]
        size: String,
    },
    /// Show a volume and its directory
    Get(Named),
    /// List volumes
    List(NamePage),
    /// Remove a volume with its content
    Delete(Named),
}
