//! Assembly.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use api_runner::v1::config_map_service_server::ConfigMapServiceServer;
use api_runner::v1::secret_service_server::SecretServiceServer;
use api_runner::v1::volume_service_server::VolumeServiceServer;
use api_runner::v1::workload_service_server::WorkloadServiceServer;
use runtime::{Host, Kind};
use sha2::{Digest as _, Sha256};

use crate::api::Api;
use crate::app::{Parts, Runner, Vault};
use crate::config::Config;
use crate::domain::admission::{Amount, Scheduler};
use crate::domain::quantity;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::sys;

/// The service's name.
pub const NAME: &str = "runner";
/// The condition of readiness that the runner sets.
pub const READY: &str = "runner";

/// The permission bit of directories that everybody may use.
const STICKY: u32 = 0o1000;

/// Where the agent's program comes from.
#[derive(Debug, Clone)]
pub enum AgentSource {
    /// A file.
    Path(PathBuf),
    /// The bytes of a static program, unpacked into the data directory under their digest.
    Embedded(&'static [u8]),
}

/// What the runner gets from its process.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The process.
    pub host: Host,
    /// The agent; the configuration's `agent` comes first.
    pub agent: AgentSource,
    /// The process's environment variables; only harmless ones reach programs.
    pub environment: Vec<(String, String)>,
}

/// A runner that is ready to start.
#[derive(Debug)]
pub struct Service {
    /// The gRPC services.
    pub services: rpc::Services,
    /// The runner itself, for the process that it is a part of.
    pub runner: Runner,
    host: Host,
    ready: runtime::Condition,
}

/// Why a runner cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Options are wrong.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Another runner has the data directory.
    #[error("another process uses the data directory {}", .0.display())]
    Locked(PathBuf),
    /// The database cannot be used.
    #[error("cannot open the runner's database")]
    Database(#[from] sql::Error),
    /// A file cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Builds the runner: takes its data directory and its node, opens its database. Nothing runs yet.
pub async fn build(config: Config, deps: Deps) -> Result<Service, BuildError> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(BuildError::Config(problems));
    }
    let mut config = config;
    let data_lock = take_data_dir(&mut config)?;
    let dir = config.data_dir.clone();
    let ready = deps.host.readiness.condition(READY);
    let boot_id = match &config.boot_id {
        Some(boot_id) => boot_id.clone(),
        None => sys::boot_id().map_err(BuildError::io(Path::new("the boot id")))?,
    };
    let node_id = node_id(&dir)?;
    let options = config.database();
    let holder = format!("{boot_id}/{}", std::process::id());
    let store = crate::store::Store::open(&options, &node_id, &holder).await?;
    let agent = unpack_agent(&config, &deps.agent)?;
    let stores = crate::app::stores::Stores::new(&config, &deps.environment)
        .map_err(BuildError::io(&dir.join("stores")))?;
    let agent_abort = deps
        .environment
        .iter()
        .find(|(name, _)| name == "FLUMINA_AGENT_ABORT")
        .map(|(_, value)| value.clone());
    let pools = match &config.accelerators {
        Some(pools) => pools.clone(),
        None => crate::devices::detect(Path::new("/dev"), &deps.environment).await,
    };
    let scheduler = Scheduler::new(capacity(&config), pools);
    let open = |dir: &PathBuf| crate::cgroups::Cgroups::open(dir).map_err(BuildError::io(dir));
    let cgroups = config.cgroup.as_ref().map(open).transpose()?;
    let vault = Vault::new(config.secrets_key.as_deref(), &deps.environment, &dir);
    let base_env = crate::environment::base(&config, &deps.environment);
    let runner = Runner::new(Parts {
        clock: deps.host.clock.clone(),
        store,
        // A child of its own, so that everything of the runner ends together.
        supervisor: deps.host.supervisor.child(NAME),
        metrics: Metrics::new(&deps.host.metrics),
        agent,
        stores,
        boot_id,
        base_env,
        agent_abort,
        scheduler,
        cgroups,
        data_lock,
        vault,
        host_name: sys::host_name(),
        config,
    })
    .map_err(BuildError::io(&dir))?;
    let api = Api::new(runner.clone());
    let server = WorkloadServiceServer::new(api.clone())
        .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(rpc::MAX_MESSAGE_BYTES);
    let services = rpc::Services::new(NAME)
        .descriptor(api_runner::DESCRIPTOR)
        .add(server)
        .add(SecretServiceServer::new(api.clone()))
        .add(ConfigMapServiceServer::new(api.clone()))
        .add(VolumeServiceServer::new(api));
    Ok(Service {
        services,
        runner,
        host: deps.host,
        ready,
    })
}

/// Makes the data directory, for its user alone, and locks it.
fn take_data_dir(config: &mut Config) -> Result<fs::File, BuildError> {
    let private = |path: &Path| {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
        made.map_err(BuildError::io(path))
    };
    private(&config.data_dir)?;
    config.data_dir =
        fs::canonicalize(&config.data_dir).map_err(BuildError::io(&config.data_dir))?;
    let dir = &config.data_dir;
    let lock_path = dir.join("runner.lock");
    let lock = sys::lock(&lock_path)
        .map_err(BuildError::io(&lock_path))?
        .ok_or_else(|| BuildError::Locked(dir.clone()))?;
    let workloads = dir.join("workloads");
    private(&workloads)?;
    for path in [dir, &workloads] {
        let mode = fs::metadata(path).map_err(BuildError::io(path))?.mode();
        // One that everybody uses, such as /tmp, stays so.
        if mode & STICKY == 0 {
            set_mode(path, 0o700)?;
        }
    }
    if let Some(file) = config.database_file() {
        // Its companions get the permissions that it has.
        let made = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&file);
        made.map_err(BuildError::io(&file))?;
        for end in ["", "-wal", "-shm"] {
            let mut name = file.clone().into_os_string();
            name.push(end);
            let path = PathBuf::from(name);
            if path.exists() {
                set_mode(&path, 0o600)?;
            }
        }
    }
    Ok(lock)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), BuildError> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(BuildError::io(path))
}

impl Service {
    /// Takes up what was there and starts the background tasks; ready when it returns.
    pub async fn start(&self) -> Result<(), Error> {
        let supervisor = &self.runner.0.supervisor;
        let runner = self.runner.clone();
        supervisor.spawn(Kind::HELPER, "log-growth", move |shutdown| {
            runner.clone().follow_growth(shutdown)
        });
        let runner = self.runner.clone();
        supervisor.spawn(Kind::HELPER, "places", move |shutdown| {
            runner.clone().tell_places(shutdown)
        });
        self.runner.restore().await?;
        // Only now is it known which environments are used.
        let runner = self.runner.clone();
        supervisor.spawn(Kind::HELPER, "collect", move |_| runner.clone().collect());
        self.ready.ready();
        tracing::info!(node = self.runner.node_id(), "runner is ready");
        Ok(())
    }

    /// Instead of [`Service::start`]: takes up what runs only to stop it, and starts nothing. Returns how many workloads
    /// ran when all have ended.
    pub async fn stop_everything(&self, why: &str) -> Result<usize, Error> {
        let running = self.runner.stop_stored(why).await?;
        self.start().await?;
        self.runner.stop_all(why).await?;
        Ok(running)
    }

    /// The process that the runner belongs to.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// The runner as a process of its own: builds, starts and serves it.
pub async fn serve_alone(config: crate::config::Standalone, host: Host) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let agent = match &config.runner.agent {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let deps = Deps {
        host: host.clone(),
        agent: AgentSource::Path(agent),
        environment,
    };
    let token = config
        .token
        .as_ref()
        .map(auth::BearerToken::new)
        .transpose()?;
    let guard = runtime::Guard::new(token.as_ref(), config.insecure);
    let service = build(config.runner, deps).await?;
    service.start().await.context("cannot take up workloads")?;
    let listener = runtime::Listener::bind("the runner", config.listen, guard)?;
    let options = rpc::ServeOptions {
        token,
        ..rpc::ServeOptions::default()
    };
    rpc::serve(&host, listener, service.services, options)?;
    Ok(())
}

fn beside_this_program() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.with_file_name("flumina-agent"))
}

fn capacity(config: &Config) -> Amount {
    let (cpu_milli, memory) = sys::machine();
    let cores = config.cores.map(|cores| (cores * 1000.0).round() as u64);
    Amount {
        cpu_milli: cores.unwrap_or(cpu_milli),
        memory: config
            .memory
            .as_deref()
            .and_then(quantity::bytes)
            .unwrap_or(memory),
        ..Amount::default()
    }
}

/// The node's name: made once, kept with the data.
fn node_id(dir: &Path) -> Result<String, BuildError> {
    let path = dir.join("node");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(BuildError::io(&path)(error)),
    }
    let id = ids::RequestId::generate().to_string();
    write_durably(&path, id.as_bytes(), 0o600).map_err(BuildError::io(&path))?;
    Ok(id)
}

/// Puts the agent under a name that has its digest, so that an upgrade never changes a running one.
fn unpack_agent(config: &Config, source: &AgentSource) -> Result<PathBuf, BuildError> {
    let bytes = match (&config.agent, source) {
        (Some(path), _) | (None, AgentSource::Path(path)) => {
            std::borrow::Cow::Owned(fs::read(path).map_err(BuildError::io(path))?)
        }
        (None, AgentSource::Embedded(bytes)) => std::borrow::Cow::Borrowed(*bytes),
    };
    let digest = Sha256::digest(&bytes);
    let mut short = String::new();
    for byte in &digest[..8] {
        short.push_str(&format!("{byte:02x}"));
    }
    let bin = config.data_dir.join("bin");
    fs::create_dir_all(&bin).map_err(BuildError::io(&bin))?;
    let path = bin.join(format!("flumina-agent-{short}"));
    let there = fs::metadata(&path).is_ok_and(|file| file.len() == bytes.len() as u64);
    if !there {
        write_durably(&path, &bytes, 0o755).map_err(BuildError::io(&path))?;
    }
    Ok(path)
}

fn write_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
