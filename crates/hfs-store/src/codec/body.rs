//! What is stored of a message's parts.
//!
//! Texts are stored as they are: nothing has to be escaped when they are written, nor parsed when they are read. A message
//! that is nothing but one text, which most are, is that text behind a mark. Of all others JSON says on one line what
//! there is and how long each text, and the texts follow it. Only where one holds a NUL, which would end it for some of
//! the database's own functions, are they in the JSON themselves, as all were before version 4.

use hfs_core::Part;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::rows::{self, check_depth, from_json, to_json};
use crate::error::{Error, Result};

/// What a body of one text begins with. JSON never begins so.
const PLAIN: &str = "=";
/// What a body begins with whose texts follow its JSON.
const BESIDE: &str = "+";
/// The version of the JSON.
const VERSION: u8 = 1;

/// A body's JSON; `T` is what stands in it for a text.
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

/// What is stored of a message's parts.
pub(crate) fn write(parts: &[Part]) -> Result<String> {
    let texts: Vec<&str> = parts.iter().flat_map(texts).collect();
    if texts.iter().any(|text| memchr::memchr(0, text.as_bytes()).is_some()) {
        return json(parts, |text| text);
    }
    if let [Part::Text { text }] = parts {
        return Ok([PLAIN, text].concat());
    }
    let json = json(parts, str::len)?;
    let length = json.len() + texts.iter().map(|text| text.len()).sum::<usize>();
    let mut body = String::with_capacity(length + 2);
    body.extend([BESIDE, &json, "\n"]);
    body.extend(texts);
    Ok(body)
}

/// The texts in a part that may be long, in their order.
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
    to_json(&BodyOut { v: VERSION, parts })
}

/// The text of a body that is nothing else.
pub(crate) fn plain(stored: &str) -> Option<&str> {
    stored.strip_prefix(PLAIN)
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

/// The parts in what [`write`] made.
pub(crate) fn read(stored: &str) -> Result<Vec<Part>> {
    if let Some(text) = plain(stored) {
        return Ok(vec![Part::text(text)]);
    }
    let Some(rest) = stored.strip_prefix(BESIDE) else {
        return parts_in(stored, Ok);
    };
    let damaged =
        |why: &str| Error::Corrupt(format!("the texts of a message are not as long as it says: {why}"));
    let (json, mut rest) = rest.split_once('\n').ok_or_else(|| damaged("there are none"))?;
    let parts = parts_in(json, |length: usize| {
        let (text, behind) = rest.split_at_checked(length).ok_or_else(|| damaged("one ends early"))?;
        rest = behind;
        Ok(text.to_owned())
    })?;
    if rest.is_empty() { Ok(parts) } else { Err(damaged("there is more behind them")) }
}

/// The parts that a body's JSON tells of; `text` makes a text of what stands for it.
fn parts_in<'de, T: Deserialize<'de>>(
    json: &'de str,
    mut text: impl FnMut(T) -> Result<String>,
) -> Result<Vec<Part>> {
    let body: BodyIn<T> = from_json(json)?;
    if body.v != VERSION {
        return Err(Error::Corrupt(format!("a message body has version {}, not {VERSION}", body.v)));
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
        fn whatever_is_written_is_read(parts in prop::collection::vec(any_part(), 0..5)) {
            let stored = write(&parts).unwrap();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(read(&stored).unwrap(), parts);
        }

        #[test]
        fn no_text_hurts(stored in "[=+{]?.{0,20}", parts in prop::collection::vec(any_part(), 0..4), at in any::<prop::sample::Index>()) {
            let _ = read(&stored);
            // A length that is not right is damage, wherever it leads.
            let mut cut = write(&parts).unwrap();
            let end = at.index(cut.len() + 1);
            cut.truncate(cut.floor_char_boundary(end));
            let _ = read(&cut);
        }
    }

    #[test]
    fn every_body_is_read_as_it_was_written() {
        let texts = ["", "=", "{}", "{\"v\":1}", "with \0 in it", "two\nlines", "\u{1f600}"];
        for text in texts {
            let parts = vec![Part::text(text)];
            assert_eq!(read(&write(&parts).unwrap()).unwrap(), parts, "{text:?}");
        }
        let several = vec![Part::text("a"), Part::text("b")];
        assert_eq!(read(&write(&several).unwrap()).unwrap(), several);
        assert_eq!(read(&write(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn one_text_is_stored_as_it_is() {
        assert_eq!(write(&[Part::text("a \"b\"\n")]).unwrap(), "=a \"b\"\n");
        assert_eq!(read("{\"v\":1,\"parts\":[{\"text\":\"a\"}]}").unwrap(), [Part::text("a")]);
    }

    #[test]
    fn texts_stand_behind_what_tells_of_them() {
        let parts =
            [Part::Thinking { text: "h\u{e4}\n".into(), signature: Some("s".into()) }, Part::text("\"b\"")];
        let stored = "+{\"v\":1,\"parts\":[{\"thinking\":{\"text\":4,\"signature\":1}},{\"text\":3}]}\nh\u{e4}\ns\"b\"";
        assert_eq!(write(&parts).unwrap(), stored);
    }

    #[test]
    fn bodies_of_earlier_versions_are_read() {
        let stored =
            r#"{"v":1,"parts":[{"thinking":{"text":"a\nb"}},{"tool-result":{"id":"1","output":"c"}}]}"#;
        let thinking = Part::Thinking { text: "a\nb".into(), signature: None };
        let result = Part::ToolResult { id: "1".into(), output: "c".into(), is_error: false };
        assert_eq!(read(stored).unwrap(), [thinking, result]);
    }

    #[test]
    fn what_is_no_body_is_corruption() {
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
            assert!(matches!(read(stored), Err(Error::Corrupt(_))), "{stored:?}");
        }
    }
}
