//! What plugins show, as plain data that a front end draws.

/// Where a widget goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Beside the conversation.
    Sidebar,
    /// In the line of status.
    StatusBar,
    /// Below the conversation.
    Panel,
}

impl Slot {
    pub(crate) fn named(text: &str) -> Option<Self> {
        match text {
            "sidebar" => Some(Self::Sidebar),
            "status-bar" => Some(Self::StatusBar),
            "panel" => Some(Self::Panel),
            _ => None,
        }
    }
}

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Tone {
    Plain,
    Dim,
    Accent,
    Good,
    Warn,
    Bad,
}

/// A piece of a widget.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// One line of text.
    Text(Vec<(String, Tone)>),
    /// How full something is, from 0 to 1.
    Gauge {
        /// What it measures.
        label: String,
        /// How full.
        ratio: f64,
    },
    /// Rows of fields.
    Table {
        /// The columns' names; may be empty.
        header: Vec<String>,
        /// The rows.
        rows: Vec<Vec<String>>,
    },
    /// A curve.
    Sparkline {
        /// The values, oldest first.
        values: Vec<u64>,
    },
}

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
