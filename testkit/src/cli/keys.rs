//! Keys as the bytes that a terminal sends for them.

/// A key, or a key with a modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A letter, digit or sign.
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    /// A letter with Alt.
    Alt(char),
    /// Return.
    Enter,
    /// Return with Alt, which many take for a new line.
    AltEnter,
    /// Tab.
    Tab,
    /// Tab with Shift.
    BackTab,
    /// Escape.
    Escape,
    /// The key that deletes to the left.
    Backspace,
    /// The key that deletes to the right.
    Delete,
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// The arrow to the left.
    Left,
    /// The arrow to the right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// A function key, 1 to 12.
    F(u8),
}

impl Key {
    /// The bytes that xterm sends. `application_cursor` is the mode that a program may have asked for.
    pub(super) fn bytes(self, application_cursor: bool) -> String {
        let arrow = |letter: char| {
            let introducer = if application_cursor { 'O' } else { '[' };
            format!("\x1b{introducer}{letter}")
        };
        match self {
            Self::Char(letter) => letter.to_string(),
            Self::Ctrl(letter) => {
                char::from(u8::try_from(letter.to_ascii_uppercase()).unwrap_or(b'@') & 0x1f).into()
            }
            Self::Alt(letter) => format!("\x1b{letter}"),
            Self::Enter => "\r".into(),
            Self::AltEnter => "\x1b\r".into(),
            Self::Tab => "\t".into(),
            Self::BackTab => "\x1b[Z".into(),
            Self::Escape => "\x1b".into(),
            Self::Backspace => "\x7f".into(),
            Self::Delete => "\x1b[3~".into(),
            Self::Up => arrow('A'),
            Self::Down => arrow('B'),
            Self::Right => arrow('C'),
            Self::Left => arrow('D'),
            Self::Home => arrow('H'),
            Self::End => arrow('F'),
            Self::PageUp => "\x1b[5~".into(),
            Self::PageDown => "\x1b[6~".into(),
            Self::F(number) => function_key(number),
        }
    }
}

fn function_key(number: u8) -> String {
    match number {
        1 => "\x1bOP".into(),
        2 => "\x1bOQ".into(),
        3 => "\x1bOR".into(),
        4 => "\x1bOS".into(),
        5 => "\x1b[15~".into(),
        // The numbering has gaps, from the keyboard of the VT220.
        6..=10 => format!("\x1b[{}~", number + 11),
        11 | 12 => format!("\x1b[{}~", number + 12),
        _ => panic!("there is no key F{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn control_keys_are_control_characters() {
        assert_eq!(Key::Ctrl('c').bytes(false), "\x03");
        assert_eq!(Key::Ctrl('[').bytes(false), "\x1b");
    }

    #[test]
    fn arrows_follow_the_mode_that_was_asked_for() {
        assert_eq!(Key::Up.bytes(false), "\x1b[A");
        assert_eq!(Key::Up.bytes(true), "\x1bOA");
    }

    #[test]
    fn function_keys_leave_out_the_gaps() {
        let numbers: Vec<String> = [5, 6, 10, 11, 12].map(|n| Key::F(n).bytes(false)).into();
        assert_eq!(numbers, ["\x1b[15~", "\x1b[17~", "\x1b[21~", "\x1b[23~", "\x1b[24~"]);
    }
}
