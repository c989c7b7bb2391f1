//! Printing: tables for people, JSON and YAML through the same descriptors that the gateway uses.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::args::Output;

/// Writes results in the form that was asked for.
pub(crate) struct Printer {
    form: Output,
    pool: DescriptorPool,
}

impl Printer {
    pub(crate) fn new(form: Output) -> Result<Self> {
        let mut pool = DescriptorPool::new();
        for set in [
            api_kfp::DESCRIPTOR,
            api_pipelines::DESCRIPTOR,
            api_runner::DESCRIPTOR,
        ] {
            pool.decode_file_descriptor_set(set)
                .context("the built-in descriptors do not fit")?;
        }
        Ok(Self { form, pool })
    }

    pub(crate) fn form(&self) -> Output {
        self.form
    }

    /// Prints one message, or for people what `table` makes of it.
    pub(crate) fn message<M: Message>(
        &self,
        name: &str,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<()> {
        if self.form == Output::Table {
            return print(&table(message));
        }
        self.value(&self.json(name, message)?)
    }

    /// A message as canonical JSON with the names of the proto file.
    pub(crate) fn json<M: Message>(&self, name: &str, message: &M) -> Result<serde_json::Value> {
        let descriptor = self
            .pool
            .get_message_by_name(name)
            .with_context(|| format!("there is no message {name}"))?;
        let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        let json = dynamic.serialize_with_options(serde_json::value::Serializer, &options)?;
        Ok(crate::values::without_fractions(json))
    }

    /// Prints a value as JSON or YAML.
    pub(crate) fn value(&self, value: &serde_json::Value) -> Result<()> {
        match self.form {
            Output::Yaml => print(&serde_saphyr::to_string(value)?),
            Output::Table | Output::Json => {
                print(&format!("{}\n", serde_json::to_string_pretty(value)?))
            }
        }
    }

    /// Prints a sentence about what was done; programs that ask for JSON get none.
    pub(crate) fn done(&self, sentence: &str) -> Result<()> {
        match self.form {
            Output::Table => print(&format!("{sentence}\n")),
            Output::Json | Output::Yaml => Ok(()),
        }
    }
}

/// Writes text to standard output; a reader that closed the pipe is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    write(text.as_bytes())
}

/// Writes bytes to standard output; a reader that closed the pipe ends the program quietly.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write to standard output"),
    }
}

/// Columns under headings, aligned with spaces; a cell is one line.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = headings
        .iter()
        .map(|heading| heading.chars().count())
        .collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    for row in std::iter::once(&heading).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one pair a line whatever the values hold.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {}\n", one_line(value)))
        .collect()
}

/// Text from a server without the characters that would drive a terminal or turn the direction of writing.
pub(crate) fn safe(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' || turns(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// [`safe`] text on one line.
pub(crate) fn one_line(text: &str) -> String {
    safe(text).replace(['\n', '\t'], " ")
}

/// `2026-01-31 12:00:00` in the local time zone; empty for none and for 1970.
pub(crate) fn time(timestamp: Option<&prost_types::Timestamp>) -> String {
    let Some(at) = timestamp.filter(|at| at.seconds > 0) else {
        return String::new();
    };
    let Ok(at) = jiff::Timestamp::new(at.seconds, at.nanos) else {
        return String::new();
    };
    at.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// The time between two instants, as people say it; empty when one is missing.
pub(crate) fn duration(
    from: Option<&prost_types::Timestamp>,
    to: Option<&prost_types::Timestamp>,
) -> String {
    let seconds = |at: &prost_types::Timestamp| at.seconds as f64 + f64::from(at.nanos) / 1e9;
    match (
        from.filter(|at| at.seconds > 0),
        to.filter(|at| at.seconds > 0),
    ) {
        (Some(from), Some(to)) => span(seconds(to) - seconds(from)),
        _ => String::new(),
    }
}

/// `0.27 s`, `41 s`, `3 m 12 s`, `2 h 5 m`.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 10.0 {
        return format!("{seconds:.2} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} m {s} s"),
        (h, m, _) => format!("{h} h {m} m"),
    }
}

/// `512 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_have_no_trailing_spaces() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME  N\na     1\nlong\n");
    }

    #[test]
    fn spans_and_sizes_read_like_speech() {
        assert_eq!(
            [0.274, 41.0, 192.0, 7500.0].map(span),
            ["0.27 s", "41 s", "3 m 12 s", "2 h 5 m"]
        );
        assert_eq!([5, 1536, 5 << 30].map(bytes), ["5 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(safe("a\u{1b}[31mb\n\u{202e}"), "a\u{fffd}[31mb\n\u{fffd}");
    }

    #[test]
    fn cells_and_values_stay_on_their_line() {
        let rows = vec![vec!["a\nb\tc\r".to_owned(), "d".to_owned()]];
        assert_eq!(
            table(&["NAME", "N"], &rows),
            "NAME    N\na b c\u{fffd}  d\n"
        );
        assert_eq!(
            fields(&[("name", "a\nid  forged".to_owned())]),
            "name  a id  forged\n"
        );
    }

    #[test]
    fn whole_numbers_have_no_fraction_in_json() {
        let printer = Printer::new(Output::Json).unwrap();
        let parameters = serde_json::json!({"n": 2.0, "x": 2.5, "list": [1.0]});
        let run = api_pipelines::v1::Run {
            parameters: Some(crate::values::to_struct(parameters.as_object().unwrap())),
            ..Default::default()
        };
        let json = printer.json("flumina.pipelines.v1.Run", &run).unwrap();
        assert_eq!(
            json["parameters"].to_string(),
            r#"{"list":[1],"n":2,"x":2.5}"#
        );
    }
}
