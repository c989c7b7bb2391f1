//! Cron expressions as upstream reads them: seconds first, the day of the week optional.
//!
//! `sec min hour day month [weekday]`, each `*`, `?`, `a`, `a-b`, `*/n`, `a/n` (from `a` to the end) or `a-b/n`, joined by
//! commas; months and weekdays also by their first three letters. If both the day and the weekday are restricted, one of
//! them is enough. `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly` and `@every 1h30m`.

use jiff::civil::{Date, DateTime, Time};

use crate::domain::violation::clip;

/// Bytes of an expression.
pub const MAX_CRON: usize = 512;
/// Years in which a date must come: 29 February is up to eight years away.
const HORIZON: i16 = 12;
/// The longest `@every`, in seconds: a hundred years.
const MAX_EVERY: i64 = 100 * 366 * 86_400;

/// What an expression says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Times of day on some dates.
    Fields(Cron),
    /// Always the same time apart, in seconds.
    Every(i64),
}

/// Times of day on some dates; a bit per number that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cron {
    second: u64,
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether the day is `*`; then the weekday alone decides, and the other way round.
    any_day: bool,
    any_weekday: bool,
    /// Whether it was written with five fields.
    pub(super) five: bool,
}

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const SECOND: Field = field("seconds", 0, 59);
const MINUTE: Field = field("minutes", 0, 59);
const HOUR: Field = field("hours", 0, 23);
const DAY: Field = field("day of the month", 1, 31);
const MONTH: Field = Field {
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
    ..field("month", 1, 12)
};
const WEEKDAY: Field = Field {
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    ..field("day of the week", 0, 6)
};

const fn field(name: &'static str, first: u32, last: u32) -> Field {
    Field {
        name,
        first,
        last,
        names: &[],
    }
}

/// Takes `CRON_TZ=ZONE` or `TZ=ZONE` off an expression.
pub(super) fn zone_of(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    let zoned = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="));
    match zoned {
        Some(rest) => {
            let (zone, rest) = rest
                .split_once(|c: char| c.is_ascii_whitespace())
                .unwrap_or((rest, ""));
            (Some(zone), rest.trim())
        }
        None => (None, text),
    }
}

/// Reads an expression without its time zone.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    if let Some(descriptor) = text.strip_prefix('@') {
        return self::descriptor(descriptor);
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let weekday = match fields.len() {
        5 => "*",
        6 => fields[5],
        count => {
            return Err(format!(
                "has {count} fields; it must have six: seconds, minutes, hours, day of the month, month, day of the week"
            ));
        }
    };
    let read = || -> Result<Cron, String> {
        let (day, any_day) = bits(fields[3], &DAY)?;
        let (weekday, any_weekday) = bits(weekday, &WEEKDAY)?;
        Ok(Cron {
            second: bits(fields[0], &SECOND)?.0,
            minute: bits(fields[1], &MINUTE)?.0,
            hour: bits(fields[2], &HOUR)?.0,
            month: bits(fields[4], &MONTH)?.0,
            day,
            weekday,
            any_day,
            any_weekday,
            five: fields.len() == 5,
        })
    };
    read().map(Expression::Fields).map_err(|message| {
        if fields.len() == 5 {
            format!("{message}; {}", five_fields(text))
        } else {
            message
        }
    })
}

/// How five fields are read, and how to say what a crontab means by them.
pub(super) fn five_fields(text: &str) -> String {
    format!(
        "five fields are read as seconds, minutes, hours, day of the month and month; for what a crontab means by them \
         write \"0 {}\"",
        clip(text)
    )
}

fn descriptor(name: &str) -> Result<Expression, String> {
    let fields = match name {
        "yearly" | "annually" => "0 0 0 1 1 *",
        "monthly" => "0 0 0 1 * *",
        "weekly" => "0 0 0 * * 0",
        "daily" | "midnight" => "0 0 0 * * *",
        "hourly" => "0 0 * * * *",
        _ => {
            let Some(duration) = name.strip_prefix("every ") else {
                return Err(format!(
                    "\"@{}\" is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and @every",
                    clip(name)
                ));
            };
            return every(duration.trim()).map(Expression::Every);
        }
    };
    parse(fields)
}

/// A duration as Go writes it, in whole seconds and at least one, as upstream rounds it.
fn every(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "\"@every {}\" needs a duration such as 90s, 1h30m or 1.5h",
            clip(text)
        )
    };
    let mut seconds = 0_f64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let units = [
            ("ms", 1e-3),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let unit = units.iter().find(|(unit, _)| after.starts_with(unit));
        let (unit, worth) = unit.ok_or_else(wrong)?;
        seconds += number * worth;
        rest = &after[unit.len()..];
    }
    if seconds > MAX_EVERY as f64 {
        return Err(format!(
            "\"@every {}\" is longer than a hundred years",
            clip(text)
        ));
    }
    // What is left of a microsecond is the rounding of the sum.
    Ok(((seconds + 1e-6) as i64).max(1))
}

/// The numbers of a field, and whether it is `*`.
fn bits(text: &str, field: &Field) -> Result<(u64, bool), String> {
    let mut all = 0;
    let mut any = false;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = if range == "*" || range == "?" {
            any = true;
            (field.first, field.last)
        } else {
            match range.split_once('-') {
                Some((first, last)) => (number(first, field)?, number(last, field)?),
                None => {
                    let first = number(range, field)?;
                    (first, if step.is_some() { field.last } else { first })
                }
            }
        };
        if first > last {
            return Err(wrong(field, part, "the range ends before it begins"));
        }
        let step = match step {
            None => 1,
            Some(step) => step
                .parse()
                .ok()
                .filter(|step| *step > 0)
                .ok_or_else(|| wrong(field, part, "a step is a whole number from 1"))?,
        };
        for value in (first..=last).step_by(step) {
            all |= 1 << value;
        }
    }
    Ok((all, any))
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let named = field
        .names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    let found = match named {
        Some(index) => u32::try_from(index).ok().map(|index| index + field.first),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    found
        .filter(|value| (field.first..=field.last).contains(value))
        .ok_or_else(|| {
            let names = match field.names {
                [first, .., last] => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            let expected = format!("it takes {} to {}{names}", field.first, field.last);
            wrong(field, text, &expected)
        })
}

fn wrong(field: &Field, text: &str, why: &str) -> String {
    format!("\"{}\" is wrong as {}: {why}", clip(text), field.name)
}

/// The lowest bit from `from` on.
fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from).unwrap_or(0);
    (rest != 0).then(|| from + rest.trailing_zeros())
}

impl Cron {
    /// Whether it names no hours: then it follows the time that passes, not the time of day.
    pub(super) fn every_hour(&self) -> bool {
        self.hour == (1 << 24) - 1
    }

    /// The first date and time that fits, from `from` on and within the horizon.
    pub(super) fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut floor = from.time();
        let horizon = date.year().saturating_add(HORIZON);
        while date.year() <= horizon {
            if self.month & (1 << date.month()) == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                floor = Time::midnight();
                continue;
            }
            if self.fits(date)
                && let Some(time) = self.time_from(floor)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            floor = Time::midnight();
        }
        None
    }

    /// Whether a date fits; the month is looked at too.
    pub(super) fn fits(&self, date: Date) -> bool {
        let day = self.day & (1 << date.day()) != 0;
        let weekday = self.weekday & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        let month = self.month & (1 << date.month()) != 0;
        month
            && if self.any_day || self.any_weekday {
                day && weekday
            } else {
                day || weekday
            }
    }

    /// The first time of a day that fits, from `floor` on.
    fn time_from(&self, floor: Time) -> Option<Time> {
        let [hour, minute, second] = [floor.hour(), floor.minute(), floor.second()]
            .map(i8::unsigned_abs)
            .map(u32::from);
        // A part of a second is over.
        let second = second + u32::from(floor.subsec_nanosecond() > 0);
        let first = |bits| next_bit(bits, 0);
        let at = |hour, minute, second| {
            let [hour, minute, second] =
                [hour, minute, second].map(|value: u32| i8::try_from(value).ok());
            Time::new(hour?, minute?, second?, 0).ok()
        };
        if self.hour & (1 << hour) != 0 {
            if self.minute & (1 << minute) != 0
                && let Some(second) = next_bit(self.second, second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = next_bit(self.minute, minute + 1) {
                return at(hour, minute, first(self.second)?);
            }
        }
        let hour = next_bit(self.hour, hour + 1)?;
        at(hour, first(self.minute)?, first(self.second)?)
    }

    /// Whether a time of day fits; for the model of the tests.
    #[cfg(test)]
    pub(super) fn fits_time(&self, time: Time) -> bool {
        let has = |bits: u64, value: i8| bits & (1 << value) != 0;
        has(self.second, time.second())
            && has(self.minute, time.minute())
            && has(self.hour, time.hour())
    }
}
