//! Decodes pages of B-trees and the records in them. Every function accepts any bytes.

use std::collections::{HashMap, HashSet};
use std::io;

use rusqlite::types::Value;

use crate::check::repair::pages::{Pages, be16, be32};

/// SQLite's limit for the size of a row.
const MAX_PAYLOAD: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    IndexInterior,
    TableInterior,
    IndexLeaf,
    TableLeaf,
}

/// The first page starts with the header of the database.
const fn header_offset(page: u32) -> usize {
    if page == 1 { 100 } else { 0 }
}

/// The kind of a page; `None` if it is not a page of a B-tree.
pub(crate) fn kind(bytes: &[u8], page: u32) -> Option<PageKind> {
    let at = header_offset(page);
    let kind = match bytes.get(at)? {
        2 => PageKind::IndexInterior,
        5 => PageKind::TableInterior,
        10 => PageKind::IndexLeaf,
        13 => PageKind::TableLeaf,
        _ => return None,
    };
    let cells = usize::from(be16(bytes, at + 3)?);
    (cells * 2 + at + 8 <= bytes.len()).then_some(kind)
}

/// Positions of the cells in a page. Leaves out positions that cannot be right.
fn cells(bytes: &[u8], page: u32, kind: PageKind) -> Vec<usize> {
    let at = header_offset(page);
    let is_interior = matches!(kind, PageKind::IndexInterior | PageKind::TableInterior);
    let pointers = at + if is_interior { 12 } else { 8 };
    let count = be16(bytes, at + 3).map_or(0, usize::from);
    let end = pointers + 2 * count;
    (0..count)
        .filter_map(|cell| be16(bytes, pointers + 2 * cell).map(usize::from))
        .filter(|position| *position >= end && *position < bytes.len())
        .collect()
}

/// Number of cells that the header of a page declares.
pub(crate) fn declared_cells(bytes: &[u8], page: u32) -> usize {
    be16(bytes, header_offset(page) + 3).map_or(0, usize::from)
}

/// The children of an interior page.
pub(crate) fn children(bytes: &[u8], page: u32, kind: PageKind) -> Vec<u32> {
    let left = cells(bytes, page, kind).into_iter().filter_map(|cell| be32(bytes, cell));
    let right = be32(bytes, header_offset(page) + 8);
    left.chain(right).filter(|child| *child > 1).collect()
}

/// A row, or the key of an index.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// 0 in an index.
    pub(crate) rowid: i64,
    pub(crate) values: Vec<Value>,
    /// Whether the end of the record is missing, because its overflow pages are damaged.
    pub(crate) is_truncated: bool,
}

/// The records of a page, and the number of its cells that cannot be read.
pub(crate) fn records(
    pages: &Pages,
    page: u32,
    bytes: &[u8],
    kind: PageKind,
) -> io::Result<(Vec<Record>, usize)> {
    let positions = cells(bytes, page, kind);
    let mut damaged = declared_cells(bytes, page).saturating_sub(positions.len());
    let mut records = Vec::with_capacity(positions.len());
    for position in positions {
        match record(pages, bytes, position, kind)? {
            Some(record) => records.push(record),
            None => damaged += 1,
        }
    }
    Ok((records, damaged))
}

fn record(pages: &Pages, bytes: &[u8], cell: usize, kind: PageKind) -> io::Result<Option<Record>> {
    let Some(cell) = Cell::parse(bytes, cell, kind) else { return Ok(None) };
    let mut payload = cell.local.to_vec();
    let missing = |payload: &Vec<u8>| cell.size.saturating_sub(payload.len());
    let mut seen = HashSet::new();
    let mut next = cell.overflow;
    while missing(&payload) > 0 && next > 1 && next <= pages.count() && seen.insert(next) {
        let overflow = pages.read(next)?;
        let content = overflow.get(4..).unwrap_or_default();
        payload.extend(content.iter().take(missing(&payload)));
        next = be32(&overflow, 0).unwrap_or(0);
    }
    Ok(decode(&payload, cell.size).map(|values| Record {
        rowid: cell.rowid,
        values,
        is_truncated: payload.len() < cell.size,
    }))
}

/// The ids of the rows of a leaf, as far as the page itself holds them. An id is a BLOB in the second column.
pub(crate) fn row_ids(bytes: &[u8], page: u32) -> HashMap<i64, Vec<u8>> {
    let cells = cells(bytes, page, PageKind::TableLeaf).into_iter();
    cells
        .filter_map(|cell| {
            let cell = Cell::parse(bytes, cell, PageKind::TableLeaf)?;
            let mut values = decode(cell.local, cell.size)?.into_iter();
            match (values.next()?, values.next()?) {
                (Value::Null, Value::Blob(id)) => Some((cell.rowid, id)),
                _ => None,
            }
        })
        .collect()
}

struct Cell<'a> {
    rowid: i64,
    /// Size of the whole record.
    size: usize,
    /// The part of the record that is on this page.
    local: &'a [u8],
    /// The first overflow page, or 0.
    overflow: u32,
}

impl<'a> Cell<'a> {
    fn parse(bytes: &'a [u8], mut at: usize, kind: PageKind) -> Option<Self> {
        if kind == PageKind::IndexInterior {
            at += 4;
        }
        let (size, width) = varint(bytes, at)?;
        at += width;
        let mut rowid = 0;
        if kind == PageKind::TableLeaf {
            let (number, width) = varint(bytes, at)?;
            rowid = number.cast_signed();
            at += width;
        }
        if size == 0 || size > MAX_PAYLOAD {
            return None;
        }
        let size = usize::try_from(size).ok()?;
        let usable = bytes.len();
        let most = if kind == PageKind::TableLeaf {
            usable.checked_sub(35)?
        } else {
            (usable.checked_sub(12)? * 64 / 255).checked_sub(23)?
        };
        if size <= most {
            return Some(Self { rowid, size, local: bytes.get(at..at + size)?, overflow: 0 });
        }
        let least = (usable.checked_sub(12)? * 32 / 255).checked_sub(23)?;
        let fitted = least + (size - least) % (usable - 4);
        let local = if fitted <= most { fitted } else { least };
        let overflow = be32(bytes, at + local)?;
        Some(Self { rowid, size, local: bytes.get(at..at + local)?, overflow })
    }
}

/// Decodes a record of `size` bytes. If only its start is known, texts are cut off and the other missing values are
/// null. Returns `None` if the header of the record does not fit its size.
fn decode(payload: &[u8], size: usize) -> Option<Vec<Value>> {
    let (header, mut at) = varint(payload, 0)?;
    let header = usize::try_from(header).ok().filter(|header| *header <= size)?;
    let mut types = Vec::new();
    while at < header {
        let (serial_type, width) = varint(payload, at)?;
        types.push((serial_type, content_size(serial_type)?));
        at += width;
    }
    let content: usize = types.iter().try_fold(0_usize, |sum, (_, size)| sum.checked_add(*size))?;
    if at != header || header.checked_add(content)? != size {
        return None;
    }
    let mut start = header;
    let values = types.into_iter().map(|(serial_type, size)| {
        let from = start.min(payload.len());
        let to = (start + size).min(payload.len());
        start += size;
        let bytes = payload.get(from..to).unwrap_or_default();
        value(serial_type, bytes, bytes.len() == size)
    });
    Some(values.collect())
}

fn content_size(serial_type: u64) -> Option<usize> {
    match serial_type {
        0 | 8 | 9 => Some(0),
        1..=4 => usize::try_from(serial_type).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        10 | 11 => None,
        _ => usize::try_from((serial_type - 12) / 2).ok(),
    }
}

/// Invalid UTF-8 becomes U+FFFD: the other tools of the repair, and SQLite's functions, need valid text.
fn value(serial_type: u64, bytes: &[u8], is_complete: bool) -> Value {
    let integer = || {
        let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        bytes.iter().fold(sign, |number: i64, byte| number << 8 | i64::from(*byte))
    };
    match serial_type {
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        _ if !is_complete && (serial_type < 12 || serial_type.is_multiple_of(2)) => Value::Null,
        1..=6 => Value::Integer(integer()),
        7 => bytes.try_into().map_or(Value::Null, |bytes| Value::Real(f64::from_be_bytes(bytes))),
        12.. if serial_type.is_multiple_of(2) => Value::Blob(bytes.to_vec()),
        13.. => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        _ => Value::Null,
    }
}

/// SQLite's variable-length integer at a position, and its width.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for width in 0..8 {
        let byte = *bytes.get(at + width)?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, width + 1));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(at + 8)?), 9))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn variable_length_integers_are_decoded() {
        assert_eq!(varint(&[0x7f], 0), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00], 0), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9], 0), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8], 0), None);
    }

    #[test]
    fn a_record_must_fit_its_size() {
        // Three values: 1, "ab" and null.
        let record = [4, 1, 17, 0, 1, b'a', b'b'];
        let values = [Value::Integer(1), Value::Text("ab".into()), Value::Null];
        assert_eq!(decode(&record, 7).unwrap(), values);
        assert_eq!(decode(&record, 8), None);
        let cut = [Value::Integer(1), Value::Text("a".into()), Value::Null];
        assert_eq!(decode(&record[..6], 7).unwrap(), cut);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_decoded(bytes in prop::collection::vec(any::<u8>(), 0..600), page in 1..4_u32) {
            if let Some(kind) = kind(&bytes, page) {
                for cell in cells(&bytes, page, kind) {
                    if let Some(cell) = Cell::parse(&bytes, cell, kind) {
                        let _ = decode(cell.local, cell.size);
                    }
                }
                let _ = children(&bytes, page, kind);
                let _ = row_ids(&bytes, page);
            }
        }
    }
}
