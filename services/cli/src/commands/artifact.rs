//! `flumina artifact …`.

use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use api_pipelines::v1 as own;

use crate::args::Artifact;
use crate::client::Client;
use crate::output::{Printer, bytes, fields, safe, table, time, write};
use crate::values;

const ARTIFACT: &str = "flumina.pipelines.v1.Artifact";
const LIST: &str = "flumina.pipelines.v1.ListArtifactsResponse";

pub(crate) async fn execute(command: Artifact, client: &Client, printer: &Printer) -> Result<()> {
    match command {
        Artifact::List {
            run,
            artifact_type,
            paging,
        } => {
            let request = own::ListArtifactsRequest {
                run_id: run.unwrap_or_default(),
                r#type: artifact_type.unwrap_or_default(),
                page_size: paging.page_size,
                page_token: paging.page_token,
            };
            let found = client
                .artifacts()
                .list_artifacts(request)
                .await?
                .into_inner();
            printer.message(LIST, &found, list)
        }
        Artifact::Get { artifact, to } => {
            let request = own::GetArtifactRequest {
                artifact_id: artifact,
            };
            let found = client.artifacts().get_artifact(request).await?.into_inner();
            match to {
                None => printer.message(ARTIFACT, &found, show),
                Some(target) => {
                    let written = download(&found, &target, client).await?;
                    if target == Path::new("-") {
                        return Ok(());
                    }
                    printer.done(&format!("wrote {} to {}", bytes(written), target.display()))
                }
            }
        }
    }
}

fn list(found: &own::ListArtifactsResponse) -> String {
    let rows: Vec<Vec<String>> = found
        .artifacts
        .iter()
        .map(|artifact| {
            vec![
                artifact.artifact_id.to_string(),
                safe(&artifact.name),
                safe(&artifact.r#type),
                if artifact.present {
                    bytes(artifact.size_bytes)
                } else {
                    "-".to_owned()
                },
                time(artifact.created_at.as_ref()),
                safe(&artifact.uri),
            ]
        })
        .collect();
    table(&["ID", "NAME", "TYPE", "SIZE", "CREATED", "URI"], &rows)
        + &super::run::more(&found.next_page_token)
}

fn show(artifact: &own::Artifact) -> String {
    let metadata = artifact.metadata.as_ref().map(values::struct_to_json);
    fields(&[
        ("id", artifact.artifact_id.to_string()),
        ("name", safe(&artifact.name)),
        ("type", safe(&artifact.r#type)),
        ("uri", safe(&artifact.uri)),
        (
            "content",
            if artifact.present {
                bytes(artifact.size_bytes)
            } else {
                "none".to_owned()
            },
        ),
        ("sha256", artifact.sha256.clone()),
        ("run", artifact.run_id.clone()),
        ("task", artifact.task_id.clone()),
        ("created", time(artifact.created_at.as_ref())),
        (
            "metadata",
            metadata.map_or_else(String::new, |metadata| safe(&metadata.to_string())),
        ),
    ])
}

/// Writes the content to a file, a directory, or standard output, and returns its size.
async fn download(artifact: &own::Artifact, target: &Path, client: &Client) -> Result<u64> {
    if !artifact.present {
        bail!("artifact {} has no content", artifact.artifact_id);
    }
    if target == Path::new("-") && artifact.directory {
        bail!(
            "artifact {} is a directory: give --to a directory",
            artifact.artifact_id
        );
    }
    let mut written = 0;
    let mut page_token = String::new();
    loop {
        let request = own::ListArtifactFilesRequest {
            artifact_id: artifact.artifact_id,
            page_size: 1000,
            page_token,
        };
        let page = client
            .artifacts()
            .list_artifact_files(request)
            .await?
            .into_inner();
        for file in page.files {
            let place = place(target, &file.path)?;
            written += fetch(artifact.artifact_id, &file.path, place.as_deref(), client).await?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(written);
        }
    }
}

/// Where a file of an artifact goes; none for standard output. A path that would leave the target is refused.
fn place(target: &Path, path: &str) -> Result<Option<PathBuf>> {
    if target == Path::new("-") {
        return Ok(None);
    }
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        bail!(
            "the server named a file `{}` that would leave the target",
            safe(path)
        );
    }
    Ok(Some(if path.is_empty() {
        target.to_path_buf()
    } else {
        target.join(path)
    }))
}

async fn fetch(artifact_id: i64, path: &str, place: Option<&Path>, client: &Client) -> Result<u64> {
    let request = own::ReadArtifactRequest {
        artifact_id,
        path: path.to_owned(),
        offset: 0,
    };
    let mut stream = client
        .artifacts()
        .read_artifact(request)
        .await?
        .into_inner();
    let mut file = match place {
        None => None,
        Some(place) => {
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))?;
            }
            let file = std::fs::File::create(place)
                .with_context(|| format!("cannot write {}", place.display()))?;
            Some(file)
        }
    };
    let mut size = 0;
    while let Some(part) = stream.message().await? {
        size += part.data.len() as u64;
        match &mut file {
            Some(file) => file
                .write_all(&part.data)
                .context("cannot write the content")?,
            None => write(&part.data)?,
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_below_the_target() {
        assert_eq!(
            place(Path::new("out"), "a/b").unwrap(),
            Some(PathBuf::from("out/a/b"))
        );
        assert_eq!(
            place(Path::new("out"), "").unwrap(),
            Some(PathBuf::from("out"))
        );
        assert_eq!(place(Path::new("-"), "x").unwrap(), None);
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert!(place(Path::new("out"), path).is_err(), "{path}");
        }
    }
}
