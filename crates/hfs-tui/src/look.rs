//! How the app looks at this moment.

use hfs_core::Timestamp;

use crate::parts::AppSettings;
use crate::text::{Ink, Syntax};
use crate::theme::Theme;
use crate::transcript::Paper;

/// Settings, and what follows from them.
#[derive(Debug)]
pub struct Look {
    /// What the user chose.
    pub settings: AppSettings,
    /// The styles.
    pub theme: Theme,
    /// The grammars for code, once they are loaded.
    pub syntax: Option<Syntax>,
    /// The time, as of the newest message to the model.
    pub now: Timestamp,
    epoch: u64,
}

impl Look {
    /// The look of these settings.
    #[must_use]
    pub fn new(settings: AppSettings, now: Timestamp) -> Self {
        let theme = Theme::new(settings.ground, settings.depth);
        Self { settings, theme, syntax: None, now, epoch: 1 }
    }

    /// Takes other settings.
    pub fn change(&mut self, settings: AppSettings) {
        self.theme = Theme::new(settings.ground, settings.depth);
        self.settings = settings;
        self.epoch += 1;
    }

    /// Takes the grammars.
    pub fn set_syntax(&mut self, syntax: Syntax) {
        self.syntax = Some(syntax);
        self.epoch += 1;
    }

    /// What text is drawn with.
    #[must_use]
    pub const fn ink(&self) -> Ink<'_> {
        Ink { theme: &self.theme, syntax: self.syntax }
    }

    /// What messages are laid out on.
    #[must_use]
    pub const fn paper(&self, width: usize) -> Paper<'_> {
        Paper {
            width,
            ink: self.ink(),
            epoch: self.epoch,
            output: self.settings.output,
            time_zone: &self.settings.time_zone,
        }
    }

    /// How long ago something was, short: `now`, `5m`, `3h`, `2d`, or the date.
    #[must_use]
    pub fn age(&self, at: Timestamp) -> String {
        if !at.is_known() {
            return "time unknown".to_owned();
        }
        let seconds = self.now.millis_since(at) / 1_000;
        match seconds {
            0..60 => "now".to_owned(),
            60..3_600 => format!("{}m ago", seconds / 60),
            3_600..86_400 => format!("{}h ago", seconds / 3_600),
            86_400..1_209_600 => format!("{}d ago", seconds / 86_400),
            _ => at.to_jiff().to_zoned(self.settings.time_zone.clone()).strftime("%Y-%m-%d").to_string(),
        }
    }
}
