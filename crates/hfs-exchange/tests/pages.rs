//! Messages cannot change the structure of a page or add active content to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, DocumentBranch,
    SessionDocument, StateCost, Timestamp, Trigger,
};
use hfs_exchange::{
    BranchSelection, Collector, ExportMetadata, Format, PageOptions, Source, read, write_html, write_markdown,
};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde_json::{Value, json};

#[path = "support/samples.rs"]
mod support;

const HOSTILE_TEXTS: [&str; 12] = [
    "# A heading\n\n## Another\n\nSetext\n===\n",
    "```\nunclosed",
    "~~~~\n```\n~~~~\n`````md\n````",
    "---\ntitle: front matter\n---\n",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "</details></article></main><script>alert(1)</script><!-- ",
    "[x](javascript:alert(1)) ![p](https://elsewhere.example/pixel.png)",
    "[ref]: https://elsewhere.example\n\n[ref]",
    "1. one\n   - two\n\n         deep\n> quote\nlazy",
    "<details>\n<summary>x\n\n</summary>",
    "\u{2028}line\u{2029}ends\r\rand\0nul",
    "<style>body{display:none}</style><a href=\"javascript:x\" onclick=\"y\">z</a>",
];

fn options(branches: BranchSelection) -> PageOptions<'static> {
    PageOptions {
        metadata: ExportMetadata { exported_at: Timestamp::UNIX_EPOCH, hfs_version: "0.0.0" },
        branches,
    }
}

fn hostile_document() -> SessionDocument {
    let mut messages: Vec<Value> = HOSTILE_TEXTS
        .iter()
        .map(|text| json!({"role": "user", "content": text, "timestamp": "2026-01-01T00:00:00Z"}))
        .collect();
    for text in HOSTILE_TEXTS {
        messages.push(json!({
            "role": "assistant", "content": null, "reasoning": text,
            "tool_calls": [{"id": "c", "function": {"name": text, "arguments": json!({ "a": text }).to_string()}}],
        }));
        messages.push(json!({"role": "tool", "tool_call_id": "c", "content": text}));
    }
    document_of(&json!({"title": HOSTILE_TEXTS.concat(), "messages": messages}).to_string())
}

/// The session in a document with an array of messages.
fn document_of(text: &str) -> SessionDocument {
    let mut collector = Collector::default();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::OpenAiMessages), &mut collector).unwrap();
    collector.sessions.pop().unwrap().into_document(Timestamp::UNIX_EPOCH)
}

fn markdown(document: &SessionDocument, branches: BranchSelection) -> String {
    let mut bytes = Vec::new();
    write_markdown(document, options(branches), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn html(document: &SessionDocument) -> String {
    let mut bytes = Vec::new();
    write_html(document, options(BranchSelection::All), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The page's own headings, which are not inside another element.
fn headings(page: &str) -> Vec<String> {
    let dialect = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut depth = 0;
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for event in Parser::new_ext(page, dialect) {
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                found.push(format!("{level} "));
                open = true;
                depth += 1;
            }
            Event::End(TagEnd::Heading(_)) => {
                open = false;
                depth -= 1;
            }
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            Event::Text(text) | Event::Code(text) if open => found.last_mut().unwrap().push_str(&text),
            _ => {}
        }
    }
    found
}

/// The HTML in a Markdown page.
fn tags(page: &str) -> Vec<String> {
    let lines = Parser::new_ext(page, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(html.trim().to_owned()),
        _ => None,
    });
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_markdown_page_has_only_its_own_headings() {
    let document = hostile_document();
    let page = markdown(&document, BranchSelection::Current);
    let found = headings(&page);
    assert_eq!(found.last().unwrap(), "h2 About this session");
    let roles: Vec<&str> =
        found[2..found.len() - 1].iter().map(|heading| heading.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(found[1], "h2 Conversation");
    let mut expected = vec!["User"; HOSTILE_TEXTS.len()];
    expected.extend(["Assistant", "Tool"].repeat(HOSTILE_TEXTS.len()));
    assert_eq!(roles, expected);
    for tag in tags(&page) {
        assert!(
            ["<details>", "</details>"].contains(&tag.as_str()) || tag.starts_with("<summary>"),
            "{tag} was not escaped"
        );
    }
}

#[test]
fn context_inside_a_users_message_is_folded_apart_from_the_users_words() {
    let context = "<ide_opened_file>The user opened a.rs.</ide_opened_file>";
    let text = json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": context}, {"type": "text", "text": "Why this?"}]},
        {"role": "user", "content": format!("{context}\nAnd *this*?")},
        {"role": "assistant", "content": context},
    ]})
    .to_string();
    let document = document_of(&text);
    let page = markdown(&document, BranchSelection::All);
    let folded =
        format!("<details>\n<summary>Added by the tool</summary>\n\n```\n{context}\n```\n\n</details>");
    assert_eq!(page.matches(&folded).count(), 2, "{page}");
    assert!(page.contains("> Why this?") && page.contains("> And *this*?"), "{page}");
    let page = html(&document);
    let folded =
        "<details>\n<summary>Added by the tool</summary>\n<pre tabindex=\"0\"><code>&lt;ide_opened_file&gt;";
    assert_eq!(page.matches(folded).count(), 2, "{page}");
    assert!(page.contains("<p>Why this?</p>") && page.contains("<p>And <em>this</em>?</p>"), "{page}");
    assert_eq!(page.matches("<h3>User</h3>").count(), 2, "{page}");
}

#[test]
fn local_commands_of_the_user_read_as_what_they_were() {
    let records = [
        "Caveat: The messages below were generated by the user while running local commands. DO NOT respond.",
        "<command-name>/model</command-name>\n<command-message>model</command-message>\n<command-args>opus</command-args>",
        "<local-command-stdout>Set model to <b>opus</b></local-command-stdout>",
        "<bash-input>ls -l</bash-input>",
        "<environment_context>x</environment_context>",
    ];
    let messages: Vec<Value> =
        records.iter().map(|record| json!({"role": "user", "content": record})).collect();
    let document = document_of(&json!({ "messages": messages }).to_string());
    let page = markdown(&document, BranchSelection::All);
    let fold = |label: &str, text: &str| {
        format!("<details>\n<summary>{label}</summary>\n\n```\n{text}\n```\n\n</details>")
    };
    let note = "note to the model: what follows are local commands of the user and their output";
    let shown = ["/model opus", "Set model to <b>opus</b>", "! ls -l", note];
    for text in shown {
        assert!(page.contains(&fold("Local command", text)), "{text}: {page}");
    }
    assert!(page.contains(&fold("Added by the tool", records[4])), "{page}");
    let page = html(&document);
    for text in shown {
        let text = text.replace('<', "&lt;").replace('>', "&gt;");
        assert!(page.contains(&format!("<code>{text}</code>")), "{text}: {page}");
    }
    assert!(!page.contains("command-name") && !page.contains("local-command"), "{page}");
}

#[test]
fn an_html_page_contains_no_tag_from_a_message() {
    let page = html(&hostile_document());
    let lower = page.to_lowercase();
    for bad in ["<script", "<img", "<iframe", "<object", "<a href=\"javascript", "<a href=\"data"] {
        assert!(!lower.contains(bad), "{bad} is in the page");
    }
    assert_eq!(lower.matches("<style").count(), 1);
    for tag in ["article", "details", "main", "section", "body", "html", "nav", "pre"] {
        let opened = lower.matches(&format!("<{tag}>")).count() + lower.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, lower.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // The page makes no requests: every `src` is a data URL.
    for (at, _) in lower.match_indices("src=\"") {
        assert!(lower.get(at..).unwrap().starts_with("src=\"data:image/"), "at {at}");
    }
}

#[test]
fn every_sample_becomes_a_page_with_all_of_its_messages() {
    let Some(folder) = support::samples() else { return };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    for (name, expected) in table["files"].as_object().unwrap() {
        let Ok(format) = expected["format"].as_str().unwrap().parse::<Format>() else { continue };
        let mut collector = Collector::default();
        read(&Source::file(folder.join(name)), Some(format), &mut collector).unwrap();
        for session in collector.sessions.into_iter().take(10) {
            let messages = session.messages().count();
            let document = session.into_document(Timestamp::UNIX_EPOCH);
            let page = markdown(&document, BranchSelection::All);
            let own = headings(&page).iter().filter(|heading| heading.starts_with("h3")).count();
            assert_eq!(own, messages, "{name}");
            assert_eq!(html(&document).matches("<article ").count(), messages, "{name}");
        }
    }
}

#[test]
fn a_checkpoint_before_a_branchs_own_messages_is_on_both_pages() {
    let mut document = hostile_document();
    let main = document.branches[0].branch.clone();
    let aside = Branch {
        id: BranchId::generate(),
        name: "aside".into(),
        parent: Some(main.id),
        forked_at: 2,
        head: 2,
        ..main
    };
    let checkpoint = Checkpoint {
        id: CheckpointId::generate(),
        session: document.session.id,
        number: 7,
        branch: aside.id,
        seq: 2,
        trigger: Trigger::Manual,
        label: Some("before it".into()),
        pinned: false,
        created_at: Timestamp::UNIX_EPOCH,
        state_hash: ContentHash::from_bytes([0; 32]),
        cost: StateCost { state_bytes: 0, stored_bytes: 0 },
    };
    document.branches.push(DocumentBranch { branch: aside, messages: Vec::new() });
    document.checkpoints.push((checkpoint, CheckpointState::default()));
    for page in [markdown(&document, BranchSelection::All), html(&document)] {
        let section = page.split("Branch aside, forked from main after message 2").last().unwrap();
        assert!(section.contains("Checkpoint 7 (manual): before it"), "{section}");
    }
}

#[test]
fn a_page_of_one_branch_says_what_it_leaves_out_and_links_to_nothing_else() {
    let mut document = hostile_document();
    let main = document.branches[0].branch.clone();
    assert!(main.head > 1);
    let aside = Branch {
        id: BranchId::generate(),
        name: "aside".into(),
        parent: Some(main.id),
        forked_at: 1,
        head: 1,
        ..main.clone()
    };
    let checkpoint = |number, seq| Checkpoint {
        id: CheckpointId::generate(),
        session: document.session.id,
        number,
        branch: main.id,
        seq,
        trigger: Trigger::Manual,
        label: None,
        pinned: false,
        created_at: Timestamp::UNIX_EPOCH,
        state_hash: ContentHash::from_bytes([0; 32]),
        cost: StateCost { state_bytes: 0, stored_bytes: 0 },
    };
    document.checkpoints =
        [checkpoint(1, 1), checkpoint(2, main.head)].map(|found| (found, CheckpointState::default())).into();
    document.session.current_branch = aside.id;
    document.branches.push(DocumentBranch { branch: aside, messages: Vec::new() });
    let place = format!("Branch main, up to message 1 of {}", main.head);
    let counted = format!("1 of {}; the others are on other branches", main.head);
    let mut page = Vec::new();
    write_html(&document, options(BranchSelection::Current), &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    let text = markdown(&document, BranchSelection::Current);
    for page in [&page, &text] {
        assert!(page.contains(&place) && page.contains(&counted), "{page}");
    }
    let targets = page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
    let missing: Vec<&str> = targets.filter(|target| !page.contains(&format!("id=\"{target}\""))).collect();
    assert_eq!(missing, [] as [&str; 0]);
    assert!(page.contains("href=\"#checkpoint-1\"") && page.contains("Checkpoint 2"), "{page}");
}
