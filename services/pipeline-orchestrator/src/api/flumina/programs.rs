//! `flumina.pipelines.v1.ProgramService`: what the specification of a run says about one of its tasks.

use api_pipelines::v1 as own;
use api_pipelines::v1::program_service_server::ProgramService;
use api_runner::v1 as runner;
use ids::RunId;
use pipeline_spec::Plan;
use pipeline_spec::plan::{Body, Component, Container, Executor};
use tonic::{Request, Response, Status};

use super::runs::{parse, visible};
use super::{Flumina, run_id, status};
use crate::domain::{Task, TaskKind};
use crate::error::{Error, SERVICE};
use crate::store::tasks;

#[tonic::async_trait]
impl ProgramService for Flumina {
    async fn get_program(
        &self,
        request: Request<own::GetProgramRequest>,
    ) -> Result<Response<own::Program>, Status> {
        let request = request.into_inner();
        let id = run_id(&request.run_id)?;
        let task = self
            .find_task(id, request.task)
            .await
            .map_err(|error| status(&error))?;
        aip::unary(SERVICE, self.program(id, &task).await)
    }
}

impl Flumina {
    async fn program(&self, run: RunId, task: &Task) -> Result<own::Program, Error> {
        let (plans, parent) = (self.app.plans().clone(), task.parent);
        let read = self.app.db().read(move |conn| {
            let plans = plans.clone();
            Box::pin(async move {
                let record = visible(conn, run).await?;
                let plan = plans.stored(conn, &record.spec_hash).await?;
                let parent = match parent {
                    Some(parent) => tasks::by_id(conn, run, parent).await?,
                    None => None,
                };
                Ok::<_, Error>((plan, parent))
            })
        });
        let (plan, parent) = read.await?;
        let parent = parent.map(parse).transpose()?;
        Ok(program(&plan, task, parent.as_ref()))
    }
}

/// What the plan says about a task; empty where it says nothing.
fn program(plan: &Plan, task: &Task, parent: Option<&Task>) -> own::Program {
    let mut program = match plan
        .components
        .get(&task.body.component)
        .map(|found| &found.body)
    {
        Some(Body::Executor(label)) => match plan.executors.get(label) {
            Some(Executor::Container(container)) => of_container(container),
            Some(Executor::Importer(_)) | None => own::Program::default(),
        },
        Some(Body::Dag(_)) | None => own::Program::default(),
    };
    let around = parent.and_then(|parent| component(plan, parent));
    if let Some(Body::Dag(dag)) = around.map(|found| &found.body)
        && let Some(declared) = dag.tasks.get(&task.name)
    {
        program.condition.clone_from(&declared.trigger.condition);
        program.max_retries = declared.retry.as_ref().map_or(0, |retry| retry.max_retries);
        program.caching = declared.caching.enabled;
    }
    program
}

fn component<'a>(plan: &'a Plan, task: &Task) -> Option<&'a Component> {
    match task.kind {
        TaskKind::Root => Some(&plan.root),
        _ => plan.components.get(&task.body.component),
    }
}

fn of_container(container: &Container) -> own::Program {
    let asked = &container.resources;
    let mut program = own::Program {
        image: container.image.clone(),
        // Values may be what people call secrets, although the specification has them in the clear.
        env_names: container.env.iter().map(|(name, _)| name.clone()).collect(),
        resources: Some(runner::Resources {
            cpu_request: asked.cpu_request.clone(),
            cpu_limit: asked.cpu_limit.clone(),
            memory_request: asked.memory_request.clone(),
            memory_limit: asked.memory_limit.clone(),
            accelerator_type: asked.accelerator_type.clone(),
            accelerator_count: asked.accelerator_count.clone(),
        }),
        platform_json: match &container.platform {
            serde_json::Value::Null => String::new(),
            platform => platform.to_string(),
        },
        ..Default::default()
    };
    match step::template::recognise(&container.command, &container.args) {
        Some(found) => {
            program.source = found.source;
            program.function = found.function;
            program.packages = found.packages;
        }
        None => {
            program.command.clone_from(&container.command);
            program.args.clone_from(&container.args);
        }
    }
    program
}
