//! Finds damage in the database (`verify`), and recovers and repairs its rows (`repair`).

pub(crate) mod repair;
pub(crate) mod verify;

use hfs_core::Problem;

/// The kind of damage that a verification has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// SQLite's integrity check has found a damaged page or index.
    Page,
    /// A table, index or trigger is missing, changed or foreign.
    Schema,
    /// A check could not be finished.
    Unreadable,
    /// The full-text index does not match the messages.
    Index,
    /// A row cannot be read, does not match its checksum, or has values that contradict each other.
    Content,
    /// A row refers to a missing or wrong row, or a row that needs a reference has none.
    Reference,
    /// A stored counter differs from the number of rows.
    Count,
    /// A session has the wrong position in a list.
    Order,
    /// A message is missing between two others.
    Gap,
    /// The table of replies in progress does not match the messages.
    Reply,
    /// The content of a state or an attachment does not match its hash.
    Hash,
    /// There are further problems, which are not listed.
    More,
}

impl ProblemKind {
    /// The name in [`Problem::kind`], which `hfs store verify --json` prints.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Schema => "schema",
            Self::Unreadable => "unreadable",
            Self::Index => "index",
            Self::Content => "content",
            Self::Reference => "reference",
            Self::Count => "count",
            Self::Order => "order",
            Self::Gap => "gap",
            Self::Reply => "reply",
            Self::Hash => "hash",
            Self::More => "more",
        }
    }
}

/// The kind of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepairKind {
    /// Data was corrected without loss.
    Mended,
    /// Derived data was rebuilt, or rows were copied into a new database.
    Rebuilt,
    /// Orphaned rows were attached to a session again.
    Recovered,
    /// Data was damaged, and its readable part was kept.
    Damaged,
    /// Unreadable data was deleted.
    Removed,
    /// Data is missing. A lost message was replaced by a placeholder.
    Lost,
    /// A problem that could not be repaired.
    Left,
}

impl RepairKind {
    /// The name in [`Problem::kind`], which `hfs store repair --json` prints.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Mended => "mended",
            Self::Rebuilt => "rebuilt",
            Self::Recovered => "recovered",
            Self::Damaged => "damaged",
            Self::Removed => "removed",
            Self::Lost => "lost",
            Self::Left => "left",
        }
    }
}

/// A problem with its kind as an enum.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) kind: ProblemKind,
    pub(crate) place: String,
    pub(crate) detail: String,
}

impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        Self { kind: finding.kind.as_str().to_owned(), place: finding.place, detail: finding.detail }
    }
}

/// The place of a message in reports.
fn message_place(no: i64) -> String {
    use crate::codec::rows::{branch_of, seq_of};
    format!("message {} of branch number {}", seq_of(no), branch_of(no))
}
