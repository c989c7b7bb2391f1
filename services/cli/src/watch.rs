//! Following a run: a live view of its tasks on a terminal, a line per change elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use api_pipelines::v1 as own;
use own::{State, TaskKind};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::args::Output;
use crate::client::{Client, RunFailed};
use crate::commands::run::log_tail;
use crate::output::{Printer, duration, one_line, print, safe, span, write};
use crate::traceback;

/// Tasks that the live view shows at most; the rest is counted.
const SHOWN: usize = 40;

/// The state as people say it.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Pending => "pending",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Skipped => "skipped",
        State::Failed => "failed",
        State::Canceling => "stopping",
        State::Canceled => "stopped",
        State::Cached => "cached",
    }
}

fn symbol(state: State) -> &'static str {
    match state {
        State::Unspecified => "?",
        State::Pending => "·",
        State::Running => "▶",
        State::Succeeded => "✔",
        State::Skipped => "↷",
        State::Failed => "✘",
        State::Canceling | State::Canceled => "■",
        State::Cached => "≡",
    }
}

fn colour(state: State) -> &'static str {
    match state {
        State::Succeeded | State::Cached => "32",
        State::Failed => "31",
        State::Running => "36",
        State::Canceling | State::Canceled => "33",
        State::Unspecified | State::Pending | State::Skipped => "2",
    }
}

fn ended(state: State) -> bool {
    match state {
        State::Succeeded | State::Skipped | State::Failed | State::Canceled | State::Cached => true,
        State::Unspecified | State::Pending | State::Running | State::Canceling => false,
    }
}

/// Follows a run to its end and reports it; a run that failed is an error of its own. A server that is away for a
/// while, as during a restart, is waited for: the first answer of a watch is the whole state again.
pub(crate) async fn follow(run_id: &str, client: &Client, printer: &Printer) -> Result<()> {
    let mut view = View::new(printer.form());
    let mut last = None;
    let mut patience = Patience::default();
    loop {
        let outcome = watch(run_id, client, &mut view, &mut last, &mut patience).await;
        let finished = last
            .as_ref()
            .is_none_or(|run: &own::Run| ended(run.state()));
        match outcome {
            Ok(()) if finished => break,
            // The server ended the stream before the run ended: it is stopping.
            Ok(()) => {}
            // What was never there is no restart.
            Err(error) if finished || !is_lost(&error) => return Err(error),
            Err(error) if patience.is_over() => return Err(error),
            Err(_) => {}
        }
        if patience.pause().await {
            view.notice("the server does not answer; waiting for it");
        }
    }
    view.finish()?;
    let Some(run) = last else {
        return Err(RunFailed(format!("run {run_id} is gone")).into());
    };
    if printer.form() != Output::Table {
        printer.value(&printer.json("flumina.pipelines.v1.Run", &run)?)?;
    }
    conclude(&run, client, printer).await
}

/// One watch: until the run has ended, or the connection.
async fn watch(
    run_id: &str,
    client: &Client,
    view: &mut View,
    last: &mut Option<own::Run>,
    patience: &mut Patience,
) -> Result<()> {
    let request = own::WatchRunRequest {
        run_id: run_id.to_owned(),
    };
    let mut stream = client.run_details().watch_run(request).await?.into_inner();
    while let Some(update) = stream.message().await? {
        *patience = Patience::default();
        view.update(update.run.as_ref(), update.tasks)?;
        if let Some(run) = update.run {
            *last = Some(run);
        }
    }
    Ok(())
}

/// Whether the connection ended rather than the call: the server said so, or the transport did.
fn is_lost(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Status>()
        .is_some_and(|status| status.code() == Code::Unavailable || status.source().is_some())
}

/// How long a server that is away is waited for.
#[derive(Default)]
struct Patience {
    tries: u32,
    since: Option<Instant>,
}

impl Patience {
    const LIMIT: Duration = Duration::from_secs(120);
    const LONGEST: Duration = Duration::from_secs(5);

    fn is_over(&self) -> bool {
        self.since
            .is_some_and(|since| since.elapsed() >= Self::LIMIT)
    }

    /// Waits before the next try; true when it is the first.
    async fn pause(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now);
        let wait = Duration::from_millis(200) * 2_u32.saturating_pow(self.tries);
        self.tries = (self.tries + 1).min(8);
        tokio::time::sleep(wait.min(Self::LONGEST)).await;
        self.tries == 1
    }
}

async fn conclude(run: &own::Run, client: &Client, printer: &Printer) -> Result<()> {
    let took = duration(run.created_at.as_ref(), run.finished_at.as_ref());
    match run.state() {
        State::Succeeded => printer.done(&format!("run succeeded in {took}")),
        State::Failed => {
            let mut text = String::new();
            if !run.failed_task_id.is_empty() {
                text = explain_failure(run, client).await.unwrap_or_default();
            }
            Err(RunFailed(format!(
                "{text}run failed after {took}: {}",
                safe(&run.message)
            ))
            .into())
        }
        other => Err(RunFailed(format!("run {} after {took}", state_name(other))).into()),
    }
}

/// The user's own frame first, then the error, then where the rest is.
async fn explain_failure(run: &own::Run, client: &Client) -> Result<String> {
    let log = log_tail(&run.run_id, &run.failed_task_id, client).await?;
    let mut text = String::new();
    match traceback::find(&log) {
        Some(failure) => {
            if let Some(frame) = failure.frame {
                text.push_str(&format!("{}\n", safe(&frame)));
            }
            if let Some(source) = failure.source {
                text.push_str(&format!("    {}\n", safe(&source)));
            }
            text.push_str(&format!("{}\n\n", safe(&failure.error)));
        }
        None => {
            let lines: Vec<&str> = log.lines().rev().take(10).collect();
            for line in lines.iter().rev() {
                text.push_str(&format!("    {}\n", safe(line)));
            }
        }
    }
    let (id, task) = (&run.run_id, &run.failed_task_id);
    text.push_str(&format!("log:    flumina run logs {id} {task}\n"));
    text.push_str(&format!("replay: flumina step replay {id} {task} --pdb\n"));
    Ok(text)
}

/// What is on the screen.
struct View {
    live: bool,
    quiet: bool,
    tasks: BTreeMap<i64, own::Task>,
    lines: usize,
}

impl View {
    fn new(form: Output) -> Self {
        let quiet = form != Output::Table;
        let live = !quiet && std::io::stdout().is_terminal();
        Self {
            live,
            quiet,
            tasks: BTreeMap::new(),
            lines: 0,
        }
    }

    fn update(&mut self, run: Option<&own::Run>, tasks: Vec<own::Task>) -> Result<()> {
        for task in tasks {
            let Ok(id) = task.task_id.parse() else {
                continue;
            };
            let before = self.tasks.get(&id).map(own::Task::state);
            if !self.live && !self.quiet && before != Some(task.state()) {
                self.line(&task)?;
            }
            self.tasks.insert(id, task);
        }
        if self.live { self.redraw(run) } else { Ok(()) }
    }

    /// One line per change, for pipes and files.
    fn line(&self, task: &own::Task) -> Result<()> {
        if task.kind() == TaskKind::Root || task.state() == State::Pending {
            return Ok(());
        }
        let took = duration(task.started_at.as_ref(), task.ended_at.as_ref());
        let mut line = format!(
            "{} {} {}",
            symbol(task.state()),
            one_line(&task.path),
            state_name(task.state())
        );
        if ended(task.state()) && !took.is_empty() {
            line.push_str(&format!(" in {took}"));
        }
        if !task.message.is_empty() {
            line.push_str(&format!(": {}", one_line(&task.message)));
        }
        print(&format!("{line}\n"))
    }

    fn redraw(&mut self, run: Option<&own::Run>) -> Result<()> {
        let mut text = String::new();
        if self.lines > 0 {
            // Up to the first line of the view, then clear to the end of the screen.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.lines));
        }
        let body = self.body(run);
        self.lines = body.len();
        for line in body {
            text.push_str(&line);
            text.push('\n');
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    fn body(&self, run: Option<&own::Run>) -> Vec<String> {
        let columns = terminal_columns();
        let now = jiff::Timestamp::now();
        let mut lines = Vec::new();
        let tasks: Vec<&own::Task> = self
            .tasks
            .values()
            .filter(|task| task.kind() != TaskKind::Root)
            .collect();
        // Of a large run, what moves is worth the room.
        let crowded = tasks.len() > SHOWN;
        let mut shown = 0;
        for task in &tasks {
            if crowded && (ended(task.state()) && task.state() != State::Failed) || shown == SHOWN {
                continue;
            }
            shown += 1;
            lines.push(task_line(task, now, columns));
        }
        if shown < tasks.len() {
            lines.push(format!("  … and {} more tasks", tasks.len() - shown));
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for task in &tasks {
            *counts.entry(state_name(task.state())).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let state = run.map_or("running", |run| state_name(run.state()));
        lines.push(format!("{state} · {}", counts.join(", ")));
        lines
    }

    /// A remark beside the view, which begins anew below it.
    fn notice(&mut self, sentence: &str) {
        if !self.quiet {
            self.lines = 0;
            eprintln!("{sentence}");
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.lines = 0;
        Ok(())
    }
}

fn task_line(task: &own::Task, now: jiff::Timestamp, columns: usize) -> String {
    let depth = task.path.matches('/').count();
    let took = match (task.started_at.as_ref(), task.ended_at.as_ref()) {
        (Some(started), None) if task.state() == State::Running => {
            let started = jiff::Timestamp::new(started.seconds, started.nanos).unwrap_or(now);
            span(now.duration_since(started).as_secs_f64())
        }
        (started, end) => duration(started, end),
    };
    let attempt = task.attempts.last();
    let detail = match task.state() {
        State::Running | State::Pending => attempt.map_or("", |attempt| attempt.message.as_str()),
        _ => task.message.as_str(),
    };
    let name = task.path.rsplit('/').next().unwrap_or(&task.path);
    let plain = format!(
        "{}{} {:28} {:>9}  {}",
        "  ".repeat(depth),
        symbol(task.state()),
        one_line(name),
        took,
        one_line(detail)
    );
    let cut: String = plain.chars().take(columns.max(20)).collect();
    format!("\x1b[{}m{cut}\x1b[0m", colour(task.state()))
}

fn terminal_columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(80, |size| usize::from(size.ws_col.max(1)) - 1)
}

/// Prints what all steps of a run write, until it ends, each line with its task's name.
pub(crate) async fn follow_logs(run_id: &str, client: &Client) -> Result<()> {
    let request = own::WatchRunRequest {
        run_id: run_id.to_owned(),
    };
    let mut updates = client.run_details().watch_run(request).await?.into_inner();
    let mut readers: HashMap<String, ()> = HashMap::new();
    let mut set = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            update = updates.message() => {
                let Some(update) = update? else { break };
                for task in update.tasks {
                    let Some(attempt) = task.attempts.last() else { continue };
                    if readers.insert(attempt.workload_id.clone(), ()).is_none() {
                        set.spawn(prefix_log(run_id.to_owned(), task.clone(), attempt.number, client.clone()));
                    }
                }
            }
            Some(done) = set.join_next() => done??,
        }
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    Ok(())
}

async fn prefix_log(run_id: String, task: own::Task, attempt: i32, client: Client) -> Result<()> {
    let request = own::ReadLogsRequest {
        run_id,
        task: task.task_id.clone(),
        attempt,
        offset: 0,
        follow: true,
        tail_bytes: 0,
    };
    let mut stream = client.run_details().read_logs(request).await?.into_inner();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(part) = stream.message().await? {
        rest.extend_from_slice(&part.data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        prefixed(&task.path, &whole)?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        prefixed(&task.path, &rest)
    }
}

fn prefixed(path: &str, text: &[u8]) -> Result<()> {
    let mut out = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(format!("[{}] ", one_line(path)).as_bytes());
        out.extend_from_slice(line);
    }
    if out.last() != Some(&b'\n') {
        out.push(b'\n');
    }
    write(&out)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "statuses as a server and a transport would give them"
)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_told_from_a_refusal() {
        let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_lost(&Status::from_error(Box::new(cut)).into()));
        assert!(is_lost(&Status::unavailable("stopping").into()));
        assert!(!is_lost(&Status::not_found("no such run").into()));
        assert!(!is_lost(&anyhow::anyhow!("cannot write")));
    }

    #[tokio::test]
    async fn only_the_first_pause_is_news() {
        let mut patience = Patience::default();
        assert!(patience.pause().await);
        assert!(!patience.pause().await);
        assert!(!patience.is_over());
    }
}
