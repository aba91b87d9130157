//! What emacs users' fingers expect beyond the usual keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Buffer;

/// Handles a key that is emacs's own; `false` leaves it to the usual ones.
pub fn key(buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
    let KeyCode::Char(c) = key.code else { return false };
    match (key.modifiers, c) {
        (KeyModifiers::CONTROL, 'b') => buffer.left(),
        (KeyModifiers::CONTROL, 'f') => buffer.right(),
        (KeyModifiers::CONTROL, 'p') => return buffer.up(width),
        (KeyModifiers::CONTROL, 'n') => return buffer.down(width),
        (KeyModifiers::CONTROL, 'd') if !buffer.text().is_empty() => buffer.delete_after(),
        (KeyModifiers::CONTROL, 'h') => buffer.delete_before(),
        (KeyModifiers::ALT, 'b') => buffer.word_left(),
        (KeyModifiers::ALT, 'f') => buffer.word_right(),
        (KeyModifiers::ALT, 'd') => buffer.kill_word_after(),
        (KeyModifiers::ALT, '<') => buffer.move_to(0),
        (KeyModifiers::ALT, '>') => buffer.move_to(usize::MAX),
        _ => return false,
    }
    true
}
