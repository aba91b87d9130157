use proptest::prelude::*;

use super::*;

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

/// A parser with a clock.
struct Terminal {
    parser: Parser,
    now: Instant,
}

impl Terminal {
    fn new() -> Self {
        let now = Instant::now();
        Self { parser: Parser::new(now, 0), now }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<InputEvent> {
        self.parser.push(bytes.as_ref(), self.now)
    }

    /// Waits until the parser has nothing to wait for, at most this long.
    fn wait(&mut self, time: Duration) -> Vec<InputEvent> {
        let end = self.now + time;
        let mut events = Vec::new();
        while let Some(deadline) = self.parser.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline;
            events.extend(self.parser.time_out());
        }
        self.now = end;
        events
    }
}

fn parse(bytes: impl AsRef<[u8]>) -> Vec<InputEvent> {
    let mut terminal = Terminal::new();
    let mut events = terminal.send(bytes);
    events.extend(terminal.wait(Duration::from_secs(5)));
    events
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> InputEvent {
    InputEvent::Key(KeyEvent::new(code, modifiers))
}

fn typed(text: &str) -> Vec<InputEvent> {
    text.chars().map(|c| key(KeyCode::Char(c), NONE)).collect()
}

fn paste(text: &str) -> InputEvent {
    InputEvent::Paste(text.to_owned())
}

#[test]
fn what_a_terminal_reports_is_neither_text_nor_a_key() {
    for report in [
        "\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
        "\x1b]11;rgb:ffff/ffff/ffff\x1b\\",
        "\x1b]10;rgb:0000/0000/0000\x07",
        "\x1b]4;1;rgb:ff/00/00\x1b\\",
        "\x1b]52;c;aGVsbG8=\x07",
        "\x1b]777;x;\u{e9}\x07",
        "\x1b[?2026;2$y",
        "\x1b[?997;1n",
        "\x1b[?62;22c",
        "\x1b[>41;354;0c",
        "\x1b[?1u",
        "\x1b[?1;1;256S",
        "\x1b[12;40R",
        "\x1b[1;2R",
        "\x1b[0n",
        "\x1b[8;24;80t",
        "\x1b[4;600;800t",
        "\x1b[2;1$y",
        "\x1b[=7x",
        "\x1b_Gi=31;OK\x1b\\",
        "\x1b_Gi=31;OK\x07",
        "\x1bP>|XTerm(390)\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1bP1+r544e=787465726d\x1b\\",
        "\x1b^private\x1b\\",
        "\x1bXstart\x1b\\",
        "\x1b[201~",
        "\u{9b}",
        "\u{90}",
    ] {
        let mut events = parse(format!("a{report}b"));
        events.retain(|event| !matches!(event, InputEvent::Background(_) | InputEvent::DeviceAttributes));
        assert_eq!(events, typed("ab"), "{report:?}");
    }
}

#[test]
fn a_report_is_recognised_however_it_is_split() {
    let report = "\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\x\x1b[?2026;2$yy\x1bP>|a\x1b\\z";
    for size in 1..report.len() {
        let mut terminal = Terminal::new();
        let mut events = Vec::new();
        for piece in report.as_bytes().chunks(size) {
            events.extend(terminal.send(piece));
            events.extend(terminal.wait(Duration::from_millis(100)));
        }
        events.retain(|event| !matches!(event, InputEvent::Background(_)));
        assert_eq!(events, typed("xyz"), "in pieces of {size}");
    }
}

#[test]
fn the_background_is_read_in_all_formats() {
    for (answer, expected) in [
        ("rgb:ffff/fafa/f0f0", Some(Background::Light)),
        ("rgb:1e/1e/2e", Some(Background::Dark)),
        ("rgba:ffff/ffff/ffff/8000", Some(Background::Light)),
        ("#fdf6e3", Some(Background::Light)),
        ("#000", Some(Background::Dark)),
        ("rgb:zz/00/00", None),
        ("rgb:ff/ff", None),
        ("#ffff", None),
        ("#\u{e9}\u{e9}\u{e9}", None),
        ("?", None),
    ] {
        let expected: Vec<_> = expected.into_iter().map(InputEvent::Background).collect();
        assert_eq!(parse(format!("\x1b]11;{answer}\x07")), expected, "{answer}");
    }
}

#[test]
fn escape_sequences_split_by_a_slow_link_are_no_escape() {
    for (sequence, expected) in [
        ("\x1b[A", key(KeyCode::Up, NONE)),
        ("\x1bOB", key(KeyCode::Down, NONE)),
        ("\x1b[1;5C", key(KeyCode::Right, CONTROL)),
        ("\x1b[15~", key(KeyCode::F(5), NONE)),
        ("\x1b[200~hi\x1b[201~", paste("hi")),
    ] {
        let mut terminal = Terminal::new();
        let mut events = Vec::new();
        for byte in sequence.as_bytes() {
            events.extend(terminal.send([*byte]));
            events.extend(terminal.wait(Duration::from_millis(120)));
        }
        assert_eq!(events, [expected], "{sequence:?}");
    }
}

#[test]
fn esc_is_a_key_after_a_short_time_and_before_other_keys() {
    let mut terminal = Terminal::new();
    assert_eq!(terminal.send("\x1b"), []);
    assert_eq!(terminal.wait(Duration::from_millis(200)), [key(KeyCode::Esc, NONE)]);
    // Typed quickly, as in vim: Esc, then a command.
    for command in ["k", "O", "["] {
        terminal.send("\x1b");
        terminal.wait(Duration::from_millis(60));
        let mut events = terminal.send(command);
        events.extend(terminal.wait(Duration::from_secs(2)));
        let c = command.chars().next().unwrap();
        assert_eq!(
            events,
            [
                key(KeyCode::Esc, NONE),
                key(KeyCode::Char(c), if c == 'O' { KeyModifiers::SHIFT } else { NONE })
            ]
        );
    }
    assert_eq!(parse("\x1b\x1b"), [key(KeyCode::Esc, NONE), key(KeyCode::Esc, NONE)]);
    // With the kitty protocol, Esc is a sequence, so a single ESC only waits for its rest.
    let mut terminal = Terminal::new();
    terminal.send("\x1b[?1u");
    terminal.send("\x1b");
    assert_eq!(terminal.wait(Duration::from_millis(800)), []);
    assert_eq!(terminal.send("[A"), [key(KeyCode::Up, NONE)]);
    assert_eq!(terminal.send("\x1b[27u"), [key(KeyCode::Esc, NONE)]);
}

#[test]
fn keys_with_alt_are_one_key() {
    let alt = KeyModifiers::ALT;
    assert_eq!(parse("\x1bx"), [key(KeyCode::Char('x'), alt)]);
    assert_eq!(parse("\x1bX"), [key(KeyCode::Char('X'), alt | KeyModifiers::SHIFT)]);
    assert_eq!(parse("\x1b\r"), [key(KeyCode::Enter, alt)]);
    assert_eq!(parse("\x1b\x7f"), [key(KeyCode::Backspace, alt)]);
    assert_eq!(parse("\x1b\u{e9}"), [key(KeyCode::Char('\u{e9}'), alt)]);
    assert_eq!(parse("\x1b]"), [key(KeyCode::Char(']'), alt)]);
    assert_eq!(parse("\x1b["), [key(KeyCode::Char('['), alt)]);
}

#[test]
fn keys_are_recognised_in_the_formats_of_all_terminals() {
    let shift = KeyModifiers::SHIFT;
    for (bytes, code, modifiers) in [
        ("\x03", KeyCode::Char('c'), CONTROL),
        ("\n", KeyCode::Char('j'), CONTROL),
        ("\0", KeyCode::Char(' '), CONTROL),
        ("\x1f", KeyCode::Char('7'), CONTROL),
        ("\x7f", KeyCode::Backspace, NONE),
        ("\t", KeyCode::Tab, NONE),
        ("\r", KeyCode::Enter, NONE),
        ("\x1b[Z", KeyCode::BackTab, shift),
        ("\x1b[[B", KeyCode::F(2), NONE),
        ("\x1bOR", KeyCode::F(3), NONE),
        ("\x1b[24~", KeyCode::F(12), NONE),
        ("\x1b[3;5~", KeyCode::Delete, CONTROL),
        ("\x1b[H", KeyCode::Home, NONE),
        ("\x1b[7~", KeyCode::Home, NONE),
        ("\x1b[1;3A", KeyCode::Up, KeyModifiers::ALT),
        ("\x1b[a", KeyCode::Up, shift),
        ("\x1b[13;2u", KeyCode::Enter, shift),
        ("\x1b[27;2;13~", KeyCode::Enter, shift),
        ("\x1b[27;5;13~", KeyCode::Enter, CONTROL),
        ("\x1b[9;2u", KeyCode::BackTab, shift),
        ("\x1b[57414u", KeyCode::Enter, NONE),
        ("\x1b[57419;5u", KeyCode::Up, CONTROL),
        ("\x1b[99;5u", KeyCode::Char('c'), CONTROL),
        ("\x1b[46:62;4u", KeyCode::Char('>'), KeyModifiers::ALT),
    ] {
        assert_eq!(parse(bytes), [key(code, modifiers)], "{bytes:?}");
    }
    // Releases, modifiers alone and media keys are no keys of the app.
    for bytes in ["\x1b[99;5:3u", "\x1b[57441;2u", "\x1b[57430u", "\x1b[1;1:3A", "\x1b[99;0u"] {
        assert_eq!(parse(bytes), [], "{bytes:?}");
    }
}

#[test]
fn shortcuts_work_on_layouts_without_latin_letters() {
    // Cyrillic, Greek and Hebrew: the code of the letter, and the code on the base layout after an empty shifted code.
    for (bytes, c, modifiers) in [
        ("\x1b[1089::99;5u", 'c', CONTROL),
        ("\x1b[961::114;5u", 'r', CONTROL),
        ("\x1b[1489:1489:99;5u", 'c', CONTROL),
        ("\x1b[1095:1063:120;3u", 'x', KeyModifiers::ALT),
    ] {
        assert_eq!(parse(bytes), [key(KeyCode::Char(c), modifiers)], "{bytes:?}");
    }
    // On Dvorak, the user's layout decides, and without a modifier the letter is text.
    assert_eq!(parse("\x1b[106::99;5u"), [key(KeyCode::Char('j'), CONTROL)]);
    assert_eq!(parse("\x1b[1089::99u"), [key(KeyCode::Char('\u{441}'), NONE)]);
}

#[test]
fn mouse_events_are_recognised_in_all_protocols() {
    let event = |kind, column, row, modifiers| InputEvent::Mouse(MouseEvent { kind, column, row, modifiers });
    let down = MouseEventKind::Down(MouseButton::Left);
    assert_eq!(parse("\x1b[<0;10;5M"), [event(down, 9, 4, NONE)]);
    assert_eq!(parse("\x1b[<0;10;5m"), [event(MouseEventKind::Up(MouseButton::Left), 9, 4, NONE)]);
    assert_eq!(parse("\x1b[<32;10;5M"), [event(MouseEventKind::Drag(MouseButton::Left), 9, 4, NONE)]);
    assert_eq!(parse("\x1b[<80;1;1M"), [event(MouseEventKind::ScrollUp, 0, 0, CONTROL)]);
    assert_eq!(parse("\x1b[M !!"), [event(down, 0, 0, NONE)]);
    assert_eq!(parse("\x1b[32;10;5M"), [event(down, 9, 4, NONE)]);
    let wheel = "\x1b[<65;10;5M".repeat(1_000);
    assert_eq!(parse(&wheel).len(), 1_000);
    assert_eq!(parse("\x1b[<0;99999999999;5Mx"), [event(down, 0, 4, NONE), key(KeyCode::Char('x'), NONE)]);
}

#[test]
fn a_paste_is_one_text_whatever_it_contains() {
    let text = "one\ntwo\r\n\x1b[31m\x03 日本 \x1b[200~";
    assert_eq!(parse(format!("\x1b[200~{text}\x1b[201~x")), [paste(text), key(KeyCode::Char('x'), NONE)]);
    let bytes = format!("\x1b[200~{text}\x1b[201~x");
    let mut terminal = Terminal::new();
    let events: Vec<_> = bytes.bytes().flat_map(|byte| terminal.send([byte])).collect();
    assert_eq!(events, [paste(text), key(KeyCode::Char('x'), NONE)]);
}

#[test]
fn a_paste_whose_end_is_lost_ends_after_a_pause() {
    let mut terminal = Terminal::new();
    assert_eq!(terminal.send("\x1b[200~half a paste"), []);
    assert_eq!(terminal.wait(Duration::from_millis(900)), []);
    assert_eq!(terminal.wait(Duration::from_millis(200)), [paste("half a paste")]);
    assert_eq!(terminal.send("x"), typed("x"));
}

#[test]
fn a_multi_line_paste_without_brackets_is_one_text() {
    assert_eq!(parse("one\rtwo\r"), [paste("one\rtwo\r")]);
    // The kernel passes on at most 4 KiB at once.
    let text = "a long line of text\r".repeat(1_000);
    let mut terminal = Terminal::new();
    let mut events = Vec::new();
    for piece in text.as_bytes().chunks(4_095) {
        events.extend(terminal.send(piece));
        events.extend(terminal.wait(Duration::from_millis(10)));
    }
    events.extend(terminal.wait(Duration::from_secs(1)));
    assert_eq!(events, [paste(&text)]);
}

#[test]
fn fast_typing_is_not_a_paste() {
    let mut expected = typed("hello");
    expected.push(key(KeyCode::Enter, NONE));
    let mut terminal = Terminal::new();
    assert_eq!(terminal.send("hello\r"), expected);
    assert_eq!(terminal.parser.deadline(), None);
}

#[test]
fn a_line_typed_before_raw_mode_ends_with_enter() {
    let now = Instant::now();
    let mut parser = Parser::new(now, 3);
    let mut expected = typed("hi");
    expected.push(key(KeyCode::Enter, NONE));
    assert_eq!(parser.push(b"hi\n", now), expected);
    assert_eq!(parser.push(b"\n", now), [key(KeyCode::Char('j'), CONTROL)]);
}

#[test]
fn characters_split_between_reads_are_complete_and_damaged_ones_are_dropped() {
    let mut terminal = Terminal::new();
    let text = "日👍é";
    let events: Vec<_> = text.bytes().flat_map(|byte| terminal.send([byte])).collect();
    assert_eq!(events, typed(text));
    assert_eq!(parse(b"a\xffb\xc3c\xe6\x97d"), typed("abcd"));
}

#[test]
fn an_incomplete_sequence_does_not_make_the_app_deaf() {
    for start in
        ["\x1b[?", "\x1b[12;", "\x1bP", "\x1b]11;rgb", "\x1b_G", "\x1bO", "\x1b[M", "\x1b[[", "\x1b[200~"]
    {
        let mut terminal = Terminal::new();
        terminal.send(start);
        terminal.wait(Duration::from_secs(2));
        assert_eq!(terminal.send("x"), typed("x"), "{start:?}");
    }
    let long = format!("\x1b[{}u", "1;".repeat(10_000));
    assert!(parse(format!("{long}x")).ends_with(&typed("x")));
    assert_eq!(parse(format!("\x1b]{}\x07x", "y".repeat(100_000))), typed("x"));
}

proptest! {
    #[test]
    fn no_input_leaves_a_sequence_open(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..20) {
        let mut terminal = Terminal::new();
        for piece in bytes.chunks(size) {
            terminal.send(piece);
        }
        terminal.wait(Duration::from_secs(5));
        prop_assert_eq!(terminal.parser.deadline(), None);
        prop_assert_eq!(terminal.send("x"), typed("x"));
    }

    #[test]
    fn the_split_of_the_input_does_not_matter(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["a", "\x1b[A", "\x1b[<0;1;1M", "\x1b]11;#fff\x07", "\x1b[?1$y", "日", "\x1bOP"]),
            1..12,
        ),
        size in 1_usize..9,
    ) {
        let text = pieces.concat();
        let mut terminal = Terminal::new();
        let events: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| terminal.send(piece)).collect();
        prop_assert_eq!(events, Terminal::new().send(&text));
    }
}
