//! What plugins show.

use hfs_core::{Node, Slot};

/// The last good picture of a widget.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The plugin's name.
    pub plugin: String,
    /// Where it goes.
    pub slot: Slot,
    /// Its title; may be empty.
    pub title: String,
    /// What it shows.
    pub nodes: Vec<Node>,
}
