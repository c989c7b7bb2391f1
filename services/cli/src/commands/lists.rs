//! `flumina run list`, `tag` and `compare`: runs with what people know of them.

use std::collections::HashSet;

use anyhow::Result;
use api_pipelines::v1 as own;

use crate::args::Page;
use crate::client::{Client, Unusable};
use crate::output::{Printer, duration, one_line, table, time};
use crate::watch::state_name;

const LIST: &str = "flumina.pipelines.v1.ListRunsResponse";
const RUN: &str = "flumina.pipelines.v1.RunSummary";
const COMPARISON: &str = "flumina.pipelines.v1.CompareRunsResponse";

pub(crate) async fn list(
    experiment_id: &str,
    page: Page,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let filter = match (experiment_id, page.filter.trim()) {
        ("", filter) => filter.to_owned(),
        (id, "") => format!("experiment_id = {id}"),
        (id, filter) => format!("experiment_id = {id} AND {filter}"),
    };
    let request = own::ListRunsRequest {
        filter,
        page_size: page.paging.page_size,
        page_token: page.paging.page_token,
    };
    let found = client.run_lists().list_runs(request).await?.into_inner();
    printer.message(LIST, &found, |found| {
        let rows: Vec<Vec<String>> = found.runs.iter().map(row).collect();
        let headings = ["ID", "NAME", "STATE", "CREATED", "TOOK", "TAGS", "METRICS"];
        table(&headings, &rows) + &super::run::more(&found.next_page_token)
    })
}

fn row(run: &own::RunSummary) -> Vec<String> {
    let mut tags: Vec<String> = run.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    tags.sort();
    let mut metrics: Vec<String> = run
        .metrics
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    metrics.sort();
    vec![
        run.run_id.clone(),
        run.display_name.clone(),
        state_name(run.state()).to_owned(),
        time(run.created_at.as_ref()),
        duration(run.created_at.as_ref(), run.finished_at.as_ref()),
        tags.join(" "),
        metrics.join(" "),
    ]
}

pub(crate) async fn tag(
    run: String,
    tags: &[String],
    remove: Vec<String>,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let request = own::TagRunRequest {
        run_id: run,
        set: pairs(tags)?,
        remove,
        request_id: uuid::Uuid::now_v7().to_string(),
    };
    let tagged = client.run_lists().tag_run(request).await?.into_inner();
    printer.message(RUN, &tagged, |run| {
        table(
            &["ID", "NAME", "STATE", "CREATED", "TOOK", "TAGS", "METRICS"],
            &[row(run)],
        )
    })
}

/// Tags from `k=v`.
pub(crate) fn pairs(tags: &[String]) -> Result<std::collections::HashMap<String, String>> {
    let pair = |tag: &String| {
        let pair = tag.split_once('=');
        let (key, value) =
            pair.ok_or_else(|| Unusable(format!("the tag {tag}: expected KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    tags.iter().map(pair).collect()
}

pub(crate) async fn compare(runs: Vec<String>, client: &Client, printer: &Printer) -> Result<()> {
    let request = own::CompareRunsRequest { run_ids: runs };
    let found = client.run_lists().compare_runs(request).await?.into_inner();
    printer.message(COMPARISON, &found, comparison)
}

fn comparison(found: &own::CompareRunsResponse) -> String {
    let mut headings = vec!["", ""];
    let names: Vec<String> = found
        .runs
        .iter()
        .map(|run| one_line(&run.display_name))
        .collect();
    headings.extend(names.iter().map(String::as_str));
    let mut rows: Vec<Vec<String>> = vec![
        std::iter::once("state".to_owned())
            .chain([String::new()])
            .chain(
                found
                    .runs
                    .iter()
                    .map(|run| state_name(run.state()).to_owned()),
            )
            .collect(),
    ];
    for one in &found.differences {
        let kind = match one.kind() {
            own::DifferenceKind::Parameter => "parameter",
            own::DifferenceKind::Metric => "metric",
            own::DifferenceKind::Code => "code",
            own::DifferenceKind::Spec => "spec",
            own::DifferenceKind::Unspecified => "",
        };
        let values = one.values.iter().map(|value| match value.present {
            false => "-".to_owned(),
            true if one.kind() == own::DifferenceKind::Code => {
                format!("{} lines", value.text.lines().count())
            }
            true => shortened(&value.text),
        });
        let row = [kind.to_owned(), one.name.clone()];
        rows.push(row.into_iter().chain(values).collect());
    }
    let mut text = table(&headings, &rows);
    for one in &found.differences {
        if one.kind() == own::DifferenceKind::Code && one.values.len() == 2 {
            text.push_str(&code(one));
        }
    }
    if found.truncated {
        text.push_str("there are more differences\n");
    }
    text
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The lines that only one of two runs has.
fn code(difference: &own::Difference) -> String {
    let lines = |index: usize| -> Vec<&str> {
        let text = difference
            .values
            .get(index)
            .map(|value| value.text.as_str());
        text.unwrap_or_default().lines().collect()
    };
    let (first, second) = (lines(0), lines(1));
    let mut text = format!("\n{}:\n", one_line(&difference.name));
    for (sign, these, others) in [("-", &first, &second), ("+", &second, &first)] {
        let others: HashSet<&str> = others.iter().copied().collect();
        for line in these.iter().filter(|line| !others.contains(**line)) {
            text.push_str(&format!("{sign} {}\n", one_line(line)));
        }
    }
    text
}
