//! Puts the service together; nothing runs until [`Service::start`].

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use objects::Store;
use reconcile::Schedule;
use rpc::Services;
use runtime::Host;
use sql::Db;
use tokio::sync::Notify;

use crate::api;
use crate::app::{App, Parts, Plans, Roots};
use crate::config::Config;
use crate::error::SERVICE;
use crate::metrics::OrchestratorMetrics;
use crate::store;
use crate::work::retention::Retention;
use crate::work::schedules::Scheduler;
use crate::work::{Deps, RunEngine};

/// How often kept answers are looked through.
const RETENTION: Duration = Duration::from_secs(3600);

/// How often schedules are looked at when no slot is due: a clock that was set, or a machine that slept, is noticed then.
const SCHEDULES: Duration = Duration::from_secs(10);

/// The service, ready to be connected and started.
pub struct Service {
    services: Services,
    app: App,
    engine: RunEngine,
    retention: Arc<Retention>,
    scheduler: Arc<Scheduler>,
    /// Asks for a look at the schedules.
    schedules: Arc<Notify>,
    host: Host,
}

/// Opens the database and the artifact store and puts the parts together. `runner` is the channel to the runner.
///
/// # Errors
/// A directory, the database or the artifact store cannot be used.
pub async fn build(config: &Config, host: &Host, runner: rpc::Channel) -> anyhow::Result<Service> {
    // Parameters of runs are nobody else's business; a directory that is there already keeps its permissions.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make {}", config.data_dir.display()))?;
    let db = Db::open(&config.database(), &store::migrations())
        .await
        .context("cannot open the pipelines database")?;
    let access = objects::Access::new(&config.stores, &config.environment);
    let objects = Store::with_access(&config.artifacts(), access.clone()).with_context(|| {
        format!(
            "cannot open the artifact store {}",
            config.artifacts().display()
        )
    })?;
    let folders = objects.roots().map(|root| {
        let text = root.to_str().map(str::to_owned);
        text.context("the path of an artifact store is not UTF-8")
    });
    let folders: Vec<String> = folders.collect::<anyhow::Result<_>>()?;
    let roots = Roots::new(folders, access);
    let supervisor = host.supervisor.child(SERVICE);
    let metrics = OrchestratorMetrics::new(&host.metrics);
    let schedules = Arc::new(Notify::new());
    let engine = RunEngine::new(Deps {
        db: db.clone(),
        runner,
        objects: objects.clone(),
        clock: host.clock.clone(),
        supervisor: supervisor.clone(),
        active: metrics.runs_active.clone(),
        any_end: Arc::clone(&schedules),
    });
    let app = App::new(Parts {
        db: db.clone(),
        clock: host.clock.clone(),
        engine: Arc::new(engine.clone()),
        supervisor: supervisor.clone(),
        roots,
        plans: Plans::default(),
        cache: config.cache.policy(),
        metrics: metrics.clone(),
        schedules: Arc::clone(&schedules),
        time_zone: config.schedule_time_zone.clone(),
    });
    let scheduler = Scheduler {
        app: app.clone(),
        engine: engine.clone(),
        clock: host.clock.clone(),
    };
    let retention = Retention {
        db,
        clock: host.clock.clone(),
        keep: Duration::from_secs(config.keep_answers_hours * 3600),
        metrics,
    };
    let mut services = api::add_kfp(Services::new(SERVICE), &app);
    services = api::v1::add(services, &app);
    services = api::flumina::add(services, &app, &engine, objects);
    Ok(Service {
        services,
        app,
        engine,
        retention: Arc::new(retention),
        scheduler: Arc::new(scheduler),
        schedules,
        host: Host {
            supervisor,
            ..host.clone()
        },
    })
}

impl Service {
    /// The gRPC services, to be registered or served.
    pub fn services(&self) -> Services {
        self.services.clone()
    }

    /// Makes sure that the default experiment exists, goes on with every run, and starts the background work.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.app
            .ensure_default_experiment()
            .await
            .context("cannot create the default experiment")?;
        self.engine.start().await.context("cannot read the runs")?;
        let _status = reconcile::drive(
            &self.host.supervisor,
            &self.host.clock,
            Arc::clone(&self.retention),
            Schedule::every(RETENTION),
            Arc::new(Notify::new()),
        );
        let _status = reconcile::drive(
            &self.host.supervisor,
            &self.host.clock,
            Arc::clone(&self.scheduler),
            Schedule::every(SCHEDULES),
            Arc::clone(&self.schedules),
        );
        Ok(())
    }
}
