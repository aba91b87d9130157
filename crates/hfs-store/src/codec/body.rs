//! The column `message.body`: a message's parts.
//!
//! There are three forms:
//!
//! - `=TEXT`: a message of one text part, which most are. The text is stored as it is.
//! - `+JSON\nTEXTS`: all others. The JSON says which parts there are and, instead of each text, its length in bytes. The
//!   texts follow, one after the other.
//! - `JSON` with the texts inside: if a text contains a NUL, at which some of SQLite's functions would end the value. All
//!   messages had this form before version 4 of the schema.
//!
//! Texts are outside the JSON so that they need not be escaped when they are written nor parsed when they are read.
//! Escaping and parsing were two thirds of the time that reading a long session took, and a tenth of an import
//! (`cargo xtask bench read`).

use hfs_core::Part;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::rows::{self, check_depth, from_json, to_json};
use crate::error::{Error, Result};

/// Begins a body of a single text. JSON never begins with it.
const SINGLE_TEXT: &str = "=";
/// Begins a body whose texts follow its JSON.
const TEXTS_FOLLOW: &str = "+";
const JSON_VERSION: u8 = 1;

/// The JSON of a body. `T` stands for a text: the text itself, or its length.
#[derive(Serialize)]
struct BodyOut<'a, T> {
    v: u8,
    parts: Vec<PartOut<'a, T>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum PartOut<'a, T> {
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
struct BodyIn<T> {
    v: u8,
    parts: Vec<PartIn<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartIn<T> {
    Text(T),
    Thinking {
        text: T,
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

pub(crate) fn encode(parts: &[Part]) -> Result<String> {
    let texts: Vec<&str> = parts.iter().flat_map(texts).collect();
    if texts.iter().any(|text| memchr::memchr(0, text.as_bytes()).is_some()) {
        return json(parts, |text| text);
    }
    if let [Part::Text { text }] = parts {
        return Ok([SINGLE_TEXT, text].concat());
    }
    let json = json(parts, str::len)?;
    let length = json.len() + texts.iter().map(|text| text.len()).sum::<usize>();
    let mut body = String::with_capacity(length + 2);
    body.extend([TEXTS_FOLLOW, &json, "\n"]);
    body.extend(texts);
    Ok(body)
}

/// The texts of a part that can be long, in the order of its fields.
fn texts(part: &Part) -> impl Iterator<Item = &str> {
    let (first, second) = match part {
        Part::Text { text } => (Some(text), None),
        Part::Thinking { text, signature } => (Some(text), signature.as_ref()),
        Part::ToolResult { output, .. } => (Some(output), None),
        Part::ToolCall { .. } | Part::Attachment { .. } | Part::Opaque { .. } => (None, None),
    };
    first.into_iter().chain(second).map(String::as_str)
}

fn json<'a, T: Serialize>(parts: &'a [Part], text: impl Fn(&'a str) -> T) -> Result<String> {
    let parts = parts.iter().map(|part| part_out(part, &text)).collect::<Result<Vec<_>>>()?;
    to_json(&BodyOut { v: JSON_VERSION, parts })
}

/// The text of a body of the first form.
pub(crate) fn single_text(stored: &str) -> Option<&str> {
    stored.strip_prefix(SINGLE_TEXT)
}

fn part_out<'a, T>(part: &'a Part, as_text: impl Fn(&'a str) -> T) -> Result<PartOut<'a, T>> {
    Ok(match part {
        Part::Text { text } => PartOut::Text(as_text(text)),
        Part::Thinking { text, signature } => {
            PartOut::Thinking { text: as_text(text), signature: signature.as_deref().map(as_text) }
        }
        Part::ToolCall { id, name, input } => {
            check_depth(input)?;
            PartOut::ToolCall { id, name, input }
        }
        Part::ToolResult { id, output, is_error } => {
            PartOut::ToolResult { id, output: as_text(output), is_error: *is_error }
        }
        Part::Attachment { media_type, name, hash, bytes } => PartOut::Attachment {
            media_type,
            name: name.as_deref(),
            hash: hash.map(|hash| hash.to_string()),
            bytes: *bytes,
        },
        Part::Opaque { source, raw } => {
            check_depth(raw)?;
            PartOut::Opaque { source, raw }
        }
    })
}

pub(crate) fn decode(stored: &str) -> Result<Vec<Part>> {
    if let Some(text) = single_text(stored) {
        return Ok(vec![Part::text(text)]);
    }
    let Some(rest) = stored.strip_prefix(TEXTS_FOLLOW) else {
        return parts_in(stored, Ok);
    };
    let corrupt = |reason: &str| {
        Error::Corrupt(format!("the texts of a message do not have the stored lengths: {reason}"))
    };
    let (json, mut rest) = rest.split_once('\n').ok_or_else(|| corrupt("there are none"))?;
    let parts = parts_in(json, |length: usize| {
        let (text, following) = rest.split_at_checked(length).ok_or_else(|| corrupt("one is too short"))?;
        rest = following;
        Ok(text.to_owned())
    })?;
    if rest.is_empty() { Ok(parts) } else { Err(corrupt("more text follows them")) }
}

/// Decodes the JSON of a body. `text` returns the text for what stands in its place.
fn parts_in<'de, T: Deserialize<'de>>(
    json: &'de str,
    mut text: impl FnMut(T) -> Result<String>,
) -> Result<Vec<Part>> {
    let body: BodyIn<T> = from_json(json)?;
    if body.v != JSON_VERSION {
        return Err(Error::Corrupt(format!("a message body has version {}, not {JSON_VERSION}", body.v)));
    }
    body.parts.into_iter().map(|part| part_in(part, &mut text)).collect()
}

fn part_in<T>(part: PartIn<T>, mut as_text: impl FnMut(T) -> Result<String>) -> Result<Part> {
    Ok(match part {
        PartIn::Text(text) => Part::Text { text: as_text(text)? },
        PartIn::Thinking { text, signature } => {
            Part::Thinking { text: as_text(text)?, signature: signature.map(as_text).transpose()? }
        }
        PartIn::ToolCall { id, name, input } => Part::ToolCall { id, name, input },
        PartIn::ToolResult { id, output, is_error } => {
            Part::ToolResult { id, output: as_text(output)?, is_error }
        }
        PartIn::Attachment { media_type, name, hash, bytes } => {
            let hash = hash
                .map(|hash| hash.parse().map_err(|error| Error::Corrupt(format!("{hash:?}: {error}"))))
                .transpose()?;
            Part::Attachment { media_type, name, hash, bytes }
        }
        PartIn::Opaque { source, raw } => Part::Opaque { source, raw },
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
        fn no_input_panics(stored in "[=+{]?.{0,20}", parts in prop::collection::vec(any_part(), 0..4), at in any::<prop::sample::Index>()) {
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
    fn a_single_text_is_stored_as_it_is() {
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
    fn an_invalid_body_is_corruption() {
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
            assert!(matches!(decode(stored), Err(Error::Corrupt(_))), "{stored:?}");
        }
    }
}
