//! Text on its way to the screen: made safe, measured, wrapped.

mod fuzzy;
mod markdown;
mod safe;
mod syntax;
mod wrap;

pub use fuzzy::fuzzy_score;
pub use markdown::{Ink, StreamedMarkdown, markdown};
pub use safe::{one_line, shown};
pub use syntax::Syntax;
pub use wrap::{Piece, cells, chop, clip, end_of, wrap, wrap_plain};
