//! What workloads get besides their programs: secrets, config maps, fields.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use api_runner::v1 as pb;
use api_runner::v1::config_map_service_client::ConfigMapServiceClient;
use api_runner::v1::secret_service_client::SecretServiceClient;
use api_runner::v1::volume_service_client::VolumeServiceClient;
use pb::{env_from, volume};
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{Fixture, config, shell, state};

pub(crate) const NAMESPACE: &str = "default";
const VALUE: &str = "a-value-to-hide";

/// A runner whose key lies beside its data, with clients of its stores.
pub(crate) struct Stores {
    pub(crate) runner: Fixture,
    secrets: SecretServiceClient<rpc::Channel>,
    config_maps: ConfigMapServiceClient<rpc::Channel>,
    pub(crate) volumes: VolumeServiceClient<rpc::Channel>,
    dir: TempDir,
}

impl Stores {
    pub(crate) async fn new() -> Self {
        Self::at(TempDir::new().unwrap()).await
    }

    async fn at(dir: TempDir) -> Self {
        Self::with(dir, |_| {}).await
    }

    pub(crate) async fn with(dir: TempDir, edit: impl FnOnce(&mut flumina_runner::Config)) -> Self {
        let mut config = config(&dir.path().join("data"));
        config.secrets_key = Some(dir.path().join("config/key"));
        edit(&mut config);
        let runner = Fixture::with(config).await;
        let switchboard = rpc::Switchboard::new();
        switchboard.register(runner.service.services.clone(), &runner.host.metrics);
        let channel = |name: &'static str| switchboard.channel(name);
        Self {
            secrets: SecretServiceClient::new(channel("flumina.runner.v1.SecretService")),
            config_maps: ConfigMapServiceClient::new(channel("flumina.runner.v1.ConfigMapService")),
            volumes: VolumeServiceClient::new(channel("flumina.runner.v1.VolumeService")),
            runner,
            dir,
        }
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    async fn put_secret(&self, name: &str, data: &[(&str, &str)]) -> pb::Secret {
        self.try_put(put(name, data)).await.unwrap()
    }

    async fn try_put(&self, request: pb::PutSecretRequest) -> Result<pb::Secret, tonic::Status> {
        let answer = self.secrets.clone().put_secret(request).await?;
        Ok(answer.into_inner())
    }
}

fn put(name: &str, data: &[(&str, &str)]) -> pb::PutSecretRequest {
    pb::PutSecretRequest {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        data: values(data),
        ..Default::default()
    }
}

fn values(data: &[(&str, &str)]) -> HashMap<String, Vec<u8>> {
    let pairs = data.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn key(name: &str, key: &str, optional: bool) -> pb::KeySource {
    pb::KeySource {
        name: name.to_owned(),
        key: key.to_owned(),
        optional,
    }
}

fn from(name: &str, source: env_from::Source) -> pb::EnvFrom {
    pb::EnvFrom {
        name: name.to_owned(),
        source: Some(source),
    }
}

pub(crate) fn mount(path: &str, source: volume::Source) -> pb::Volume {
    pb::Volume {
        name: "scratch".to_owned(),
        mount_path: path.to_owned(),
        read_only: false,
        source: Some(source),
    }
}

fn object(name: &str, optional: bool) -> pb::ObjectSource {
    pb::ObjectSource {
        name: name.to_owned(),
        optional,
    }
}

pub(crate) fn pvc(name: &str, sub_path: &str) -> volume::Source {
    volume::Source::Volume(pb::VolumeSource {
        name: name.to_owned(),
        sub_path: sub_path.to_owned(),
    })
}

pub(crate) fn reason(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    details.error_info().unwrap().reason.clone()
}

/// Files below a directory in which a text stands; programs are ours, this one among them.
fn files_with(text: &str, dir: &Path) -> String {
    let found = Command::new("grep")
        .args(["-rla", "--exclude-dir=bin", text])
        .arg(dir)
        .output();
    String::from_utf8(found.unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_keys_of_a_secret_are_variables_and_named_ones_win() {
    let stores = Stores::new().await;
    stores
        .put_secret("s", &[("A", "a"), ("B", "b"), ("C", "c"), ("1x", "no")])
        .await;
    let mut spec = shell("echo \"$A $B $C $P_A $P_1x\"; env | grep -c '^1x=' || true");
    spec.env.push(api_step::v1::EnvVar {
        name: "B".to_owned(),
        value: "own".to_owned(),
    });
    let all = |prefix: &str, name: &str, optional: bool| {
        from(prefix, env_from::Source::Secret(key(name, "", optional)))
    };
    let alone = from("C", env_from::Source::Secret(key("s", "A", false)));
    spec.env_from = vec![
        alone,
        all("", "s", false),
        all("P_", "s", false),
        all("", "gone", true),
    ];
    stores.runner.launch("w", spec).await;
    let ended = stores.runner.ended("w").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    assert_eq!(stores.runner.log("w").await, "a own a a no\n0\n");

    let mut spec = shell("true");
    spec.env_from = vec![all("", "gone", false)];
    stores.runner.launch("lost", spec).await;
    let ended = stores.runner.ended("lost").await;
    assert_eq!(state(&ended), pb::State::Failed);
    assert!(
        format!("{ended:?}").contains("SECRET_NOT_FOUND"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_its_workload_and_nothing_else() {
    let stores = Stores::new().await;
    let stored = stores
        .put_secret("s", &[("token", VALUE), ("b", "2")])
        .await;
    assert_eq!(
        (stored.keys, stored.version),
        (vec!["b".to_owned(), "token".to_owned()], 1)
    );
    let mut spec = shell(
        "test \"$TOKEN\" = \"$(cat /mnt/flumina-s/token)\" && cat /mnt/flumina-s/b && echo ${#TOKEN}",
    );
    spec.env_from = vec![from(
        "TOKEN",
        env_from::Source::Secret(key("s", "token", false)),
    )];
    spec.volumes = vec![mount(
        "/mnt/flumina-s",
        volume::Source::Secret(object("s", false)),
    )];
    stores.runner.launch("w", spec).await;
    let ended = stores.runner.ended("w").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    assert_eq!(stores.runner.log("w").await, "215\n");

    // Not what is described, not in a file, not in the database.
    let request = pb::DescribeRequest { id: "w".to_owned() };
    let described = stores
        .runner
        .client
        .clone()
        .describe(request)
        .await
        .unwrap();
    let described = described.into_inner();
    assert!(!format!("{described:?}").contains(VALUE));
    assert_eq!(files_with(VALUE, stores.dir.path()), "");
    // But in the memory of the runner, for a replay by the same user.
    let handed = std::fs::read(&described.confidential_path).unwrap();
    assert!(
        handed
            .windows(VALUE.len())
            .any(|part| part == VALUE.as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_unless_it_is_optional() {
    let stores = Stores::new().await;
    stores
        .put_secret("there", &[("a", "1"), ("bytes", "x\0y")])
        .await;
    let fails = [
        (
            key("gone", "a", false),
            "SECRET_NOT_FOUND",
            "flumina secret create gone",
        ),
        (
            key("there", "z", false),
            "SECRET_KEY_NOT_FOUND",
            "it has a, bytes",
        ),
        (
            key("there", "bytes", false),
            "VALUE_NOT_TEXT",
            "mount it as a file",
        ),
    ];
    for (index, (source, reason, message)) in fails.into_iter().enumerate() {
        let mut spec = shell("true");
        spec.env_from = vec![from("X", env_from::Source::Secret(source))];
        let id = format!("fails{index}");
        stores.runner.launch(&id, spec).await;
        let ended = stores.runner.ended(&id).await;
        assert_eq!(
            (state(&ended), ended.reason.as_str()),
            (pb::State::Failed, reason)
        );
        assert!(ended.message.contains(message), "{}", ended.message);
    }
    let mut spec = shell("test -z \"${X+set}${Y+set}\" && test -z \"$(ls -A /mnt/flumina-o)\"");
    spec.env_from = vec![
        from("X", env_from::Source::Secret(key("gone", "a", true))),
        from("Y", env_from::Source::ConfigMap(key("gone", "a", true))),
    ];
    spec.volumes = vec![mount(
        "/mnt/flumina-o",
        volume::Source::ConfigMap(object("gone", true)),
    )];
    stores.runner.launch("optional", spec).await;
    let ended = stores.runner.ended("optional").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");

    let mut spec = shell("true");
    spec.volumes = vec![mount(
        "/mnt/flumina-o",
        volume::Source::ConfigMap(object("gone", false)),
    )];
    stores.runner.launch("files", spec).await;
    assert_eq!(
        stores.runner.ended("files").await.reason,
        "CONFIG_MAP_NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_stored_listed_and_removed() {
    let stores = Stores::new().await;
    for name in ["c", "a", "b"] {
        stores.put_secret(name, &[("k", VALUE)]).await;
    }
    let exists = stores.try_put(put("a", &[("k", "2")])).await.unwrap_err();
    assert_eq!(
        (exists.code(), reason(&exists).as_str()),
        (Code::AlreadyExists, "SECRET_EXISTS")
    );
    let replace = pb::PutSecretRequest {
        replace: true,
        ..put("a", &[("other", "2")])
    };
    let replaced = stores.try_put(replace).await.unwrap();
    assert_eq!(
        (replaced.keys, replaced.version),
        (vec!["other".to_owned()], 2)
    );

    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListSecretsRequest {
            namespace: NAMESPACE.to_owned(),
            page_size: 2,
            page_token,
        };
        let page = stores
            .secrets
            .clone()
            .list_secrets(request)
            .await
            .unwrap()
            .into_inner();
        names.extend(page.secrets.into_iter().map(|secret| secret.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);

    let delete = pb::DeleteSecretRequest {
        namespace: NAMESPACE.to_owned(),
        name: "a".to_owned(),
        request_id: ids::RequestId::generate().to_string(),
    };
    // A repeated call is the same one.
    for _ in 0..2 {
        stores
            .secrets
            .clone()
            .delete_secret(delete.clone())
            .await
            .unwrap();
    }
    let other = pb::DeleteSecretRequest {
        name: "b".to_owned(),
        ..delete.clone()
    };
    let reused = stores
        .secrets
        .clone()
        .delete_secret(other)
        .await
        .unwrap_err();
    assert_eq!(reason(&reused), "REQUEST_ID_REUSED");
    let fresh = pb::DeleteSecretRequest {
        request_id: String::new(),
        ..delete
    };
    let gone = stores
        .secrets
        .clone()
        .delete_secret(fresh)
        .await
        .unwrap_err();
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "SECRET_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_its_key_is_named() {
    let stores = Stores::new().await;
    stores.put_secret("s", &[("k", VALUE)]).await;
    std::fs::remove_file(stores.dir.path().join("config/key")).unwrap();
    let mut spec = shell("true");
    spec.env_from = vec![from("X", env_from::Source::Secret(key("s", "k", false)))];
    stores.runner.launch("w", spec).await;
    let ended = stores.runner.ended("w").await;
    assert_eq!(ended.reason, "SECRETS_KEY_UNUSABLE");
    assert!(
        ended.message.contains("config/key") && ended.message.contains("missing"),
        "{}",
        ended.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_can_be_read_and_bad_names_are_refused() {
    let stores = Stores::new().await;
    let request = |name: &str, data| pb::PutConfigMapRequest {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        data,
        ..Default::default()
    };
    let mut service = stores.config_maps.clone();
    service
        .put_config_map(request("c", values(&[("mode", "fast")])))
        .await
        .unwrap();
    let get = pb::GetConfigMapRequest {
        namespace: NAMESPACE.to_owned(),
        name: "c".to_owned(),
    };
    let found = service.get_config_map(get).await.unwrap().into_inner();
    assert_eq!(found.data["mode"], b"fast");
    for (name, data) in [
        ("../x", values(&[])),
        ("C", values(&[])),
        ("d", values(&[("a/b", "")])),
        ("d", HashMap::from([("k".to_owned(), vec![0; 1024 * 1024])])),
    ] {
        let refused = service
            .put_config_map(request(name, data))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    for namespace in ["", "..", "a/b"] {
        let refused = service
            .put_config_map(pb::PutConfigMapRequest {
                namespace: namespace.to_owned(),
                ..request("d", values(&[]))
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{namespace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_workload_are_variables() {
    let stores = Stores::new().await;
    let field = |name: &str, path: &str| from(name, env_from::Source::FieldPath(path.to_owned()));
    let mut spec = shell(
        "echo $NAME $NS $LABEL $IP; test -n \"$NODE\" && test -n \"$UID_\" && \
         echo $KFP_POD_NAME $NAMESPACE; test \"$KFP_POD_UID\" = \"$UID_\"",
    );
    spec.env.push(api_step::v1::EnvVar {
        name: "NAMESPACE".to_owned(),
        value: "own".to_owned(),
    });
    spec.env_from = vec![
        field("NAME", "metadata.name"),
        field("NS", "metadata.namespace"),
        field("LABEL", "metadata.labels['a']"),
        field("IP", "status.podIP"),
        field("NODE", "spec.nodeName"),
        field("UID_", "metadata.uid"),
    ];
    spec.placement = Some(pb::Placement {
        labels: HashMap::from([("a".to_owned(), "x".to_owned())]),
        pod_spec_json: r#"{"tolerations":[],"securityContext":{}}"#.to_owned(),
        ..Default::default()
    });
    let mut wrong = spec.clone();
    stores.runner.launch("w", spec).await;
    let ended = stores.runner.ended("w").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    assert_eq!(
        stores.runner.log("w").await,
        "w default x 127.0.0.1\nw own\n"
    );
    assert!(
        ended
            .notes
            .iter()
            .any(|note| note.contains("securityContext, tolerations")),
        "{:?}",
        ended.notes
    );
    wrong.env_from = vec![field("X", "spec.containers")];
    let refused = stores.runner.try_launch("wrong", wrong).await.unwrap_err();
    assert!(refused.message().contains("spec.containers"), "{refused:?}");
}
