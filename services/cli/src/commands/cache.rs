//! `flumina cache …`.

use anyhow::Result;
use api_pipelines::v1 as own;

use crate::args::Cache;
use crate::client::Client;
use crate::output::{Printer, fields, safe, table, time};
use crate::values;

const ENTRY: &str = "flumina.pipelines.v1.CacheEntry";
const LIST: &str = "flumina.pipelines.v1.ListCacheEntriesResponse";

pub(crate) async fn execute(command: Cache, client: &Client, printer: &Printer) -> Result<()> {
    match command {
        Cache::List {
            pipeline,
            run,
            paging,
        } => {
            let request = own::ListCacheEntriesRequest {
                pipeline_name: pipeline.unwrap_or_default(),
                run_id: run.unwrap_or_default(),
                page_size: paging.page_size,
                page_token: paging.page_token,
            };
            let found = client.cache().list_cache_entries(request).await?;
            printer.message(LIST, &found.into_inner(), list)
        }
        Cache::Get { entry } => {
            let request = own::GetCacheEntryRequest { entry_id: entry };
            let found = client.cache().get_cache_entry(request).await?;
            printer.message(ENTRY, &found.into_inner(), show)
        }
        Cache::Delete {
            entries,
            pipeline,
            task,
        } => {
            let entries = match pipeline {
                None => entries,
                Some(pipeline) => of_pipeline(&pipeline, task.as_deref(), client).await?,
            };
            for entry in &entries {
                let request = own::DeleteCacheEntryRequest {
                    entry_id: entry.clone(),
                };
                client.cache().delete_cache_entry(request).await?;
            }
            let plural = if entries.len() == 1 { "y" } else { "ies" };
            printer.done(&format!("deleted {} entr{plural}", entries.len()))
        }
    }
}

/// The entries of a pipeline, or of one task of it.
async fn of_pipeline(pipeline: &str, task: Option<&str>, client: &Client) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = own::ListCacheEntriesRequest {
            pipeline_name: pipeline.to_owned(),
            page_size: 1000,
            page_token,
            ..Default::default()
        };
        let page = client.cache().list_cache_entries(request).await?;
        let page = page.into_inner();
        let wanted = |entry: &own::CacheEntry| task.is_none_or(|task| entry.task_path == task);
        ids.extend(
            page.entries
                .into_iter()
                .filter(wanted)
                .map(|entry| entry.entry_id),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}

fn list(found: &own::ListCacheEntriesResponse) -> String {
    let rows: Vec<Vec<String>> = found
        .entries
        .iter()
        .map(|entry| {
            vec![
                entry.entry_id.clone(),
                safe(&entry.pipeline_name),
                safe(&entry.task_path),
                kind(entry).to_owned(),
                entry.hits.to_string(),
                time(entry.created_at.as_ref()),
                entry.run_id.clone(),
            ]
        })
        .collect();
    let columns = ["ID", "PIPELINE", "TASK", "KEY", "HITS", "CREATED", "RUN"];
    table(&columns, &rows) + &super::run::more(&found.next_page_token)
}

fn kind(entry: &own::CacheEntry) -> &'static str {
    match entry.key_kind() {
        own::CacheKeyKind::Unspecified => "unknown",
        own::CacheKeyKind::Identity => "identity",
        own::CacheKeyKind::Content => "content",
        own::CacheKeyKind::Given => "given",
    }
}

fn show(entry: &own::CacheEntry) -> String {
    let parameters = entry.output_parameters.as_ref().map(values::struct_to_json);
    let mut artifacts: Vec<String> = entry
        .output_artifacts
        .iter()
        .map(|(name, list)| {
            let ids: Vec<String> = list.ids.iter().map(ToString::to_string).collect();
            format!("{} {}", safe(name), ids.join(" "))
        })
        .collect();
    artifacts.sort();
    let used: Vec<String> = entry
        .used_by
        .iter()
        .map(|used| format!("{} task {}", used.run_id, used.task_id))
        .collect();
    fields(&[
        ("id", entry.entry_id.clone()),
        ("pipeline", safe(&entry.pipeline_name)),
        ("task", safe(&entry.task_path)),
        ("produced by", entry.run_id.clone()),
        ("created", time(entry.created_at.as_ref())),
        ("expires", time(entry.expires_at.as_ref())),
        ("key", format!("{} ({})", entry.key, kind(entry))),
        (
            "parameters",
            parameters.map_or_else(String::new, |parameters| safe(&parameters.to_string())),
        ),
        ("artifacts", artifacts.join(", ")),
        ("hits", entry.hits.to_string()),
        ("last used", time(entry.last_hit_at.as_ref())),
        ("used by", used.join(", ")),
    ])
}
