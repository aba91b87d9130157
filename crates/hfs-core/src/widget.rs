//! Widgets of plugins, as plain data that any front end can draw.

/// Where a widget is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// In the sidebar, below the agents.
    Sidebar,
    /// In the status bar.
    StatusBar,
    /// In a panel between the conversation and the input.
    Panel,
}

/// Meaning of a text. The theme of a front end maps it to a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Tone {
    #[default]
    Plain,
    Dim,
    Accent,
    Good,
    Warn,
    Bad,
}

/// An element of a widget.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// One line of text, as spans with a tone.
    Text(Vec<(String, Tone)>),
    /// A gauge.
    Gauge {
        /// Label.
        label: String,
        /// Fill level from 0 to 1.
        ratio: f64,
    },
    /// A table.
    Table {
        /// Names of the columns; may be empty.
        header: Vec<String>,
        /// Rows of cells.
        rows: Vec<Vec<String>>,
    },
    /// A line of bars.
    Sparkline {
        /// Values, oldest first.
        values: Vec<u64>,
    },
}
