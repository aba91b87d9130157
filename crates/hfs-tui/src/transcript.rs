//! The messages on the screen: a window into a branch that is moved by pages, so that a session of any length
//! costs what is shown of it.

mod item;
mod reply;

use std::collections::VecDeque;
use std::sync::Arc;

use hfs_core::{Message, MessageRange, Seq};
use ratatui::text::Line;

use crate::message::Purpose;
use crate::parts::OutputMode;
use crate::text::Ink;

pub use item::{Item, Lines, bytes_text, count as token_count, sending_lines};
pub use reply::Reply;

/// How many messages are asked for at once.
pub const PAGE: u32 = 50;
/// How many messages are kept; beyond that, those farthest away are let go.
const KEPT: usize = 300;
/// With fewer messages than this between the screen and the end of the window, the next page is asked for.
const MARGIN: usize = 15;

/// What messages are laid out on.
#[derive(Clone, Copy)]
pub struct Paper<'a> {
    /// Cells from left to right.
    pub width: usize,
    /// Styles and grammars.
    pub ink: Ink<'a>,
    /// Changes whenever anything else here or in the ink does, so that what was laid out before is redone.
    pub epoch: u64,
    /// How much is shown.
    pub output: OutputMode,
    /// The zone of the times.
    pub time_zone: &'a jiff::tz::TimeZone,
}

/// Where the window is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scroll {
    /// At the newest, and staying there.
    #[default]
    Follow,
    /// So that this line of this message is on top.
    At {
        /// The message.
        seq: Seq,
        /// The line of it.
        line: usize,
    },
}

/// A window into a branch's messages.
#[derive(Debug, Default)]
pub struct Transcript {
    items: VecDeque<Item>,
    /// Whether there is nothing before the first, or behind the last.
    at_start: bool,
    at_end: bool,
    loading: Option<Purpose>,
    scroll: Scroll,
    selected: Option<Seq>,
    /// Which fold of the selected message keys act on; `None` for all of them.
    fold: Option<usize>,
}

/// One row of the screen.
#[derive(Debug, Clone)]
pub struct ShownRow {
    /// Whose row it is.
    pub seq: Seq,
    /// What stands there.
    pub line: Line<'static>,
    /// The fold of the message that it is the handle of.
    pub handle: Option<usize>,
}

/// The reply that is arriving, as the last of the messages.
pub type Tail = Option<(Seq, Lines)>;

impl Transcript {
    /// Shows these messages of a branch whose newest is `head`, with `at` on top where one is given.
    pub fn open(&mut self, messages: Vec<Message>, head: Seq, at: Option<Seq>) {
        let first = messages.first().map_or(1, |message| message.seq);
        let last = messages.last().map_or(head, |message| message.seq);
        self.items = messages.into_iter().map(|message| Item::new(Arc::new(message))).collect();
        self.at_start = first <= 1;
        self.at_end = last >= head;
        self.loading = None;
        self.scroll = at.map_or(Scroll::Follow, |seq| Scroll::At { seq, line: 0 });
        self.selected = at;
        self.fold = None;
    }

    /// The messages in the window.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Arc<Message>> {
        self.items.iter().map(|item| &item.message)
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the newest message is on the screen and will be.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.scroll == Scroll::Follow
    }

    /// Adds a new message at the end, if the end is in the window.
    pub fn push(&mut self, message: Arc<Message>) {
        if self.items.is_empty() {
            self.at_start = message.seq <= 1;
            self.at_end = true;
        }
        if self.at_end && self.items.back().is_none_or(|last| last.message.seq < message.seq) {
            self.items.push_back(Item::new(message));
            while self.items.len() > KEPT && self.is_following() {
                self.items.pop_front();
                self.at_start = false;
            }
        }
    }

    /// Leaves out everything behind message `last`: the branch now shown ends there.
    pub fn cut_behind(&mut self, last: Seq) {
        while self.items.back().is_some_and(|item| item.message.seq > last) {
            self.items.pop_back();
        }
        self.at_end = self.items.back().is_none_or(|item| item.message.seq == last);
        self.scroll = Scroll::Follow;
        self.unselect();
    }

    /// Takes messages that were asked for.
    pub fn take(&mut self, purpose: Purpose, messages: Vec<Message>, head: Seq) {
        if self.loading != Some(purpose) {
            return;
        }
        self.loading = None;
        let items = messages.into_iter().map(|message| Item::new(Arc::new(message)));
        match purpose {
            Purpose::Older => {
                let before = self.items.front().map_or(Seq::MAX, |item| item.message.seq);
                let mut older: Vec<Item> = items.filter(|item| item.message.seq < before).collect();
                self.at_start = older.first().is_none_or(|item| item.message.seq <= 1);
                while let Some(item) = older.pop() {
                    self.items.push_front(item);
                }
                while self.items.len() > KEPT {
                    self.items.pop_back();
                    self.at_end = false;
                }
            }
            Purpose::Newer => {
                let behind = self.items.back().map_or(0, |item| item.message.seq);
                self.items.extend(items.filter(|item| item.message.seq > behind));
                self.at_end = self.items.back().is_none_or(|item| item.message.seq >= head);
                while self.items.len() > KEPT {
                    self.items.pop_front();
                    self.at_start = false;
                }
            }
            Purpose::Newest => {
                let messages = items.map(|item| Message::clone(&item.message)).collect();
                self.open(messages, head, None);
            }
            Purpose::Preview(_) => {}
        }
    }

    /// The request that failed may be made again.
    pub fn loading_failed(&mut self) {
        self.loading = None;
    }

    /// What is to be read next, given where the screen is; at most one request is under way.
    pub fn wanted(&mut self) -> Option<(MessageRange, Purpose)> {
        if self.loading.is_some() || self.items.is_empty() {
            return None;
        }
        let top = match self.scroll {
            Scroll::Follow => self.items.len(),
            Scroll::At { seq, .. } => self.index_of(seq),
        };
        let first = self.items.front()?.message.seq;
        let last = self.items.back()?.message.seq;
        let wanted = if !self.at_start && top < MARGIN {
            (MessageRange::Before(first, PAGE), Purpose::Older)
        } else if !self.at_end && top + MARGIN * 2 > self.items.len() {
            (MessageRange::From(last + 1, PAGE), Purpose::Newer)
        } else {
            return None;
        };
        self.loading = Some(wanted.1);
        Some(wanted)
    }

    fn index_of(&self, seq: Seq) -> usize {
        self.items.partition_point(|item| item.message.seq < seq)
    }

    /// How many blocks there are: the messages, and the reply that is arriving.
    fn blocks(&self, tail: &Tail) -> usize {
        self.items.len() + usize::from(tail.is_some() && self.at_end)
    }

    fn block(&self, index: usize, paper: Paper<'_>, tail: &Tail) -> Option<(Seq, Lines)> {
        match self.items.get(index) {
            Some(item) => {
                let joined = index.checked_sub(1).and_then(|before| self.items.get(before));
                Some((item.message.seq, item.lines(joined, paper)))
            }
            None if self.at_end => tail.clone(),
            None => None,
        }
    }

    fn height(&self, index: usize, paper: Paper<'_>, tail: &Tail) -> usize {
        self.block(index, paper, tail).map_or(0, |(_, lines)| lines.len())
    }

    /// The block and line on top of a screen of `height` rows, and whether the end is on it.
    fn top(&self, paper: Paper<'_>, tail: &Tail, height: usize) -> (usize, usize, bool) {
        let (index, line) = match self.scroll {
            Scroll::Follow => return self.bottom(paper, tail, height),
            Scroll::At { seq, line } => (self.index_of(seq), line),
        };
        let count = self.blocks(tail);
        let index = index.min(count.saturating_sub(1));
        let line = line.min(self.height(index, paper, tail).saturating_sub(1));
        let mut left = self.height(index, paper, tail).saturating_sub(line);
        let mut next = index + 1;
        while left < height && next < count {
            left += self.height(next, paper, tail);
            next += 1;
        }
        let reaches_end = next >= count && left <= height;
        if reaches_end && self.at_end { self.bottom(paper, tail, height) } else { (index, line, false) }
    }

    fn bottom(&self, paper: Paper<'_>, tail: &Tail, height: usize) -> (usize, usize, bool) {
        let mut room = height;
        for index in (0..self.blocks(tail)).rev() {
            let lines = self.height(index, paper, tail);
            if lines >= room {
                return (index, lines - room, true);
            }
            room -= lines;
        }
        (0, 0, true)
    }

    /// The rows of a screen of `height` rows.
    #[must_use]
    pub fn rows(&self, paper: Paper<'_>, tail: &Tail, height: usize) -> Vec<ShownRow> {
        let (mut index, mut skip, _) = self.top(paper, tail, height);
        let mut rows = Vec::with_capacity(height);
        while rows.len() < height {
            let Some((seq, lines)) = self.block(index, paper, tail) else { break };
            let room = height - rows.len();
            let handles = self.items.get(index).map(Item::handles).unwrap_or_default();
            rows.extend(lines.iter().enumerate().skip(skip).take(room).map(|(at, line)| ShownRow {
                seq,
                line: line.clone(),
                handle: handles.iter().position(|handle| *handle == at),
            }));
            index += 1;
            skip = 0;
        }
        rows
    }

    /// Moves by so many rows, up when negative.
    pub fn scroll_by(&mut self, paper: Paper<'_>, tail: &Tail, height: usize, rows: isize) {
        let (mut index, mut line, _) = self.top(paper, tail, height);
        let mut left = rows.unsigned_abs();
        if rows < 0 {
            while left > line && index > 0 {
                left -= line + 1;
                index -= 1;
                line = self.height(index, paper, tail).saturating_sub(1);
            }
            line = line.saturating_sub(left);
        } else {
            let count = self.blocks(tail);
            while index < count {
                let below = self.height(index, paper, tail).saturating_sub(line);
                if left < below || index + 1 >= count {
                    line += left.min(below.saturating_sub(1));
                    break;
                }
                left -= below;
                index += 1;
                line = 0;
            }
        }
        let Some((seq, _)) = self.block(index, paper, tail) else { return };
        self.scroll = Scroll::At { seq, line };
        if self.top(paper, tail, height).2 && self.at_end && rows > 0 {
            self.scroll = Scroll::Follow;
        }
    }

    /// Goes to the oldest message of the window.
    pub fn show_oldest(&mut self) {
        if let Some(first) = self.items.front() {
            self.scroll = Scroll::At { seq: first.message.seq, line: 0 };
        }
    }

    /// Goes to the newest message; says whether it must be read first.
    pub fn show_newest(&mut self) -> Option<(MessageRange, Purpose)> {
        self.unselect();
        if self.at_end {
            self.scroll = Scroll::Follow;
            return None;
        }
        self.loading = Some(Purpose::Newest);
        Some((MessageRange::Newest(PAGE), Purpose::Newest))
    }

    /// The message that keys act on.
    #[must_use]
    pub const fn selected(&self) -> Option<Seq> {
        self.selected
    }

    /// That message itself.
    #[must_use]
    pub fn selected_message(&self) -> Option<&Arc<Message>> {
        self.selected_item().map(|item| &item.message)
    }

    /// Lets go of the selected message.
    pub fn unselect(&mut self) {
        self.selected = None;
        self.fold = None;
    }

    /// The fold that keys act on.
    #[must_use]
    pub const fn fold(&self) -> Option<usize> {
        self.fold
    }

    /// How many folds the selected message has.
    #[must_use]
    pub fn folds(&self) -> usize {
        self.selected_item().map_or(0, Item::folds)
    }

    fn selected_item(&self) -> Option<&Item> {
        let seq = self.selected?;
        self.items.get(self.index_of(seq)).filter(|item| item.message.seq == seq)
    }

    /// Selects the message before or behind the selected one, or the last one on the screen, and shows it.
    pub fn select(&mut self, paper: Paper<'_>, tail: &Tail, height: usize, forward: bool) {
        let index = match self.selected {
            Some(seq) if forward => (self.index_of(seq) + 1).min(self.items.len().saturating_sub(1)),
            Some(seq) => self.index_of(seq).saturating_sub(1),
            None => {
                let rows = self.rows(paper, tail, height);
                let last = rows.last().map_or(Seq::MAX, |row| row.seq);
                self.index_of(last).min(self.items.len().saturating_sub(1))
            }
        };
        let Some(item) = self.items.get(index) else { return };
        let seq = item.message.seq;
        self.selected = Some(seq);
        self.fold = None;
        let lines = self.height(index, paper, tail);
        let rows = self.rows(paper, tail, height);
        let seen = rows.iter().filter(|row| row.seq == seq).count();
        if seen < lines.min(height) {
            if forward && lines < height {
                self.show_last_line(paper, tail, height, index);
            } else {
                self.scroll = Scroll::At { seq, line: 0 };
            }
        }
    }

    fn show_last_line(&mut self, paper: Paper<'_>, tail: &Tail, height: usize, index: usize) {
        let (mut top, mut room) = (index, height);
        loop {
            let lines = self.height(top, paper, tail);
            if lines >= room || top == 0 {
                let line = lines.saturating_sub(room);
                if let Some(item) = self.items.get(top) {
                    self.scroll = Scroll::At { seq: item.message.seq, line };
                }
                return;
            }
            room -= lines;
            top -= 1;
        }
    }

    /// Goes to the next fold of the selected message and shows it; behind the last one, to all of them.
    pub fn next_fold(&mut self, paper: Paper<'_>, tail: &Tail, height: usize) {
        let Some(item) = self.selected_item() else { return };
        let seq = item.message.seq;
        let next = self.fold.map_or(0, |fold| fold + 1);
        self.fold = (next < item.folds()).then_some(next);
        let Some(fold) = self.fold else { return };
        let is_handle = |row: &ShownRow| row.seq == seq && row.handle == Some(fold);
        if !self.rows(paper, tail, height).iter().any(is_handle) {
            let handles = self.selected_item().map(Item::handles).unwrap_or_default();
            let line = handles.get(fold).copied().unwrap_or(0);
            self.scroll = Scroll::At { seq, line };
        }
    }

    /// Folds or unfolds the selected message, or the fold of it that was gone to.
    pub fn toggle_selected(&mut self, usual: bool) {
        let Some(seq) = self.selected else { return };
        match self.fold {
            Some(fold) => self.toggle_fold(seq, fold, usual),
            None => {
                let index = self.index_of(seq);
                if let Some(item) = self.items.get_mut(index) {
                    item.toggle(usual);
                }
            }
        }
    }

    /// Folds or unfolds one fold of a message. `usual` is how folds are while nobody has touched them.
    pub fn toggle_fold(&mut self, seq: Seq, fold: usize, usual: bool) {
        let index = self.index_of(seq);
        if let Some(item) = self.items.get_mut(index).filter(|item| item.message.seq == seq) {
            item.toggle_fold(fold, usual);
        }
    }
}

#[cfg(test)]
mod tests;
