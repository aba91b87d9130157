use hfs_core::{BranchId, Message, MessageDraft, Part, Role, Timestamp};
use proptest::prelude::*;

use super::*;
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

struct Desk {
    theme: Theme,
    transcript: Transcript,
    /// Messages read from the store.
    read: usize,
}

impl Desk {
    fn open() -> Self {
        let mut transcript = Transcript::default();
        transcript.open(page(MessageRange::Newest(PAGE)), HEAD, None);
        Self { theme: Theme::dark(), transcript, read: 0 }
    }

    fn scroll(&mut self, rows: isize) {
        let paper = paper(&self.theme);
        self.transcript.scroll_by(paper, &None, SCREEN, rows);
        if let Some((range, purpose)) = self.transcript.wanted() {
            let messages = page(range);
            self.read += messages.len();
            self.transcript.take(purpose, messages, HEAD);
        }
    }

    fn shown(&self) -> Vec<String> {
        let rows = self.transcript.rows(paper(&self.theme), &None, SCREEN);
        rows.iter().map(|row| row.line.to_string()).collect()
    }
}

fn paper(theme: &Theme) -> Paper<'_> {
    let ink = Ink { theme, syntax: None };
    let zone = Box::leak(Box::new(jiff::tz::TimeZone::UTC));
    Paper { width: 40, ink, epoch: 1, output: OutputMode::Compact, time_zone: zone }
}

#[test]
fn a_long_session_shows_its_end_at_once_and_keeps_only_a_window_of_it() {
    let mut desk = Desk::open();
    assert!(desk.shown().last().unwrap().contains("more"));
    for _ in 0..3_000 {
        desk.scroll(-10);
    }
    assert!(desk.transcript.items.len() <= KEPT);
    assert!(desk.read < 9_000, "scrolling 30,000 rows read {} messages", desk.read);
    assert!(!desk.transcript.is_following());
}

#[test]
fn one_comes_back_to_the_end_by_scrolling_down_as_by_its_key() {
    let mut desk = Desk::open();
    let end = desk.shown();
    for _ in 0..300 {
        desk.scroll(-10);
    }
    assert_ne!(desk.shown(), end);
    for _ in 0..400 {
        desk.scroll(10);
    }
    assert_eq!(desk.shown(), end);
    assert!(desk.transcript.is_following());
    for _ in 0..300 {
        desk.scroll(-10);
    }
    let (range, purpose) = desk.transcript.show_newest().unwrap();
    desk.transcript.take(purpose, page(range), HEAD);
    assert_eq!(desk.shown(), end);
}

#[test]
fn what_is_read_stays_in_its_place_while_pages_come_and_go() {
    let mut desk = Desk::open();
    desk.scroll(-100);
    let top = desk.shown();
    if let Some((range, purpose)) = desk.transcript.wanted() {
        desk.transcript.take(purpose, page(range), HEAD);
    }
    assert_eq!(desk.shown(), top);
}

#[test]
fn a_new_message_is_followed_only_by_who_is_at_the_end() {
    let mut desk = Desk::open();
    desk.transcript.push(Arc::new(message(HEAD + 1)));
    assert!(desk.shown().iter().any(|row| row.contains(&format!("number {}", HEAD + 1))));
    desk.scroll(-30);
    let top = desk.shown();
    desk.transcript.push(Arc::new(message(HEAD + 2)));
    assert_eq!(desk.shown(), top);
}

#[test]
fn a_message_from_a_search_is_on_top() {
    let mut desk = Desk::open();
    desk.transcript.open(page(MessageRange::From(500, PAGE)), HEAD, Some(510));
    assert!(desk.shown()[..3].iter().any(|row| row.contains("number 510")), "{:?}", desk.shown());
    assert_eq!(desk.transcript.selected(), Some(510));
}

proptest! {
    #[test]
    fn scrolling_up_and_down_again_is_where_one_was(steps in prop::collection::vec(1_isize..60, 1..20)) {
        let mut desk = Desk::open();
        desk.scroll(-400);
        let before = desk.shown();
        for step in &steps {
            desk.scroll(-step);
        }
        for step in &steps {
            desk.scroll(*step);
        }
        prop_assert_eq!(desk.shown(), before);
    }

    #[test]
    fn the_screen_is_always_full(steps in prop::collection::vec(-300_isize..300, 1..30)) {
        let mut desk = Desk::open();
        for step in steps {
            desk.scroll(step);
            prop_assert_eq!(desk.shown().len(), SCREEN);
        }
    }
}
