//! Formats that hfs recognizes, but does not read.
//!
//! They are recognized so that a user is told what a file is, and what to do, instead of "not a transcript".

use std::path::{Component, Path};

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::Source;
use crate::detect::FormatProbe;
use crate::readers::conversation::text;

/// A format of another program that hfs does not read.
#[derive(Debug)]
pub(crate) struct UnreadFormat {
    /// The program that writes it.
    pub tool: &'static str,
    /// How to get at its conversations, where that is known.
    pub export: Option<&'static str>,
    /// Folders of the program's data, as relative paths.
    folders: &'static [&'static str],
    recognizes: fn(&FormatProbe) -> bool,
}

impl UnreadFormat {
    /// The error for a source of this format.
    pub(crate) fn error(&self, source: &Source) -> ImportError {
        let (tool, export) = (self.tool.to_owned(), self.export.map(str::to_owned));
        ImportError::UnreadFormat { path: source.name(), tool, export }
    }

    /// The format of a source that no reader recognizes, if it is known.
    pub(crate) fn of(probe: &FormatProbe) -> Option<&'static Self> {
        // The contents of a database or of an encoded file may not show which program wrote it.
        let by_folder = probe.is_folder() || probe.is_database() || probe.has_extension("pb");
        let is_below = |format: &&Self| {
            let path = probe.path().filter(|_| by_folder);
            path.is_some_and(|path| format.folders.iter().any(|folder| contains(path, folder)))
        };
        let formats = || UNREAD_FORMATS.iter();
        formats().find(|format| (format.recognizes)(probe)).or_else(|| formats().find(is_below))
    }
}

/// Whether `path` contains the components of `folder` one after another.
fn contains(path: &Path, folder: &str) -> bool {
    let names = |path: &Path| -> Vec<String> {
        let name = |component: Component<'_>| match component {
            Component::Normal(name) => Some(name.to_string_lossy().to_lowercase()),
            _ => None,
        };
        path.components().filter_map(name).collect()
    };
    let folder = names(Path::new(folder));
    names(path).windows(folder.len()).any(|window| window == folder)
}

/// Whether the document's top level has all of these keys.
fn has_keys(probe: &FormatProbe, keys: &[&str]) -> bool {
    keys.iter().all(|key| probe.has_key(key))
}

/// Whether a record has this text in this field.
fn has_record(probe: &FormatProbe, key: &str, value: &str) -> bool {
    probe.records().iter().any(|record| text(record, key) == Some(value))
}

static UNREAD_FORMATS: [UnreadFormat; 22] = [
    UnreadFormat {
        tool: "Cursor",
        export: Some("use \"Export Chat\" in the menu of a chat"),
        folders: &["Cursor/User", ".cursor/chats", ".cursor/projects"],
        recognizes: |probe| probe.has_tables(&["cursorDiskKV"]),
    },
    UnreadFormat {
        tool: "GitHub Copilot Chat",
        export: Some("run \"Chat: Export Chat...\" in the command palette"),
        folders: &["User/workspaceStorage", "User/globalStorage/emptyWindowChatSessions"],
        recognizes: |probe| has_keys(probe, &["responderUsername", "requests"]),
    },
    UnreadFormat {
        tool: "Open WebUI",
        export: Some("use Settings > Data Controls > Export Chats, which writes JSON"),
        folders: &["open-webui"],
        recognizes: |probe| {
            let has_history = |fields: &Map<String, Value>| {
                fields.get("chat").is_some_and(|chat| chat.get("history").is_some())
            };
            probe.first_object().is_some_and(has_history)
                || probe.has_tables(&["chat", "auth", "user"])
                || has_keys(probe, &["user_id", "title", "chat", "share_id"])
        },
    },
    UnreadFormat {
        tool: "LibreChat",
        export: Some("use Export in the menu of a conversation, which writes JSON"),
        folders: &["librechat"],
        recognizes: |probe| {
            has_keys(probe, &["conversationId", "messages"])
                && (probe.has_key("exportAt") || probe.has_key("recursive") || probe.has_key("endpoint"))
        },
    },
    UnreadFormat {
        tool: "LM Studio",
        export: None,
        folders: &[".lmstudio/conversations", ".cache/lm-studio/conversations"],
        recognizes: |probe| {
            let has_versions = |fields: &Map<String, Value>| {
                let first = fields.get("messages").and_then(|messages| messages.get(0));
                first.is_some_and(|message| {
                    message.get("versions").is_some() && message.get("currentlySelected").is_some()
                })
            };
            probe.first_object().is_some_and(has_versions)
                || probe.file_name().is_some_and(|name| name.ends_with(".conversation.json"))
        },
    },
    UnreadFormat {
        tool: "Kimi CLI",
        export: Some("import the file context.jsonl of the session"),
        folders: &[".kimi/sessions", ".kimi-code/sessions"],
        recognizes: |probe| {
            probe.records().iter().any(|record| {
                let is_event = record
                    .get("message")
                    .is_some_and(|message| message.get("type").is_some() && message.get("payload").is_some());
                is_event && record.contains_key("timestamp")
            })
        },
    },
    UnreadFormat {
        tool: "Zed",
        export: Some("use \"Open Thread as Markdown\" in the menu of a thread"),
        folders: &["zed/threads"],
        recognizes: |probe| !probe.tables_with_columns(&["id", "summary", "data_type", "data"]).is_empty(),
    },
    UnreadFormat {
        tool: "Amp",
        export: Some("run `amp threads markdown ID`"),
        folders: &["amp/threads"],
        recognizes: |probe| {
            let id = probe.first_object().and_then(|fields| text(fields, "id"));
            id.is_some_and(|id| id.starts_with("T-")) && has_keys(probe, &["created", "messages"])
        },
    },
    UnreadFormat {
        tool: "Windsurf",
        export: Some("copy the conversation from its panel; its files are encrypted"),
        folders: &[".codeium/windsurf", ".windsurf/cascade"],
        recognizes: |_| false,
    },
    UnreadFormat {
        tool: "Continue",
        export: Some("run \"Continue: Share Session\", which writes Markdown"),
        folders: &[".continue/sessions"],
        recognizes: |probe| has_keys(probe, &["sessionId", "history", "workspaceDirectory"]),
    },
    UnreadFormat {
        tool: "Warp",
        export: None,
        folders: &["warp-terminal", "dev.warp.Warp-Stable"],
        recognizes: |probe| probe.has_tables(&["ai_queries"]) || probe.has_tables(&["agent_conversations"]),
    },
    UnreadFormat {
        tool: "Jan",
        export: Some("its messages.jsonl has one message per line, with the text in content[].text.value"),
        folders: &["jan/threads"],
        recognizes: |probe| {
            has_record(probe, "object", "thread.message")
                || probe.first_object().is_some_and(|first| text(first, "object") == Some("thread"))
        },
    },
    UnreadFormat { tool: "Msty", export: None, folders: &["Msty", "MstyStudio"], recognizes: |_| false },
    UnreadFormat {
        tool: "Crush",
        export: None,
        folders: &[".crush"],
        recognizes: |probe| {
            probe.has_tables(&["sessions", "messages", "files"])
                && !probe.tables_with_columns(&["session_id", "role", "parts"]).is_empty()
        },
    },
    UnreadFormat {
        tool: "Amazon Q or Kiro CLI",
        export: Some("run `/save FILE` in the conversation, which writes JSON"),
        folders: &["amazon-q", "kiro-cli", ".kiro/sessions"],
        recognizes: |probe| {
            probe.has_tables(&["conversations_v2"]) || probe.has_tables(&["conversations", "auth_kv"])
        },
    },
    UnreadFormat {
        tool: "Junie",
        export: Some("read transcript.md in the folder of the session"),
        folders: &[".junie"],
        recognizes: |probe| {
            probe.path().is_some_and(|path| contains(path, ".junie/sessions"))
                && probe.file_name() == Some("events.jsonl")
        },
    },
    UnreadFormat {
        tool: "Factory Droid",
        export: Some("its .jsonl files have the messages of Anthropic's API in the field message"),
        folders: &[".factory/sessions"],
        recognizes: |probe| has_record(probe, "type", "session_start"),
    },
    UnreadFormat {
        tool: "AnythingLLM",
        export: Some("use Settings > Workspace Chats > Export, which writes JSONL"),
        folders: &["anythingllm-desktop"],
        recognizes: |probe| probe.has_tables(&["workspace_chats"]),
    },
    UnreadFormat {
        tool: "text-generation-webui",
        export: Some("its field internal has pairs of a prompt and an answer"),
        folders: &[],
        recognizes: |probe| has_keys(probe, &["internal", "visible"]),
    },
    UnreadFormat {
        tool: "SillyTavern",
        export: Some("its .jsonl files have one message per line, with the text in mes"),
        folders: &["SillyTavern/data"],
        recognizes: |probe| {
            probe
                .records()
                .first()
                .is_some_and(|first| first.contains_key("user_name") && first.contains_key("character_name"))
        },
    },
    UnreadFormat {
        tool: "Google AI Studio",
        export: Some("its field chunkedPrompt has the texts in order"),
        folders: &[],
        recognizes: |probe| probe.has_key("chunkedPrompt"),
    },
    UnreadFormat {
        tool: "Gemini Apps (Google Takeout)",
        export: Some("Takeout has prompts and answers as a list of activities, without conversations"),
        folders: &[],
        recognizes: |probe| {
            probe.first_object().is_some_and(|first| {
                first.contains_key("titleUrl") && text(first, "header") == Some("Gemini Apps")
                    || first.contains_key("time") && text(first, "header") == Some("Gemini Apps")
            })
        },
    },
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tool_of(source: &Source) -> Option<&'static str> {
        UnreadFormat::of(&FormatProbe::new(source).unwrap()).map(|format| format.tool)
    }

    #[test]
    fn documents_and_lines_of_other_programs_are_named() {
        for (text, tool) in [
            (
                r#"{"version":3,"requesterUsername":"me","responderUsername":"GitHub Copilot","requests":[]}"#,
                "GitHub Copilot Chat",
            ),
            (r#"[{"id":"1","user_id":"u","title":"t","chat":{"history":{"messages":{}}}}]"#, "Open WebUI"),
            (
                r#"{"conversationId":"c","endpoint":"openAI","title":"t","exportAt":"now","messages":[]}"#,
                "LibreChat",
            ),
            (r#"{"name":"n","messages":[{"versions":[{}],"currentlySelected":0}]}"#, "LM Studio"),
            ("{\"timestamp\":1,\"message\":{\"type\":\"TurnBegin\",\"payload\":{}}}\n", "Kimi CLI"),
            (r#"{"v":1,"id":"T-0a1b","created":1,"messages":[]}"#, "Amp"),
            (r#"{"sessionId":"s","title":"t","workspaceDirectory":"/p","history":[]}"#, "Continue"),
            ("{\"id\":\"1\",\"object\":\"thread.message\",\"content\":[]}\n", "Jan"),
            (
                concat!(
                    r#"{"type":"session_start","id":"1","cwd":"/p"}"#,
                    "\n",
                    r#"{"type":"message","id":"2","timestamp":"2026-01-01T00:00:00Z","message":{"role":"user","content":[]}}"#,
                ),
                "Factory Droid",
            ),
            (r#"{"internal":[],"visible":[]}"#, "text-generation-webui"),
            ("{\"user_name\":\"a\",\"character_name\":\"b\"}\n", "SillyTavern"),
            (r#"{"runSettings":{},"chunkedPrompt":{"chunks":[]}}"#, "Google AI Studio"),
            (
                r#"[{"header":"Gemini Apps","title":"Prompted x","time":"2026"}]"#,
                "Gemini Apps (Google Takeout)",
            ),
        ] {
            let source = Source::stream(text.as_bytes()).unwrap();
            assert_eq!(tool_of(&source), Some(tool), "{text}");
            assert_eq!(crate::detect(&source).unwrap(), None, "{text}");
            let error = crate::read(&source, None, &mut crate::Collector::default()).unwrap_err();
            assert!(error.to_string().contains(tool), "{error}");
        }
        for text in
            [r#"{"theme":"dark"}"#, "[1,2]", "plain text", r#"{"messages":[{"role":"user","content":"a"}]}"#]
        {
            assert_eq!(tool_of(&Source::stream(text.as_bytes()).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn databases_and_folders_of_other_programs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, schema, tool) in [
            (
                "state.vscdb",
                "create table ItemTable (key, value); create table cursorDiskKV (key, value);",
                "Cursor",
            ),
            (
                "webui.db",
                "create table chat (id); create table auth (id); create table user (id);",
                "Open WebUI",
            ),
            ("threads.db", "create table threads (id, summary, updated_at, data_type, data);", "Zed"),
            ("warp.sqlite", "create table ai_queries (id);", "Warp"),
            (
                "crush.db",
                "create table sessions (id); create table messages (id, session_id, role, parts); create table files (id);",
                "Crush",
            ),
            (
                "data.sqlite3",
                "create table conversations (key, value); create table auth_kv (key, value);",
                "Amazon Q or Kiro CLI",
            ),
            ("anythingllm.db", "create table workspace_chats (id);", "AnythingLLM"),
        ] {
            let path = folder.path().join(name);
            rusqlite::Connection::open(&path).unwrap().execute_batch(schema).unwrap();
            assert_eq!(tool_of(&Source::file(&path)), Some(tool), "{name}");
            assert_eq!(crate::detect(&Source::file(&path)).unwrap(), None, "{name}");
        }
        for (name, tool) in [
            (".codeium/windsurf/cascade", "Windsurf"),
            (".junie/sessions", "Junie"),
            (".config/Cursor/User/globalStorage", "Cursor"),
            ("Library/Application Support/Msty", "Msty"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            assert_eq!(tool_of(&Source::file(&path)), Some(tool), "{name}");
        }
        let error = crate::discover(&folder.path().join(".config/Cursor/User")).unwrap_err();
        assert!(error.to_string().contains("Cursor"), "{error}");
        let error = crate::discover(folder.path()).unwrap_err();
        assert!(matches!(error, ImportError::UnreadFormat { .. }), "the databases in the folder: {error}");

        let encoded = folder.path().join(".codeium/windsurf/cascade/1.pb");
        fs::write(&encoded, [0xff, 0xfe, 0]).unwrap();
        assert_eq!(tool_of(&Source::file(&encoded)), Some("Windsurf"));
    }
}
