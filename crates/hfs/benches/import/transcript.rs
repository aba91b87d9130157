//! A transcript as Claude Code writes it, of any length.

#![allow(clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

const WORDS: [&str; 24] = [
    "the", "file", "reads", "where", "a", "branch", "keeps", "its", "messages", "and", "every", "test",
    "fails", "because", "`seq`", "was", "counted", "twice;", "look:\n", "fn", "parse()", "returns", "früh",
    "None.",
];

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// A text: most have some hundred bytes, a few some ten thousand.
    fn text(&mut self) -> String {
        let words = match self.below(100) {
            0 => 4_000,
            1..=9 => 600,
            10..=39 => 200,
            _ => 60,
        };
        let mut text = String::new();
        for _ in 0..words {
            text.push_str(WORDS[usize::try_from(self.below(24)).unwrap()]);
            text.push(' ');
        }
        text
    }
}

/// Writes a transcript of at least so many bytes; returns how many there are.
#[allow(clippy::cast_precision_loss, reason = "a size to compare with")]
pub fn write(path: &Path, bytes: usize) -> f64 {
    let mut turns = Turns { dice: Dice(0x9e37_79b9_7f4a_7c15), number: 0, parent: Value::Null };
    let mut out = BufWriter::new(File::create(path).unwrap());
    let mut length = 0;
    while length < bytes {
        for record in turns.next() {
            let line = record.to_string();
            length += line.len() + 1;
            writeln!(out, "{line}").unwrap();
        }
    }
    out.flush().unwrap();
    // Or the system would still be writing it while somebody measures what comes next.
    out.get_ref().sync_all().unwrap();
    length as f64
}

struct Turns {
    dice: Dice,
    number: u64,
    parent: Value,
}

impl Turns {
    /// A question, a thought with a tool call, its result, and the answer.
    fn next(&mut self) -> [Value; 4] {
        let call = format!("toolu_{:024}", self.number);
        let asked = json!({"role": "user", "content": self.dice.text()});
        let asked = self.record("user", &asked);
        let thought = json!([
            {"type": "thinking", "thinking": self.dice.text(), "signature": "x".repeat(300)},
            {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": self.dice.text()}},
        ]);
        let thought = self.answer(&thought);
        let result = json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call, "content": self.dice.text()},
        ]});
        let mut result = self.record("user", &result);
        result["toolUseResult"] = json!({"stdout": self.dice.text(), "stderr": "", "interrupted": false});
        let answer = json!([{"type": "text", "text": self.dice.text()}]);
        let answer = self.answer(&answer);
        [asked, thought, result, answer]
    }

    fn answer(&mut self, content: &Value) -> Value {
        let id = format!("msg_{:024}", self.number);
        let message = json!({
            "id": id, "type": "message", "role": "assistant", "model": "claude-opus-4-5", "content": content,
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 9, "cache_read_input_tokens": 20_000, "output_tokens": 300},
        });
        self.record("assistant", &message)
    }

    fn record(&mut self, kind: &str, message: &Value) -> Value {
        self.number += 1;
        let n = self.number;
        let uuid = format!("{n:08x}-0000-4000-8000-{n:012x}");
        let (minute, second) = (n / 60 % 60, n % 60);
        json!({
            "parentUuid": std::mem::replace(&mut self.parent, json!(uuid)), "isSidechain": false,
            "userType": "external", "cwd": "/home/me/project", "version": "2.1.0", "gitBranch": "main",
            "sessionId": "11111111-1111-4111-8111-111111111111", "type": kind, "uuid": uuid,
            "timestamp": format!("2026-01-01T{:02}:{minute:02}:{second:02}.000Z", n / 3600 % 24),
            "message": message,
        })
    }
}
