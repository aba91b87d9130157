//! Keeps keys and tokens out of messages. By default they are masked. With `mode: reject` under `secret-guard` in
//! `plugin_settings.yaml`, a message of the user that contains one is stopped.

use hfs_plugin::{Error, Message, OnMessage, Verdict, config};

struct Guard;

/// Prefix of a secret, minimum number of characters after it, and its description.
const KINDS: &[(&str, usize, &str)] = &[
    ("sk-ant-", 20, "an Anthropic key"),
    ("sk-", 20, "an OpenAI key"),
    ("AIza", 30, "a Google key"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 18, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("hf_", 30, "a Hugging Face token"),
    ("npm_", 30, "an npm token"),
];

const BLOCK: (&str, &str) = ("-----BEGIN ", "-----END ");
const MASK: &str = "[masked]";

/// Masks the secrets in a text, and returns their descriptions.
fn masked(text: &str) -> (String, Vec<&'static str>) {
    let mut found = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_token) {
        let (before, token) = rest.split_at(start);
        out.push_str(before);
        let length = token.find(|c| !is_token(c)).unwrap_or(token.len());
        let (token, after) = token.split_at(length);
        match kind_of(token) {
            Some((beginning, what)) => {
                found.push(what);
                out.push_str(beginning);
                out.push_str(MASK);
            }
            None => out.push_str(token),
        }
        rest = after;
    }
    out.push_str(rest);
    let (out, keys) = without_private_keys(out);
    found.extend((0..keys).map(|_| "a private key"));
    (out, found)
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn kind_of(token: &str) -> Option<(&'static str, &'static str)> {
    let fits = |(beginning, least, _): &&(&str, usize, &str)| {
        token.strip_prefix(*beginning).is_some_and(|rest| {
            rest.len() >= *least && rest.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        })
    };
    KINDS.iter().find(fits).map(|(beginning, _, what)| (*beginning, *what))
}

fn without_private_keys(text: String) -> (String, usize) {
    let mut count = 0;
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(BLOCK.0) {
        let (before, block) = rest.split_at(start);
        let head = block.lines().next().unwrap_or_default();
        if !head.contains("PRIVATE KEY-----") {
            let (skipped, after) = block.split_at(BLOCK.0.len());
            out.push_str(before);
            out.push_str(skipped);
            rest = after;
            continue;
        }
        count += 1;
        out.push_str(before);
        out.push_str(MASK);
        rest = match block.find(BLOCK.1) {
            Some(end) => {
                let tail = &block[end + BLOCK.1.len()..];
                tail.find("-----").map_or("", |dashes| &tail[dashes + 5..])
            }
            None => "",
        };
    }
    out.push_str(rest);
    (out, count)
}

impl OnMessage for Guard {
    fn handle(message: Message) -> Result<Verdict, Error> {
        let (text, found) = masked(&message.text);
        if found.is_empty() {
            return Ok(Verdict::Pass);
        }
        let rejects = config::get("mode").as_deref() == Some("\"reject\"");
        if rejects && message.role == "user" {
            return Ok(Verdict::Reject(format!("it holds {}", found.join(", "))));
        }
        hfs_plugin::log::write(hfs_plugin::log::Level::Info, &format!("masked {}", found.join(", ")));
        Ok(Verdict::Replace(text))
    }
}

hfs_plugin::plugin!(Guard: on_message);
