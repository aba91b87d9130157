//! The messages of the chat. Only a window of the branch is loaded, page by page, so that the cost of a session does not
//! depend on its length.

mod message;
mod reply;
pub mod tool_call;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use hfs_core::{Message, MessageRange, Seq};
use ratatui::text::Line;

use crate::protocol::TranscriptPage;
use crate::render::MessageLayout;

pub use message::{FinishedLayout, LayoutJob, Lines, unsaved_message_lines};
pub use reply::StreamingReply;

use message::MessageView;

/// Messages read per request.
pub const PAGE: u32 = 50;
/// Maximum number of loaded messages. If a page exceeds it, messages at the opposite end of the window are dropped.
const MAX_LOADED: usize = 300;
/// The next page is read when fewer messages than this are loaded beyond the visible ones.
const PREFETCH_MARGIN: usize = 15;

/// A range to read, and the end of the window where its messages belong.
pub type PageRange = (MessageRange, TranscriptPage);

/// The scroll position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scroll {
    /// At the newest message, also after new ones arrive.
    #[default]
    Follow,
    /// With this line of this message at the top.
    At {
        /// Sequence number of the message.
        seq: Seq,
        /// Line of the message.
        line: usize,
    },
}

/// The loaded messages of a branch, with scroll position and selection.
#[derive(Debug, Default)]
pub struct Transcript {
    messages: VecDeque<MessageView>,
    /// Whether the first message of the branch is loaded.
    at_start: bool,
    /// Whether the last message of the branch is loaded.
    at_end: bool,
    /// The page that is being read. There is at most one request at a time.
    loading: Option<TranscriptPage>,
    scroll: Scroll,
    selected: Option<Seq>,
    /// The fold of the selected message that keys act on; `None` for all of its folds.
    selected_fold: Option<usize>,
    /// The first message that was shown with an incomplete layout.
    incomplete: Cell<Option<Seq>>,
}

/// A visible row.
#[derive(Debug, Clone)]
pub struct VisibleRow {
    /// The message that the row belongs to.
    pub seq: Seq,
    /// The text.
    pub line: Line<'static>,
    /// Index of the fold, if the row is the header of one.
    pub fold: Option<usize>,
}

/// The block after the last message: an unsaved message or the reply that is being received, with its expected seq.
pub type Tail = Option<(Seq, Lines)>;

impl Transcript {
    /// Shows these messages of a branch whose last message is `head`. Scrolls to message `at`, if it is given.
    pub fn open(&mut self, messages: Vec<Message>, head: Seq, at: Option<Seq>) {
        let first = messages.first().map_or(1, |message| message.seq);
        let last = messages.last().map_or(head, |message| message.seq);
        self.messages = messages.into_iter().map(|message| MessageView::new(Arc::new(message))).collect();
        self.at_start = first <= 1;
        self.at_end = last >= head;
        self.loading = None;
        self.scroll = at.map_or(Scroll::Follow, |seq| Scroll::At { seq, line: 0 });
        self.selected = at;
        self.selected_fold = None;
    }

    /// Returns the loaded messages.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Arc<Message>> {
        self.messages.iter().map(|view| &view.message)
    }

    /// Whether no messages are loaded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the view follows new messages.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.scroll == Scroll::Follow
    }

    /// Adds a new message of the branch, if the end of the branch is loaded.
    pub fn push(&mut self, message: Arc<Message>) {
        if self.messages.is_empty() {
            self.at_start = message.seq <= 1;
            self.at_end = true;
        }
        if self.at_end && self.messages.back().is_none_or(|last| last.message.seq < message.seq) {
            self.messages.push_back(MessageView::new(message));
            // A view that does not follow may show the oldest loaded messages, so they are kept.
            while self.messages.len() > MAX_LOADED && self.is_following() {
                self.messages.pop_front();
                self.at_start = false;
            }
        }
    }

    /// Adds the reply that was received. The rows that it had are shown until a long reply has been laid out.
    pub fn push_reply(&mut self, message: Arc<Message>, received: Option<(Lines, usize, u64)>) {
        let seq = message.seq;
        self.push(message);
        if let (Some(view), Some(received)) = (self.messages.back_mut(), received)
            && view.message.seq == seq
        {
            view.show_until_laid_out(received);
        }
    }

    /// Removes all messages after `last`, the last message of the branch that is now shown.
    pub fn truncate_after(&mut self, last: Seq) {
        while self.messages.back().is_some_and(|view| view.message.seq > last) {
            self.messages.pop_back();
        }
        self.at_end = self.messages.back().is_none_or(|view| view.message.seq == last);
        self.scroll = Scroll::Follow;
        self.unselect();
    }

    /// Adds a page that was requested.
    pub fn add_page(&mut self, page: TranscriptPage, messages: Vec<Message>, head: Seq) {
        if self.loading != Some(page) {
            return;
        }
        self.loading = None;
        let views = messages.into_iter().map(|message| MessageView::new(Arc::new(message)));
        match page {
            TranscriptPage::Older => {
                let before = self.messages.front().map_or(Seq::MAX, |view| view.message.seq);
                let mut older: Vec<MessageView> = views.filter(|view| view.message.seq < before).collect();
                self.at_start = older.first().is_none_or(|view| view.message.seq <= 1);
                while let Some(view) = older.pop() {
                    self.messages.push_front(view);
                }
                while self.messages.len() > MAX_LOADED {
                    self.messages.pop_back();
                    self.at_end = false;
                }
            }
            TranscriptPage::Newer => {
                let last = self.messages.back().map_or(0, |view| view.message.seq);
                self.messages.extend(views.filter(|view| view.message.seq > last));
                self.at_end = self.messages.back().is_none_or(|view| view.message.seq >= head);
                while self.messages.len() > MAX_LOADED {
                    self.messages.pop_front();
                    self.at_start = false;
                }
            }
            TranscriptPage::Oldest => {
                let messages = views.map(|view| Message::clone(&view.message)).collect();
                self.open(messages, head, None);
                self.scroll = Scroll::At { seq: 1, line: 0 };
            }
            TranscriptPage::Newest => {
                let messages = views.map(|view| Message::clone(&view.message)).collect();
                self.open(messages, head, None);
            }
        }
    }

    /// Records that the pending request failed, so that it can be made again.
    pub fn loading_failed(&mut self) {
        self.loading = None;
    }

    /// Returns the page to read, if the view is near an end of the loaded window and the branch continues there. No
    /// other page is requested until this one has been added or has failed.
    pub fn page_to_prefetch(&mut self) -> Option<PageRange> {
        if self.loading.is_some() || self.messages.is_empty() {
            return None;
        }
        let top = match self.scroll {
            Scroll::Follow => self.messages.len(),
            Scroll::At { seq, .. } => self.index_of(seq),
        };
        let first = self.messages.front()?.message.seq;
        let last = self.messages.back()?.message.seq;
        // `top` is the first visible message, so the margin at the lower end is doubled to include the visible ones.
        let page = if !self.at_start && top < PREFETCH_MARGIN {
            (MessageRange::Before(first, PAGE), TranscriptPage::Older)
        } else if !self.at_end && top + PREFETCH_MARGIN * 2 > self.messages.len() {
            (MessageRange::From(last + 1, PAGE), TranscriptPage::Newer)
        } else {
            return None;
        };
        self.loading = Some(page.1);
        Some(page)
    }

    fn index_of(&self, seq: Seq) -> usize {
        self.messages.partition_point(|view| view.message.seq < seq)
    }

    /// Returns the number of blocks: the messages and the tail.
    fn block_count(&self, tail: &Tail) -> usize {
        self.messages.len() + usize::from(tail.is_some() && self.at_end)
    }

    fn block(&self, index: usize, layout: MessageLayout<'_>, tail: &Tail) -> Option<(Seq, Lines)> {
        match self.messages.get(index) {
            Some(view) => {
                let previous = index.checked_sub(1).and_then(|before| self.messages.get(before));
                Some((view.message.seq, view.lines(previous, layout)))
            }
            // The tail is one block, directly after the last message.
            None if self.at_end && index == self.messages.len() => tail.clone(),
            None => None,
        }
    }

    fn height(&self, index: usize, layout: MessageLayout<'_>, tail: &Tail) -> usize {
        self.block(index, layout, tail).map_or(0, |(_, lines)| lines.len())
    }

    /// Returns the block and line at the top of `height` rows, and whether the end of the transcript is visible.
    fn top(&self, layout: MessageLayout<'_>, tail: &Tail, height: usize) -> (usize, usize, bool) {
        let (index, line) = match self.scroll {
            Scroll::Follow => return self.bottom(layout, tail, height),
            Scroll::At { seq, line } => (self.index_of(seq), line),
        };
        let count = self.block_count(tail);
        let index = index.min(count.saturating_sub(1));
        let line = line.min(self.height(index, layout, tail).saturating_sub(1));
        let mut visible = self.height(index, layout, tail).saturating_sub(line);
        let mut next = index + 1;
        while visible < height && next < count {
            visible += self.height(next, layout, tail);
            next += 1;
        }
        let reaches_end = next >= count && visible <= height;
        if reaches_end && self.at_end { self.bottom(layout, tail, height) } else { (index, line, false) }
    }

    /// Like [`top`](Self::top), for a view whose last row is the end of the transcript.
    fn bottom(&self, layout: MessageLayout<'_>, tail: &Tail, height: usize) -> (usize, usize, bool) {
        let mut room = height;
        for index in (0..self.block_count(tail)).rev() {
            let lines = self.height(index, layout, tail);
            if lines >= room {
                return (index, lines - room, true);
            }
            room -= lines;
        }
        (0, 0, true)
    }

    /// Returns the rows that are visible in `height` rows.
    #[must_use]
    pub fn rows(&self, layout: MessageLayout<'_>, tail: &Tail, height: usize) -> Vec<VisibleRow> {
        let (mut index, mut skip, _) = self.top(layout, tail, height);
        let mut rows = Vec::with_capacity(height);
        while rows.len() < height {
            let Some((seq, lines)) = self.block(index, layout, tail) else { break };
            let room = height - rows.len();
            if self.incomplete.get().is_none()
                && self.messages.get(index).is_some_and(MessageView::needs_layout)
            {
                self.incomplete.set(Some(seq));
            }
            let headers = self.messages.get(index).map(MessageView::fold_headers).unwrap_or_default();
            rows.extend(lines.iter().enumerate().skip(skip).take(room).map(|(at, line)| VisibleRow {
                seq,
                line: line.clone(),
                fold: headers.iter().position(|header| *header == at),
            }));
            index += 1;
            skip = 0;
        }
        rows
    }

    /// Returns the work that completes the layout of a message that was shown, if there is one.
    pub fn take_layout_job(&self, layout: MessageLayout<'_>) -> Option<LayoutJob> {
        let index = self.index_of(self.incomplete.take()?);
        let previous = index.checked_sub(1).and_then(|before| self.messages.get(before));
        self.messages.get(index).map(|view| view.layout_job(previous, layout))
    }

    /// Uses a layout that was completed in the background.
    pub fn set_layout(&mut self, finished: FinishedLayout) {
        let index = self.index_of(finished.seq());
        if let Some(view) = self.messages.get_mut(index) {
            view.set_layout(finished);
        }
    }

    /// Scrolls by a number of rows; negative scrolls up.
    pub fn scroll_by(&mut self, layout: MessageLayout<'_>, tail: &Tail, height: usize, rows: isize) {
        let (mut index, mut line, _) = self.top(layout, tail, height);
        let mut remaining = rows.unsigned_abs();
        if rows < 0 {
            // Each step moves to the last line of the block above, which is `line + 1` rows up.
            while remaining > line && index > 0 {
                remaining -= line + 1;
                index -= 1;
                line = self.height(index, layout, tail).saturating_sub(1);
            }
            line = line.saturating_sub(remaining);
        } else {
            let count = self.block_count(tail);
            while index < count {
                let below = self.height(index, layout, tail).saturating_sub(line);
                if remaining < below || index + 1 >= count {
                    line += remaining.min(below.saturating_sub(1));
                    break;
                }
                remaining -= below;
                index += 1;
                line = 0;
            }
        }
        let Some((seq, _)) = self.block(index, layout, tail) else { return };
        self.scroll = Scroll::At { seq, line };
        // The end is also still visible if there is nothing above to scroll to.
        if self.top(layout, tail, height).2 && self.at_end {
            self.scroll = Scroll::Follow;
        }
    }

    /// Scrolls to the first message of the branch. If it is not loaded, returns the page to read.
    pub fn show_oldest(&mut self) -> Option<PageRange> {
        self.unselect();
        if self.at_start {
            self.scroll = Scroll::At { seq: 1, line: 0 };
            return None;
        }
        self.loading = Some(TranscriptPage::Oldest);
        Some((MessageRange::From(1, PAGE), TranscriptPage::Oldest))
    }

    /// Scrolls to the newest message. If that message is not loaded, returns the page to read.
    pub fn show_newest(&mut self) -> Option<PageRange> {
        self.unselect();
        if self.at_end {
            self.scroll = Scroll::Follow;
            return None;
        }
        self.loading = Some(TranscriptPage::Newest);
        Some((MessageRange::Newest(PAGE), TranscriptPage::Newest))
    }

    /// Returns the sequence number of the selected message.
    #[must_use]
    pub const fn selected(&self) -> Option<Seq> {
        self.selected
    }

    /// Returns the selected message.
    #[must_use]
    pub fn selected_message(&self) -> Option<&Arc<Message>> {
        self.selected_view().map(|view| &view.message)
    }

    /// Clears the selection.
    pub fn unselect(&mut self) {
        self.selected = None;
        self.selected_fold = None;
    }

    /// Returns the selected fold of the selected message.
    #[must_use]
    pub const fn selected_fold(&self) -> Option<usize> {
        self.selected_fold
    }

    /// Returns the number of folds of the selected message.
    #[must_use]
    pub fn selected_fold_count(&self) -> usize {
        self.selected_view().map_or(0, MessageView::fold_count)
    }

    fn selected_view(&self) -> Option<&MessageView> {
        let seq = self.selected?;
        self.messages.get(self.index_of(seq)).filter(|view| view.message.seq == seq)
    }

    /// Selects the message after or before the selected one and scrolls to it. If no message is selected, selects the
    /// last visible one.
    pub fn select(&mut self, layout: MessageLayout<'_>, tail: &Tail, height: usize, forward: bool) {
        let index = match self.selected {
            Some(seq) if forward => (self.index_of(seq) + 1).min(self.messages.len().saturating_sub(1)),
            Some(seq) => self.index_of(seq).saturating_sub(1),
            None => {
                let rows = self.rows(layout, tail, height);
                let last = rows.last().map_or(Seq::MAX, |row| row.seq);
                self.index_of(last).min(self.messages.len().saturating_sub(1))
            }
        };
        let Some(view) = self.messages.get(index) else { return };
        let seq = view.message.seq;
        self.selected = Some(seq);
        self.selected_fold = None;
        let lines = self.height(index, layout, tail);
        let rows = self.rows(layout, tail, height);
        let visible = rows.iter().filter(|row| row.seq == seq).count();
        if visible < lines.min(height) {
            if forward && lines < height {
                self.scroll_to_end_of(layout, tail, height, index);
            } else {
                self.scroll = Scroll::At { seq, line: 0 };
            }
        }
    }

    /// Scrolls so that the last line of a block is at the bottom.
    fn scroll_to_end_of(&mut self, layout: MessageLayout<'_>, tail: &Tail, height: usize, index: usize) {
        let (mut top, mut room) = (index, height);
        loop {
            let lines = self.height(top, layout, tail);
            if lines >= room || top == 0 {
                let line = lines.saturating_sub(room);
                if let Some(view) = self.messages.get(top) {
                    self.scroll = Scroll::At { seq: view.message.seq, line };
                }
                return;
            }
            room -= lines;
            top -= 1;
        }
    }

    /// Selects the next fold of the selected message and scrolls to it; after the last one, selects all of them.
    pub fn select_next_fold(&mut self, layout: MessageLayout<'_>, tail: &Tail, height: usize) {
        let Some(view) = self.selected_view() else { return };
        let seq = view.message.seq;
        let next = self.selected_fold.map_or(0, |fold| fold + 1);
        self.selected_fold = (next < view.fold_count()).then_some(next);
        let Some(fold) = self.selected_fold else { return };
        let is_header = |row: &VisibleRow| row.seq == seq && row.fold == Some(fold);
        if !self.rows(layout, tail, height).iter().any(is_header) {
            let headers = self.selected_view().map(MessageView::fold_headers).unwrap_or_default();
            let line = headers.get(fold).copied().unwrap_or(0);
            self.scroll = Scroll::At { seq, line };
        }
    }

    /// Toggles the selected fold, or all folds of the selected message. `is_open_by_default` is the state of folds that
    /// were not toggled before.
    pub fn toggle_selected(&mut self, is_open_by_default: bool) {
        let Some(seq) = self.selected else { return };
        match self.selected_fold {
            Some(fold) => self.toggle_fold(seq, fold, is_open_by_default),
            None => {
                let index = self.index_of(seq);
                if let Some(view) = self.messages.get_mut(index) {
                    view.toggle(is_open_by_default);
                }
            }
        }
    }

    /// Toggles one fold of a message.
    pub fn toggle_fold(&mut self, seq: Seq, fold: usize, is_open_by_default: bool) {
        let index = self.index_of(seq);
        if let Some(view) = self.messages.get_mut(index).filter(|view| view.message.seq == seq) {
            view.toggle_fold(fold, is_open_by_default);
        }
    }
}

#[cfg(test)]
mod tests;
