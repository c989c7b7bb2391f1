//! Archives that are not what `backup` writes.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use testkit::temp_dir;

const MANIFEST: &str = r#"{"format": 1, "version": "0.1.0", "created_us": 0, "path": "/data"}"#;

/// A member whose name and target are taken as they are.
fn member(kind: EntryType, name: &str, target: &str, content: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    (header, content.to_vec())
}

fn file(name: &str, content: &str) -> (Header, Vec<u8>) {
    member(EntryType::Regular, name, "", content.as_bytes())
}

fn archive(members: Vec<(Header, Vec<u8>)>) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (header, content) in members {
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Restores into a new directory; the error, after a check that nothing was left.
fn refusal(bytes: &[u8]) -> String {
    let temp = temp_dir();
    let path = temp.path().join("backup.tar.gz");
    fs::write(&path, bytes).unwrap();
    let error = single_node::restore(&path, &temp.path().join("data")).unwrap_err();
    let left: Vec<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["backup.tar.gz"], "{error}");
    error.to_string()
}

#[test]
fn members_that_lead_out_are_refused() {
    let table = [
        ("../evil", file("../evil", "x")),
        ("/tmp/evil", file("/tmp/evil", "x")),
        ("artifacts/../../evil", file("artifacts/../../evil", "x")),
        (
            "leads out of it, to `/etc`",
            member(EntryType::Symlink, "artifacts/link", "/etc", b""),
        ),
        (
            "leads out of it, to `../..`",
            member(EntryType::Symlink, "artifacts/link", "../..", b""),
        ),
        (
            "neither file",
            member(EntryType::Link, "artifacts/link", "backup.json", b""),
        ),
        (
            "neither file",
            member(EntryType::Fifo, "artifacts/pipe", "", b""),
        ),
    ];
    for (expected, member) in table {
        let error = refusal(&archive(vec![file("backup.json", MANIFEST), member]));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let link = member(EntryType::Symlink, "artifacts/a", "b", b"");
    let members = vec![
        file("backup.json", MANIFEST),
        link,
        file("artifacts/a/x", "x"),
    ];
    let error = refusal(&archive(members));
    assert!(error.contains("artifacts/a"), "{error}");
}

/// A link may lead to a folder above it; what is then put below that link would be put elsewhere.
#[test]
fn nothing_is_put_below_a_link() {
    let link = |name, target| member(EntryType::Symlink, name, target, b"");
    let tables = [
        vec![
            link("artifacts/a", ".."),
            member(EntryType::Directory, "runner/workloads", "", b""),
            link("artifacts/a/runner/esc", "../../../canary"),
        ],
        vec![
            link("artifacts/a", ".."),
            link(
                "artifacts/a/pipeline-orchestrator.sqlite",
                "../../victim.sqlite",
            ),
        ],
        vec![
            link("artifacts/a", ".."),
            link("artifacts/a/artifacts/b", "../../canary"),
        ],
        vec![
            link("artifacts/d/a", "../.."),
            member(EntryType::Directory, "artifacts/d/a/x", "", b""),
        ],
    ];
    for members in tables {
        let all = [vec![file("backup.json", MANIFEST)], members].concat();
        let error = refusal(&archive(all));
        assert!(error.contains("artifacts/"), "{error}");
    }
}

#[test]
fn what_is_opened_by_its_path_is_no_link() {
    let link = |name, target| member(EntryType::Symlink, name, target, b"");
    let table = [
        link("pipeline-orchestrator.sqlite", "artifacts/x"),
        link("runner.sqlite", "artifacts/x"),
        link("runner/node", "../artifacts/x"),
        link("runner", "artifacts"),
        link("artifacts", "runner"),
        link("runner/workloads", "../artifacts"),
        link("flumina.json", "artifacts/x"),
        file("flumina.json", "{}"),
    ];
    for member in table {
        let name = String::from_utf8_lossy(&member.0.path_bytes()).into_owned();
        let error = refusal(&archive(vec![file("backup.json", MANIFEST), member]));
        assert!(error.contains(&format!("`{name}` must")), "{name}: {error}");
    }
}

#[test]
fn foreign_newer_and_broken_archives_are_refused() {
    let whole = archive(vec![
        file("backup.json", MANIFEST),
        file("runner/node", "n"),
    ]);
    let newer = MANIFEST.replace("\"format\": 1", "\"format\": 2");
    let table = [
        ("manifest", archive(vec![file("notes.txt", "x")])),
        ("manifest", archive(vec![])),
        ("format 2", archive(vec![file("backup.json", &newer)])),
        ("cannot be read", b"no archive at all".to_vec()),
        ("cannot be read", whole[..whole.len() - 12].to_vec()),
    ];
    for (expected, bytes) in table {
        let error = refusal(&bytes);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn what_is_no_data_directory_has_no_backup() {
    let temp = temp_dir();
    let archive = temp.path().join("backup.tar.gz");
    for dir in [temp.path(), Path::new("/nonexistent")] {
        let error = single_node::backup(dir, &archive).unwrap_err().to_string();
        assert!(error.contains("no data directory"), "{error}");
    }
    assert!(!archive.exists());
}
