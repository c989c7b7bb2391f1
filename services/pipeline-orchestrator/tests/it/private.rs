//! What the service stores belongs to its user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use flumina_pipeline_orchestrator::{Config, build};
use rpc::Switchboard;
use runtime::Host;

#[tokio::test]
async fn a_new_data_directory_is_private_and_one_that_is_there_keeps_its_permissions() {
    let temp = testkit::temp_dir();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let config = Config {
        data_dir: temp.path().join("new/data"),
        ..Config::default()
    };
    let runner = Switchboard::new().channel("flumina.runner.v1.WorkloadService");
    let service = build(&config, &Host::detached("test"), runner.clone()).await;
    drop(service.unwrap());
    assert_eq!(mode(&config.data_dir), 0o700);
    let database = config.data_dir.join("pipelines.sqlite");
    assert_eq!(mode(&database), 0o600);

    let shared = fs::Permissions::from_mode(0o750);
    fs::set_permissions(&config.data_dir, shared).unwrap();
    let service = build(&config, &Host::detached("test"), runner).await;
    drop(service.unwrap());
    assert_eq!(mode(&config.data_dir), 0o750);
}
