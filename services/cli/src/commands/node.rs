//! `flumina up`, `down`, `backup`, `restore`, `status`: the fleet itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use api_kfp::v2beta1 as kfp;

use crate::Context;
use crate::args::{Backup, DataDir, OnExit, Output, Restore, Up};
use crate::client::Client;
use crate::output::{Printer, bytes, fields, print};

pub(crate) fn up(up: Up, context: &Context) -> Result<ExitCode> {
    let options = single_node::UpOptions {
        data_dir: data_dir(up.data)?,
        listen: up.listen,
        config: up.config,
        insecure: up.insecure,
        stop_on_exit: up.on_exit == OnExit::Stop,
        token: context.token.clone(),
    };
    Ok(single_node::up(options))
}

pub(crate) fn down(dir: DataDir) -> Result<()> {
    let dir = data_dir(dir)?;
    let down = single_node::down(&dir)?;
    let fleet = if down.was_running {
        "stopped"
    } else {
        "was not running"
    };
    print(&format!(
        "flumina {fleet}; {} running steps ended\n",
        down.stopped_steps
    ))
}

pub(crate) fn backup(backup: Backup) -> Result<()> {
    let dir = data_dir(backup.data)?;
    let written = single_node::backup(&dir, &backup.file)?;
    for path in &written.skipped {
        eprintln!(
            "not in the backup, since it is no file, may not be read or leads out of the data directory: {}",
            path.display()
        );
    }
    print(&format!(
        "wrote {} to {}\n",
        bytes(written.bytes),
        backup.file.display()
    ))
}

pub(crate) fn restore(restore: Restore) -> Result<()> {
    let dir = data_dir(restore.data)?;
    single_node::restore(&restore.file, &dir)?;
    print(&format!(
        "restored {} to {}\n",
        restore.file.display(),
        dir.display()
    ))
}

fn data_dir(dir: DataDir) -> Result<PathBuf> {
    match dir.data_dir {
        Some(dir) => Ok(dir),
        None => single_node::default_data_dir().context("say --data-dir"),
    }
}

pub(crate) async fn status(client: &Client, printer: &Printer) -> Result<()> {
    client.healthz().get_healthz(()).await?;
    let running = count(client, "RUNNING").await?;
    let pending = count(client, "PENDING").await?;
    if printer.form() != Output::Table {
        let status = serde_json::json!({
            "server": client.server(), "ready": true, "running_runs": running, "pending_runs": pending,
        });
        return printer.value(&status);
    }
    print(&fields(&[
        ("server", client.server().to_owned()),
        ("state", "ready".to_owned()),
        ("running runs", running.to_string()),
        ("pending runs", pending.to_string()),
    ]))
}

async fn count(client: &Client, state: &str) -> Result<i32> {
    let request = kfp::ListRunsRequest {
        filter: crate::client::equals("state", state),
        page_size: 1,
        ..Default::default()
    };
    Ok(client
        .runs()
        .list_runs(request)
        .await?
        .into_inner()
        .total_size)
}
