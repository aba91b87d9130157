//! Finding damage in the database (`verify`) and repairing it (`repair`).

pub(crate) mod repair;
pub(crate) mod verify;

use hfs_core::Problem;

/// What kind of damage a verification has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// SQLite's integrity check has found a damaged page or index.
    Page,
    /// A check could not be finished.
    Unreadable,
    /// The full-text index does not match the messages.
    Index,
    /// A row cannot be read, does not match its checksum, or contradicts itself.
    Content,
    /// A row refers to a missing or wrong row, or no row refers to it.
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
    /// There are more problems than are listed.
    More,
}

impl ProblemKind {
    /// The name in [`Problem::kind`], which `hfs store verify --json` prints.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
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

/// What a repair has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepairKind {
    /// Something was corrected without a loss.
    Mended,
    /// Something was made again from other data.
    Rebuilt,
    /// Rows that belonged to nothing are in a session again.
    Recovered,
    /// Something that could not be read is kept as far as possible.
    Damaged,
    /// Something unreadable was deleted.
    Removed,
    /// Something is missing and was replaced by a placeholder.
    Lost,
    /// A problem that could not be repaired.
    Left,
}

impl RepairKind {
    /// The name in [`Problem::kind`], which `hfs store repair --json` prints.
    const fn as_str(self) -> &'static str {
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
struct Finding {
    kind: ProblemKind,
    place: String,
    detail: String,
}

impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        Self { kind: finding.kind.as_str().to_owned(), place: finding.place, detail: finding.detail }
    }
}

/// How reports name a message.
fn message_place(no: i64) -> String {
    use crate::codec::rows::{branch_of, seq_of};
    format!("message {} of branch number {}", seq_of(no), branch_of(no))
}
