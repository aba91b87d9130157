//! Words, stems and ranking: what full-text search and recall have in common.
//!
//! - [`words()`] splits a text into words, [`stem()`] reduces an English word to its stem, and [`IndexText`] is what a
//!   full-text index stores of a text.
//! - [`patterns()`] says what a term of a query matches. An index translates it to its own query language;
//!   [`AnalyzedText::find`] finds the same in a text, and [`snippet`] shows it.
//! - [`recall()`] finds the passages that answer a question: the store supplies candidates, [`rank`] orders them.
//!
//! ```
//! use hfs_core::SearchQuery;
//! use hfs_retrieval::{AnalyzedText, patterns};
//!
//! let query = SearchQuery::new("ServerErrors");
//! let term = &query.terms()[0];
//! assert!(!AnalyzedText::new("many HTTPServerErrors").find(&patterns(term)).is_empty());
//! ```

mod excerpt;
mod index_text;
mod patterns;
mod question;
mod ranking;
mod recall;
mod words;

pub use excerpt::snippet;
pub use index_text::{IndexText, RUN_SEPARATOR};
pub use patterns::{AnalyzedText, Pattern, patterns, patterns_of};
pub use question::{Question, QuestionTerm};
pub use ranking::{RankedMessage, RankedSession, Ranking, rank};
pub use recall::{
    RECALL_AGENT, RecallQuery, Recalled, RecalledPassage, RecalledSession, TRIADS_AGENT, recall,
};
pub use words::{Part, Word, WordKind, identifier_runs, stem, words};
