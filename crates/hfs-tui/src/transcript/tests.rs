use hfs_core::{BranchId, Message, MessageDraft, MessageFlag, Part, Role, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::ports::OutputMode;
use crate::text::TextStyle;
use crate::theme::Theme;

const HEAD: Seq = 10_000;
const SCREEN: usize = 20;

fn message(seq: Seq) -> Message {
    let lines = usize::try_from(seq % 7).unwrap();
    let text = format!("number {seq}{}", "\nmore".repeat(lines));
    let content = MessageDraft::new(Role::User, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
    Message { branch: BranchId::generate(), seq, content }
}

fn page(range: MessageRange) -> Vec<Message> {
    let (from, to) = match range {
        MessageRange::Newest(count) => (HEAD + 1 - u64::from(count), HEAD),
        MessageRange::Before(seq, count) => (seq.saturating_sub(u64::from(count)).max(1), seq - 1),
        MessageRange::From(seq, count) => (seq, (seq + u64::from(count) - 1).min(HEAD)),
    };
    (from..=to).map(message).collect()
}

struct Harness {
    theme: Theme,
    transcript: Transcript,
    /// Number of messages in the pages that were loaded while scrolling.
    messages_read: usize,
}

impl Harness {
    fn open() -> Self {
        let mut transcript = Transcript::default();
        transcript.open(page(MessageRange::Newest(PAGE)), HEAD, None);
        Self { theme: Theme::dark(), transcript, messages_read: 0 }
    }

    fn scroll(&mut self, rows: isize) {
        self.transcript.scroll_by(layout(&self.theme), &None, SCREEN, rows);
        if let Some((range, end_of_window)) = self.transcript.page_to_prefetch() {
            let messages = page(range);
            self.messages_read += messages.len();
            self.transcript.add_page(end_of_window, messages, HEAD);
        }
    }

    fn visible(&self) -> Vec<String> {
        let rows = self.transcript.rows(layout(&self.theme), &None, SCREEN);
        rows.iter().map(|row| row.line.to_string()).collect()
    }
}

fn layout(theme: &Theme) -> MessageLayout<'_> {
    let text_style = TextStyle { theme, syntax: None };
    // The layout borrows the time zone, so it is leaked.
    let zone = Box::leak(Box::new(jiff::tz::TimeZone::UTC));
    MessageLayout {
        width: 40,
        today: jiff::civil::date(2026, 2, 1),
        text_style,
        revision: 1,
        output: OutputMode::Compact,
        time_zone: zone,
    }
}

#[test]
fn a_long_session_opens_at_its_end_and_loads_only_a_window() {
    let mut harness = Harness::open();
    assert!(harness.visible().last().unwrap().contains("more"));
    for _ in 0..3_000 {
        harness.scroll(-10);
    }
    assert!(harness.transcript.messages.len() <= MAX_LOADED);
    // A message takes six rows on average, so 30,000 rows are about 5,000 messages. The limit is less than
    // twice that, so the test fails if every page is loaded twice.
    assert!(harness.messages_read < 9_000, "scrolling 30,000 rows read {} messages", harness.messages_read);
    assert!(!harness.transcript.is_following());
}

#[test]
fn scrolling_down_and_the_end_key_return_to_the_newest_message() {
    let mut harness = Harness::open();
    let end = harness.visible();
    for _ in 0..300 {
        harness.scroll(-10);
    }
    assert_ne!(harness.visible(), end);
    for _ in 0..400 {
        harness.scroll(10);
    }
    assert_eq!(harness.visible(), end);
    assert!(harness.transcript.is_following());
    for _ in 0..300 {
        harness.scroll(-10);
    }
    let (range, end_of_window) = harness.transcript.show_newest().unwrap();
    harness.transcript.add_page(end_of_window, page(range), HEAD);
    assert_eq!(harness.visible(), end);
}

#[test]
fn home_shows_the_first_message_of_the_branch() {
    let mut harness = Harness::open();
    let (range, end_of_window) = harness.transcript.show_oldest().unwrap();
    harness.transcript.add_page(end_of_window, page(range), HEAD);
    assert!(harness.visible()[..2].iter().any(|row| row.contains("number 1")), "{:?}", harness.visible());
    assert!(!harness.transcript.is_following());
    // Near the end of the loaded messages, the next page is read.
    harness.scroll(250);
    assert!(harness.messages_read > 0);
}

#[test]
fn visible_rows_stay_in_place_when_a_page_is_added() {
    let mut harness = Harness::open();
    harness.scroll(-100);
    let top = harness.visible();
    if let Some((range, end_of_window)) = harness.transcript.page_to_prefetch() {
        harness.transcript.add_page(end_of_window, page(range), HEAD);
    }
    assert_eq!(harness.visible(), top);
}

#[test]
fn a_new_message_scrolls_only_a_view_that_is_at_the_end() {
    let mut harness = Harness::open();
    harness.transcript.push(Arc::new(message(HEAD + 1)));
    assert!(harness.visible().iter().any(|row| row.contains(&format!("number {}", HEAD + 1))));
    harness.scroll(-30);
    let top = harness.visible();
    harness.transcript.push(Arc::new(message(HEAD + 2)));
    assert_eq!(harness.visible(), top);
}

#[test]
fn a_message_from_a_search_is_at_the_top() {
    let mut harness = Harness::open();
    harness.transcript.open(page(MessageRange::From(500, PAGE)), HEAD, Some(510));
    assert!(harness.visible()[..3].iter().any(|row| row.contains("number 510")), "{:?}", harness.visible());
    assert_eq!(harness.transcript.selected(), Some(510));
}

#[test]
fn a_streaming_reply_is_drawn_once() {
    let mut transcript = Transcript::default();
    transcript.open(vec![message(1)], 1, None);
    let theme = Theme::dark();
    let tail: Tail = Some((2, Arc::new(vec![Line::from("the reply")])));
    let count = |rows: &[VisibleRow]| rows.iter().filter(|row| row.line.to_string() == "the reply").count();
    assert_eq!(count(&transcript.rows(layout(&theme), &tail, SCREEN)), 1);
    transcript.scroll_by(layout(&theme), &tail, SCREEN, 5);
    assert_eq!(count(&transcript.rows(layout(&theme), &tail, SCREEN)), 1);
}

fn rows_of(messages: Vec<Message>) -> Vec<String> {
    let mut transcript = Transcript::default();
    transcript.open(messages, HEAD, None);
    let theme = Theme::dark();
    let rows = transcript.rows(layout(&theme), &None, SCREEN);
    rows.iter().map(|row| row.line.to_string().trim().to_owned()).filter(|row| !row.is_empty()).collect()
}

#[test]
fn a_view_in_which_everything_is_visible_follows_what_comes() {
    let mut transcript = Transcript::default();
    transcript.open(vec![message(1)], 1, None);
    let theme = Theme::dark();
    for rows in [-3, -SCREEN.cast_signed(), 5] {
        transcript.scroll_by(layout(&theme), &None, SCREEN, rows);
        assert!(transcript.is_following(), "{rows}");
    }
    let mut long = Harness::open();
    long.scroll(-1);
    assert!(!long.transcript.is_following());
}

#[test]
fn a_message_without_text_says_so() {
    let said = |role, parts: Vec<Part>| {
        let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        rows_of(vec![Message { branch: BranchId::generate(), seq: 1, content }])
    };
    assert_eq!(said(Role::Assistant, Vec::new()), ["● Assistant  no text"]);
    assert_eq!(said(Role::System, vec![Part::text(" \n")]), ["○ System  no text"]);
    let thinking = Part::Thinking { text: String::new(), signature: None };
    assert_eq!(said(Role::Assistant, vec![thinking]), ["● Assistant", "▸ Thought (hidden by the provider)"]);
}

#[test]
fn json_output_is_shown_by_its_fields_if_that_changes_no_value() {
    let shown = |output: &str| {
        let part = Part::ToolResult { id: "1".into(), output: output.into(), is_error: false };
        let content = MessageDraft::new(Role::Tool, vec![part], Timestamp::UNIX_EPOCH);
        let message = Message { branch: BranchId::generate(), seq: 1, content };
        let theme = Theme::dark();
        let layout = MessageLayout { output: OutputMode::Verbose, ..layout(&theme) };
        text(&MessageView::new(Arc::new(message)).lines(None, layout)).join("\n")
    };
    let text = shown(r#"{"type": "text", "value": "one\ntwo \"quoted\""}"#);
    assert!(text.contains("two \"quoted\"") && !text.contains("\\n"), "{text}");
    let numbers = r#"{"big": 123456789012345678901234567890, "small": 1.10}"#;
    // The text is cut in the header, and wrapped below it.
    let verbatim = shown(numbers).replace(['\n', '│', ' '], "");
    assert!(verbatim.contains(&numbers.replace(' ', "")), "{verbatim}");
    let list = format!("[{}]", ["[1, {\"a\": 2}]"; 300].join(","));
    assert!(shown(&list).contains("more lines"));
}

#[test]
fn the_date_is_shown_where_it_changes_and_at_the_first_message_of_another_day() {
    let said = |seq: Seq, at: &str| {
        let content = MessageDraft::new(Role::User, vec![Part::text("x")], at.parse().unwrap());
        Message { branch: BranchId::generate(), seq, content }
    };
    let times =
        ["2026-01-31T10:00:00Z", "2026-01-31T10:05:00Z", "2026-02-01T09:00:00Z", "2026-02-01T09:01:00Z"];
    let headers = |times: &[&str]| -> Vec<String> {
        let messages = (1..).zip(times).map(|(seq, at)| said(seq, at)).collect();
        rows_of(messages).into_iter().filter(|row| row.contains("You")).collect()
    };
    let shown = ["▌ You  2026-01-31 10:00", "▌ You  10:05", "▌ You  2026-02-01 09:00", "▌ You  09:01"];
    assert_eq!(headers(&times), shown);
    assert_eq!(headers(&times[2..]), ["▌ You  09:00", "▌ You  09:01"], "today");
}

#[test]
fn long_context_is_folded_and_short_context_is_not() {
    let context = |text: &str| {
        let mut content = MessageDraft::new(Role::User, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
        content.set_flag(MessageFlag::Injected);
        Message { branch: BranchId::generate(), seq: 1, content }
    };
    let long = format!("# Instructions\n{}", "Use tabs.\n".repeat(30));
    assert_eq!(rows_of(vec![context(&long)]), ["▌ Context", "▌ ▸ 31 lines of context: # Instructions"]);
    assert_eq!(rows_of(vec![context("a\nb")]), ["▌ Context", "▌ a", "▌ b"]);
    let mut instructions = context(&long);
    instructions.content.role = Role::System;
    assert_eq!(rows_of(vec![instructions]), ["○ System", "▸ 31 lines of context: # Instructions"]);
    let mut view = MessageView::new(Arc::new(context(&long)));
    assert_eq!(view.fold_count(), 1);
    view.toggle(false);
    let theme = Theme::dark();
    assert_eq!(
        view.lines(None, layout(&theme)).len(),
        33,
        "the header, the header of the fold, and all lines"
    );
}

/// A reply with a code block of this many lines.
fn long_code(lines: usize) -> Message {
    let code = "let answer = 42; // the answer\n".repeat(lines);
    let text = format!("```rust\n{code}```");
    let content = MessageDraft::new(Role::Assistant, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
    Message { branch: BranchId::generate(), seq: 1, content }
}

/// Draws the transcript, and completes the layout as the runner does. Returns the rows before, and after each step.
fn draw_steps(lines: usize) -> Vec<Vec<Line<'static>>> {
    let theme = Theme::dark();
    let syntax = Some(crate::text::Syntax::load());
    let layout = MessageLayout { text_style: TextStyle { theme: &theme, syntax }, ..layout(&theme) };
    let mut transcript = Transcript::default();
    transcript.open(vec![long_code(lines)], 1, None);
    let draw = |transcript: &Transcript| -> Vec<Line<'static>> {
        transcript.rows(layout, &None, SCREEN).into_iter().map(|row| row.line).collect()
    };
    let mut steps = vec![draw(&transcript)];
    while let Some(job) = transcript.take_layout_job(layout) {
        assert!(steps.len() < 4, "the layout is never complete");
        transcript.set_layout(job.run());
        steps.push(draw(&transcript));
    }
    steps
}

fn text(rows: &[Line<'static>]) -> Vec<String> {
    rows.iter().map(ToString::to_string).collect()
}

#[test]
fn long_code_is_shown_at_once_and_highlighted_in_the_background() {
    let [first, second] = &*draw_steps(500) else { panic!("one step completes the layout") };
    assert_eq!(text(first), text(second));
    assert_ne!(first, second, "the colours arrive later");
    assert_eq!(draw_steps(20).len(), 1, "short code is complete at once");
}

#[test]
fn very_long_text_is_laid_out_in_the_background_and_shown_before_its_colours() {
    let [first, second, third] = &*draw_steps(30_000) else { panic!("two steps complete the layout") };
    assert!(text(first).iter().any(|row| row.contains("one moment")), "{first:?}");
    assert!(text(second).iter().all(|row| row.contains("let answer")), "{second:?}");
    assert_eq!(text(second), text(third));
}

proptest! {
    #[test]
    fn scrolling_up_and_down_returns_to_the_same_rows(steps in prop::collection::vec(1_isize..60, 1..20)) {
        let mut harness = Harness::open();
        harness.scroll(-400);
        let before = harness.visible();
        for step in &steps {
            harness.scroll(-step);
        }
        for step in &steps {
            harness.scroll(*step);
        }
        prop_assert_eq!(harness.visible(), before);
    }

    #[test]
    fn all_rows_of_the_screen_are_used(steps in prop::collection::vec(-300_isize..300, 1..30)) {
        let mut harness = Harness::open();
        for step in steps {
            harness.scroll(step);
            prop_assert_eq!(harness.visible().len(), SCREEN);
        }
    }
}
