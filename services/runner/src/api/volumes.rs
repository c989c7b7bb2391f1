//! `flumina.runner.v1.VolumeService`.

use aip::{FieldViolation, unary};
use api_runner::v1 as pb;
use api_runner::v1::volume_service_server::VolumeService;
use tonic::{Request, Response, Status};

use super::Api;
use super::bundles::check_target;
use crate::app::Runner;
use crate::domain::quantity;
use crate::error::Error;
use crate::service::NAME;
use crate::store::Volume;

#[tonic::async_trait]
impl VolumeService for Api {
    async fn create_volume(
        &self,
        request: Request<pb::CreateVolumeRequest>,
    ) -> Result<Response<pb::PersistentVolume>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            check_target(&request.namespace, Some(&request.name), &request.request_id)?;
            if !request.size.is_empty() && quantity::bytes(&request.size).is_none() {
                let violation = FieldViolation::new("size", "expected a quantity such as 1Gi");
                return Err(Error::Invalid(vec![violation]));
            }
            let volume = Volume {
                namespace: request.namespace,
                name: request.name,
                size: request.size,
                access_modes: Vec::new(),
                storage_class: String::new(),
                created_by: String::new(),
                deleting: false,
                created_at: runner.now(),
            };
            let made = runner.create_volume(volume, request.request_id).await?;
            Ok(persistent(&runner, made))
        })
        .await
    }

    async fn get_volume(
        &self,
        request: Request<pb::GetVolumeRequest>,
    ) -> Result<Response<pb::PersistentVolume>, Status> {
        let pb::GetVolumeRequest { namespace, name } = request.into_inner();
        let answer = async {
            check_target(&namespace, Some(&name), "")?;
            let found = self.runner.volume(&namespace, &name).await?;
            Ok::<_, Error>(persistent(&self.runner, found))
        };
        unary(NAME, answer.await)
    }

    async fn list_volumes(
        &self,
        request: Request<pb::ListVolumesRequest>,
    ) -> Result<Response<pb::ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let answer = async {
            check_target(&request.namespace, None, "")?;
            let (size, token) = (request.page_size, &request.page_token);
            let page = self.runner.volumes(&request.namespace, size, token);
            let (found, next_page_token) = page.await?;
            Ok::<_, Error>(pb::ListVolumesResponse {
                volumes: found
                    .into_iter()
                    .map(|volume| persistent(&self.runner, volume))
                    .collect(),
                next_page_token,
            })
        };
        unary(NAME, answer.await)
    }

    async fn delete_volume(
        &self,
        request: Request<pb::DeleteVolumeRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.mutate(async move |runner: Runner| {
            let (namespace, name) = (&request.namespace, &request.name);
            check_target(namespace, Some(name), &request.request_id)?;
            let id = request.request_id.clone();
            runner.delete_volume(namespace, name, id).await
        })
        .await
    }
}

fn persistent(runner: &Runner, volume: Volume) -> pb::PersistentVolume {
    let dir = runner.volume_dir(&volume.namespace, &volume.name);
    pb::PersistentVolume {
        namespace: volume.namespace,
        name: volume.name,
        size: volume.size,
        access_modes: volume.access_modes,
        storage_class: volume.storage_class,
        created_at: Some(aip::time::to_proto(volume.created_at)),
        created_by: volume.created_by,
        path: dir.display().to_string(),
    }
}
