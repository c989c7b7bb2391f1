//! `flumina.runner.v1`: workloads here, what they use in the modules.

mod bundles;
mod convert;
mod supplies;
pub(crate) mod validate;
mod volumes;

use std::pin::Pin;
use std::time::Duration;

use aip::{ApiError, unary};
use api_runner::v1 as pb;
use api_runner::v1::workload_service_server::WorkloadService;
use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status};

use crate::app::{Runner, Told};
use crate::error::Error;
use crate::service::NAME;

/// How often a usage stream tells.
const USAGE_PERIOD: Duration = Duration::from_secs(1);

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    runner: Runner,
}

impl Api {
    /// The service of a runner.
    pub(crate) fn new(runner: Runner) -> Self {
        Self { runner }
    }

    /// Runs a mutation to its end, whatever becomes of the caller, and answers.
    async fn mutate<T, F, W>(&self, work: W) -> Result<Response<T>, Status>
    where
        T: prost::Message + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
        W: FnOnce(Runner) -> F,
    {
        let future = work(self.runner.clone());
        unary(NAME, self.runner.to_end(future).await)
    }
}

fn status(error: &impl ApiError) -> Status {
    aip::status(NAME, error)
}

#[tonic::async_trait]
impl WorkloadService for Api {
    async fn launch(
        &self,
        request: Request<pb::LaunchRequest>,
    ) -> Result<Response<pb::Workload>, Status> {
        let pb::LaunchRequest { id, spec } = request.into_inner();
        let id = match validate::id(&id) {
            Ok(id) => id,
            // Everything that is wrong is said at once.
            Err(error) => {
                let all = validate::launch(&id, spec.as_ref()).err();
                return Err(status(&all.unwrap_or(error)));
            }
        };
        self.mutate(async move |runner: Runner| {
            let record = runner.launch(id, spec).await?;
            Ok(convert::workload(&runner, &record))
        })
        .await
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::Workload>, Status> {
        let answer = async {
            let id = validate::id(&request.get_ref().id)?;
            let record = self.runner.get(&id).await?;
            Ok::<_, Error>(convert::workload(&self.runner, &record))
        };
        unary(NAME, answer.await)
    }

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let request = request.into_inner();
        let answer = async {
            validate::owner("owner", &request.owner, false)?;
            let (owner, token) = (&request.owner, &request.page_token);
            let page = self.runner.list(owner, request.page_size, token).await?;
            let records = page.records.iter();
            Ok::<_, Error>(pb::ListResponse {
                workloads: records
                    .map(|record| convert::workload(&self.runner, record))
                    .collect(),
                next_page_token: page.next,
            })
        };
        unary(NAME, answer.await)
    }

    type WatchStream = Messages<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        validate::owner("owner", &request.owner, false).map_err(|error| status(&error))?;
        let watching = self.runner.watch(&request.owner, request.live_only);
        let runner = self.runner.clone();
        let stream = stream::try_unfold((runner, watching), async |(runner, mut watching)| {
            let told = watching.next().await.map_err(|error| status(&error))?;
            let message = match told {
                None => return Ok(None),
                Some(Told::Synced) => pb::WatchResponse {
                    workload: None,
                    synced: true,
                },
                Some(Told::Record(record)) => pb::WatchResponse {
                    workload: Some(convert::workload(&runner, &record)),
                    synced: false,
                },
            };
            Ok(Some((message, (runner, watching))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type LogsStream = Messages<pb::LogsResponse>;

    async fn logs(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let reading = async {
            let id = validate::id(&request.id)?;
            let (offset, limit) = (request.offset, request.limit_bytes);
            self.runner.logs(id, offset, limit, request.follow).await
        };
        let reading = reading.await.map_err(|error| status(&error))?;
        let stream = stream::try_unfold(reading, async |mut reading| {
            let chunk = reading.next().await.map_err(|error| status(&error))?;
            Ok(chunk.map(|chunk| {
                let message = pb::LogsResponse {
                    offset: chunk.offset,
                    data: chunk.data.into(),
                };
                (message, reading)
            }))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn stop(
        &self,
        request: Request<pb::StopRequest>,
    ) -> Result<Response<pb::Workload>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let id = validate::id(&request.id)?;
            let record = runner.stop(id, &request.reason).await?;
            Ok(convert::workload(&runner, &record))
        })
        .await
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| runner.delete(validate::id(&request.id)?).await)
            .await
    }

    async fn forget(&self, request: Request<pb::ForgetRequest>) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            validate::owner("owner", &request.owner, true)?;
            runner.forget(&request.owner).await
        })
        .await
    }

    type UsageStream = Messages<pb::UsageResponse>;

    async fn usage(
        &self,
        request: Request<pb::UsageRequest>,
    ) -> Result<Response<Self::UsageStream>, Status> {
        let id = validate::id(&request.get_ref().id).map_err(|error| status(&error))?;
        let record = self.runner.get(&id).await.map_err(|error| status(&error))?;
        if record.state.ended() {
            return Err(status(&Error::NotRunning(id.to_string())));
        }
        let start = (self.runner.clone(), id, false);
        let stream = stream::try_unfold(start, async |(runner, id, told)| {
            if told {
                let pause = tokio::time::sleep(USAGE_PERIOD);
                if runner.shutdown().guard(pause).await.is_none() {
                    return Ok(None);
                }
            }
            let measured = runner.usage(&id).await.map_err(|error| status(&error))?;
            Ok(measured.map(|usage| {
                let message = pb::UsageResponse {
                    memory_bytes: usage.memory_bytes,
                    cpu_us: usage.cpu_us,
                    measured_at: Some(aip::time::to_proto(runner.now())),
                };
                (message, (runner, id, true))
            }))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let answer = async {
            let id = validate::id(&request.get_ref().id)?;
            let assignment = self.runner.describe(&id).await?;
            let confidential_path = match assignment.confidential {
                true => self.runner.hand_over(&id).await?,
                false => String::new(),
            };
            Ok::<_, Error>(pb::DescribeResponse {
                assignment: Some(assignment),
                agent_path: self.runner.agent_path(),
                confidential_path,
            })
        };
        unary(NAME, answer.await)
    }
}
