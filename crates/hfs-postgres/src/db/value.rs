//! Values of parameters and columns.
//!
//! Every parameter has its type with it, so that a statement is parsed, bound and executed in one round trip without a
//! named prepared statement, which pgbouncer could not keep.
//!
//! PostgreSQL's `text` cannot contain NUL. [`Value`] escapes it, and [`Columns`] restores it: NUL becomes U+10FFFE and
//! `0`, and U+10FFFE, which is not a character, becomes U+10FFFE and `1`.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::BytesMut;
use hfs_core::{ContentHash, Timestamp};
use hfs_store::codec::rows;
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::error::{Error, Result};

const ESCAPE: char = '\u{10fffe}';

/// Escapes a text for a column of the type `text`.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, '1']),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Restores a text that [`escape`] has escaped.
pub(crate) fn unescape(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut restored = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        restored.push(if c != ESCAPE {
            c
        } else if chars.next() == Some('0') {
            '\0'
        } else {
            ESCAPE
        });
    }
    restored
}

/// The value of a parameter.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Flag(bool),
    Int(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<Cow<'a, [u8]>>),
    Id(Option<Uuid>),
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
    Blobs(Vec<Cow<'a, [u8]>>),
    Ids(Vec<Uuid>),
}

impl Value<'_> {
    pub(crate) const fn sql_type(&self) -> Type {
        match self {
            Self::Flag(_) => Type::BOOL,
            Self::Int(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
            Self::Id(_) => Type::UUID,
            Self::Ints(_) => Type::INT8_ARRAY,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::Blobs(_) => Type::BYTEA_ARRAY,
            Self::Ids(_) => Type::UUID_ARRAY,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Flag(value) => value.to_sql(ty, out),
            Self::Int(value) => value.to_sql(ty, out),
            Self::Text(value) => value.as_deref().to_sql(ty, out),
            Self::Bytes(value) => value.as_deref().to_sql(ty, out),
            Self::Id(value) => value.to_sql(ty, out),
            Self::Ints(values) => values.to_sql(ty, out),
            Self::Texts(values) => {
                values.iter().map(Option::as_deref).collect::<Vec<Option<&str>>>().to_sql(ty, out)
            }
            Self::Blobs(values) => {
                values.iter().map(|value| &**value).collect::<Vec<&[u8]>>().to_sql(ty, out)
            }
            Self::Ids(values) => values.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<usize> for Value<'_> {
    fn from(value: usize) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.as_micros()))
    }
}

impl From<Uuid> for Value<'_> {
    fn from(value: Uuid) -> Self {
        Self::Id(Some(value))
    }
}

impl From<Option<Uuid>> for Value<'_> {
    fn from(value: Option<Uuid>) -> Self {
        Self::Id(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(escape(value)))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::from(value.as_str())
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(escape))
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(value: &'a Option<String>) -> Self {
        Self::from(value.as_deref())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(Cow::Borrowed(value)))
    }
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(value: Option<&'a [u8]>) -> Self {
        Self::Bytes(value.map(Cow::Borrowed))
    }
}

impl<'a> From<&'a ContentHash> for Value<'a> {
    fn from(value: &'a ContentHash) -> Self {
        Self::Bytes(Some(Cow::Borrowed(value.as_bytes())))
    }
}

/// Converts values of different types to an array of [`Value`]s.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        [$($crate::db::value::Value::from($value)),*]
    };
}
pub(crate) use values;

/// The columns of a row. A column of another type than expected means that the schema is not that of hfs.
pub(crate) trait Columns {
    fn int(&self, column: usize) -> Result<i64>;
    fn opt_int(&self, column: usize) -> Result<Option<i64>>;
    fn flag(&self, column: usize) -> Result<bool>;
    fn text(&self, column: usize) -> Result<String>;
    fn opt_text(&self, column: usize) -> Result<Option<String>>;
    fn bytes(&self, column: usize) -> Result<&[u8]>;
    fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>>;
    fn id(&self, column: usize) -> Result<Uuid>;
    fn opt_id(&self, column: usize) -> Result<Option<Uuid>>;

    /// A number that is not negative.
    fn count(&self, column: usize) -> Result<u64> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|_| Error::Corrupt(format!("{value} is not a number of rows or bytes")))
    }

    fn time(&self, column: usize) -> Result<Timestamp> {
        Ok(rows::time(self.int(column)?)?)
    }

    fn hash(&self, column: usize) -> Result<ContentHash> {
        hash(self.bytes(column)?)
    }

    fn opt_hash(&self, column: usize) -> Result<Option<ContentHash>> {
        self.opt_bytes(column)?.map(hash).transpose()
    }
}

fn hash(bytes: &[u8]) -> Result<ContentHash> {
    let bytes = bytes.try_into().map_err(|_| Error::Corrupt("a hash does not have 32 bytes".into()))?;
    Ok(ContentHash::from_bytes(bytes))
}

fn null(column: usize) -> Error {
    Error::Corrupt(format!("column {column} is null"))
}

impl Columns for Row {
    fn int(&self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| null(column))
    }

    fn opt_int(&self, column: usize) -> Result<Option<i64>> {
        let sql_type = self.columns().get(column).map(|column| column.type_().clone());
        Ok(match sql_type {
            Some(Type::INT2) => self.try_get::<_, Option<i16>>(column)?.map(i64::from),
            Some(Type::INT4) => self.try_get::<_, Option<i32>>(column)?.map(i64::from),
            _ => self.try_get(column)?,
        })
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.try_get(column)?)
    }

    fn text(&self, column: usize) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| null(column))
    }

    fn opt_text(&self, column: usize) -> Result<Option<String>> {
        Ok(self.try_get::<_, Option<String>>(column)?.map(unescape))
    }

    fn bytes(&self, column: usize) -> Result<&[u8]> {
        Ok(self.try_get(column)?)
    }

    fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>> {
        Ok(self.try_get(column)?)
    }

    fn id(&self, column: usize) -> Result<Uuid> {
        Ok(self.try_get(column)?)
    }

    fn opt_id(&self, column: usize) -> Result<Option<Uuid>> {
        Ok(self.try_get(column)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_stored_without_nul_and_restored(text in "[a\u{0}\u{10fffe}01\u{e4}]{0,8}") {
            let stored = escape(&text).into_owned();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(unescape(stored), text);
        }
    }
}
