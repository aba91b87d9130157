//! Parses content blocks of Anthropic's API and converts them into message parts.
//!
//! A block may have fields for which a part has no place. They remain in the record that is stored with the
//! message. There, `{"$part": [message, part]}` together with the remaining fields replaces the block. An
//! export restores the original record from both.
//!
//! Claude Code stores the whole output of a long tool result in a file of the session's folder, and only its beginning in the
//! record ([`ToolResultFiles`]).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Attachment, ContentHash, Part};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use crate::decompress::uncompressed_path;
use crate::json::value::{MAX_DEPTH, is_lossless_at};
use crate::json::{FieldName, push_array, push_text, push_value};
use crate::source::open_below;

/// Common names of fields. A field with one of these names borrows it instead of allocating a string.
const COMMON_NAMES: [&str; 12] = [
    "type",
    "text",
    "thinking",
    "signature",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
    "source",
    "cache_control",
];

/// Name of the content field in messages and in tool results.
pub(crate) const CONTENT: &str = "content";

/// Enough for most blocks.
const FIELD_CAPACITY: usize = 4;

/// The content of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MessageContent {
    Text(String),
    Blocks(Vec<ContentBlock>),
    /// A value of any other type, which the API does not allow.
    Other(Value),
}

/// A content block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ContentBlock {
    Object(BlockFields),
    /// A value that is not an object.
    Other(Value),
}

/// The value of a block's field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldValue {
    Value(Value),
    /// The content of a tool result.
    Blocks(Vec<ContentBlock>),
    /// JSON that replaces the value in a stored record.
    Json(String),
}

/// The fields of a block, in order. Blocks have few fields, so a linear search is faster than hashing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BlockFields(Vec<(Cow<'static, str>, FieldValue)>);

impl MessageContent {
    /// Whether [`Value`] represents the content without loss.
    pub(crate) fn is_lossless(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Blocks(blocks) => blocks.iter().all(|block| block.is_lossless(2)),
            Self::Other(value) => is_lossless_at(value, 1),
        }
    }

    pub(crate) fn push_json(&self, json: &mut String) {
        match self {
            Self::Text(text) => push_text(json, text),
            Self::Blocks(blocks) => push_blocks(json, blocks),
            Self::Other(value) => push_value(json, value),
        }
    }
}

impl From<Value> for MessageContent {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Array(blocks) => Self::Blocks(blocks.into_iter().map(ContentBlock::from).collect()),
            other => Self::Other(other),
        }
    }
}

impl From<MessageContent> for FieldValue {
    fn from(content: MessageContent) -> Self {
        match content {
            MessageContent::Text(text) => Self::Value(text.into()),
            MessageContent::Blocks(blocks) => Self::Blocks(blocks),
            MessageContent::Other(value) => Self::Value(value),
        }
    }
}

impl ContentBlock {
    fn is_lossless(&self, depth: usize) -> bool {
        let is_lossless = |(_, field): &(_, FieldValue)| match field {
            FieldValue::Value(value) => is_lossless_at(value, depth + 1),
            FieldValue::Blocks(blocks) => blocks.iter().all(|block| block.is_lossless(depth + 2)),
            FieldValue::Json(_) => true,
        };
        match self {
            Self::Object(BlockFields(fields)) => depth <= MAX_DEPTH && fields.iter().all(is_lossless),
            Self::Other(value) => is_lossless_at(value, depth),
        }
    }

    fn push_json(&self, json: &mut String) {
        match self {
            Self::Object(fields) => fields.push_json(json),
            Self::Other(value) => push_value(json, value),
        }
    }
}

fn push_blocks(json: &mut String, blocks: &[ContentBlock]) {
    push_array(json, blocks, |json, block| block.push_json(json));
}

impl From<Value> for ContentBlock {
    fn from(value: Value) -> Self {
        let Value::Object(map) = value else { return Self::Other(value) };
        let field = |(key, value): (String, Value)| {
            let field =
                if key == CONTENT { MessageContent::from(value).into() } else { FieldValue::Value(value) };
            (field_name(&key), field)
        };
        Self::Object(BlockFields(map.into_iter().map(field).collect()))
    }
}

impl From<ContentBlock> for Value {
    fn from(block: ContentBlock) -> Self {
        match block {
            ContentBlock::Object(fields) => fields.into(),
            ContentBlock::Other(value) => value,
        }
    }
}

impl From<BlockFields> for Value {
    fn from(BlockFields(fields): BlockFields) -> Self {
        let field = |(key, field): (Cow<'_, str>, FieldValue)| (key.into_owned(), field.into());
        Self::Object(fields.into_iter().map(field).collect())
    }
}

impl From<FieldValue> for Value {
    fn from(field: FieldValue) -> Self {
        match field {
            FieldValue::Value(value) => value,
            FieldValue::Blocks(blocks) => blocks.into_iter().map(Self::from).collect(),
            // Does not occur: only a block that became a part has such a field, and it stays JSON text.
            FieldValue::Json(json) => Self::String(json),
        }
    }
}

impl BlockFields {
    /// Reads the fields of an object; the last of a repeated field wins.
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut fields = Self(Vec::with_capacity(FIELD_CAPACITY));
        while let Some(FieldName(key)) = map.next_key()? {
            let field = if key == CONTENT {
                map.next_value::<MessageContent>()?.into()
            } else {
                FieldValue::Value(map.next_value()?)
            };
            fields.set(field_name(&key), field);
        }
        Ok(fields)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, field)| field)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut FieldValue> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, field)| field)
    }

    /// A field, if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            FieldValue::Value(value) => value.as_str(),
            FieldValue::Blocks(_) | FieldValue::Json(_) => None,
        }
    }

    /// Removes and returns a field.
    pub(crate) fn take(&mut self, name: &str) -> Option<FieldValue> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1)
    }

    /// Removes and returns a field if it is a string.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        self.text(name)?;
        match self.take(name)? {
            FieldValue::Value(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Replaces a field, or appends it.
    pub(crate) fn set(&mut self, name: Cow<'static, str>, field: FieldValue) {
        match self.get_mut(&name) {
            Some(existing) => *existing = field,
            None => self.0.push((name, field)),
        }
    }

    /// Whether a name could be mistaken for [`PART`], [`TEXT`] or [`WITHOUT`].
    pub(crate) fn has_reserved_names(&self) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with('$'))
    }

    pub(crate) fn push_json(&self, json: &mut String) {
        let mut separator = '{';
        for (key, field) in &self.0 {
            json.push(std::mem::replace(&mut separator, ','));
            push_text(json, key);
            json.push(':');
            match field {
                FieldValue::Value(value) => push_value(json, value),
                FieldValue::Blocks(blocks) => push_blocks(json, blocks),
                FieldValue::Json(text) => json.push_str(text),
            }
        }
        json.push_str(if self.0.is_empty() { "{}" } else { "}" });
    }
}

/// The name of a field, borrowed if it is a common one.
fn field_name(key: &str) -> Cow<'static, str> {
    let known = COMMON_NAMES.iter().find(|name| **name == key);
    known.map_or_else(|| Cow::Owned(key.to_owned()), |name| Cow::Borrowed(*name))
}

/// Collects the elements of an array.
fn collect_elements<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<T>, A::Error> {
    let mut items = Vec::new();
    while let Some(item) = seq.next_element()? {
        items.push(item);
    }
    Ok(items)
}

/// Visitor methods for values that are neither strings, arrays nor objects.
macro_rules! plain_values {
    ($make:expr) => {
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok($make(Value::Bool(value)))
        }
        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok($make(value.into()))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok($make(value.into()))
        }
        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            Ok($make(Number::from_f64(value).map_or(Value::Null, Value::Number)))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($make(Value::Null))
        }
    };
}

impl<'de> Deserialize<'de> for MessageContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = MessageContent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the content of a message")
            }
            plain_values!(MessageContent::Other);
            fn visit_str<E>(self, text: &str) -> Result<MessageContent, E> {
                Ok(MessageContent::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<MessageContent, A::Error> {
                collect_elements(seq).map(MessageContent::Blocks)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MessageContent, A::Error> {
                BlockFields::from_map(map).map(|fields| MessageContent::Other(fields.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for ContentBlock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = ContentBlock;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content block")
            }
            plain_values!(ContentBlock::Other);
            fn visit_str<E>(self, text: &str) -> Result<ContentBlock, E> {
                Ok(ContentBlock::Other(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ContentBlock, A::Error> {
                collect_elements(seq).map(|items| ContentBlock::Other(Value::Array(items)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ContentBlock, A::Error> {
                BlockFields::from_map(map).map(ContentBlock::Object)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Key in a stored record. The value refers to the part that replaces the block: `[message, part]`.
pub(crate) const PART: &str = "$part";
/// Key in a stored record. The value is the range of a text in the tool result's output: `[start, length]`.
pub(crate) const TEXT: &str = "$text";
/// Key in a stored record. The value lists the fields of the part that the original block did not have.
pub(crate) const WITHOUT: &str = "$without";

/// Collects the parts and attachments of one message.
#[derive(Debug, Default)]
pub(crate) struct PartsBuilder<'a> {
    pub parts: Vec<Part>,
    pub attachments: Vec<Attachment>,
    /// Where the whole output of a tool is, if the result has only its beginning.
    files: Option<&'a ToolResultFiles>,
    /// The structured form of a tool's result.
    structured: Option<&'a str>,
}

impl<'a> PartsBuilder<'a> {
    /// A builder for the message of a tool.
    pub(crate) fn for_result(files: &'a ToolResultFiles, structured: Option<&'a str>) -> Self {
        Self { files: Some(files), structured, ..Self::default() }
    }

    /// Converts a block into a part (several, for a tool result with images) and appends the block's
    /// replacement to `template`. `message` is the index of this message among those of its record.
    pub(crate) fn add(&mut self, block: ContentBlock, message: usize, template: &mut String) {
        let index = self.parts.len();
        let (rest, part) = match block {
            ContentBlock::Object(fields) => self.fields(fields, message, index),
            ContentBlock::Other(value) => (BlockFields::default(), opaque(value)),
        };
        // A tool result has already appended its images, and precedes them.
        self.parts.insert(index.min(self.parts.len()), part);
        push_reference(template, message, index, rest);
    }

    /// Converts content that is a string into a part.
    pub(crate) fn add_text(&mut self, text: String, template: &mut String) {
        push_reference(template, 0, self.parts.len(), BlockFields::default());
        self.parts.push(Part::Text { text });
    }

    fn fields(&mut self, mut fields: BlockFields, message: usize, index: usize) -> (BlockFields, Part) {
        if fields.has_reserved_names() {
            return (BlockFields::default(), opaque(fields.into()));
        }
        let is_text = |name: &str| fields.text(name).is_some();
        match fields.text("type").unwrap_or_default() {
            "text" if is_text("text") => {
                fields.take("type");
                let text = fields.take_text("text").unwrap_or_default();
                (fields, Part::Text { text })
            }
            "thinking" if is_text("thinking") => {
                fields.take("type");
                let text = fields.take_text("thinking").unwrap_or_default();
                let signature = fields.take_text("signature");
                (fields, Part::Thinking { text, signature })
            }
            "redacted_thinking" if is_text("data") => {
                let signature = fields.take_text("data");
                (fields, Part::Thinking { text: String::new(), signature })
            }
            "tool_use" if is_text("name") => {
                fields.take("type");
                tool_call(fields)
            }
            "server_tool_use" | "mcp_tool_use" if is_text("name") => tool_call(fields),
            "tool_result" => self.tool_result(fields, message, index),
            "image" | "document" => self.file(fields),
            _ => (BlockFields::default(), opaque(fields.into())),
        }
    }

    fn tool_result(&mut self, mut fields: BlockFields, message: usize, index: usize) -> (BlockFields, Part) {
        let mut without = Vec::new();
        fields.take("type");
        let id = take_required(&mut fields, "tool_use_id", &mut without);
        let is_error = matches!(fields.get("is_error"), Some(FieldValue::Value(Value::Bool(true))));
        if is_error {
            fields.take("is_error");
        }
        let mut output = String::new();
        let text = fields.take_text(CONTENT);
        let is_text = text.is_some();
        if let Some(text) = text {
            output = text;
        } else {
            match fields.get_mut(CONTENT) {
                Some(FieldValue::Blocks(items)) => {
                    let items = std::mem::take(items);
                    let template = self.result_items(items, &mut output, message, index + 1);
                    fields.set(CONTENT.into(), FieldValue::Json(template));
                }
                Some(FieldValue::Value(other @ Value::Object(_))) => output = other.to_string(),
                Some(_) => {}
                None => without.push(CONTENT),
            }
        }
        self.complete_output(&id, &mut output, is_text, &mut fields);
        note_absent(&mut fields, &without);
        (fields, Part::ToolResult { id, output, is_error })
    }

    /// Adds what the output of a tool lacks: its structured form, and the text of the file with the whole output. If the
    /// content `is_text`, it then stays in the record, because it cannot be restored from the output.
    fn complete_output(&mut self, call: &str, output: &mut String, is_text: bool, fields: &mut BlockFields) {
        let structured = self.structured.filter(|structured| !output.contains(*structured));
        let file = self.files.and_then(|files| files.of_result(call, output));
        if is_text && (structured.is_some() || file.is_some()) {
            fields.set(CONTENT.into(), FieldValue::Value(output.clone().into()));
            if file.as_ref().is_some_and(|file| file.text.is_some()) {
                // The file begins with the same text.
                output.clear();
            }
        }
        let text = file.as_ref().and_then(|file| file.text.as_deref());
        for addition in text.into_iter().chain(structured) {
            let separator = if output.is_empty() { "" } else { "\n" };
            output.extend([separator, addition]);
        }
        if let Some(file) = file {
            self.parts.push(file.part);
            self.attachments.extend(file.attachment);
        }
    }

    /// Converts the elements of a tool result's content. Texts are appended to `output`; images and other
    /// blocks become parts after the result, the first one at index `first`. Returns the replacement of the
    /// content in the stored record.
    fn result_items(
        &mut self,
        items: Vec<ContentBlock>,
        output: &mut String,
        message: usize,
        first: usize,
    ) -> String {
        let mut nested = Self::default();
        let mut template = String::new();
        push_array(&mut template, items, |template, item| {
            nested.result_item(item, output, (message, first), template);
        });
        self.parts.append(&mut nested.parts);
        self.attachments.append(&mut nested.attachments);
        template
    }

    fn result_item(
        &mut self,
        item: ContentBlock,
        output: &mut String,
        at: (usize, usize),
        template: &mut String,
    ) {
        let (rest, part) = match item {
            ContentBlock::Object(mut fields) if !fields.has_reserved_names() => {
                let kind = fields.text("type");
                let (is_text, is_file) = (kind == Some("text"), matches!(kind, Some("image" | "document")));
                if let Some(text) = is_text.then(|| fields.take_text("text")).flatten() {
                    let separator = if output.is_empty() { "" } else { "\n" };
                    output.push_str(separator);
                    push_with(template, fields, TEXT, [output.len(), text.len()]);
                    output.push_str(&text);
                    return;
                }
                if push_resource(&mut fields, output) {
                    fields.push_json(template);
                    return;
                }
                if is_file { self.file(fields) } else { (BlockFields::default(), opaque(fields.into())) }
            }
            other => (BlockFields::default(), opaque(other.into())),
        };
        let (message, first) = at;
        push_reference(template, message, first + self.parts.len(), rest);
        self.parts.push(part);
    }

    /// Converts an image or document. Inline bytes become an attachment; a URL or file id becomes the name of
    /// the part.
    fn file(&mut self, mut fields: BlockFields) -> (BlockFields, Part) {
        let kind = fields.text("type").unwrap_or_default().to_owned();
        let Some(FieldValue::Value(Value::Object(source))) = fields.get_mut("source") else {
            return (BlockFields::default(), opaque(fields.into()));
        };
        let media_type = source.get("media_type").and_then(Value::as_str);
        let media_type = media_type.map_or_else(|| format!("{kind}/*"), str::to_owned);
        let name = source_name(source);
        let (hash, bytes) = match source.get("data").and_then(Value::as_str).and_then(decode_base64) {
            Some(attachment) => {
                source.shift_remove("data");
                let found = (Some(attachment.hash), attachment.bytes.len() as u64);
                self.attachments.push(attachment);
                found
            }
            None => (None, 0),
        };
        (fields, Part::Attachment { media_type, name, hash, bytes })
    }
}

/// Appends the text of an embedded resource, or the address of a linked one, to a tool's output. Returns whether the block is
/// one. In the stored record, a range of the output replaces the text.
fn push_resource(fields: &mut BlockFields, output: &mut String) -> bool {
    let separator = if output.is_empty() { "" } else { "\n" };
    match fields.text("type") {
        Some("resource") => {
            let Some(FieldValue::Value(Value::Object(resource))) = fields.get_mut("resource") else {
                return false;
            };
            let has_reserved_names = resource.keys().any(|key| key.starts_with('$'));
            let Some(Value::String(text)) = resource.get("text").filter(|_| !has_reserved_names).cloned()
            else {
                return false;
            };
            output.push_str(separator);
            resource.shift_remove("text");
            resource.insert(TEXT.into(), json!([output.len(), text.len()]));
            output.push_str(&text);
            true
        }
        Some("resource_link") => {
            let Some(uri) = fields.text("uri") else { return false };
            let name = fields.text("name").unwrap_or_default();
            output.extend([separator, name, if name.is_empty() { "" } else { ": " }, uri]);
            true
        }
        _ => false,
    }
}

fn source_name(source: &Map<String, Value>) -> Option<String> {
    ["url", "file_id"].into_iter().find_map(|key| source.get(key)).and_then(Value::as_str).map(str::to_owned)
}

fn tool_call(mut fields: BlockFields) -> (BlockFields, Part) {
    let mut without = Vec::new();
    let id = take_required(&mut fields, "id", &mut without);
    let name = fields.take_text("name").unwrap_or_default();
    if fields.get("input").is_none() {
        without.push("input");
    }
    let input = fields.take("input").map_or(Value::Null, Value::from);
    note_absent(&mut fields, &without);
    (fields, Part::ToolCall { id, name, input })
}

/// An attachment with the hash of its bytes.
pub(crate) fn attachment_of(bytes: Vec<u8>) -> Attachment {
    Attachment { hash: ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes }
}

/// Decodes base64. The decoder accepts only canonical base64, so encoding the bytes again gives the same
/// text.
pub(crate) fn decode_base64(text: &str) -> Option<Attachment> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())?;
    Some(attachment_of(bytes))
}

fn opaque(raw: Value) -> Part {
    Part::Opaque { source: super::NAME.into(), raw }
}

/// Appends a reference to a part, together with the block's remaining fields.
fn push_reference(template: &mut String, message: usize, part: usize, rest: BlockFields) {
    push_with(template, rest, PART, [message, part]);
}

/// Appends an object with the given fields and the field `marker`, whose value is `[a, b]`.
fn push_with(template: &mut String, mut fields: BlockFields, marker: &'static str, [a, b]: [usize; 2]) {
    let mut numbers = String::with_capacity(16);
    // Writing to a `String` cannot fail.
    let _ = write!(numbers, "[{a},{b}]");
    fields.set(marker.into(), FieldValue::Json(numbers));
    fields.push_json(template);
}

/// Takes a string that the part requires; adds its name to `without` if the block lacks it.
fn take_required(fields: &mut BlockFields, name: &'static str, without: &mut Vec<&'static str>) -> String {
    fields.take_text(name).unwrap_or_else(|| {
        without.push(name);
        String::new()
    })
}

fn note_absent(fields: &mut BlockFields, without: &[&str]) {
    if !without.is_empty() {
        fields.set(WITHOUT.into(), FieldValue::Value(json!(without)));
    }
}

/// Name of the folder with the files of long tool results. It is in the folder named after the session.
const RESULTS_FOLDER: &str = "tool-results";
/// Larger files are referenced, but not read.
const MAX_RESULT_FILE: u64 = 64 << 20;
/// Maximum length of the text that becomes the output. The attachment has the rest.
const MAX_RESULT_TEXT: usize = 1 << 20;

/// The files of the long tool results of a transcript.
#[derive(Debug)]
pub(crate) struct ToolResultFiles {
    /// The folder of the transcript, and the path from there to the files; `None` if there are none.
    folder: Option<(PathBuf, PathBuf)>,
}

/// A file with the whole output of a tool.
pub(crate) struct ResultFile {
    pub part: Part,
    pub attachment: Option<Attachment>,
    /// The content, if it is text.
    pub text: Option<String>,
}

impl ToolResultFiles {
    /// The files of this transcript.
    pub(crate) fn of_transcript(transcript: Option<&Path>) -> Self {
        let folder = transcript.and_then(|path| {
            let files = PathBuf::from(uncompressed_path(path).file_stem()?).join(RESULTS_FOLDER);
            let parent = path.parent()?;
            parent.join(&files).is_dir().then(|| (parent.to_owned(), files))
        });
        Self { folder }
    }

    /// The file to which the result of a call refers.
    pub(crate) fn of_result(&self, call: &str, output: &str) -> Option<ResultFile> {
        let (parent, folder) = self.folder.as_ref()?;
        let named = file_named_in_output(output);
        let name = named.or_else(|| is_file_name(call).then(|| format!("{call}.txt")))?;
        let file = open_below(parent, &folder.join(&name)).ok()?;
        let length = file.metadata().ok()?.len();
        let mut bytes = Vec::new();
        let is_read = length <= MAX_RESULT_FILE && file.take(MAX_RESULT_FILE).read_to_end(&mut bytes).is_ok();
        let text = str::from_utf8(&bytes).ok().filter(|_| is_read).map(|text| shortened(text, &name));
        let attachment = is_read.then(|| attachment_of(bytes));
        let part = Part::Attachment {
            media_type: "text/plain".into(),
            name: Some(format!("{RESULTS_FOLDER}/{name}")),
            hash: attachment.as_ref().map(|attachment| attachment.hash),
            bytes: length,
        };
        Some(ResultFile { part, attachment, text })
    }
}

fn shortened(text: &str, name: &str) -> String {
    if text.len() <= MAX_RESULT_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_RESULT_TEXT);
    let rest = text.len() - end;
    format!(
        "{}\n[{rest} more bytes are in the attachment {RESULTS_FOLDER}/{name}]",
        text.get(..end).unwrap_or(text)
    )
}

/// The name of the file that contains the whole output, from the path that the shortened output mentions.
fn file_named_in_output(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("tool-results/").or_else(|| output.split_once("tool-results\\"))?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')'));
    let name = rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches(['.', ',']);
    is_file_name(name).then(|| name.to_owned())
}

/// Whether this is a plain file name, which cannot lead to another folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::json::value::is_lossless;
    use crate::json::value::tests::any_value;

    fn any_content() -> impl Strategy<Value = Value> {
        let name =
            prop_oneof![3 => prop::sample::select(&COMMON_NAMES[..]).prop_map(str::to_owned), 1 => ".*"];
        let content =
            prop_oneof![any_value(), prop::collection::vec(any_value(), 0..3).prop_map(Value::from)];
        let block = prop::collection::vec((name, content), 0..5)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()));
        prop_oneof![any_value(), prop::collection::vec(block, 0..4).prop_map(Value::from)]
    }

    fn json(content: &MessageContent) -> String {
        let mut json = String::new();
        content.push_json(&mut json);
        json
    }

    proptest! {
        #[test]
        fn content_round_trips_like_its_value(value in any_content()) {
            let read: MessageContent = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(json(&read), value.to_string());
            prop_assert_eq!(read.is_lossless(), is_lossless(&value));
            prop_assert_eq!(read, MessageContent::from(value));
        }
    }

    #[test]
    fn the_last_of_a_repeated_field_wins() {
        let read: MessageContent = serde_json::from_str(r#"[{"a":1,"text":"b","a":2}]"#).unwrap();
        assert_eq!(json(&read), r#"[{"a":2,"text":"b"}]"#);
    }

    #[test]
    fn rounded_or_too_deep_values_are_lossy() {
        let nested = |depth: usize| format!("{}1{}", "[{\"content\":".repeat(depth), "}]".repeat(depth));
        for (depth, safe) in [(20, true), (48, true), (49, false)] {
            let read: MessageContent = serde_json::from_str(&nested(depth)).unwrap();
            assert_eq!(read.is_lossless(), safe, "{depth}");
            assert_eq!(is_lossless(&serde_json::from_str(&nested(depth)).unwrap()), safe, "{depth}");
        }
        assert!(!MessageContent::from(json!([{"input": 1e300}])).is_lossless());
    }
}
