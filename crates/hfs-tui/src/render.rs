//! The context of drawing: settings, styles, grammars and the time.

use hfs_core::{Timestamp, relative_time};

use crate::ports::{AppSettings, OutputMode};
use crate::text::{Syntax, TextStyle};
use crate::theme::Theme;

/// The user's settings and the values derived from them.
#[derive(Debug)]
pub struct RenderContext {
    /// The user's settings.
    pub settings: AppSettings,
    /// The styles derived from the settings.
    pub theme: Theme,
    /// The grammars for syntax highlighting, after they are loaded.
    pub syntax: Option<Syntax>,
    /// The current time, updated before each message and each frame.
    pub now: Timestamp,
    revision: u64,
}

impl RenderContext {
    /// Creates the context for these settings.
    #[must_use]
    pub fn new(settings: AppSettings, now: Timestamp) -> Self {
        let theme = Theme::new(settings.background, settings.color_depth);
        Self { settings, theme, syntax: None, now, revision: 1 }
    }

    /// Replaces the settings.
    pub fn set_settings(&mut self, settings: AppSettings) {
        self.theme = Theme::new(settings.background, settings.color_depth);
        self.settings = settings;
        self.revision += 1;
    }

    /// Enables syntax highlighting.
    pub fn set_syntax(&mut self, syntax: Syntax) {
        self.syntax = Some(syntax);
        self.revision += 1;
    }

    /// Returns the theme and the grammars.
    #[must_use]
    pub const fn text_style(&self) -> TextStyle<'_> {
        TextStyle { theme: &self.theme, syntax: self.syntax }
    }

    /// Returns the layout of messages at this width.
    #[must_use]
    pub const fn message_layout(&self, width: usize) -> MessageLayout<'_> {
        MessageLayout {
            width,
            text_style: self.text_style(),
            revision: self.revision,
            output: self.settings.output,
            time_zone: &self.settings.time_zone,
        }
    }

    /// Formats how long ago a time was.
    #[must_use]
    pub fn relative_time(&self, at: Timestamp) -> String {
        relative_time(at, self.now)
    }
}

/// Parameters of the layout of messages.
#[derive(Clone, Copy)]
pub struct MessageLayout<'a> {
    /// Width in cells.
    pub width: usize,
    /// Styles and grammars.
    pub text_style: TextStyle<'a>,
    /// Changes whenever a field other than `width` changes. Rows cached for another revision are not valid.
    pub revision: u64,
    /// How much detail is shown.
    pub output: OutputMode,
    /// Time zone of the times shown.
    pub time_zone: &'a jiff::tz::TimeZone,
}
