//! The column `message.body`: a message's parts.
//!
//! There are three forms:
//!
//! - `=TEXT`: a message of one text part, the most frequent case. The text is stored unescaped.
//! - `+JSON\nTEXTS`: all other messages. The JSON lists the parts, with the length in bytes in place of each text. The
//!   texts follow in the same order, without separators.
//! - `JSON` with the texts inside: messages with a NUL in a text, because some SQL functions of SQLite end a text at
//!   the first NUL. Before version 4 of the schema, all messages had this form.
//!
//! Texts outside the JSON need no escaping and no parsing. With the texts inside, escaping and parsing took two thirds
//! of the time to read a long session and a tenth of the time of an import (`cargo xtask bench read`).

use hfs_core::Part;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::rows::{self, check_depth, from_json, to_json};
use crate::codec::{CodecError, Result};

/// Prefix of the form with a single text. JSON never starts with it.
const SINGLE_TEXT: &str = "=";
/// Prefix of the form whose texts follow the JSON.
const TEXTS_FOLLOW: &str = "+";
const JSON_VERSION: u8 = 1;

/// The JSON of a body. `T` is what the JSON holds for each text: the text itself, or its length in bytes.
#[derive(Serialize)]
struct EncodeBody<'a, T> {
    v: u8,
    parts: Vec<EncodePart<'a, T>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum EncodePart<'a, T> {
    Text(T),
    Thinking {
        text: T,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<T>,
    },
    ToolCall {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
    },
    ToolResult {
        id: &'a str,
        output: T,
        #[serde(skip_serializing_if = "rows::is_false")]
        is_error: bool,
    },
    Attachment {
        media_type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        bytes: u64,
    },
    Opaque {
        source: &'a str,
        raw: &'a Value,
    },
}

#[derive(Deserialize)]
struct DecodeBody<T> {
    v: u8,
    parts: Vec<DecodePart<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DecodePart<T> {
    Text(T),
    Thinking {
        text: T,
        // With `default` alone, serde would require `T: Default`.
        #[serde(default = "Option::default")]
        signature: Option<T>,
    },
    ToolCall {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        id: String,
        output: T,
        #[serde(default)]
        is_error: bool,
    },
    Attachment {
        media_type: String,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        hash: Option<String>,
        bytes: u64,
    },
    Opaque {
        source: String,
        raw: Value,
    },
}

/// Encodes the parts of a message.
///
/// # Errors
/// `Invalid` for a value that is nested too deeply.
pub fn encode(parts: &[Part]) -> Result<String> {
    let texts: Vec<&str> = parts.iter().flat_map(texts).collect();
    if texts.iter().any(|text| memchr::memchr(0, text.as_bytes()).is_some()) {
        return encode_json(parts, |text| text);
    }
    if let [Part::Text { text }] = parts {
        return Ok([SINGLE_TEXT, text].concat());
    }
    let json = encode_json(parts, str::len)?;
    let length = json.len() + texts.iter().map(|text| text.len()).sum::<usize>();
    let mut body = String::with_capacity(length + 2);
    body.extend([TEXTS_FOLLOW, &json, "\n"]);
    body.extend(texts);
    Ok(body)
}

/// The texts of a part that are stored after the JSON, in the order of the part's fields.
fn texts(part: &Part) -> impl Iterator<Item = &str> {
    let (first, second) = match part {
        Part::Text { text } => (Some(text), None),
        Part::Thinking { text, signature } => (Some(text), signature.as_ref()),
        Part::ToolResult { output, .. } => (Some(output), None),
        Part::ToolCall { .. } | Part::Attachment { .. } | Part::Opaque { .. } => (None, None),
    };
    first.into_iter().chain(second).map(String::as_str)
}

fn encode_json<'a, T: Serialize>(parts: &'a [Part], text: impl Fn(&'a str) -> T) -> Result<String> {
    let parts = parts.iter().map(|part| encode_part(part, &text)).collect::<Result<Vec<_>>>()?;
    to_json(&EncodeBody { v: JSON_VERSION, parts })
}

/// Returns the text of a body with a single text, or `None` for the other forms.
pub(crate) fn single_text(stored: &str) -> Option<&str> {
    stored.strip_prefix(SINGLE_TEXT)
}

fn encode_part<'a, T>(part: &'a Part, as_text: impl Fn(&'a str) -> T) -> Result<EncodePart<'a, T>> {
    Ok(match part {
        Part::Text { text } => EncodePart::Text(as_text(text)),
        Part::Thinking { text, signature } => {
            EncodePart::Thinking { text: as_text(text), signature: signature.as_deref().map(as_text) }
        }
        Part::ToolCall { id, name, input } => {
            check_depth(input)?;
            EncodePart::ToolCall { id, name, input }
        }
        Part::ToolResult { id, output, is_error } => {
            EncodePart::ToolResult { id, output: as_text(output), is_error: *is_error }
        }
        Part::Attachment { media_type, name, hash, bytes } => EncodePart::Attachment {
            media_type,
            name: name.as_deref(),
            hash: hash.map(|hash| hash.to_string()),
            bytes: *bytes,
        },
        Part::Opaque { source, raw } => {
            check_depth(raw)?;
            EncodePart::Opaque { source, raw }
        }
    })
}

/// Decodes the parts of a message.
///
/// # Errors
/// `Corrupt` for a text that is not an encoded body.
pub fn decode(stored: &str) -> Result<Vec<Part>> {
    if let Some(text) = single_text(stored) {
        return Ok(vec![Part::text(text)]);
    }
    let Some(rest) = stored.strip_prefix(TEXTS_FOLLOW) else {
        return decode_json(stored, Ok);
    };
    let corrupt = |reason: &str| {
        CodecError::Corrupt(format!("the texts of a message do not match their stored lengths: {reason}"))
    };
    let (json, mut rest) = rest.split_once('\n').ok_or_else(|| corrupt("there are no texts"))?;
    let parts = decode_json(json, |length: usize| {
        let (text, following) =
            rest.split_at_checked(length).ok_or_else(|| corrupt("a text is too short"))?;
        rest = following;
        Ok(text.to_owned())
    })?;
    if rest.is_empty() { Ok(parts) } else { Err(corrupt("there is surplus text")) }
}

/// Decodes the JSON of a body. `text` converts the JSON's value for a text to that text.
fn decode_json<'de, T: Deserialize<'de>>(
    json: &'de str,
    mut text: impl FnMut(T) -> Result<String>,
) -> Result<Vec<Part>> {
    let body: DecodeBody<T> = from_json(json)?;
    if body.v != JSON_VERSION {
        return Err(CodecError::Corrupt(format!(
            "a message body has version {}, not {JSON_VERSION}",
            body.v
        )));
    }
    body.parts.into_iter().map(|part| decode_part(part, &mut text)).collect()
}

fn decode_part<T>(part: DecodePart<T>, mut as_text: impl FnMut(T) -> Result<String>) -> Result<Part> {
    Ok(match part {
        DecodePart::Text(text) => Part::Text { text: as_text(text)? },
        DecodePart::Thinking { text, signature } => {
            Part::Thinking { text: as_text(text)?, signature: signature.map(as_text).transpose()? }
        }
        DecodePart::ToolCall { id, name, input } => Part::ToolCall { id, name, input },
        DecodePart::ToolResult { id, output, is_error } => {
            Part::ToolResult { id, output: as_text(output)?, is_error }
        }
        DecodePart::Attachment { media_type, name, hash, bytes } => {
            let hash = hash
                .map(|hash| hash.parse().map_err(|error| CodecError::Corrupt(format!("{hash:?}: {error}"))))
                .transpose()?;
            Part::Attachment { media_type, name, hash, bytes }
        }
        DecodePart::Opaque { source, raw } => Part::Opaque { source, raw },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_part() -> impl Strategy<Value = Part> {
        let text = || "[ab\n\\u{0}\u{e4}\u{1f600}+=\"]{0,8}";
        prop_oneof![
            text().prop_map(|text| Part::Text { text }),
            (text(), prop::option::of(text()))
                .prop_map(|(text, signature)| Part::Thinking { text, signature }),
            (text(), text(), text()).prop_map(|(id, name, input)| Part::ToolCall {
                id,
                name,
                input: input.into()
            }),
            (text(), text(), any::<bool>()).prop_map(|(id, output, is_error)| Part::ToolResult {
                id,
                output,
                is_error
            }),
            text().prop_map(|raw| Part::Opaque { source: "tool".into(), raw: raw.into() }),
        ]
    }

    proptest! {
        #[test]
        fn every_encoded_body_decodes_to_its_parts(parts in prop::collection::vec(any_part(), 0..5)) {
            let stored = encode(&parts).unwrap();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(decode(&stored).unwrap(), parts);
        }

        #[test]
        fn decoding_never_panics(stored in "[=+{]?.{0,20}", parts in prop::collection::vec(any_part(), 0..4), at in any::<prop::sample::Index>()) {
            let _ = decode(&stored);
            let mut cut = encode(&parts).unwrap();
            let end = at.index(cut.len() + 1);
            cut.truncate(cut.floor_char_boundary(end));
            let _ = decode(&cut);
        }
    }

    #[test]
    fn special_texts_decode_to_their_parts() {
        let texts = ["", "=", "{}", "{\"v\":1}", "with \0 in it", "two\nlines", "\u{1f600}"];
        for text in texts {
            let parts = vec![Part::text(text)];
            assert_eq!(decode(&encode(&parts).unwrap()).unwrap(), parts, "{text:?}");
        }
        let several = vec![Part::text("a"), Part::text("b")];
        assert_eq!(decode(&encode(&several).unwrap()).unwrap(), several);
        assert_eq!(decode(&encode(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn a_single_text_is_stored_unescaped() {
        assert_eq!(encode(&[Part::text("a \"b\"\n")]).unwrap(), "=a \"b\"\n");
        assert_eq!(decode("{\"v\":1,\"parts\":[{\"text\":\"a\"}]}").unwrap(), [Part::text("a")]);
    }

    #[test]
    fn texts_follow_the_json() {
        let parts =
            [Part::Thinking { text: "h\u{e4}\n".into(), signature: Some("s".into()) }, Part::text("\"b\"")];
        let stored = "+{\"v\":1,\"parts\":[{\"thinking\":{\"text\":4,\"signature\":1}},{\"text\":3}]}\nh\u{e4}\ns\"b\"";
        assert_eq!(encode(&parts).unwrap(), stored);
    }

    #[test]
    fn bodies_of_earlier_versions_decode() {
        let stored =
            r#"{"v":1,"parts":[{"thinking":{"text":"a\nb"}},{"tool-result":{"id":"1","output":"c"}}]}"#;
        let thinking = Part::Thinking { text: "a\nb".into(), signature: None };
        let result = Part::ToolResult { id: "1".into(), output: "c".into(), is_error: false };
        assert_eq!(decode(stored).unwrap(), [thinking, result]);
    }

    #[test]
    fn an_invalid_body_is_reported_as_corrupt() {
        let wrong = [
            "+",
            "+{\"v\":1,\"parts\":[]}",
            "+{\"v\":1,\"parts\":[{\"text\":2}]}\n",
            "+{\"v\":1,\"parts\":[{\"text\":1}]}\n\u{e4}",
            "+{\"v\":1,\"parts\":[{\"text\":1}]}\nab",
            "+{\"v\":1,\"parts\":[{\"text\":-1}]}\na",
            "+{\"v\":1,\"parts\":[{\"text\":18446744073709551615}]}\na",
        ];
        for stored in wrong.into_iter().chain(["", "a", "{", "{\"v\":2,\"parts\":[]}", "[]"]) {
            assert!(matches!(decode(stored), Err(CodecError::Corrupt(_))), "{stored:?}");
        }
    }
}
