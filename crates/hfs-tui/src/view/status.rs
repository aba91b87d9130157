//! The bottom line: where one is, who answers, what it cost, and whether everything is saved.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::chat::tone_style;
use super::widgets;
use crate::canvas;
use crate::model::{Model, SaveState};
use crate::parts::Slot;
use crate::screens::Screen;
use crate::text::{cells, clip, one_line};
use crate::transcript::token_count;

pub fn view(model: &Model, buffer: &mut Buffer, area: Rect) {
    let theme = &model.look.theme;
    buffer.set_style(area, theme.bar);
    let room = usize::from(area.width);
    // Whether everything is saved is always seen, whatever else there is no room for.
    let (save, save_style) = save_text(model, room / 2);
    let save_style = theme.bar.patch(save_style);
    let mut right = vec![Span::styled(format!(" {save} "), save_style)];
    let mut used = cells(&save) + 2;
    let separator = || Span::styled(" │", theme.bar);
    for (piece, style) in details(model).into_iter().rev() {
        let needed = cells(&piece) + 3;
        if used + needed + 24 > room {
            break;
        }
        used += needed;
        right.insert(0, separator());
        right.insert(0, Span::styled(format!(" {piece}"), theme.bar.patch(style)));
    }
    canvas::right(buffer, area, &Line::from(right));
    let left = room.saturating_sub(used + 2);
    let line = match (&model.notice, &model.screen) {
        (Some(notice), screen) if !matches!(screen, Screen::Chat) => {
            let style = theme.bar.patch(tone_style(notice.tone, theme));
            Line::from(Span::styled(format!(" {}", clip(&one_line(&notice.text), left)), style))
        }
        _ => place(model, left),
    };
    canvas::line(buffer, Rect { width: canvas::as_u16(left + 1), ..area }, &line);
}

fn place(model: &Model, room: usize) -> Line<'static> {
    let theme = &model.look.theme;
    let Some(name) = &model.chat.name else {
        return Line::from(Span::styled(" new conversation", theme.bar));
    };
    let branch = clip(&one_line(&model.chat.branch), 20);
    let name = clip(&one_line(name), room.saturating_sub(cells(&branch) + 4));
    let bold = theme.bar.patch(theme.accent).add_modifier(Modifier::BOLD);
    Line::from(vec![Span::styled(format!(" {name}"), bold), Span::styled(format!(" · {branch}"), theme.bar)])
}

/// From the least to the most important.
fn details(model: &Model) -> Vec<(String, Style)> {
    let mut details = Vec::new();
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::StatusBar) {
        details.push(clip(&widgets::one_row(widget), 24));
    }
    if let Some(phase) = model.chat.run.timeline.phases.iter().rev().find(|phase| phase.end.is_none()) {
        details.push(clip(&one_line(&phase.name), 16));
    }
    if model.chat.tokens > 0 {
        details.push(format!("{} tok", token_count(model.chat.tokens)));
    }
    let agent = one_line(&model.agent.name);
    details.push(clip(
        &model.agent.model.as_ref().map_or(agent.clone(), |model| format!("{agent} {}", one_line(model))),
        28,
    ));
    let mut details: Vec<_> = details.into_iter().map(|detail| (detail, Style::new())).collect();
    details.extend(idle_plugins(model).map(|text| (text, model.look.theme.warn)));
    details
}

/// Whoever relies on a plugin has to see that it does not run.
fn idle_plugins(model: &Model) -> Option<String> {
    let is_idle = |state: &str| matches!(state, "quarantined" | "invalid");
    let mut idle = model.plugins.plugins.iter().filter(|plugin| is_idle(&plugin.state));
    let first = idle.next()?;
    Some(match idle.count() {
        0 => format!("! {} is {}", clip(&one_line(&first.name), 20), one_line(&first.state)),
        others => format!("! {} plugins do not run", others + 1),
    })
}

fn save_text(model: &Model, room: usize) -> (String, Style) {
    let theme = &model.look.theme;
    match &model.chat.save {
        SaveState::Nothing => ("nothing to save".to_owned(), Style::new()),
        SaveState::Saving => ("◌ saving".to_owned(), theme.accent),
        SaveState::Saved => ("✓ saved".to_owned(), theme.good),
        SaveState::NotSaved(reason) => {
            (clip(&format!("✗ NOT SAVED: {}", one_line(reason)), room.max(11)), theme.bad)
        }
    }
}
