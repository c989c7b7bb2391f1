//! A run as a Gantt chart on the terminal: what its tasks waited for and what took the time.

use api_pipelines::v1 as own;

use crate::output::{one_line, span};
use crate::watch::state_name;

/// Columns of the bars.
const WIDTH: usize = 60;
/// Characters of a task's name.
const NAME: usize = 40;
/// What the signs mean.
const LEGEND: &str = "· waiting  ░ preparing  █ running  ▒ storing\n";

/// Draws the tasks of a run; times are seconds since 1970, `now` stands for the end of what goes on.
pub(crate) fn draw(tasks: &[own::Task], now: f64) -> String {
    let tasks: Vec<&own::Task> = tasks
        .iter()
        .filter(|task| task.kind() != own::TaskKind::Root)
        .collect();
    let starts = tasks.iter().filter_map(|task| at(task.created_at.as_ref()));
    let ends = tasks
        .iter()
        .map(|task| at(task.ended_at.as_ref()).unwrap_or(now));
    let start = starts.fold(f64::INFINITY, f64::min);
    let end = ends.fold(f64::NEG_INFINITY, f64::max);
    if !start.is_finite() || !end.is_finite() {
        return "no task has begun\n".to_owned();
    }
    let scale = WIDTH as f64 / (end - start).max(1e-3);
    let width = tasks
        .iter()
        .map(|task| one_line(&task.path).chars().count().min(NAME))
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{LEGEND}{:width$}  {:<WIDTH$}  {}\n",
        "",
        "0",
        span(end - start)
    );
    for task in tasks {
        let name: String = one_line(&task.path).chars().take(NAME).collect();
        let bar = bar(task, now, |time| ((time - start) * scale).max(0.0) as usize);
        let took = match (at(task.started_at.as_ref()), at(task.ended_at.as_ref())) {
            (Some(from), Some(to)) => span(to - from),
            _ => String::new(),
        };
        let why = waits_for(task);
        let line = format!(
            "{name:width$}  {bar:<WIDTH$}  {} {took} {why}",
            state_name(task.state())
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn bar(task: &own::Task, now: f64, column: impl Fn(f64) -> usize) -> String {
    let mut cells = [' '; WIDTH];
    let mut fill = |from: f64, to: f64, sign: char| {
        let first = column(from).min(WIDTH - 1);
        let last = column(to).clamp(first + 1, WIDTH);
        cells[first..last].fill(sign);
    };
    let Some(created) = at(task.created_at.as_ref()) else {
        return String::new();
    };
    let end = at(task.ended_at.as_ref()).unwrap_or(now);
    fill(created, end, '·');
    if task.attempts.is_empty() {
        // A group, or a task that was not started: its inner tasks have rows of their own.
        if let Some(started) = at(task.started_at.as_ref()) {
            fill(started, end, '─');
        }
    }
    for attempt in &task.attempts {
        let Some(started) = at(attempt.started_at.as_ref()) else {
            continue;
        };
        let ended_at = at(attempt.ended_at.as_ref());
        let ended = ended_at.unwrap_or(now);
        let prepare = attempt.prepare_us as f64 / 1e6;
        let collect = attempt.collect_us as f64 / 1e6;
        if prepare > 0.0 {
            fill((started - prepare).max(created), started, '░');
        }
        fill(started, ended, '█');
        if collect > 0.0 && ended_at.is_some() {
            fill((ended - collect).max(started), ended, '▒');
        }
    }
    cells.iter().collect::<String>().trim_end().to_owned()
}

/// Why a task has not started: the reason that it was given, or its place in the queue.
fn waits_for(task: &own::Task) -> String {
    match task.state() {
        own::State::Pending => match task.attempts.last() {
            Some(attempt) if attempt.queue_position > 0 => {
                format!("(place {} in the queue)", attempt.queue_position)
            }
            Some(_) => one_line(&task.message),
            None => format!("(waits for {} tasks)", task.dependencies.len()),
        },
        own::State::Skipped | own::State::Failed => one_line(&task.message),
        _ => String::new(),
    }
}

fn at(time: Option<&prost_types::Timestamp>) -> Option<f64> {
    let time = time.filter(|time| time.seconds > 0)?;
    Some(time.seconds as f64 + f64::from(time.nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn task(path: &str, times: [i64; 3], state: own::State) -> own::Task {
        own::Task {
            path: path.to_owned(),
            kind: own::TaskKind::Container.into(),
            state: state.into(),
            created_at: seconds(times[0]),
            started_at: seconds(times[1]),
            ended_at: seconds(times[2]),
            attempts: vec![own::Attempt {
                started_at: seconds(times[1]),
                ended_at: seconds(times[2]),
                prepare_us: 5_000_000,
                collect_us: 5_000_000,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_run_is_drawn_from_its_first_second_to_its_last() {
        let load = task("load", [1000, 1010, 1030], own::State::Succeeded);
        let train = task("train", [1030, 1040, 1060], own::State::Failed);
        let mut skipped = task("deploy", [1000, 0, 1060], own::State::Skipped);
        skipped.attempts.clear();
        skipped.message = "train failed\u{1b}[31m".to_owned();
        let text = draw(&[load, train, skipped], 2000.0);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("1 m 0 s"), "{text}");
        let bar = |line: &str| line.chars().skip(8).take(WIDTH).collect::<String>();
        let expected = format!(
            "{}{}{}{}",
            "·".repeat(5),
            "░".repeat(5),
            "█".repeat(15),
            "▒".repeat(5)
        );
        assert_eq!(bar(lines[2]).trim_end(), expected);
        assert!(bar(lines[3]).starts_with(&" ".repeat(30)), "{text}");
        assert!(
            lines[4].contains("skipped") && lines[4].contains("train failed"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn what_goes_on_reaches_to_now_and_nothing_is_no_chart() {
        let mut running = task("a", [1000, 1000, 0], own::State::Running);
        running.attempts[0].prepare_us = 0;
        let text = draw(&[running], 1100.0);
        assert!(text.contains(&"█".repeat(WIDTH)), "{text}");
        assert_eq!(draw(&[], 5.0), "no task has begun\n");
    }
}
