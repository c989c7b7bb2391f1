//! One helpful sentence from the end of a failed program's log.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// How much of the log's end is read.
const TAIL: u64 = 64 * 1024;
/// The longest sentence, in characters.
const LONGEST: usize = 400;

/// What the end of the log says about the failure: for a Python traceback the exception and the place in the user's code, for
/// anything else the last line. Empty when the log is.
pub(crate) fn from_log(log: &Path) -> String {
    cut(&from_text(&tail(log)))
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn from_text(text: &str) -> String {
    if let Some((_, trace)) = text.rsplit_once("Traceback (most recent call last):")
        && let Some(sentence) = from_traceback(trace)
    {
        return sentence;
    }
    let last = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    last.map(|line| format!("last line of the log: {line}"))
        .unwrap_or_default()
}

/// A frame of a traceback.
struct Frame<'a> {
    file: &'a str,
    line: &'a str,
    function: &'a str,
    code: Option<&'a str>,
}

fn from_traceback(trace: &str) -> Option<String> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut lines = trace.lines().skip(1).peekable();
    let mut exception = None;
    while let Some(line) = lines.next() {
        if let Some(mut frame) = frame(line) {
            frame.code = lines
                .next_if(|next| next.starts_with("    "))
                .map(str::trim);
            frames.push(frame);
        } else if !line.starts_with(' ') && !line.trim().is_empty() {
            exception = Some(line.trim());
            break;
        }
    }
    let exception = whole(exception?, lines);
    // The user's own code, as deep as it goes; libraries only when there is nothing else.
    let ours = |frame: &&Frame<'_>| frame.file.ends_with("ephemeral_component.py");
    let library = |frame: &Frame<'_>| {
        [
            "site-packages",
            "dist-packages",
            "/lib/python",
            "<frozen",
            "/bootstrap.py",
        ]
        .iter()
        .any(|part| frame.file.contains(part))
    };
    let deepest = frames
        .iter()
        .rfind(ours)
        .or_else(|| frames.iter().rfind(|frame| !library(frame)));
    let Some(frame) = deepest.or(frames.last()) else {
        return Some(exception);
    };
    let file = frame.file.rsplit('/').next().unwrap_or(frame.file);
    let code = frame
        .code
        .map(|code| format!(": {code}"))
        .unwrap_or_default();
    Some(format!(
        "{exception} ({file} line {}, in {}{code})",
        frame.line, frame.function
    ))
}

/// The exception's message; one that only announces what follows, as that of a failed notebook, with the last of it.
fn whole<'a>(exception: &str, rest: impl Iterator<Item = &'a str>) -> String {
    let last = rest.map(str::trim).filter(|line| !line.is_empty()).last();
    match last {
        Some(last) if exception.ends_with(':') => format!("{exception} … {last}"),
        _ => exception.to_owned(),
    }
}

/// `  File "x.py", line 3, in f`
fn frame(line: &str) -> Option<Frame<'_>> {
    let (file, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
    let (line, function) = rest.split_once(", in ").unwrap_or((rest, "<module>"));
    Some(Frame {
        file,
        line,
        function,
        code: None,
    })
}

fn cut(text: &str) -> String {
    let printable: String = without_colours(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match printable.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &printable[..end]),
        None => printable,
    }
}

/// The text without what a terminal would take for a change of colour.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain.push_str(rest.strip_prefix('m').unwrap_or(rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"[KFP Executor 2026-01-01 INFO]: Got executor_input
Traceback (most recent call last):
  File "/d/files/bootstrap.py", line 52, in <module>
    main()
  File "<frozen runpy>", line 226, in run_module
  File "/venv/lib/python3.11/site-packages/kfp/dsl/executor.py", line 421, in execute
    result = self.func(**func_kwargs)
             ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/d/files/ephemeral_component.py", line 9, in train
    return check(number)
           ^^^^^^^^^^^^^
  File "/d/files/ephemeral_component.py", line 12, in check
    raise ValueError("too small\nreally")
ValueError: too small
really
"#;

    #[test]
    fn a_traceback_names_the_exception_and_the_users_line() {
        assert_eq!(
            from_text(TRACE),
            "ValueError: too small (ephemeral_component.py line 12, in check: raise ValueError(\"too small\\nreally\"))"
        );
    }

    #[test]
    fn what_a_message_announces_is_told() {
        let trace = TRACE.replace(
            "too small\nreally",
            "the cell failed:\n------\n1/0\n------\n\nZeroDivisionError: division by zero\n",
        );
        let found = from_text(&trace);
        assert!(
            found.starts_with(
                "ValueError: the cell failed: … ZeroDivisionError: division by zero ("
            ),
            "{found}"
        );
    }

    #[test]
    fn errors_inside_libraries_are_placed_in_the_users_code() {
        let trace = TRACE.replace(
            "ValueError: too small\n",
            "  File \"/venv/lib/python3.11/site-packages/pandas/io.py\", line 1, in read\n    open(x)\nKeyError: 'a'\n",
        );
        assert!(
            from_text(&trace)
                .starts_with("KeyError: 'a' (ephemeral_component.py line 12, in check")
        );
    }

    #[test]
    fn the_last_of_chained_exceptions_counts() {
        let trace = format!(
            "{TRACE}\nDuring handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File \"/w/main.py\", line 3, in <module>\n    f()\nOSError: x\n"
        );
        assert_eq!(
            from_text(&trace),
            "OSError: x (main.py line 3, in <module>: f())"
        );
    }

    #[test]
    fn syntax_errors_and_broken_tracebacks_are_survived() {
        let text = "Traceback (most recent call last):\n  File \"/d/files/ephemeral_component.py\", line 3\n    def f(:\n          ^\nSyntaxError: invalid syntax\n";
        assert_eq!(
            from_text(text),
            "SyntaxError: invalid syntax (ephemeral_component.py line 3, in <module>: def f(:)"
        );
        assert_eq!(
            from_text("x\nTraceback (most recent call last):\n"),
            "last line of the log: Traceback (most recent call last):"
        );
    }

    #[test]
    fn other_programs_are_quoted_by_their_last_line() {
        assert_eq!(
            from_text("a\n error: no such thing \n\n"),
            "last line of the log: error: no such thing"
        );
        assert_eq!(from_text(" \n"), "");
        assert!(cut(&"ä".repeat(1000)).chars().count() <= LONGEST + 1);
        assert_eq!(cut("a\u{1b}[1;31mb\u{1b}[0m\u{7}"), "ab ");
    }
}
