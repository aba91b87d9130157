//! A look at messages elsewhere, beside a list.

use hfs_core::Message;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::canvas;
use crate::look::Look;
use crate::message::Purpose;
use crate::transcript::Transcript;

/// The newest messages of what is selected.
#[derive(Debug, Default)]
pub struct Preview {
    generation: u64,
    transcript: Transcript,
    ready: bool,
}

impl Preview {
    /// Forgets what is shown and waits for the answer with this number.
    pub fn expect(&mut self, generation: u64) -> Purpose {
        *self = Self { generation, ..Self::default() };
        Purpose::Preview(generation)
    }

    /// Takes the answer, unless something else was asked for since.
    pub fn take(&mut self, generation: u64, messages: Vec<Message>) {
        if generation == self.generation {
            let head = messages.last().map_or(0, |message| message.seq);
            self.transcript.open(messages, head, None);
            self.ready = true;
        }
    }

    /// Draws it in a frame.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look, title: &str) {
        if area.height < 3 || area.width < 20 {
            return;
        }
        let title = Line::styled(format!(" {title} "), look.theme.dim);
        let inner = canvas::panel(buffer, area, title, &look.theme, false);
        if self.ready && self.transcript.is_empty() {
            canvas::line(
                buffer,
                canvas::row(inner, 0),
                &Line::styled("nothing was said yet", look.theme.dim),
            );
        }
        let paper = look.paper(usize::from(inner.width));
        let rows = self.transcript.rows(paper, &None, usize::from(inner.height));
        canvas::lines(buffer, inner, rows.into_iter().map(|row| row.line));
    }
}
