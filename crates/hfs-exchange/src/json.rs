//! JSON as other programs leave it behind: framed in lines or in one large document, cut off, repeated,
//! nested without measure, with escapes that are no characters.
//!
//! Whatever the bytes are, reading them neither panics nor overflows the stack nor takes more memory than
//! [`lines::MAX_LINE`] bytes of text need. What a value cannot hold faithfully comes with its original text.

pub(crate) mod lenient;
pub(crate) mod lines;
pub(crate) mod parse;
pub(crate) mod pieces;
pub(crate) mod repair;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod walk;

pub(crate) use parse::{Parsed, parse};
