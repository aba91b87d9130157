//! Error categories that all crates share, so that a front end can map each error to an exit code and a hint.

use std::error::Error;

use crate::Suggestion;

/// Category of an error.
///
/// The command line maps each category to an exit code, and the JSON form of an error contains its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// Another process changed the same object, or a name is taken or ambiguous.
    Conflict,
    /// The input is not valid.
    Invalid,
    /// The input is valid, but this version cannot handle it; usually a newer version wrote it.
    Unsupported,
    /// Access was refused: a permission, a key, a file mode.
    Denied,
    /// Stored data is damaged.
    Corrupt,
    /// A later attempt may succeed: disk full, connection lost, server overloaded.
    Unavailable,
    /// A bug in hfs.
    Internal,
}

impl ErrorKind {
    /// Name in the JSON form of an error.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// Category and suggestion of an error. Every error enum of the workspace implements this.
pub trait ErrorExt: Error {
    /// Category of the error.
    fn kind(&self) -> ErrorKind;

    /// A step by which the user may resolve the error, if one is known.
    fn suggestion(&self) -> Option<Suggestion> {
        None
    }
}

/// Formats an error with all its sources on one line, separated by colons.
///
/// Some libraries end the message of an error with the text of its source. Such a source is skipped, so that its text
/// does not appear twice.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = plain_reason(error);
    for cause in error_sources(error) {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line
}

/// The text of an error. A reason of the operating system is written as a part of a sentence, and without its number:
/// `no such file or directory`, not `No such file or directory (os error 2)`.
#[must_use]
pub fn plain_reason(error: &(impl Error + ?Sized)) -> String {
    let text = error.to_string();
    let Some((before, number)) = text.rsplit_once(" (os error ") else { return text };
    let is_number = number.strip_suffix(')').is_some_and(|number| number.parse::<i64>().is_ok());
    if !is_number {
        return text;
    }
    let mut characters = before.chars();
    match (characters.next(), characters.clone().next()) {
        // Not an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() => {
            std::iter::once(first.to_ascii_lowercase()).chain(characters).collect()
        }
        _ => before.to_owned(),
    }
}

/// The sources of an error, outermost first, without repetitions (see [`error_chain`]).
#[must_use]
pub fn error_sources(error: &dyn Error) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    let mut parent = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !parent.ends_with(&text) {
            sources.push(plain_reason(source));
            parent = text;
        }
        next = source.source();
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_reason_of_the_operating_system_is_part_of_a_sentence() {
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(plain_reason(&missing), "no such file or directory");
        for text in ["File x (os error )", "Cannot do it", "x (os error two)"] {
            assert_eq!(plain_reason(&std::io::Error::other(text)), text);
        }
    }

    #[test]
    fn a_chain_names_every_source_once() {
        let inner = Layer { text: "no space left on device", source: None };
        let repeating =
            Layer { text: "write failed: no space left on device", source: Some(Box::new(inner)) };
        let outer = Layer { text: "cannot save the message", source: Some(Box::new(repeating)) };
        assert_eq!(error_chain(&outer), "cannot save the message: write failed: no space left on device");
        assert_eq!(error_sources(&outer), ["write failed: no space left on device"]);
    }
}
