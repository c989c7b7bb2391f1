//! `flumina-agent DIR`: the supervisor and launcher inside every workload.
//!
//! It runs the program of one attempt at most once and says how it ended. In its directory it reads `assignment`, holds
//! `lock` for life, creates `started` just before the program, and leaves `result`, then `exit`. The order is the
//! protocol: a result is complete when it appears, there is no exit record while a process of the step lives, and
//! an attempt with `started`, a free lock and no result is lost. The agent never retries anything.
//!
//! Being a subreaper, the agent inherits every orphan of the program, so no process of the step can leave its subtree.
//!
//! Exit codes: 0 result and exit record are written; 1 they could not be (stderr says why); 3 another agent holds the
//! lock; 4 the attempt was started before; 64 wrong arguments. With `--replay` it is the program's own.

mod abort;
mod artifact;
mod collect;
mod confidential;
mod explain;
mod failure;
mod files;
mod limits;
mod mounts;
mod prepare;
mod program;
mod remote;
mod replay;
mod result;
mod supervise;
mod sys;
mod tree;
mod workload;
mod workspace;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

const USAGE: u8 = 64;

fn main() -> std::process::ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = args
        .iter()
        .map(|arg| arg.to_str().unwrap_or_default())
        .collect();
    let code = match (words.as_slice(), args.as_slice()) {
        (["--abort-points"], _) => list_abort_points(),
        (["--replay", _, rest @ ..], [_, dir, ..]) => match replay::Options::parse(rest) {
            Some(options) => replay::run(Path::new(dir), &options),
            None => usage(),
        },
        ([word], [dir]) if !word.starts_with('-') => workload::run(Path::new(dir)),
        _ => usage(),
    };
    code.into()
}

fn usage() -> u8 {
    eprintln!(
        "usage: flumina-agent DIR | --replay DIR [--pdb] [--confidential FILE] | --abort-points"
    );
    USAGE
}

fn list_abort_points() -> u8 {
    let list = abort::POINTS.join("\n") + "\n";
    u8::from(std::io::stdout().write_all(list.as_bytes()).is_err())
}
