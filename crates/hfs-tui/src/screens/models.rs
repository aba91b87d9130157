//! The models of the server that answers: choose one for this session, or for all.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Action, Context, Handled, ListSelection, Screen};
use crate::canvas;
use crate::editor::{Editor, KeyMode};
use crate::modal::draw_field;
use crate::protocol::{Request, ScreenMsg, UiResult};
use crate::text::{fuzzy_score, sanitize_line, truncate, wrap_text};

#[derive(Debug)]
pub struct Models {
    query: Editor,
    selection: ListSelection,
    /// The server's list; `None` while it is read.
    models: Option<UiResult<Vec<String>>>,
}

impl Models {
    pub fn open() -> (Self, Vec<Action>) {
        let screen = Self { query: Editor::default(), selection: ListSelection::default(), models: None };
        (screen, vec![Action::run(Request::ListModels)])
    }

    /// The models that match the query, best match first.
    fn matching(&self) -> Vec<&str> {
        let Some(Ok(models)) = &self.models else { return Vec::new() };
        let query = self.query.text();
        if query.is_empty() {
            return models.iter().map(String::as_str).collect();
        }
        let scored = models.iter().filter_map(|model| Some((fuzzy_score(query, model)?, model.as_str())));
        let mut scored: Vec<(u32, &str)> = scored.collect();
        scored.sort_by(|(a, _), (b, _)| b.cmp(a));
        scored.into_iter().map(|(_, model)| model).collect()
    }

    /// The selected model. Without one, the typed name, which the server may know although it does not list it.
    fn chosen(&self) -> Option<String> {
        let matching = self.matching();
        let chosen = matching.get(self.selection.row).copied().unwrap_or_else(|| self.query.text().trim());
        (!chosen.is_empty()).then(|| chosen.to_owned())
    }
}

impl Screen for Models {
    fn title(&self) -> &'static str {
        "Models"
    }

    fn subtitle(&self, cx: &Context<'_>) -> String {
        cx.agent.model.as_deref().map_or_else(String::new, |model| format!("now {}", sanitize_line(model)))
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![("Enter", "use in this session"), ("Tab", "use in all sessions"), ("Esc", "back")]
    }

    fn handle_key(&mut self, key: KeyEvent, _cx: &Context<'_>) -> Vec<Action> {
        if self.selection.handle_key(key, self.matching().len()) {
            return Vec::new();
        }
        match (key.code, self.chosen()) {
            (KeyCode::Esc, _) => vec![Action::Close],
            (KeyCode::Enter, Some(model)) => {
                vec![Action::Close, Action::run(Request::UseModel { model: Some(model) })]
            }
            (KeyCode::Tab, Some(value)) => {
                vec![Action::Close, Action::run(Request::SetConfig { key: "model".to_owned(), value })]
            }
            _ => {
                if self.query.handle_key(key, KeyMode::Standard, usize::MAX) {
                    self.selection = ListSelection::default();
                }
                Vec::new()
            }
        }
    }

    fn handle_paste(&mut self, text: &str, _cx: &Context<'_>) -> Vec<Action> {
        self.query.insert(&sanitize_line(text));
        self.selection = ListSelection::default();
        Vec::new()
    }

    fn handle_message(&mut self, message: ScreenMsg, cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Models(models) => {
                self.models = Some(models);
                if self.query.is_empty() {
                    let current = self.matching().iter().position(|model| is_current(model, cx));
                    self.selection.row = current.unwrap_or(0);
                }
                self.selection.clamp(self.matching().len());
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let hint = "a part of a model's name, or all of one that is not listed";
        let cursor = draw_field(buffer, canvas::row(area, 0), cx.render, "❯ ", &self.query, hint);
        let list = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
        let matching = self.matching();
        let width = usize::from(list.width);
        let message = match &self.models {
            None => Some(("asking the server ...".to_owned(), theme.dim)),
            Some(Err(report)) => Some((report.message.clone(), theme.bad)),
            Some(Ok(_)) if matching.is_empty() => {
                Some(("The server lists no such model; Enter uses the name as typed.".to_owned(), theme.dim))
            }
            Some(Ok(_)) => None,
        };
        let mut lines = Vec::new();
        if let Some((text, style)) = message {
            lines.extend(wrap_text(&sanitize_line(&text), style, width));
        }
        if let Some(Err(report)) = &self.models {
            let suggestion = report.suggestion.as_deref().map(sanitize_line);
            lines.extend(suggestion.into_iter().flat_map(|text| wrap_text(&text, theme.text, width)));
            lines.push(Line::default());
            lines.extend(wrap_text("Enter uses a model's name as you type it.", theme.dim, width));
        }
        canvas::lines(buffer, list, lines);
        let visible = self.selection.visible_range(matching.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, matching.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(model) = matching.get(index) else { break };
            let row = canvas::row(list, at);
            let (mark, style) = if is_current(model, cx) { ("● ", theme.good) } else { ("  ", theme.text) };
            let name = truncate(&sanitize_line(model), width.saturating_sub(2));
            canvas::line(buffer, row, &Line::styled(format!("{mark}{name}"), style));
            if index == self.selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
        Some(cursor)
    }
}

/// Whether this model, without the name of its provider, answers now.
fn is_current(model: &str, cx: &Context<'_>) -> bool {
    let current = cx.agent.model.as_deref().unwrap_or_default();
    current == model || current.split_once('/').is_some_and(|(_, name)| name == model)
}
