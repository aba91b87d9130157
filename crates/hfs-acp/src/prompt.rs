//! The content of a prompt that an editor sends.

use agent_client_protocol_schema::v1::{ContentBlock, EmbeddedResourceResource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A picture in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptPicture {
    /// Media type, such as `image/png`.
    pub media_type: String,
    /// File name.
    pub name: String,
    /// The picture.
    pub bytes: Vec<u8>,
}

/// A text file in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    /// Path or address.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What a prompt consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromptContent {
    /// The words, with links to files and other resources in Markdown.
    pub text: String,
    /// The files whose text the editor sent, in order.
    pub files: Vec<PromptFile>,
    /// The pictures, in order.
    pub pictures: Vec<PromptPicture>,
}

/// Reads the blocks of a prompt. The error says what cannot be sent.
///
/// # Errors
/// For sound, for files that are neither text nor a picture, and for data that is not valid.
pub fn read_prompt(blocks: Vec<ContentBlock>) -> Result<PromptContent, String> {
    let mut content = PromptContent::default();
    for block in blocks {
        match block {
            ContentBlock::Text(text) => content.text.push_str(&text.text),
            ContentBlock::Image(image) => {
                let name = image.uri.as_deref().map(file_name);
                content.add_picture(&image.data, image.mime_type, name)?;
            }
            ContentBlock::ResourceLink(link) => {
                content.text.push_str(&markdown_link(&link.name, &link.uri));
            }
            ContentBlock::Resource(resource) => match resource.resource {
                EmbeddedResourceResource::TextResourceContents(file) => {
                    content.text.push_str(&markdown_link(&file_name(&file.uri), &file.uri));
                    content.files.push(PromptFile { name: path_of(&file.uri), text: file.text });
                }
                EmbeddedResourceResource::BlobResourceContents(file) => {
                    let media_type = file.mime_type.unwrap_or_default();
                    if !media_type.starts_with("image/") {
                        let what = if media_type.is_empty() { "of an unknown type" } else { &media_type };
                        let name = file_name(&file.uri);
                        return Err(format!("{name} is {what}: only text and pictures can be sent"));
                    }
                    content.add_picture(&file.blob, media_type, Some(file_name(&file.uri)))?;
                }
                _ => return Err("a resource of an unknown kind cannot be sent".into()),
            },
            ContentBlock::Audio(_) => return Err("sound cannot be sent".into()),
            _ => return Err("content of an unknown kind cannot be sent".into()),
        }
    }
    Ok(content)
}

impl PromptContent {
    fn add_picture(&mut self, data: &str, media_type: String, name: Option<String>) -> Result<(), String> {
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| {
            let ending = media_type.strip_prefix("image/").unwrap_or("png");
            format!("picture-{}.{ending}", self.pictures.len() + 1)
        });
        let bytes = STANDARD.decode(data).map_err(|error| format!("{name} is not valid base64: {error}"))?;
        self.pictures.push(PromptPicture { media_type, name, bytes });
        Ok(())
    }
}

/// A link whose text names it as agents write mentions of files.
fn markdown_link(name: &str, uri: &str) -> String {
    let name: String = name.chars().filter(|c| !matches!(c, '[' | ']') && !c.is_control()).collect();
    let uri: String = uri.chars().filter(|c| !c.is_whitespace()).collect();
    format!("[@{name}]({uri})")
}

fn path_of(uri: &str) -> String {
    uri.strip_prefix("file://").unwrap_or(uri).to_owned()
}

fn file_name(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or(uri).trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(blocks: serde_json::Value) -> Result<PromptContent, String> {
        read_prompt(serde_json::from_value(blocks).unwrap())
    }

    #[test]
    fn mentions_stay_in_their_sentence_and_files_follow() {
        let content = read(json!([
            {"type": "text", "text": "Compare "},
            {"type": "resource_link", "name": "a.rs", "uri": "file:///x/a.rs"},
            {"type": "text", "text": " with "},
            {"type": "resource", "resource": {"uri": "file:///x/b.rs#L3", "text": "fn b() {}"}},
            {"type": "image", "mimeType": "image/png", "data": "cG5n"},
            {"type": "resource", "resource": {"uri": "file:///x/c.gif", "mimeType": "image/gif", "blob": "Z2lm"}},
        ]))
        .unwrap();
        assert_eq!(content.text, "Compare [@a.rs](file:///x/a.rs) with [@b.rs](file:///x/b.rs#L3)");
        assert_eq!(content.files, [PromptFile { name: "/x/b.rs#L3".into(), text: "fn b() {}".into() }]);
        let names: Vec<&str> = content.pictures.iter().map(|picture| picture.name.as_str()).collect();
        assert_eq!(names, ["picture-1.png", "c.gif"]);
        assert_eq!(content.pictures[1].bytes, b"gif");
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        for (block, reason) in [
            (json!({"type": "audio", "mimeType": "audio/wav", "data": ""}), "sound"),
            (
                json!({"type": "image", "mimeType": "image/png", "data": "?"}),
                "picture-1.png is not valid base64",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "file:///a.pdf", "mimeType": "application/pdf", "blob": ""}}),
                "a.pdf is application/pdf",
            ),
        ] {
            let error = read(json!([block])).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
