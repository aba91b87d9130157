//! What plugins show: plain data that any front end can draw.

/// Where a plugin's widget is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Beside the conversation, under the agents.
    Sidebar,
    /// In the line of status.
    StatusBar,
    /// A strip between the conversation and the input.
    Panel,
}

/// What a text of a widget means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Tone {
    #[default]
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
