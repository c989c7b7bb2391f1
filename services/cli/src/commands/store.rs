//! `flumina secret …`, `flumina configmap …`, `flumina volume …`.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use api_runner::v1 as pb;

use crate::args::{Configmap, From, NamePage, Named, Secret, Volume};
use crate::client::{Client, Unusable};
use crate::commands::run::more;
use crate::output::{Printer, fields, safe, table, time};

/// What a secret or config map may hold, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

type Data = HashMap<String, Vec<u8>>;

pub(crate) async fn secret(command: Secret, client: &Client, printer: &Printer) -> Result<()> {
    let mut service = client.secrets();
    match command {
        Secret::Create { named, from } => {
            let request = pb::PutSecretRequest {
                namespace: named.namespace.namespace,
                name: named.name,
                data: read(&from, &[])?,
                replace: from.replace,
                request_id: request_id(),
            };
            let stored = service.put_secret(request).await?.into_inner();
            printer.message(SECRET, &stored, show_secret)
        }
        Secret::Get(named) => {
            let request = pb::GetSecretRequest {
                namespace: named.namespace.namespace,
                name: named.name,
            };
            let found = service.get_secret(request).await?.into_inner();
            printer.message(SECRET, &found, show_secret)
        }
        Secret::List(page) => {
            let request = pb::ListSecretsRequest {
                namespace: page.namespace.namespace,
                page_size: page.paging.page_size,
                page_token: page.paging.page_token,
            };
            let found = service.list_secrets(request).await?.into_inner();
            printer.message("flumina.runner.v1.ListSecretsResponse", &found, |found| {
                let row = |one: &pb::Secret| row(&one.name, &one.keys, one.updated_at.as_ref());
                let rows: Vec<_> = found.secrets.iter().map(row).collect();
                table(&HEADINGS, &rows) + &more(&found.next_page_token)
            })
        }
        Secret::Delete(Named { name, namespace }) => {
            let request = pb::DeleteSecretRequest {
                namespace: namespace.namespace,
                name: name.clone(),
                request_id: request_id(),
            };
            service.delete_secret(request).await?;
            printer.done(&format!("deleted {name}"))
        }
    }
}

pub(crate) async fn config_map(
    command: Configmap,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let mut service = client.config_maps();
    match command {
        Configmap::Create {
            named,
            from,
            from_literal,
        } => {
            let request = pb::PutConfigMapRequest {
                namespace: named.namespace.namespace,
                name: named.name,
                data: read(&from, &from_literal)?,
                replace: from.replace,
                request_id: request_id(),
            };
            let stored = service.put_config_map(request).await?.into_inner();
            printer.message(CONFIG_MAP, &stored, show_config_map)
        }
        Configmap::Get(named) => {
            let request = pb::GetConfigMapRequest {
                namespace: named.namespace.namespace,
                name: named.name,
            };
            let found = service.get_config_map(request).await?.into_inner();
            printer.message(CONFIG_MAP, &found, show_config_map)
        }
        Configmap::List(page) => {
            let request = pb::ListConfigMapsRequest {
                namespace: page.namespace.namespace,
                page_size: page.paging.page_size,
                page_token: page.paging.page_token,
            };
            let found = service.list_config_maps(request).await?.into_inner();
            printer.message(
                "flumina.runner.v1.ListConfigMapsResponse",
                &found,
                |found| {
                    let row =
                        |one: &pb::ConfigMap| row(&one.name, &one.keys, one.updated_at.as_ref());
                    let rows: Vec<_> = found.config_maps.iter().map(row).collect();
                    table(&HEADINGS, &rows) + &more(&found.next_page_token)
                },
            )
        }
        Configmap::Delete(Named { name, namespace }) => {
            let request = pb::DeleteConfigMapRequest {
                namespace: namespace.namespace,
                name: name.clone(),
                request_id: request_id(),
            };
            service.delete_config_map(request).await?;
            printer.done(&format!("deleted {name}"))
        }
    }
}

pub(crate) async fn volume(command: Volume, client: &Client, printer: &Printer) -> Result<()> {
    let mut service = client.volumes();
    match command {
        Volume::Create { named, size } => {
            let request = pb::CreateVolumeRequest {
                namespace: named.namespace.namespace,
                name: named.name,
                size,
                request_id: request_id(),
            };
            let made = service.create_volume(request).await?.into_inner();
            printer.message(VOLUME, &made, show_volume)
        }
        Volume::Get(named) => {
            let request = pb::GetVolumeRequest {
                namespace: named.namespace.namespace,
                name: named.name,
            };
            let found = service.get_volume(request).await?.into_inner();
            printer.message(VOLUME, &found, show_volume)
        }
        Volume::List(page) => list_volumes(page, client, printer).await,
        Volume::Delete(Named { name, namespace }) => {
            let request = pb::DeleteVolumeRequest {
                namespace: namespace.namespace,
                name: name.clone(),
                request_id: request_id(),
            };
            service.delete_volume(request).await?;
            printer.done(&format!("deleted {name} and its content"))
        }
    }
}

async fn list_volumes(page: NamePage, client: &Client, printer: &Printer) -> Result<()> {
    let request = pb::ListVolumesRequest {
        namespace: page.namespace.namespace,
        page_size: page.paging.page_size,
        page_token: page.paging.page_token,
    };
    let found = client.volumes().list_volumes(request).await?.into_inner();
    printer.message("flumina.runner.v1.ListVolumesResponse", &found, |found| {
        let row = |one: &pb::PersistentVolume| {
            let created = time(one.created_at.as_ref());
            vec![safe(&one.name), safe(&one.size), created, safe(&one.path)]
        };
        let rows: Vec<_> = found.volumes.iter().map(row).collect();
        table(&["NAME", "SIZE", "CREATED", "DIRECTORY"], &rows) + &more(&found.next_page_token)
    })
}

const SECRET: &str = "flumina.runner.v1.Secret";
const CONFIG_MAP: &str = "flumina.runner.v1.ConfigMap";
const VOLUME: &str = "flumina.runner.v1.PersistentVolume";
const HEADINGS: [&str; 3] = ["NAME", "KEYS", "UPDATED"];

fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn row(name: &str, keys: &[String], updated: Option<&prost_types::Timestamp>) -> Vec<String> {
    vec![safe(name), safe(&keys.join(" ")), time(updated)]
}

fn show_secret(secret: &pb::Secret) -> String {
    fields(&[
        ("name", safe(&secret.name)),
        ("namespace", safe(&secret.namespace)),
        ("keys", safe(&secret.keys.join(" "))),
        ("created", time(secret.created_at.as_ref())),
        ("updated", time(secret.updated_at.as_ref())),
        ("version", secret.version.to_string()),
    ])
}

fn show_config_map(map: &pb::ConfigMap) -> String {
    let mut shown = fields(&[
        ("name", safe(&map.name)),
        ("namespace", safe(&map.namespace)),
        ("keys", safe(&map.keys.join(" "))),
        ("created", time(map.created_at.as_ref())),
        ("updated", time(map.updated_at.as_ref())),
        ("version", map.version.to_string()),
    ]);
    let mut values: Vec<_> = map.data.iter().collect();
    values.sort();
    for (key, value) in values {
        let value = match str::from_utf8(value) {
            Ok(text) => safe(text),
            Err(_) => format!("({} bytes)", value.len()),
        };
        shown.push_str(&format!("\n{}:\n{value}\n", safe(key)));
    }
    shown
}

fn show_volume(volume: &pb::PersistentVolume) -> String {
    fields(&[
        ("name", safe(&volume.name)),
        ("namespace", safe(&volume.namespace)),
        ("size", safe(&volume.size)),
        ("access modes", safe(&volume.access_modes.join(" "))),
        ("storage class", safe(&volume.storage_class)),
        ("created", time(volume.created_at.as_ref())),
        ("made by", safe(&volume.created_by)),
        ("directory", safe(&volume.path)),
    ])
}

/// Reads the values that the arguments point to.
fn read(from: &From, literals: &[String]) -> Result<Data> {
    let mut data = Data::new();
    let mut add = |key: &str, value: Vec<u8>| match data.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Unusable(format!("key {key} is there twice"))),
    };
    for literal in literals {
        let pair = literal.split_once('=');
        let (key, value) =
            pair.ok_or_else(|| Unusable(format!("--from-literal {literal}: expected KEY=VALUE")))?;
        add(key, value.as_bytes().to_vec())?;
    }
    for file in &from.from_file {
        let (key, path) = match file.split_once('=') {
            Some((key, path)) => (key.to_owned(), Path::new(path)),
            None => {
                let path = Path::new(file);
                let name = path.file_name().and_then(|name| name.to_str());
                let name = name.ok_or_else(|| Unusable(format!("--from-file {file}: no file")))?;
                (name.to_owned(), path)
            }
        };
        let opened = std::fs::File::open(path);
        let opened = opened.with_context(|| format!("cannot read {}", path.display()))?;
        let value = bounded(opened).with_context(|| format!("cannot read {}", path.display()))?;
        add(&key, value)?;
    }
    if let Some(key) = &from.from_stdin {
        let mut value = from_stdin(key)?;
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        add(key, value)?;
    }
    if data.is_empty() {
        return Err(Unusable("no values: give --from-file or --from-stdin".to_owned()).into());
    }
    Ok(data)
}

/// Standard input to its end, or one line of a terminal that does not show it.
fn from_stdin(key: &str) -> Result<Vec<u8>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if !input.is_terminal() {
        return bounded(input.lock()).context("cannot read standard input");
    }
    eprint!("{key}: ");
    let shown = tcgetattr(&input)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    tcsetattr(&input, OptionalActions::Flush, &shown)?;
    eprintln!();
    read.context("cannot read the terminal")?;
    Ok(line.into_bytes())
}

fn bounded(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut value)?;
    if value.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(
            "it has more than 1 MiB, which no secret or config map can hold",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(files: &[String]) -> From {
        From {
            from_file: files.to_vec(),
            from_stdin: None,
            replace: false,
        }
    }

    #[test]
    fn values_come_from_files_whole() {
        let dir = testkit::temp_dir();
        let path = dir.path().join("token");
        std::fs::write(&path, b"a\0b\n").unwrap();
        let file = path.to_str().unwrap();
        let data = read(&from(&[file.to_owned(), format!("k={file}")]), &[]).unwrap();
        assert_eq!(data["token"], b"a\0b\n");
        assert_eq!(data["k"], b"a\0b\n");
        let twice = read(&from(&[format!("k={file}"), format!("k={file}")]), &[]);
        assert!(twice.unwrap_err().to_string().contains("twice"));
        std::fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        let large = read(&from(&[file.to_owned()]), &[]).unwrap_err();
        assert!(format!("{large:#}").contains("1 MiB"), "{large:#}");
    }

    #[test]
    fn literals_are_split_at_the_first_sign() {
        let data = read(&from(&[]), &["a=b=c".to_owned()]).unwrap();
        assert_eq!(data["a"], b"b=c");
        assert!(read(&from(&[]), &["a".to_owned()]).is_err());
        assert!(read(&from(&[]), &[]).is_err());
    }
}
