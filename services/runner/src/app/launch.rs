//! Launch: from a request to a committed row, and into the queue or straight on.

use std::sync::Arc;

use api_runner::v1::WorkloadSpec;
use api_step::v1::step::Program;
use ids::WorkloadId;
use prost::Message as _;
use runtime::abort_point;

use super::{Live, Plan, Runner, run};
use crate::api::validate;
use crate::domain::admission::{Ask, Why};
use crate::domain::redact;
use crate::domain::state::{Event, State};
use crate::error::Error;
use crate::store::{Inserted, Record, Tombstone};

/// A launch that passed every check, on its way into the database.
struct Checked {
    record: Record,
    spec: WorkloadSpec,
    plan: Arc<Plan>,
    ask: Ask,
}

impl Runner {
    /// Starts a workload, or returns the one that has the id.
    pub(crate) async fn launch(
        &self,
        id: WorkloadId,
        spec: Option<WorkloadSpec>,
    ) -> Result<Record, Error> {
        let _alone = self.lock_id(&id).await;
        // Whatever is asked now, and whether it could run: a known id is only looked at.
        if let Some(known) = self.known(&id).await? {
            return Ok(known);
        }
        if let Some(mark) = self.0.store.tombstone(&id).await? {
            let spec = spec.unwrap_or_default();
            let record = self.new_record(id, &spec, &Plan::default());
            return Ok(buried(record, &mark));
        }
        let (_, wanted) = validate::launch(id.as_str(), spec.as_ref())?;
        let spec = spec.unwrap_or_default();
        let (plan, amount) = self.plan(&spec, &wanted).await?;
        let ask = Ask {
            id: id.clone(),
            namespace: namespace(&spec),
            amount,
            gang: wanted.gang,
        };
        let record = self.new_record(id, &spec, &plan);
        self.accept(Checked {
            record,
            spec,
            plan,
            ask,
        })
        .await
    }

    /// The workload that has an id. One that the database has and nobody drives is taken up: its launch was committed
    /// although the answer to the commit was lost.
    pub(super) async fn known(&self, id: &WorkloadId) -> Result<Option<Record>, Error> {
        if let Some(known) = self.live_record(id) {
            return Ok(Some(known));
        }
        let Some(found) = self.0.store.find(id).await? else {
            return Ok(None);
        };
        let record = found.record.clone();
        let ours = record.node_id == self.0.store.node_id();
        if !ours || record.deleting || record.ended_at.is_some() {
            return Ok(Some(record));
        }
        tracing::warn!(%id, "taking up a workload whose launch was not known to be recorded");
        self.take_up(found).await;
        self.publish(record.clone());
        Ok(Some(self.live_record(id).unwrap_or(record)))
    }

    /// Writes a launch down and starts it, or lets it wait.
    async fn accept(&self, checked: Checked) -> Result<Record, Error> {
        let Checked {
            mut record,
            spec,
            plan,
            ask,
        } = checked;
        let id = record.id.clone();
        let admitted = plan.environment.is_none() && self.admit_now(&ask, &mut record);
        if admitted {
            self.mark_admitted(&mut record);
        } else if plan.environment.is_some() {
            self.advance(
                &mut record,
                Event::Prepare,
                "BUILDING_ENVIRONMENT",
                "its Python environment is being built",
            );
        } else {
            record.reason = Why::Line.reason().to_owned();
        }
        // The directory is made while the row is on its way to the disk, which whoever writes must be let begin with.
        let (inserted, placed) =
            futures_util::future::join(self.0.store.insert(&record, spec.encode_to_vec()), async {
                tokio::task::yield_now().await;
                admitted.then(|| self.place(&record, &spec, &plan))
            })
            .await;
        if let Some(answer) = self.not_new(&record, inserted, &placed).await {
            if admitted {
                self.give_back(&id);
            }
            return answer;
        }
        abort_point("runner.launch.committed");
        tracing::debug!(%id, state = record.state.as_str(), "launched");
        self.0.metrics.launched.inc();
        let live = Live::new(record.clone(), Some(spec), ask.clone(), plan);
        self.live().workloads.insert(id.clone(), live);
        self.publish(record.clone());
        if let Some(placed) = placed {
            abort_point("runner.dir.made");
            abort_point("runner.running.committed");
            self.drive(&id, run::First::Placed(placed));
        } else if record.state == State::Preparing {
            self.prepare_environment(&id);
        } else {
            self.enqueue(ask).await;
        }
        Ok(self.live_record(&id).unwrap_or(record))
    }

    /// The answer to a launch that is not a new workload; nothing of it is left on the disk.
    async fn not_new(
        &self,
        record: &Record,
        inserted: Result<Inserted, sql::Error>,
        placed: &Option<Result<(), Error>>,
    ) -> Option<Result<Record, Error>> {
        let id = &record.id;
        let answer = match inserted {
            // Nobody was told of it yet, so it can be refused still; else it fails by the same name.
            Ok(Inserted::New) => match placed {
                Some(Err(Error::DiskFull))
                    if self.0.store.remove(std::slice::from_ref(id)).await.is_ok() =>
                {
                    Err(Error::DiskFull)
                }
                _ => return None,
            },
            Ok(Inserted::Known(known)) => Ok(*known),
            Ok(Inserted::Buried(mark)) => Ok(buried(record.clone(), &mark)),
            Err(error) => Err(error.into()),
        };
        if placed.is_some()
            && let Err(error) = self.0.files.remove(id)
        {
            tracing::warn!(%id, error = aip::chain(&error), "cannot remove files that belong to no workload");
        }
        if placed.is_some() {
            self.end_cgroup(id).await;
        }
        Some(answer)
    }

    /// Starts a workload of the runner's own at once, without admission.
    pub(super) async fn launch_now(
        &self,
        id: WorkloadId,
        spec: WorkloadSpec,
        ask: Ask,
        plan: Plan,
    ) -> Result<(), Error> {
        let _alone = self.lock_id(&id).await;
        let mut record = self.new_record(id.clone(), &spec, &plan);
        self.mark_admitted(&mut record);
        let inserted = self.0.store.insert(&record, spec.encode_to_vec()).await?;
        if !matches!(inserted, Inserted::New) {
            return Ok(());
        }
        let placed = self.place(&record, &spec, &plan);
        let live = Live::new(record.clone(), Some(spec), ask.clone(), Arc::new(plan));
        {
            let mut set = self.live();
            set.scheduler.hold(&ask);
            set.workloads.insert(id.clone(), live);
        }
        self.publish(record);
        self.drive(&id, run::First::Placed(placed));
        Ok(())
    }

    pub(super) fn new_record(&self, id: WorkloadId, spec: &WorkloadSpec, plan: &Plan) -> Record {
        let now = self.0.clock.now();
        Record {
            id,
            node_id: self.0.store.node_id().to_owned(),
            namespace: namespace(spec),
            owner: spec.owner.clone(),
            state: State::Queued,
            reason: String::new(),
            message: String::new(),
            accelerators: Vec::new(),
            notes: plan.notes.iter().map(|note| redact::urls(note)).collect(),
            spec: Arc::new(public(spec)),
            result: None,
            boot_id: self.0.boot_id.clone(),
            deleting: false,
            created_at: now,
            admitted_at: None,
            started_at: None,
            ended_at: None,
            log_bytes: 0,
            version: self.next_version(0),
        }
    }

    fn admit_now(&self, ask: &Ask, record: &mut Record) -> bool {
        let mut live = self.live();
        let admitted = live.scheduler.admit_now(ask);
        record.accelerators = live.scheduler.devices(&ask.id).to_vec();
        admitted
    }

    pub(super) fn mark_admitted(&self, record: &mut Record) {
        if self.advance(record, Event::Admit, "", "") {
            let now = self.0.clock.now();
            record.admitted_at = Some(now);
            record.started_at = Some(now);
            record.boot_id.clone_from(&self.0.boot_id);
        }
    }

    /// Puts a workload into the queue and starts whatever may start now.
    pub(super) async fn enqueue(&self, ask: Ask) {
        let gang = ask.gang.as_ref().map(|_| ask.id.clone());
        let (admitted, impossible) = {
            let mut live = self.live();
            // It may have been stopped since.
            let waits = live
                .workloads
                .get(&ask.id)
                .is_some_and(|live| live.record.state == State::Queued);
            if waits {
                live.scheduler.push(ask);
            }
            let impossible = live.scheduler.impossible();
            for ask in &impossible {
                live.scheduler.remove(&ask.namespace, &ask.id);
            }
            (self.admit(&mut live), impossible)
        };
        if let Some(gang) = gang {
            self.expire_gang(gang);
        }
        self.begin(admitted, Vec::new()).await;
        for ask in impossible {
            let message = "its gang asks for more than this machine has, all members together";
            self.fail(&ask.id, "GANG_TOO_LARGE", message).await;
        }
        self.queue_changed();
    }

    /// Fails a member of a gang whose others do not come.
    fn expire_gang(&self, id: WorkloadId) {
        let runner = self.clone();
        let limit = std::time::Duration::from_secs(self.0.config.gang_wait_seconds);
        self.spawn("gang", async move {
            tokio::time::sleep(limit).await;
            let waits = runner.live_record(&id).is_some_and(|record| {
                let place = runner.place_in_queue(&record);
                place.is_some_and(|(_, why)| why == Why::Gang)
            });
            if waits && runner.leave_queue(&id) {
                let message = "the other members of its gang did not come";
                runner.fail(&id, "GANG_INCOMPLETE", message).await;
            }
        });
    }

    /// Takes a workload out of the queue; whether it was there.
    fn leave_queue(&self, id: &WorkloadId) -> bool {
        let mut live = self.live();
        let found = live.workloads.get(id);
        let Some(namespace) = found.map(|live| live.ask.namespace.clone()) else {
            return false;
        };
        live.scheduler.remove(&namespace, id)
    }

    /// Returns what a workload that does not run after all had reserved.
    fn give_back(&self, id: &WorkloadId) {
        let admitted = {
            let mut live = self.live();
            live.scheduler.release(id);
            self.admit(&mut live)
        };
        if admitted.is_empty() {
            return;
        }
        let runner = self.clone();
        self.spawn("begin", async move {
            runner.begin(admitted, Vec::new()).await;
        });
    }

    pub(super) fn live_record(&self, id: &WorkloadId) -> Option<Record> {
        let live = self.live();
        live.workloads.get(id).map(|live| live.record.clone())
    }
}

pub(super) fn namespace(spec: &WorkloadSpec) -> String {
    if spec.namespace.is_empty() {
        "default".to_owned()
    } else {
        spec.namespace.clone()
    }
}

/// What anybody may read of a request: no program, no inputs, no file contents, no values of variables and no passwords
/// in URLs.
pub(super) fn public(spec: &WorkloadSpec) -> WorkloadSpec {
    let mut public = spec.clone();
    if let Some(step) = &mut public.step {
        step.inputs_json.clear();
        step.placeholders.clear();
        step.program = match step.program.take() {
            Some(Program::Command(_)) => Some(Program::Command(Default::default())),
            Some(Program::PythonFunction(function)) => {
                Some(Program::PythonFunction(api_step::v1::PythonFunction {
                    source: String::new(),
                    function: function.function,
                }))
            }
            None => None,
        };
    }
    for file in &mut public.files {
        file.content.clear();
    }
    for variable in &mut public.env {
        variable.value.clear();
    }
    if let Some(python) = &mut public.python {
        let texts = python.packages.iter_mut().chain(&mut python.index_urls);
        for text in texts.chain([&mut python.kfp]) {
            *text = redact::urls(text);
        }
    }
    public
}

/// What a launch of an id that must not start looks like.
pub(super) fn buried(mut record: Record, mark: &Tombstone) -> Record {
    record.state = State::Stopped;
    record.reason = if mark.deleted { "DELETED" } else { "STOPPED" }.to_owned();
    record.message = if mark.reason.is_empty() {
        "it was stopped before it was launched".to_owned()
    } else {
        mark.reason.clone()
    };
    record.admitted_at = None;
    record.started_at = None;
    record.ended_at = Some(mark.created_at);
    record
}
