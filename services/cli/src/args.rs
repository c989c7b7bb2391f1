//! The command line, as people see it.

mod page;
mod store;

use std::path::PathBuf;

pub(crate) use self::page::{Page, Paging};
pub(crate) use self::store::{Configmap, From, NamePage, Named, Secret, Volume};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::schedule_args::{
    BackfillArgs, Schedule, ScheduleCreate, ScheduleEdit, Trigger,
};

/// Kubeflow's whole job as one program.
#[derive(Debug, Parser)]
#[command(
    name = "flumina",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The server to talk to.
    #[arg(
        long,
        global = true,
        env = "FLUMINA_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// How to print results.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the whole fleet in this process
    Up(Up),
    /// Stop the fleet of a data directory, running steps included
    Down(DataDir),
    /// Write a copy of a data directory to an archive
    Backup(Backup),
    /// Make a data directory from an archive
    Restore(Restore),
    /// Say whether the server is there and what it is doing
    Status,
    /// Pipelines and their versions
    #[command(subcommand)]
    Pipeline(Pipeline),
    /// Experiments
    #[command(subcommand)]
    Experiment(Experiment),
    /// Runs
    #[command(subcommand)]
    Run(Run),
    /// Artifacts
    #[command(subcommand)]
    Artifact(Artifact),
    /// Results of steps that equal steps use instead of running
    #[command(subcommand)]
    Cache(Cache),
    /// Runs that are made again and again
    #[command(subcommand)]
    Schedule(Schedule),
    /// Single steps of runs
    #[command(subcommand)]
    Step(Step),
    /// Secrets that steps use; values are never arguments and never printed
    #[command(subcommand)]
    Secret(Secret),
    /// Config maps that steps use
    #[command(subcommand)]
    Configmap(Configmap),
    /// Volumes: directories that outlive steps
    #[command(subcommand)]
    Volume(Volume),
    /// The contracts of the API
    #[command(subcommand)]
    Proto(Proto),
    /// Move artifacts between stores and a step; the agent calls it
    #[command(hide = true)]
    Transfer {
        /// The request and where the report goes.
        #[arg(num_args = 2)]
        files: Vec<std::ffi::OsString>,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Where everything is kept; default: $XDG_DATA_HOME/flumina
    #[arg(
        long,
        env = "FLUMINA_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Where to listen; an address other than loopback needs FLUMINA_TOKEN
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// A TOML file with a section per service
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Listen without a token although others may reach the address
    #[arg(long)]
    pub(crate) insecure: bool,
    /// What happens to running steps on Ctrl-C or SIGTERM
    #[arg(long, value_enum, default_value_t = OnExit::Leave)]
    pub(crate) on_exit: OnExit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExit {
    /// They go on, and the next start takes them over
    Leave,
    /// They are stopped
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The archive to write (.tar.gz); it must not exist
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The archive to read
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pipeline {
    /// Store a compiled pipeline; a known name gets a new version
    Upload {
        /// The file that the compiler wrote (YAML or JSON)
        file: PathBuf,
        /// The pipeline's name; default: the one in the file
        #[arg(long)]
        name: Option<String>,
        /// The name of the version
        #[arg(long, value_name = "NAME")]
        version_name: Option<String>,
        /// What it does
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List pipelines
    List(Page),
    /// Show a pipeline and its versions
    Get {
        /// The pipeline's name or id
        pipeline: String,
    },
    /// Delete a pipeline with its versions; runs stay
    Delete {
        /// The pipeline's name or id
        pipeline: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Experiment {
    /// Create an experiment
    Create {
        /// The experiment's name
        name: String,
        /// What it is about
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List experiments
    List(Page),
    /// Show an experiment
    Get {
        /// The experiment's name or id
        experiment: String,
    },
    /// Archive an experiment and its runs
    Archive {
        /// The experiment's name or id
        experiment: String,
    },
    /// Restore an archived experiment
    Unarchive {
        /// The experiment's name or id
        experiment: String,
    },
    /// Delete an experiment; its runs stay
    Delete {
        /// The experiment's name or id
        experiment: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Run a compiled pipeline, or a stored one
    Submit(Submit),
    /// List runs
    List {
        /// Only runs of this experiment (name or id)
        #[arg(short, long)]
        experiment: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show a run and its tasks
    Get {
        /// The run's id
        run: String,
        /// Draw when its tasks waited, prepared, ran and stored
        #[arg(long)]
        timeline: bool,
    },
    /// Set and remove tags of a run
    Tag {
        /// The run's id
        run: String,
        /// Tags to set
        #[arg(value_name = "K=V")]
        tags: Vec<String>,
        /// A tag to remove
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
    },
    /// Show what differs between runs: parameters, metrics, code, specification
    Compare {
        /// The runs' ids
        #[arg(required = true, num_args = 2..=10)]
        runs: Vec<String>,
    },
    /// Follow a run until it ends
    Watch {
        /// The run's id
        run: String,
    },
    /// Print what the steps of a run wrote
    Logs {
        /// The run's id
        run: String,
        /// Only this task (id, name, or path with dots)
        task: Option<String>,
        /// Go on until the run ends
        #[arg(short, long)]
        follow: bool,
        /// Which attempt; 0 for the newest
        #[arg(long, default_value_t = 0, requires = "task")]
        attempt: i32,
    },
    /// Stop a run; a second time, its exit tasks too
    Terminate {
        /// The run's id
        run: String,
    },
    /// Run again what failed or was stopped, and keep the rest
    Retry {
        /// The run's id
        run: String,
        /// Follow the run until it ends; the exit code says how
        #[arg(short, long)]
        watch: bool,
    },
    /// Start a run of the same pipeline, with the same parameters or others
    Clone(Clone),
    /// Archive a run
    Archive {
        /// The run's id
        run: String,
    },
    /// Restore an archived run
    Unarchive {
        /// The run's id
        run: String,
    },
    /// Stop a run and remove what it left
    Delete {
        /// The run's id
        run: String,
        /// Leave its artifacts
        #[arg(long)]
        keep_artifacts: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The file that the compiler wrote, or the name of a stored pipeline
    pub(crate) file: String,
    /// A parameter of the pipeline; JSON where the parameter is not text
    #[arg(short, long = "param", value_name = "K=V")]
    pub(crate) params: Vec<String>,
    /// The experiment that the run belongs to; made when it is new
    #[arg(short, long)]
    pub(crate) experiment: Option<String>,
    /// The run's name; default: the pipeline's name and the time
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A tag of the run
    #[arg(long = "tag", value_name = "K=V")]
    pub(crate) tags: Vec<String>,
    /// How its steps use the cache: off, identity, content, max-age=SECONDS; several with `;`
    #[arg(long, value_name = "POLICY")]
    pub(crate) cache: Option<String>,
    /// Follow the run until it ends; the exit code says how
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Clone {
    /// The id of the run to start from
    pub(crate) run: String,
    /// A parameter that differs; JSON where the parameter is not text, null for the pipeline's default
    #[arg(short, long = "param", value_name = "K=V")]
    pub(crate) params: Vec<String>,
    /// The experiment (name or id); made when it is new; default: that of the run
    #[arg(short, long)]
    pub(crate) experiment: Option<String>,
    /// The new run's name; default: `Clone of` and the run's own
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Follow the run until it ends; the exit code says how
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// List artifacts, newest first
    List {
        /// Only those of this run
        #[arg(long)]
        run: Option<String>,
        /// Only those of this type, such as system.Model
        #[arg(long = "type")]
        artifact_type: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an artifact, or write its content
    Get {
        /// The artifact's id
        artifact: i64,
        /// Write the content to this file or directory; - for standard output
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// List the results that steps may use, newest first
    List {
        /// Only those of this pipeline (the name in its specification)
        #[arg(long)]
        pipeline: Option<String>,
        /// Only those that this run produced
        #[arg(long)]
        run: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a result: which run produced it, and which steps used it
    Get {
        /// The entry's id
        entry: String,
    },
    /// Forget results, so that the next equal steps run
    Delete {
        /// The entries' ids
        #[arg(required_unless_present = "pipeline", conflicts_with = "pipeline")]
        entries: Vec<String>,
        /// All of this pipeline (the name in its specification)
        #[arg(long)]
        pipeline: Option<String>,
        /// Of the pipeline's, only those of this task (its path)
        #[arg(long, requires = "pipeline")]
        task: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Step {
    /// Run one step again here, with its exact inputs, environment and code
    Replay {
        /// The run's id
        run: String,
        /// The task (id, name, or path with dots)
        task: String,
        /// Which attempt; 0 for the newest
        #[arg(long, default_value_t = 0)]
        attempt: i32,
        /// Stop in the Python debugger where the step fails
        #[arg(long)]
        pdb: bool,
        /// Leave the directory of the replay even when the step succeeds
        #[arg(long)]
        keep: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Proto {
    /// Write the proto files of the API
    Export {
        /// The directory to write to; it is made when it is missing
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::{CommandFactory as _, Parser as _};

    /// What `flumina help …` prints, for every command.
    const HELP: &str = include_str!("../tests/help.txt");

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn an_attempt_needs_a_task() {
        let parse = |line: &str| super::Cli::try_parse_from(line.split(' ')).map(drop);
        let error = parse("flumina run logs r --attempt 2").unwrap_err();
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::MissingRequiredArgument
        );
        for line in ["r", "r t", "r --follow", "r t --attempt 2 --follow"] {
            parse(&format!("flumina run logs {line}")).unwrap();
        }
    }

    #[test]
    fn help_says_what_it_said() {
        let mut command = super::Cli::command().term_width(100);
        command.build();
        let mut text = String::new();
        write_help(&mut command, &mut text);
        if text != HELP {
            let path = std::env::temp_dir().join("flumina-help.txt");
            std::fs::write(&path, &text).unwrap();
            panic!(
                "the help has changed: compare {} with tests/help.txt",
                path.display()
            );
        }
    }

    fn write_help(command: &mut clap::Command, text: &mut String) {
        let help = command.render_long_help();
        let name = command.get_bin_name().unwrap_or("flumina");
        writeln!(text, "$ {name} --help").unwrap();
        for line in help.to_string().trim_end().lines() {
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
        text.push('\n');
        for inner in command.get_subcommands_mut() {
            if inner.get_name() != "help" {
                write_help(inner, text);
            }
        }
    }
}
