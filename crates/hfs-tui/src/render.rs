//! The context of drawing: settings, styles, grammars and the time.

use hfs_core::{Timestamp, relative_time};
use jiff::civil::Date;

use crate::ports::{AppSettings, OutputMode};
use crate::text::{Syntax, TextStyle, calendar_date};
use crate::theme::{Background, Theme};

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
    /// The background that the terminal has reported.
    reported_background: Background,
    revision: u64,
}

impl RenderContext {
    /// Creates the context for these settings.
    #[must_use]
    pub fn new(settings: AppSettings, now: Timestamp) -> Self {
        let theme = Theme::new(settings.background, settings.color_depth);
        Self { settings, theme, syntax: None, now, reported_background: Background::Unknown, revision: 1 }
    }

    /// Replaces the settings.
    pub fn set_settings(&mut self, settings: AppSettings) {
        self.settings = settings;
        self.update_theme();
    }

    /// Uses the background that the terminal has reported, unless the settings name one.
    pub fn set_reported_background(&mut self, background: Background) {
        self.reported_background = background;
        self.update_theme();
    }

    fn update_theme(&mut self) {
        let background = match self.settings.background {
            Background::Unknown => self.reported_background,
            known => known,
        };
        let theme = Theme::new(background, self.settings.color_depth);
        self.theme = theme;
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
    pub fn message_layout(&self, width: usize) -> MessageLayout<'_> {
        MessageLayout {
            width,
            today: calendar_date(self.now, &self.settings.time_zone),
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
    /// The current date. A message of another day shows its date.
    pub today: Date,
    /// Styles and grammars.
    pub text_style: TextStyle<'a>,
    /// Changes whenever a field other than `width` and `today` changes. Rows cached for another revision are not valid.
    pub revision: u64,
    /// How much detail is shown.
    pub output: OutputMode,
    /// Time zone of the times shown.
    pub time_zone: &'a jiff::tz::TimeZone,
}

/// Like [`MessageLayout`], for a background task.
#[derive(Debug, Clone)]
pub struct OwnedMessageLayout {
    width: usize,
    today: Date,
    theme: Theme,
    syntax: Option<Syntax>,
    revision: u64,
    output: OutputMode,
    time_zone: jiff::tz::TimeZone,
}

impl<'a> MessageLayout<'a> {
    /// Returns the parameters without borrowed values.
    #[must_use]
    pub fn to_owned(self) -> OwnedMessageLayout {
        OwnedMessageLayout {
            width: self.width,
            today: self.today,
            theme: self.text_style.theme.clone(),
            syntax: self.text_style.syntax,
            revision: self.revision,
            output: self.output,
            time_zone: self.time_zone.clone(),
        }
    }

    /// Returns the same layout without syntax highlighting.
    #[must_use]
    pub const fn without_syntax(self) -> MessageLayout<'a> {
        MessageLayout { text_style: TextStyle { theme: self.text_style.theme, syntax: None }, ..self }
    }
}

impl OwnedMessageLayout {
    /// Returns the parameters as borrowed values.
    #[must_use]
    pub const fn as_layout(&self) -> MessageLayout<'_> {
        MessageLayout {
            width: self.width,
            today: self.today,
            text_style: TextStyle { theme: &self.theme, syntax: self.syntax },
            revision: self.revision,
            output: self.output,
            time_zone: &self.time_zone,
        }
    }
}
