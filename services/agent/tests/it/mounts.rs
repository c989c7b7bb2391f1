//! Directories at paths of their own, and values that no disk holds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use api_step::v1::{
    Confidential, ConfidentialFile, EnvVar, Mount, Outcome, Transfer, TransferReport,
    TransferredItem,
};
use prost::Message as _;

use crate::attempt::{Attempt, ORDINARY, as_ordinary_user, assert_outcome};

/// A path that no machine has.
fn nowhere(below: &str) -> String {
    let unique = testkit::temp_dir();
    let name = unique
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .trim_start_matches('.')
        .to_owned();
    Path::new(below).join(name).to_str().unwrap().to_owned()
}

fn mount(attempt: &mut Attempt, path: &str, source: &str) {
    let source = attempt.path(source);
    fs::create_dir_all(&source).unwrap();
    attempt.assignment.mounts.push(Mount {
        path: path.to_owned(),
        source: source.to_str().unwrap().to_owned(),
        read_only: false,
    });
}

/// Two directories at new paths, one of them below a directory that exists, and one within another.
fn sees_its_directories(ordinary: bool) {
    let (top, below) = (nowhere("/"), nowhere("/mnt"));
    let script = format!(
        "echo one > {top}/a && echo two > {below}/b && echo three > {top}/in/c && ls -A / > {top}/list && id -u > {top}/user \
         && head -c 10 /proc/self/mountinfo > /dev/null && test -x /bin/sh"
    );
    let mut attempt = Attempt::script(&script);
    mount(&mut attempt, &format!("{top}/in"), "third");
    mount(&mut attempt, &top, "first");
    mount(&mut attempt, &below, "second");
    if ordinary {
        attempt = as_ordinary_user(attempt);
    }
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    for (file, content) in [
        ("first/a", "one\n"),
        ("second/b", "two\n"),
        ("third/c", "three\n"),
    ] {
        assert_eq!(attempt.read(file), content, "{file}");
    }
    // Everything else is where it was, and the machine has nothing new.
    for name in fs::read_dir("/").unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(
            attempt.read("first/list").lines().any(|line| line == name),
            "{name}"
        );
    }
    assert!(!Path::new(&top).exists() && !Path::new(&below).exists());
    let user = attempt.read("first/user");
    let own = rustix::process::geteuid().as_raw().to_string();
    let expected = if ordinary && own == "0" {
        ORDINARY
    } else {
        &own
    };
    assert_eq!(user.trim(), expected);
}

#[test]
fn a_program_sees_its_directories_at_paths_that_do_not_exist() {
    sees_its_directories(false);
}

#[test]
fn an_ordinary_user_mounts_too_and_stays_who_it_is() {
    sees_its_directories(true);
}

#[test]
fn values_are_in_memory_alone_and_cannot_be_changed() {
    let path = nowhere("/mnt");
    let script = format!(
        "test \"$(cat {path}/token)\" = hidden-value && test \"$TOKEN\" = hidden-value && ! touch {path}/new && stat -f -c %T {path}"
    );
    for ordinary in [false, true] {
        let mut attempt = Attempt::script(&script).confidential(Confidential {
            env: vec![EnvVar {
                name: "TOKEN".to_owned(),
                value: "hidden-value".to_owned(),
            }],
            files: vec![ConfidentialFile {
                mount: path.clone(),
                name: "token".to_owned(),
                content: b"hidden-value".to_vec(),
            }],
            ..Default::default()
        });
        attempt.assignment.mounts.push(Mount {
            path: path.clone(),
            source: String::new(),
            read_only: true,
        });
        if ordinary {
            attempt = as_ordinary_user(attempt);
        }
        let result = attempt.run();
        assert_outcome(&result, Outcome::Succeeded, "");
        assert!(attempt.log().ends_with("tmpfs\n"), "{}", attempt.log());
        // The script itself names the value.
        let found = Command::new("grep")
            .args(["-rl", "hidden-value"])
            .arg(attempt.path(""))
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let assignment = attempt.path("assignment");
        assert_eq!(found.trim(), assignment.to_str().unwrap());
    }
}

#[test]
fn a_read_only_directory_is_that() {
    let path = nowhere("/mnt");
    let mut attempt = Attempt::script(&format!("test -d {path} && ! touch {path}/new"));
    mount(&mut attempt, &path, "data");
    attempt.assignment.mounts[0].read_only = true;
    let attempt = as_ordinary_user(attempt);
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
}

#[test]
fn nothing_that_the_step_needs_is_hidden() {
    let mut attempt = Attempt::script("true").artifact("model");
    let above = attempt.path("").parent().unwrap().to_owned();
    mount(&mut attempt, above.to_str().unwrap(), "data");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "MOUNT_REFUSED");
    assert!(!attempt.path("started").exists());

    for path in ["/", "relative", "/a/../b"] {
        let mut attempt = Attempt::script("true");
        mount(&mut attempt, path, "data");
        assert_outcome(&attempt.run(), Outcome::Failed, "MOUNT_REFUSED");
    }
}

#[test]
fn a_path_that_leads_through_a_file_is_named() {
    let mut attempt = Attempt::script("true");
    mount(&mut attempt, "/etc/passwd/x", "data");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "MOUNT_FAILED");
    assert!(
        result.message.contains("/etc/passwd/x"),
        "{}",
        result.message
    );
}

#[test]
fn a_machine_that_permits_no_mounts_is_named() {
    let mut attempt = Attempt::script("true");
    mount(&mut attempt, &nowhere("/mnt"), "data");
    // A user without rights where no user namespace can be made.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let attempt = attempt.wrapped(&["unshare", "-Ur", "sh", "-c", script, "sh"]);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "MOUNT_NOT_PERMITTED");
    assert!(
        result.message.contains("max_user_namespaces"),
        "{}",
        result.message
    );
    assert!(!attempt.path("started").exists());
    fs::set_permissions(attempt.path(""), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn artifacts_in_the_workspace_are_copied_there_once() {
    let mut attempt = Attempt::script(
        "cat {{$.inputs.artifacts['data'].path}} {{$.inputs.artifacts['dir'].path}}/part",
    );
    let (data, dir) = (attempt.path("data.txt"), attempt.path("dir"));
    fs::write(&data, "imported\n").unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("part"), "whole\n").unwrap();
    let artifact = |path: &Path| {
        let path = path.to_str().unwrap();
        format!(r#"{{"artifacts":[{{"uri":"{path}","metadata":{{"_kfp_workspace":true}}}}]}}"#)
    };
    let inputs = format!(
        r#"{{"artifacts":{{"data":{},"dir":{}}}}}"#,
        artifact(&data),
        artifact(&dir)
    );
    attempt = attempt.inputs(&inputs);
    attempt.step().declared_inputs = vec!["data".to_owned(), "dir".to_owned()];
    let failed = attempt.run();
    assert_outcome(&failed, Outcome::Failed, "INPUT_UNAVAILABLE");
    for record in ["result", "exit", "lock"] {
        drop(fs::remove_file(attempt.path(record)));
    }

    mount(&mut attempt, "/kfp-workspace", "workspace");
    attempt.assignment.workspace_dir = attempt.path("workspace").to_str().unwrap().to_owned();
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
    assert!(
        attempt.log().ends_with("imported\nwhole\n"),
        "{}",
        attempt.log()
    );
}

#[test]
fn artifacts_of_a_store_are_fetched_into_the_workspace_once() {
    let mut attempt = Attempt::script("cat {{$.inputs.artifacts['data'].path}}").inputs(
        r#"{"artifacts":{"data":{"artifacts":[{"uri":"s3://b/data.txt","metadata":{"_kfp_workspace":true}}]}}}"#,
    );
    attempt.step().declared_inputs = vec!["data".to_owned()];
    let report = TransferReport {
        items: vec![TransferredItem::default()],
        ..TransferReport::default()
    };
    let (kept, came) = (attempt.path("kept"), attempt.path("remote/inputs/0"));
    fs::write(&kept, report.encode_to_vec()).unwrap();
    let transfer = format!(
        "mkdir -p {came} && echo fetched > {came}/data.txt && cp {} \"$2\"",
        kept.display(),
        came = came.display()
    );
    let mut by = |command: &str| {
        attempt.assignment.transfer = Some(Transfer {
            command: ["sh", "-c", command, "transfer"].map(str::to_owned).into(),
            ..Transfer::default()
        });
        if attempt.assignment.mounts.is_empty() {
            mount(&mut attempt, "/kfp-workspace", "workspace");
            let dir = attempt.path("workspace");
            dir.to_str()
                .unwrap()
                .clone_into(&mut attempt.assignment.workspace_dir);
        }
        let result = attempt.run();
        for record in ["result", "exit", "lock", "started"] {
            drop(fs::remove_file(attempt.path(record)));
        }
        (result, attempt.log())
    };
    let (result, log) = by(&transfer);
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(log.ends_with("fetched\n"), "{log}");
    // The next step finds it there: a transfer would fail.
    let (result, log) = by("exit 3");
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(log.ends_with("fetched\nfetched\n"), "{log}");
}
