//! Binds and columns.

use sqlx::Row as _;

use crate::{Error, Row};

/// A value that a statement binds. A null has a type too, since PostgreSQL asks for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    I64(Option<i64>),
    F64(Option<f64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! value_from {
    ($($from:ty => $variant:ident $convert:expr;)*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let convert: fn($from) -> _ = $convert;
                Self::$variant(Some(convert(value)))
            }
        }

        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                let convert: fn($from) -> _ = $convert;
                Self::$variant(value.map(convert))
            }
        }
    )*};
}

value_from! {
    i64 => I64 |value| value;
    i32 => I64 i64::from;
    u32 => I64 i64::from;
    f64 => F64 |value| value;
    bool => Bool |value| value;
    String => Text |value| value;
    &str => Text str::to_owned;
    &String => Text String::clone;
    Vec<u8> => Bytes |value| value;
    &[u8] => Bytes <[u8]>::to_vec;
    ids::RunId => Text |id| id.to_string();
    ids::PipelineId => Text |id| id.to_string();
    ids::PipelineVersionId => Text |id| id.to_string();
    ids::ExperimentId => Text |id| id.to_string();
    ids::ScheduleId => Text |id| id.to_string();
    ids::BackfillId => Text |id| id.to_string();
    ids::RequestId => Text |id| id.to_string();
    ids::TaskId => I64 |id| id.0;
    ids::ArtifactId => I64 |id| id.0;
    ids::WorkloadId => Text String::from;
    &ids::WorkloadId => Text |id| id.as_str().to_owned();
    clock::Timestamp => I64 clock::Timestamp::as_micros;
}

/// A type that a column is read as.
pub trait Column: Sized {
    /// Reads the column `name`.
    fn read(row: &Row, name: &str) -> Result<Self, Error>;
}

macro_rules! column {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(name),
                    Row::Postgres(row) => row.try_get(name),
                }
                .map_err(Error::from_sqlx)
            }
        }

        impl Column for Option<$type> {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(name),
                    Row::Postgres(row) => row.try_get(name),
                }
                .map_err(Error::from_sqlx)
            }
        }
    )*};
}

column!(i64, f64, bool, String, Vec<u8>);

macro_rules! parsed_column {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                let text = String::read(row, name)?;
                text.parse().map_err(|error| Error::corrupt(name, error))
            }
        }

        impl Column for Option<$type> {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                let text = Option::<String>::read(row, name)?;
                text.map(|text| text.parse().map_err(|error| Error::corrupt(name, error)))
                    .transpose()
            }
        }
    )*};
}

parsed_column!(
    ids::RunId,
    ids::PipelineId,
    ids::PipelineVersionId,
    ids::ExperimentId,
    ids::ScheduleId,
    ids::BackfillId,
    ids::RequestId,
    ids::WorkloadId
);

macro_rules! number_column {
    ($($type:ty => $convert:expr;)*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                i64::read(row, name).map($convert)
            }
        }

        impl Column for Option<$type> {
            fn read(row: &Row, name: &str) -> Result<Self, Error> {
                Ok(Option::<i64>::read(row, name)?.map($convert))
            }
        }
    )*};
}

number_column! {
    ids::TaskId => ids::TaskId;
    ids::ArtifactId => ids::ArtifactId;
    clock::Timestamp => clock::Timestamp::from_micros;
}
