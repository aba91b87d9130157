//! Converts content in the notations of the Model Context Protocol and of the APIs of Anthropic, OpenAI and Google:
//! texts, pictures and other files, embedded resources and links to resources.

use hfs_core::{Attachment, Part};
use serde_json::{Map, Value};

use super::claude_code::{attachment_of, decode_base64};
use super::conversation::text;

/// Media type of a picture whose type is not known.
const ANY_IMAGE: &str = "image/*";
/// Media type of a file whose type is not known.
const ANY_FILE: &str = "application/octet-stream";

/// A part for a file, and its bytes if they are known.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub part: Part,
    pub attachment: Option<Attachment>,
}

impl FilePart {
    fn stored(media_type: &str, name: Option<String>, attachment: Attachment) -> Self {
        let part = Part::Attachment {
            media_type: media_type.to_owned(),
            name,
            hash: Some(attachment.hash),
            bytes: attachment.bytes.len() as u64,
        };
        Self { part, attachment: Some(attachment) }
    }

    fn reference(media_type: &str, name: Option<String>) -> Self {
        let name = name.filter(|name| !name.is_empty());
        let part = Part::Attachment { media_type: media_type.to_owned(), name, hash: None, bytes: 0 };
        Self { part, attachment: None }
    }

    /// A file that is given as base64; `None` if it is not valid base64.
    pub(crate) fn from_base64(media_type: &str, data: &str, name: Option<String>) -> Option<Self> {
        Some(Self::stored(media_type, name, decode_base64(data)?))
    }

    /// A file at a URL, which may be a data URL. `media_type` is used if the URL does not contain one; `None` if it is
    /// a data URL whose data cannot be decoded.
    pub(crate) fn at_url(url: &str, media_type: &str, name: Option<String>) -> Option<Self> {
        let Some(rest) = url.strip_prefix("data:") else {
            return Some(Self::reference(media_type, name.or_else(|| Some(url.to_owned()))));
        };
        let (header, data) = rest.split_once(',')?;
        let mut header = header.split(';');
        let media_type = header.next().filter(|found| !found.is_empty()).unwrap_or(media_type);
        if header.any(|parameter| parameter.trim() == "base64") {
            return Self::from_base64(media_type, data, name);
        }
        Some(Self::stored(media_type, name, attachment_of(percent_decoded(data)?)))
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    Some(bytes)
}

/// The file in a block of content; `None` if the block contains no file or its data cannot be decoded.
pub(crate) fn file_of(block: &Map<String, Value>) -> Option<FilePart> {
    let kind = text(block, "type").unwrap_or_default();
    let name = ["name", "filename", "file_name", "title"]
        .into_iter()
        .find_map(|key| text(block, key))
        .map(str::to_owned);
    let media_type = media_type_of(block);
    let default = if kind.contains("image") { ANY_IMAGE } else { ANY_FILE };
    let media_type = media_type.unwrap_or(default);
    match kind {
        "image_url" | "input_image" | "image" | "audio" | "input_audio" | "file" | "input_file"
        | "document" | "video" | "media" => {}
        "" => {
            // Google's API does not name the types of its blocks.
            let inline =
                ["inlineData", "inline_data"].into_iter().find_map(|key| block.get(key)?.as_object());
            if let Some(inline) = inline {
                let media_type = media_type_of(inline).unwrap_or(ANY_IMAGE);
                return FilePart::from_base64(
                    media_type,
                    text(inline, "data")?,
                    text(inline, "displayName").map(str::to_owned),
                );
            }
            let file = ["fileData", "file_data"].into_iter().find_map(|key| block.get(key)?.as_object())?;
            let url = ["fileUri", "file_uri"].into_iter().find_map(|key| text(file, key))?;
            let name = text(file, "displayName").map(str::to_owned);
            return FilePart::at_url(url, media_type_of(file).unwrap_or(ANY_FILE), name);
        }
        _ => return None,
    }
    // The content is in the block itself or in an object inside it.
    let inner = ["source", "image_url", "input_audio", "file", "audio", "image"]
        .into_iter()
        .find_map(|key| block.get(key)?.as_object());
    let fields = inner.unwrap_or(block);
    let media_type = media_type_of(fields).unwrap_or(media_type);
    let name = ["filename", "name"].into_iter().find_map(|key| text(fields, key)).map(str::to_owned).or(name);
    if text(fields, "type") == Some("text") {
        let content = text(fields, "data")?;
        return Some(FilePart::stored(media_type, name, attachment_of(content.as_bytes().to_vec())));
    }
    let url = ["url", "image_url", "file_url", "fileUri"].into_iter().find_map(|key| text(fields, key));
    if let Some(url) = url {
        return FilePart::at_url(url, media_type, name);
    }
    if let Some(data) = ["data", "base64", "file_data"].into_iter().find_map(|key| text(fields, key)) {
        if data.starts_with("data:") {
            return FilePart::at_url(data, media_type, name);
        }
        let audio =
            text(fields, "format").filter(|_| kind.contains("audio")).map(|format| format!("audio/{format}"));
        return FilePart::from_base64(audio.as_deref().unwrap_or(media_type), data, name);
    }
    let id =
        ["file_id", "id"].into_iter().find_map(|key| text(fields, key)).or_else(|| text(block, "file_id"))?;
    Some(FilePart::reference(media_type, name.or_else(|| Some(id.to_owned()))))
}

fn media_type_of(fields: &Map<String, Value>) -> Option<&str> {
    ["mimeType", "mime_type", "media_type", "mime"]
        .into_iter()
        .find_map(|key| text(fields, key))
        .filter(|media_type| !media_type.is_empty())
}

/// The output of a tool: its text, and its files as parts that follow the result.
#[derive(Debug, Default)]
pub(crate) struct ToolOutput {
    pub text: String,
    pub files: Vec<Part>,
    pub attachments: Vec<Attachment>,
}

impl ToolOutput {
    /// Converts a text, a block, a list of blocks, or an object with such `content`. Other JSON becomes text.
    pub(crate) fn new(content: &Value) -> Self {
        let mut output = Self::default();
        output.add(content);
        output
    }

    /// Adds content after the existing one.
    pub(crate) fn add(&mut self, content: &Value) {
        match content {
            Value::Null => {}
            Value::String(text) => self.add_text(text),
            Value::Array(items) => items.iter().for_each(|item| match item {
                Value::Array(_) | Value::Null => self.add_text(&item.to_string()),
                item => self.add(item),
            }),
            Value::Object(block) => self.add_block(block, content),
            other => self.add_text(&other.to_string()),
        }
    }

    fn add_text(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    fn add_file(&mut self, file: FilePart) {
        self.files.push(file.part);
        self.attachments.extend(file.attachment);
    }

    fn add_block(&mut self, block: &Map<String, Value>, original: &Value) {
        if let Some(file) = file_of(block) {
            return self.add_file(file);
        }
        match (text(block, "type"), block.get("resource").and_then(Value::as_object)) {
            (Some("resource"), Some(resource)) => return self.add_resource(resource, original),
            (Some("resource_link"), _) => return self.add_text(&resource_link(block)),
            _ => {}
        }
        match (text(block, "text"), block.get("content")) {
            (Some(text), _) => self.add_text(text),
            (None, Some(content @ (Value::String(_) | Value::Array(_)))) => self.add(content),
            _ => self.add_text(&original.to_string()),
        }
    }

    /// Adds a resource that a server of the Model Context Protocol embedded.
    fn add_resource(&mut self, resource: &Map<String, Value>, original: &Value) {
        let name = text(resource, "uri").map(str::to_owned);
        if let Some(content) = text(resource, "text") {
            return self.add_text(content);
        }
        let media_type = media_type_of(resource).unwrap_or(ANY_FILE);
        match text(resource, "blob").and_then(|blob| FilePart::from_base64(media_type, blob, name)) {
            Some(file) => self.add_file(file),
            None => self.add_text(&original.to_string()),
        }
    }
}

/// A link to a resource, as text.
fn resource_link(link: &Map<String, Value>) -> String {
    let uri = text(link, "uri").unwrap_or_default();
    let label = ["title", "name"].into_iter().find_map(|key| text(link, key)).filter(|label| *label != uri);
    let line = label.map_or_else(|| uri.to_owned(), |label| format!("{label} ({uri})"));
    match text(link, "description").filter(|description| !description.is_empty()) {
        Some(description) => format!("{line}\n{description}"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attachment(output: &ToolOutput) -> (String, Option<String>, Vec<u8>) {
        let [Part::Attachment { media_type, name, .. }] = &output.files[..] else { panic!("{output:?}") };
        let bytes = output.attachments.first().map(|attachment| attachment.bytes.clone()).unwrap_or_default();
        (media_type.clone(), name.clone(), bytes)
    }

    #[test]
    fn files_in_every_notation_are_attachments() {
        for (block, media_type, name) in [
            (json!({"type": "image", "data": "YWJj", "mimeType": "image/png"}), "image/png", None),
            (
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YWJj"}}),
                "image/png",
                None,
            ),
            (json!({"type": "input_image", "image_url": "data:image/png;base64,YWJj"}), "image/png", None),
            (
                json!({"type": "image_url", "image_url": {"url": "data:image/png;charset=x;base64,YWJj", "detail": "low"}}),
                "image/png",
                None,
            ),
            (json!({"type": "audio", "data": "YWJj", "mimeType": "audio/wav"}), "audio/wav", None),
            (
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
                "audio/mp3",
                None,
            ),
            (
                json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"}}),
                "application/pdf",
                Some("a.pdf"),
            ),
            (
                json!({"type": "file", "mime": "text/plain", "url": "data:text/plain,%61bc", "filename": "b"}),
                "text/plain",
                Some("b"),
            ),
            (
                json!({"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}),
                "text/plain",
                Some("t"),
            ),
            (json!({"inlineData": {"mimeType": "image/jpeg", "data": "YWJj"}}), "image/jpeg", None),
            (
                json!({"type": "resource", "resource": {"uri": "a:b", "mimeType": "image/gif", "blob": "YWJj"}}),
                "image/gif",
                Some("a:b"),
            ),
        ] {
            let output = ToolOutput::new(&json!([block]));
            assert_eq!(
                attachment(&output),
                (media_type.into(), name.map(str::to_owned), b"abc".to_vec()),
                "{block}"
            );
            assert_eq!(output.text, "", "{block}");
        }
    }

    #[test]
    fn a_file_elsewhere_is_a_reference() {
        for (block, name) in [
            (json!({"type": "image_url", "image_url": {"url": "https://x/y.png"}}), "https://x/y.png"),
            (
                json!({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
                "https://x/y.png",
            ),
            (json!({"type": "input_file", "file_id": "file-1"}), "file-1"),
            (json!({"fileData": {"fileUri": "gs://a", "mimeType": "video/mp4"}}), "gs://a"),
        ] {
            let output = ToolOutput::new(&block);
            assert_eq!(attachment(&output).1.as_deref(), Some(name), "{block}");
            assert!(output.attachments.is_empty());
        }
    }

    #[test]
    fn texts_resources_and_links_are_text() {
        let content = json!([
            {"type": "text", "text": "one"},
            "two",
            {"type": "resource", "resource": {"uri": "file:///a", "text": "three"}},
            {"type": "resource_link", "uri": "file:///b", "name": "b.txt", "description": "four"},
            {"type": "tool_reference", "tool_name": "five"},
        ]);
        let expected =
            "one\ntwo\nthree\nb.txt (file:///b)\nfour\n{\"type\":\"tool_reference\",\"tool_name\":\"five\"}";
        assert_eq!(ToolOutput::new(&content).text, expected);
        assert_eq!(ToolOutput::new(&json!({"content": content})).text, expected);
        assert_eq!(ToolOutput::new(&json!({"a": 1})).text, r#"{"a":1}"#);
        assert_eq!(ToolOutput::new(&json!(true)).text, "true");
        assert_eq!(ToolOutput::new(&Value::Null).text, "");
    }

    #[test]
    fn data_that_cannot_be_decoded_stays_text() {
        let broken = json!({"type": "image", "data": "not base64!", "mimeType": "image/png"});
        assert_eq!(ToolOutput::new(&broken).text, broken.to_string());
    }
}
