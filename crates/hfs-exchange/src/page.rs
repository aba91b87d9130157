//! Sessions for people: Markdown and HTML.

mod activity;
pub(crate) mod html;
pub(crate) mod markdown;
mod outline;
mod text;

use hfs_core::BranchId;

use crate::document::Stamp;

/// Which branches a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    /// The history of the branch that a resume opens.
    #[default]
    Current,
    /// The history of this branch.
    One(BranchId),
    /// Every branch, each with the messages that are its own.
    All,
}

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub struct PageOptions<'a> {
    /// What it says about itself.
    pub stamp: Stamp<'a>,
    /// Which branches.
    pub shown: Shown,
}
