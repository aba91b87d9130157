use hfs_core::{BranchId, Message, MessageDraft, Part, Role, Timestamp};
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
    MessageLayout { width: 40, text_style, revision: 1, output: OutputMode::Compact, time_zone: zone }
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

/// A reply with a code block of this many lines.
fn long_code(lines: usize) -> Message {
    let code = "let answer = 42; // the answer\n".repeat(lines);
    let text = format!("```rust\n{code}```");
    let content = MessageDraft::new(Role::Assistant, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
    Message { branch: BranchId::generate(), seq: 1, content }
}

/// Draws the transcript, and completes the layout as the runner does. Returns the rows before and after.
fn draw_twice(lines: usize) -> (Vec<Line<'static>>, Vec<Line<'static>>) {
    let theme = Theme::dark();
    let syntax = Some(crate::text::Syntax::load());
    let layout = MessageLayout { text_style: TextStyle { theme: &theme, syntax }, ..layout(&theme) };
    let mut transcript = Transcript::default();
    transcript.open(vec![long_code(lines)], 1, None);
    let draw = |transcript: &Transcript| -> Vec<Line<'static>> {
        transcript.rows(layout, &None, SCREEN).into_iter().map(|row| row.line).collect()
    };
    let first = draw(&transcript);
    if let Some(job) = transcript.take_layout_job(layout) {
        transcript.set_layout(job.run());
    }
    let second = draw(&transcript);
    assert!(transcript.take_layout_job(layout).is_none(), "the layout is complete");
    (first, second)
}

#[test]
fn long_code_is_shown_at_once_and_highlighted_in_the_background() {
    let text = |lines: &[Line<'static>]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (first, second) = draw_twice(500);
    assert_eq!(text(&first), text(&second));
    assert_ne!(first, second, "the colours arrive later");
    let (first, second) = draw_twice(20);
    assert_eq!(first, second, "short code is complete at once");
}

#[test]
fn very_long_text_is_laid_out_in_the_background() {
    let (first, second) = draw_twice(30_000);
    assert!(first.iter().any(|line| line.to_string().contains("one moment")), "{first:?}");
    assert!(second.iter().all(|line| line.to_string().contains("let answer")), "{second:?}");
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
