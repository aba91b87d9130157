//! What is stored of a message's parts.
//!
//! A message that is nothing but one text, which most are, is stored as that text behind a mark: nothing has to be
//! escaped when it is written, nor parsed when it is read. All others are JSON.

use hfs_core::Part;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, Sql};
use crate::rows::{self, check_depth, from_json, to_json};

/// What a body of one text begins with. JSON never begins so.
const PLAIN: &str = "=";
/// The version of the JSON.
const VERSION: u8 = 1;

#[derive(Serialize)]
struct BodyOut<'a> {
    v: u8,
    parts: Vec<PartOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum PartOut<'a> {
    Text(&'a str),
    Thinking {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
    ToolCall {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
    },
    ToolResult {
        id: &'a str,
        output: &'a str,
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
struct BodyIn {
    v: u8,
    parts: Vec<PartIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartIn {
    Text(String),
    Thinking {
        text: String,
        #[serde(default)]
        signature: Option<String>,
    },
    ToolCall {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        id: String,
        output: String,
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
pub(crate) fn write(parts: &[Part]) -> Sql<String> {
    // A NUL would end the text for some of the database's own functions.
    if let [Part::Text { text }] = parts
        && !text.contains('\0')
    {
        return Ok([PLAIN, text].concat());
    }
    let parts = parts.iter().map(part_out).collect::<Sql<Vec<_>>>()?;
    to_json(&BodyOut { v: VERSION, parts })
}

/// The text of a body that is nothing else.
pub(crate) fn plain(stored: &str) -> Option<&str> {
    stored.strip_prefix(PLAIN)
}

fn part_out(part: &Part) -> Sql<PartOut<'_>> {
    Ok(match part {
        Part::Text { text } => PartOut::Text(text),
        Part::Thinking { text, signature } => PartOut::Thinking { text, signature: signature.as_deref() },
        Part::ToolCall { id, name, input } => {
            check_depth(input)?;
            PartOut::ToolCall { id, name, input }
        }
        Part::ToolResult { id, output, is_error } => PartOut::ToolResult { id, output, is_error: *is_error },
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
pub(crate) fn read(stored: &str) -> Sql<Vec<Part>> {
    if let Some(text) = plain(stored) {
        return Ok(vec![Part::text(text)]);
    }
    let body: BodyIn = from_json(stored)?;
    if body.v != VERSION {
        return Err(Fault::Damaged(format!("a message body has version {}, not {VERSION}", body.v)));
    }
    body.parts.into_iter().map(part_in).collect()
}

fn part_in(part: PartIn) -> Sql<Part> {
    Ok(match part {
        PartIn::Text(text) => Part::Text { text },
        PartIn::Thinking { text, signature } => Part::Thinking { text, signature },
        PartIn::ToolCall { id, name, input } => Part::ToolCall { id, name, input },
        PartIn::ToolResult { id, output, is_error } => Part::ToolResult { id, output, is_error },
        PartIn::Attachment { media_type, name, hash, bytes } => {
            let hash = hash
                .map(|hash| hash.parse().map_err(|error| Fault::Damaged(format!("{hash:?}: {error}"))))
                .transpose()?;
            Part::Attachment { media_type, name, hash, bytes }
        }
        PartIn::Opaque { source, raw } => Part::Opaque { source, raw },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_body_is_damage() {
        for stored in ["", "a", "{", "{\"v\":2,\"parts\":[]}", "[]"] {
            assert!(matches!(read(stored), Err(Fault::Damaged(_))), "{stored:?}");
        }
    }
}
