//! Uploads: forms, archives, bombs.

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zip::write::SimpleFileOptions;

use crate::harness::{Answer, Gateway, gateway, gateway_with, test_config};

const SPEC: &str = "\
components:
  comp-hello:
    executorLabel: exec-hello
deploymentSpec:
  executors:
    exec-hello:
      container:
        command: [echo, hello]
        image: python:3.11
pipelineInfo:
  name: hello
root:
  dag:
    tasks:
      hello:
        cachingOptions: {}
        componentRef:
          name: comp-hello
        taskInfo:
          name: hello
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
";
const PLATFORM: &str = "---
platforms:
  kubernetes:
    deploymentSpec:
      executors:
        exec-hello:
          imagePullPolicy: Always
";

fn form(file_name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"uploadfile\"; filename=\"{file_name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    body
}

async fn upload(gateway: &Gateway, query: &str, file_name: &str, content: &[u8]) -> Answer {
    let headers = [("content-type", "multipart/form-data; boundary=XX")];
    let path = format!("/apis/v2beta1/pipelines/{query}");
    gateway
        .send("POST", &path, &headers, form(file_name, content))
        .await
}

fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        // set_path refuses what leads out, which is the point here.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn tar_link(name: &str, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, name, target).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn every_form_of_file_becomes_a_pipeline() {
    let gateway = gateway();
    let json =
        r#"{"pipelineInfo":{"name":"x"},"root":{"dag":{"tasks":{}}},"schemaVersion":"2.1.0"}"#;
    let spec = SPEC.as_bytes();
    let files: [(&str, Vec<u8>); 8] = [
        ("a.yaml", spec.to_vec()),
        ("b.YML", spec.to_vec()),
        ("c.json", json.as_bytes().to_vec()),
        (
            "d.tar.gz",
            tar_gz(&[("readme.txt", b"x"), ("pipeline.yaml", spec)]),
        ),
        (
            "e.tgz",
            tar_gz(&[("first.yaml", spec), ("second.yaml", b"nonsense")]),
        ),
        (
            "f.zip",
            zip(&[("other.yaml", b"nonsense"), ("pipeline.yaml", spec)]),
        ),
        ("g.zip", zip(&[("folder/", b""), ("folder/only.yml", spec)])),
        ("no-ending", zip(&[("pipeline.yaml", spec)])),
    ];
    for (name, content) in files {
        let answer = upload(&gateway, "upload", name, &content).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.json()["name"], name);
    }
    let versions = gateway.fake.versions.lock().unwrap();
    assert_eq!(versions.len(), 8);
    assert!(
        versions[0]
            .pipeline_spec
            .as_ref()
            .unwrap()
            .fields
            .contains_key("root")
    );
}

#[tokio::test]
async fn names_fall_back_and_the_rest_of_the_query_is_kept() {
    let gateway = gateway();
    let table = [
        ("upload?name=n&display_name=d", "n", "d"),
        ("upload?name=&display_name=d", "d", "d"),
        ("upload?name=m", "m", "m"),
        ("upload?description=", "spec.yaml", "spec.yaml"),
    ];
    for (query, name, display_name) in table {
        let answer = upload(&gateway, query, "folder/spec.yaml", SPEC.as_bytes()).await;
        let pipeline = answer.json();
        assert_eq!(
            (&pipeline["name"], &pipeline["display_name"]),
            (&name.into(), &display_name.into())
        );
    }
    let query = "upload_version?name=v2&pipelineid=p1&description=better&tags=%7B%22a%22%3A%22b%22%7D\
                 &code_source_url=http%3A%2F%2Fx";
    let answer = upload(&gateway, query, "a.yaml", SPEC.as_bytes()).await;
    let version = answer.json();
    assert_eq!(version["pipeline_id"], "p1");
    assert_eq!(version["pipeline_version_id"], "v2");
    assert_eq!(version["description"], "better");
    assert_eq!(version["code_source_url"], "http://x");
    assert_eq!(version["tags"]["a"], "b");
}

#[tokio::test]
async fn platform_settings_come_as_the_wrapper_of_both() {
    let gateway = gateway();
    let both = format!("{SPEC}{PLATFORM}");
    let answer = upload(&gateway, "upload", "a.yaml", both.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let versions = gateway.fake.versions.lock().unwrap();
    let fields = &versions[0].pipeline_spec.as_ref().unwrap().fields;
    assert!(fields.contains_key("pipeline_spec") && fields.contains_key("platform_spec"));
}

#[tokio::test]
async fn bad_files_are_refused_by_name_and_leave_nothing() {
    let mut config = test_config();
    config.limits.spec_bytes = 1_000_000;
    let gateway = gateway_with(config);
    let spec = SPEC.as_bytes();
    let zeros = vec![0_u8; 8_000_000];
    let cut = &tar_gz(&[("pipeline.yaml", spec)])[..60];
    let many: Vec<(String, &[u8])> = (0..1001).map(|n| (format!("{n}.txt"), &b""[..])).collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|(name, content)| (name.as_str(), *content))
        .collect();
    let deep = format!("root: {}", "[".repeat(5000));
    let aliases = format!(
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n{}",
        (1..12)
            .map(|n| {
                let refs = vec![format!("*a{}", n - 1); 9].join(",");
                format!("a{n}: &a{n} [{refs}]\n")
            })
            .collect::<String>()
    );
    let table: &[(&str, &[u8], u16, &str)] = &[
        ("a.txt", spec, 400, "the file \"a.txt\" is not supported"),
        ("a.yaml", b"", 400, "empty"),
        ("a.yaml", b"a: [1", 400, "cannot be read"),
        ("a.yaml", b"\xff\xfe", 400, "UTF-8"),
        ("a.yaml", b"just: text", 400, "no"),
        ("a.json", b"{\"a\": ", 400, "cannot be read"),
        ("a.yaml", deep.as_bytes(), 400, "cannot be read"),
        ("a.yaml", aliases.as_bytes(), 400, "cannot be read"),
        (
            "a.yaml",
            &[b"# ".as_slice(), &vec![b'x'; 1_100_000]].concat(),
            413,
            "larger than 1000000 bytes",
        ),
        (
            "a.tgz",
            &tar_gz(&[("../pipeline.yaml", spec)]),
            400,
            "leads out of it: \"../pipeline.yaml\"",
        ),
        (
            "a.tgz",
            &tar_gz(&[("pipeline.yaml", spec), ("a/../../x", b"x")]),
            400,
            "leads out of it",
        ),
        (
            "a.tgz",
            &tar_gz(&[("/etc/pipeline.yaml", spec)]),
            400,
            "leads out of it",
        ),
        (
            "a.tgz",
            &tar_link("pipeline.yaml", "/etc/passwd"),
            400,
            "not a file: \"pipeline.yaml\"",
        ),
        (
            "a.tgz",
            &tar_gz(&[("readme.txt", b"x")]),
            400,
            "no member pipeline.yaml",
        ),
        (
            "a.tgz",
            &tar_gz(&[("inner.tar.gz", b"x")]),
            400,
            "no member pipeline.yaml",
        ),
        ("a.tgz", &tar_gz(&many), 400, "more than 1000 members"),
        ("a.zip", &zip(&many), 400, "more than 1000 members"),
        (
            "a.tgz",
            &tar_gz(&[("pipeline.yaml", &zeros)]),
            413,
            "larger than 1000000 bytes",
        ),
        (
            "a.tgz",
            &tar_gz(&[("skipped.bin", &zeros), ("pipeline.yaml", spec)]),
            413,
            "larger than",
        ),
        ("a.tgz", cut, 400, "cannot be read"),
        ("a.tgz", b"\x1f\x8bnonsense", 400, "cannot be read"),
        (
            "a.zip",
            &zip(&[("../pipeline.yaml", spec)]),
            400,
            "leads out of it",
        ),
        (
            "a.zip",
            &zip(&[("C:\\pipeline.yaml", spec)]),
            400,
            "leads out of it",
        ),
        (
            "a.zip",
            &zip(&[("pipeline.yaml", &zeros)]),
            413,
            "larger than 1000000 bytes",
        ),
        (
            "a.zip",
            b"PK\x03\x04nonsense",
            400,
            "the zip archive cannot be read",
        ),
    ];
    for (name, content, status, expected) in table {
        let answer = upload(&gateway, "upload", name, content).await;
        let error = answer.json();
        let message = error["error_message"].as_str().unwrap();
        assert_eq!(answer.status.as_u16(), *status, "{name}: {message}");
        assert!(
            message.contains(expected),
            "{name}: {message} lacks {expected}"
        );
        assert!(error["error_details"].is_string());
    }
    assert!(gateway.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_forms_are_refused() {
    let gateway = gateway();
    let kind = ("content-type", "multipart/form-data; boundary=XX");
    let path = "/apis/v2beta1/pipelines/upload";
    let other = form("a.yaml", SPEC.as_bytes());
    let other = String::from_utf8(other)
        .unwrap()
        .replace("uploadfile", "other");
    let table: &[(&str, &[(&str, &str)], String, u16, &str)] = &[
        (
            path,
            &[("content-type", "application/json")],
            "{}".to_owned(),
            415,
            "multipart/form-data",
        ),
        (
            path,
            &[("content-type", "multipart/form-data")],
            "{}".to_owned(),
            400,
            "boundary",
        ),
        (
            path,
            &[kind],
            other,
            400,
            "no file in a field named uploadfile",
        ),
        (path, &[kind], String::new(), 400, "ends too early"),
        (
            path,
            &[kind],
            "--XX\r\nContent-Disp".to_owned(),
            400,
            "ends too early",
        ),
        (
            "/apis/v2beta1/pipelines/upload_version",
            &[kind],
            String::new(),
            400,
            "pipelineid",
        ),
        (
            "/apis/v2beta1/pipelines/upload?tags=%5B1%5D",
            &[kind],
            String::new(),
            400,
            "tags",
        ),
    ];
    for (path, headers, body, status, expected) in table {
        let answer = gateway.send("POST", path, headers, body.clone()).await;
        let error = answer.json();
        let message = error["error_message"].as_str().unwrap();
        assert_eq!(answer.status.as_u16(), *status, "{path}: {message}");
        assert!(message.contains(expected), "{path}: {message}");
    }
    upload(&gateway, "upload?name=x", "a.yaml", SPEC.as_bytes()).await;
    let taken = upload(&gateway, "upload?name=x", "a.yaml", SPEC.as_bytes()).await;
    assert_eq!(taken.status, 409);
    assert_eq!(taken.json()["error_message"], "pipeline x exists already");
}

#[tokio::test]
async fn a_truncated_upload_is_refused_and_leaves_nothing() {
    let gateway = gateway();
    let body = form("a.yaml", SPEC.as_bytes());
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /apis/v2beta1/pipelines/upload HTTP/1.1\r\nhost: {}\r\n\
         content-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n",
        gateway.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..body.len() / 2]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    assert!(gateway.fake.requests.lock().unwrap().is_empty());
    // The server goes on.
    let answer = upload(&gateway, "upload?name=later", "a.yaml", SPEC.as_bytes()).await;
    assert_eq!(answer.status, 200);
}
