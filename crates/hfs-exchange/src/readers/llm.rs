//! The logs.db of simonw/llm. Since version 0.32 it contains threads of content-addressed messages. Older
//! versions wrote conversations, whose rows are responses, each with its prompt. A file may contain both.

use hfs_core::{ImportError, Part, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{ConversationTree, ImportedMessage, number, text, usage};
use crate::database::{Database, DatabaseRow, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::Output;
use crate::readers::claude_code::attachment_of;
use crate::{Format, Source};

const NAME: &str = "llm";

pub(crate) struct Llm;

impl super::Reader for Llm {
    fn format(&self) -> Format {
        Format::Llm
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_tables(&["conversations", "responses"]) && probe.has_tables(&["attachments"])
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let database = Database::open(source)?;
        let tables = database.tables()?;
        let has = |name: &str| tables.iter().any(|table| table == name);
        if has("threads") && has("messages") {
            let mut threads = Vec::new();
            database.rows("select * from threads order by datetime_utc, id", &[], &mut |row| {
                threads.push(row.fields);
                Ok(())
            })?;
            for thread in threads {
                out.progress(0)?;
                read_thread(source, &database, thread)?.send_to(out)?;
            }
        }
        let mut conversations = Vec::new();
        let sql =
            "select * from conversations where id in (select conversation_id from responses) order by id";
        database.rows(sql, &[], &mut |row| {
            conversations.push(row.fields);
            Ok(())
        })?;
        for info in conversations {
            out.progress(0)?;
            read_legacy(source, &database, info, &has)?.send_to(out)?;
        }
        Ok(())
    }
}

fn conversation(source: &Source, info: &Map<String, Value>) -> ConversationTree {
    let mut conversation = ConversationTree::new(source, NAME, text(info, "id").unwrap_or_default());
    conversation.session.title = text(info, "name").filter(|name| !name.is_empty()).map(str::to_owned);
    conversation.session.automatic_name = true;
    conversation
}

fn read_thread(
    source: &Source,
    database: &Database,
    info: Map<String, Value>,
) -> Result<ConversationTree, ImportError> {
    let mut conversation = conversation(source, &info);
    let turns = turns(database, text(&info, "id").unwrap_or_default())?;
    let mut chain: Vec<Map<String, Value>> = Vec::new();
    let mut next = text(&info, "tip_message_hash").map(str::to_owned);
    while let Some(hash) = next.take() {
        database.rows("select * from messages where hash = ?1", &[&hash], &mut |row| {
            next = text(&row.fields, "parent_hash").map(str::to_owned);
            chain.push(row.fields);
            Ok(())
        })?;
        // Stop if the parents form a cycle.
        if chain.iter().rev().skip(1).any(|seen| next.is_some() && text(seen, "hash") == next.as_deref()) {
            break;
        }
    }
    let first = turns.first().and_then(|turn| time(&turn.fields));
    let mut at = first.unwrap_or(Timestamp::UNKNOWN);
    for message in chain.into_iter().rev() {
        let Some(role) = text(&message, "role").and_then(|role| role.parse::<Role>().ok()) else {
            conversation.report.opaque();
            conversation.other_records.push(Value::Object(message));
            continue;
        };
        conversation.report.mapped();
        let hash = text(&message, "hash").unwrap_or_default().to_owned();
        let turn = turns.iter().find(|turn| text(&turn.fields, "tip_message_hash") == Some(&hash));
        let next_turn = turns.iter().find(|turn| text(&turn.fields, "parent_message_hash") == Some(&hash));
        at = turn.or(next_turn).and_then(|turn| time(&turn.fields)).unwrap_or(at);
        let converted = row_messages(database, &hash, role, at)?;
        let converted = converted.into_iter().enumerate().map(|(number, mut imported)| {
            if let Some(turn) = turn.filter(|_| imported.draft.role == Role::Assistant) {
                imported.draft.model = text(&turn.fields, "model").map(str::to_owned);
                imported.draft.usage = token_usage(&turn.fields);
            }
            if number == 0 { imported.with_record(message.clone()) } else { imported }
        });
        conversation.push_messages(converted.collect());
    }
    let times: Vec<Timestamp> = turns.iter().filter_map(|turn| time(&turn.fields)).collect();
    conversation.session.created_at = times.iter().min().copied();
    conversation.session.updated_at = times.iter().max().copied();
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    Ok(conversation)
}

fn turns(database: &Database, thread: &str) -> Result<Vec<DatabaseRow>, ImportError> {
    let mut turns = Vec::new();
    database.rows(
        "select * from turns where thread_id = ?1 order by datetime_utc, id",
        &[thread],
        &mut |row| {
            turns.push(row);
            Ok(())
        },
    )?;
    Ok(turns)
}

fn time(fields: &Map<String, Value>) -> Option<Timestamp> {
    fields.get("datetime_utc").and_then(crate::time::from_json)
}

/// The tokens of a response. Its details are what the provider reports besides, as JSON without zeros. OpenAI's cached tokens are
/// among the input, Anthropic's are not.
fn token_usage(fields: &Map<String, Value>) -> Option<Usage> {
    let details = text(fields, "token_details").and_then(parse).map(|parsed| parsed.value);
    let detail = |keys: &[&str]| {
        keys.iter().try_fold(details.as_ref()?, |value, key| value.get(*key)).and_then(Value::as_u64)
    };
    let cached = ["prompt_tokens_details", "input_tokens_details"]
        .into_iter()
        .find_map(|key| detail(&[key, "cached_tokens"]));
    let (read, written) = (detail(&["cache_read_input_tokens"]), detail(&["cache_creation_input_tokens"]));
    usage(&[number(fields, "input_tokens"), read, written], &[number(fields, "output_tokens")])
        .map(|usage| usage.with_cache(cached.or(read), written))
}

/// The messages of a row in `messages`: one per tool result, then one for the rest.
fn row_messages(
    database: &Database,
    hash: &str,
    role: Role,
    at: Timestamp,
) -> Result<Vec<ImportedMessage>, ImportError> {
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut results = Vec::new();
    let mut rows = Vec::new();
    database.rows(
        "select * from parts where message_hash = ?1 order by position, id",
        &[hash],
        &mut |row| {
            rows.push(row.fields);
            Ok(())
        },
    )?;
    for row in rows {
        let payload = text(&row, "payload").and_then(parse).map(|parsed| parsed.value).unwrap_or_default();
        let payload_text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
        let name =
            text(&row, "tool_name").map(str::to_owned).or_else(|| payload_text("name")).unwrap_or_default();
        let row_text = text(&row, "text").map(str::to_owned);
        let id = payload_text("tool_call_id").or_else(|| payload_text("id")).unwrap_or_default();
        match text(&row, "type").unwrap_or_default() {
            "text" => {
                let id = row.get("id").map(Value::to_string).unwrap_or_default();
                let fragments = fragments(database, "part_fragments", "part_id", &id)?;
                parts.push(Part::Text { text: with_fragments(fragments, row_text.unwrap_or_default()) });
            }
            "reasoning" | "thinking" => {
                parts.push(Part::Thinking { text: row_text.unwrap_or_default(), signature: None });
            }
            "tool_call" => {
                let input = payload.get("arguments").cloned().unwrap_or(payload);
                parts.push(Part::ToolCall { id, name, input });
            }
            "tool_result" => {
                let output = row_text.or_else(|| payload_text("output")).unwrap_or_default();
                let is_error = payload.get("exception").is_some_and(|exception| !exception.is_null());
                results.push(Part::ToolResult { id, output, is_error });
            }
            "attachment" | "attachments" => {}
            _ => parts.push(Part::Opaque { source: NAME.into(), raw: Value::Object(row.clone()) }),
        }
        let part_id = row.get("id").map(Value::to_string).unwrap_or_default();
        let sql = "select a.* from part_attachments p join attachments a on a.id = p.attachment_id \
                   where p.part_id = cast(?1 as integer) order by p.\"order\"";
        attach(database, sql, &part_id, &mut parts, &mut attachments)?;
    }
    let mut converted: Vec<ImportedMessage> = Vec::new();
    for (number, result) in results.into_iter().enumerate() {
        converted.push(ImportedMessage::new(
            NAME,
            format!("{hash}/tool-{number}"),
            Role::Tool,
            vec![result],
            at,
        ));
    }
    if !parts.is_empty() || converted.is_empty() {
        let mut imported = ImportedMessage::new(NAME, hash, role, parts, at);
        imported.attachments = attachments;
        converted.push(imported);
    }
    Ok(converted)
}

/// The texts of the fragments that a prompt refers to, if the database has this table.
fn fragments(database: &Database, table: &str, key: &str, id: &str) -> Result<Vec<String>, ImportError> {
    let mut texts = Vec::new();
    if !database.tables()?.iter().any(|found| found == table) {
        return Ok(texts);
    }
    let sql = format!(
        "select f.content from {table} p join fragments f on f.id = p.fragment_id \
         where cast(p.{key} as text) = ?1 order by p.\"order\""
    );
    database.rows(&sql, &[id], &mut |row| {
        texts.push(text_column(&row, "content"));
        Ok(())
    })?;
    Ok(texts)
}

/// A text as it was sent to the model: its fragments, then the text itself.
fn with_fragments(fragments: Vec<String>, text: String) -> String {
    let missing =
        fragments.into_iter().filter(|fragment| !fragment.is_empty() && !text.contains(fragment.as_str()));
    let mut texts: Vec<String> = missing.collect();
    if !text.is_empty() || texts.is_empty() {
        texts.push(text);
    }
    texts.join("\n")
}

fn attach(
    database: &Database,
    sql: &str,
    id: &str,
    parts: &mut Vec<Part>,
    attachments: &mut Vec<hfs_core::Attachment>,
) -> Result<(), ImportError> {
    database.rows(sql, &[id], &mut |row| {
        let media_type = text_column(&row, "type");
        let name = ["path", "url"].into_iter().find_map(|key| text(&row.fields, key)).map(str::to_owned);
        let attachment = row.blob("content").map(|bytes| attachment_of(bytes.to_vec()));
        parts.push(Part::Attachment {
            media_type: if media_type.is_empty() { "application/octet-stream".into() } else { media_type },
            name,
            hash: attachment.as_ref().map(|attachment| attachment.hash),
            bytes: attachment.as_ref().map_or(0, |attachment| attachment.bytes.len() as u64),
        });
        attachments.extend(attachment);
        Ok(())
    })
}

/// Reads a conversation of the older schema, in which a response also contains its prompt.
fn read_legacy(
    source: &Source,
    database: &Database,
    info: Map<String, Value>,
    has: &dyn Fn(&str) -> bool,
) -> Result<ConversationTree, ImportError> {
    let mut conversation = conversation(source, &info);
    let mut responses = Vec::new();
    let id = text(&info, "id").unwrap_or_default();
    database.rows(
        "select * from responses where conversation_id = ?1 order by datetime_utc, id",
        &[id],
        &mut |row| {
            responses.push(row.fields);
            Ok(())
        },
    )?;
    let mut system = None;
    for response in responses {
        conversation.report.mapped();
        let id = text(&response, "id").unwrap_or_default().to_owned();
        let at = time(&response).unwrap_or(Timestamp::UNKNOWN);
        let own = text(&response, "system").unwrap_or_default().to_owned();
        let instructions = with_fragments(fragments(database, "system_fragments", "response_id", &id)?, own);
        let instructions = Some(instructions).filter(|text| !text.is_empty());
        if instructions.is_some() && instructions != system {
            let part = Part::text(instructions.clone().unwrap_or_default());
            conversation.push_messages(vec![ImportedMessage::new(
                NAME,
                format!("{id}/system"),
                Role::System,
                vec![part],
                at,
            )]);
            system = instructions;
        }
        let results = if has("tool_results") { results(database, &id, at, has)? } else { Vec::new() };
        let mut parts = Vec::new();
        let mut attachments = Vec::new();
        let own = text(&response, "prompt").unwrap_or_default().to_owned();
        let prompt = with_fragments(fragments(database, "prompt_fragments", "response_id", &id)?, own);
        if !prompt.is_empty() {
            parts.push(Part::text(prompt));
        }
        if has("prompt_attachments") {
            let sql = "select a.* from prompt_attachments p join attachments a on a.id = p.attachment_id \
                       where p.response_id = ?1 order by p.\"order\"";
            attach(database, sql, &id, &mut parts, &mut attachments)?;
        }
        let has_prompt = !parts.is_empty() || results.is_empty();
        if !results.is_empty() {
            conversation.push_messages(results);
        }
        if has_prompt {
            let mut imported = ImportedMessage::new(NAME, format!("{id}/prompt"), Role::User, parts, at);
            imported.attachments = attachments;
            conversation.push_messages(vec![imported]);
        }
        let answer = answer(database, response, &id, at, has)?;
        conversation.push_messages(vec![answer]);
    }
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    Ok(conversation)
}

fn results(
    database: &Database,
    response: &str,
    at: Timestamp,
    has: &dyn Fn(&str) -> bool,
) -> Result<Vec<ImportedMessage>, ImportError> {
    let mut rows = Vec::new();
    database.rows(
        "select * from tool_results where response_id = ?1 order by id",
        &[response],
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )?;
    let mut results = Vec::new();
    for row in rows {
        let is_error = text(&row.fields, "exception").is_some();
        let mut parts = vec![Part::ToolResult {
            id: text_column(&row, "tool_call_id"),
            output: text_column(&row, "output"),
            is_error,
        }];
        let mut attachments = Vec::new();
        if has("tool_results_attachments") {
            let sql = "select a.* from tool_results_attachments p join attachments a on a.id = p.attachment_id \
                       where cast(p.tool_result_id as text) = ?1 order by p.\"order\"";
            let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
            attach(database, sql, &id, &mut parts, &mut attachments)?;
        }
        let id = format!("{response}/tool-{}", results.len());
        let mut message = ImportedMessage::new(NAME, id, Role::Tool, parts, at);
        message.attachments = attachments;
        results.push(message);
    }
    Ok(results)
}

fn answer(
    database: &Database,
    mut response: Map<String, Value>,
    id: &str,
    at: Timestamp,
    has: &dyn Fn(&str) -> bool,
) -> Result<ImportedMessage, ImportError> {
    let mut parts = Vec::new();
    if let Some(thought) = text(&response, "reasoning").filter(|thought| !thought.is_empty()) {
        parts.push(Part::Thinking { text: thought.to_owned(), signature: None });
    }
    if let Some(answer) = text(&response, "response").filter(|answer| !answer.is_empty()) {
        parts.push(Part::text(answer));
    }
    if has("tool_calls") {
        database.rows("select * from tool_calls where response_id = ?1 order by id", &[id], &mut |row| {
            let input = parse(&text_column(&row, "arguments")).map(|parsed| parsed.value).unwrap_or_default();
            parts.push(Part::ToolCall {
                id: text_column(&row, "tool_call_id"),
                name: text_column(&row, "name"),
                input,
            });
            Ok(())
        })?;
    }
    let model = text(&response, "model").map(str::to_owned);
    let usage = token_usage(&response);
    for field in ["prompt", "response", "reasoning"] {
        response.shift_remove(field);
    }
    let mut imported = ImportedMessage::new(NAME, id, Role::Assistant, parts, at).with_record(response);
    imported.draft.model = model;
    imported.draft.usage = usage;
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_details_of_a_response_have_its_cached_tokens() {
        let tokens = |details: Value| {
            let fields =
                json!({"input_tokens": 100, "output_tokens": 5, "token_details": details.to_string()});
            token_usage(fields.as_object().unwrap()).unwrap()
        };
        assert_eq!(tokens(json!({})), Usage::new(100, 5));
        for key in ["prompt_tokens_details", "input_tokens_details"] {
            let details = json!({key: {"cached_tokens": 64}});
            assert_eq!(tokens(details), Usage::new(100, 5).with_cache(Some(64), None));
        }
        let details = json!({"cache_read_input_tokens": 30, "cache_creation_input_tokens": 7});
        assert_eq!(tokens(details), Usage::new(137, 5).with_cache(Some(30), Some(7)));
    }
}
