//! The columns `reply_piece.kind` and `reply_piece.text`: the deltas of a reply.
//!
//! | kind | delta | text |
//! |---|---|---|
//! | 0 | text | the text |
//! | 1 | thinking | the text |
//! | 2 | part | the part, encoded like the body of a message of this one part |
//! | 3 | output | a line of JSON with the other fields, then the text |

use hfs_core::{ContentHash, DeltaKind, OutputDelta, Part, ReplyDelta, TextDelta};
use serde::{Deserialize, Serialize};

use crate::codec::body;
use crate::codec::rows::{from_json, is_false, to_json};
use crate::codec::{CodecError, Result};

const TEXT: i64 = 0;
const THINKING: i64 = 1;
const PART: i64 = 2;
const OUTPUT: i64 = 3;

/// A stored delta.
#[derive(Debug)]
pub struct Piece {
    /// Code of its kind.
    pub kind: i64,
    /// Its content.
    pub text: String,
}

/// The fields of an output delta, except for its text, which needs no escaping outside of the JSON.
#[derive(Serialize, Deserialize)]
struct OutputJson {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    is_error: bool,
}

/// Encodes a delta.
///
/// # Errors
/// `Invalid` for a part that is nested too deeply.
pub fn encode(delta: ReplyDelta) -> Result<Piece> {
    Ok(match delta {
        ReplyDelta::Text(TextDelta { kind, text }) => {
            let kind = match kind {
                DeltaKind::Text => TEXT,
                DeltaKind::Thinking => THINKING,
            };
            Piece { kind, text }
        }
        ReplyDelta::Part(part) => Piece { kind: PART, text: body::encode(std::slice::from_ref(&part))? },
        ReplyDelta::Output(OutputDelta { id, keep, text, is_error }) => {
            let json = to_json(&OutputJson { id, keep, is_error })?;
            Piece { kind: OUTPUT, text: [&json, "\n", &text].concat() }
        }
    })
}

/// The attachment that a delta refers to.
#[must_use]
pub fn attachment_of(delta: &ReplyDelta) -> Option<ContentHash> {
    match delta {
        ReplyDelta::Part(Part::Attachment { hash, .. }) => *hash,
        ReplyDelta::Text(_) | ReplyDelta::Part(_) | ReplyDelta::Output(_) => None,
    }
}

/// Decodes a delta.
///
/// # Errors
/// `Corrupt` for an unknown kind or a text that does not fit it.
pub fn decode(kind: i64, text: &str) -> Result<ReplyDelta> {
    Ok(match kind {
        TEXT => ReplyDelta::text(text),
        THINKING => ReplyDelta::thinking(text),
        PART => {
            let part = body::decode(text)?.into_iter().next();
            ReplyDelta::Part(part.ok_or_else(|| CodecError::Corrupt("a delta has no part".into()))?)
        }
        OUTPUT => {
            let (json, text) = text
                .split_once('\n')
                .ok_or_else(|| CodecError::Corrupt("a delta of a tool's output has no text".into()))?;
            let OutputJson { id, keep, is_error } = from_json(json)?;
            ReplyDelta::Output(OutputDelta { id, keep, text: text.to_owned(), is_error })
        }
        _ => return Err(CodecError::Corrupt(format!("{kind} is not the code of a kind of delta"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_delta() -> impl Strategy<Value = ReplyDelta> {
        let text = || "[a\n\u{0}\"\u{e4}{=+]{0,6}";
        prop_oneof![
            text().prop_map(ReplyDelta::text),
            text().prop_map(ReplyDelta::thinking),
            text().prop_map(|text| ReplyDelta::Part(Part::Text { text })),
            (text(), text()).prop_map(|(id, input)| {
                ReplyDelta::Part(Part::ToolCall { id, name: "run".into(), input: input.into() })
            }),
            (text(), prop::option::of(any::<usize>()), text(), any::<bool>()).prop_map(
                |(id, keep, text, is_error)| ReplyDelta::Output(OutputDelta { id, keep, text, is_error })
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_encoded_delta_decodes_to_itself(delta in any_delta()) {
            let piece = encode(delta.clone()).unwrap();
            prop_assert_eq!(decode(piece.kind, &piece.text).unwrap(), delta);
        }

        #[test]
        fn decoding_never_panics(kind in -1_i64..5, text in "[=+{]?.{0,20}") {
            let _ = decode(kind, &text);
        }
    }
}
