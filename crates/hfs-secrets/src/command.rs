//! Passwords on command lines that have no name that says so, such as `mysql -pPASSWORD`.

use crate::Secret;
use crate::text::{at, is_word, part, skip, skip_back, starts_word};
use crate::value::is_placeholder;

/// How a program takes a password.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The program, and a subcommand if only that takes a password.
    pub name: &'static str,
    options: &'static [&'static str],
    form: OptionForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionForm {
    /// The argument of the option, attached or the next word.
    Argument,
    /// Attached to the option; a separate word means something else.
    Attached,
    /// The part of the argument after this character.
    After(char),
    /// The argument after this prefix. Other prefixes say where the password is.
    Prefixed(&'static str),
    /// The last word of the command, if it has one of the options.
    Last,
}

const fn command(name: &'static str, options: &'static [&'static str], form: OptionForm) -> Command {
    Command { name, options, form }
}

pub const COMMANDS: &[Command] = &[
    command("curl ", &["-u", "--user", "-U", "--proxy-user"], OptionForm::After(':')),
    command("wget ", &["--user"], OptionForm::After(':')),
    command("http ", &["-a", "--auth"], OptionForm::After(':')),
    command("sshpass ", &["-p"], OptionForm::Argument),
    command("mysql ", &["-p"], OptionForm::Attached),
    command("mysqldump ", &["-p"], OptionForm::Attached),
    command("mysqladmin ", &["-p"], OptionForm::Attached),
    command("mariadb ", &["-p"], OptionForm::Attached),
    command("redis-cli ", &["-a"], OptionForm::Argument),
    command("docker login ", &["-p"], OptionForm::Argument),
    command("podman login ", &["-p"], OptionForm::Argument),
    command("oc login ", &["-p"], OptionForm::Argument),
    command("az login ", &["-p"], OptionForm::Argument),
    command("cf login ", &["-p"], OptionForm::Argument),
    command("registry login ", &["-p"], OptionForm::Argument),
    command("ldapsearch ", &["-w"], OptionForm::Argument),
    command("ldapmodify ", &["-w"], OptionForm::Argument),
    command("ldapadd ", &["-w"], OptionForm::Argument),
    command("smbclient ", &["-U"], OptionForm::After('%')),
    command("sqlcmd ", &["-P"], OptionForm::Argument),
    command("mongosh ", &["-p"], OptionForm::Argument),
    command("mongodump ", &["-p"], OptionForm::Argument),
    command("mongo ", &["-p"], OptionForm::Argument),
    command("xfreerdp ", &["/p:"], OptionForm::Attached),
    command("rabbitmqctl ", &["-p"], OptionForm::Attached),
    command("ldapwhoami ", &["-w"], OptionForm::Argument),
    command("ldapdelete ", &["-w"], OptionForm::Argument),
    command("zip ", &["-P"], OptionForm::Argument),
    command("unzip ", &["-P"], OptionForm::Argument),
    command("7z ", &["-p"], OptionForm::Attached),
    command("7za ", &["-p"], OptionForm::Attached),
    command("7zz ", &["-p"], OptionForm::Attached),
    command("unrar ", &["-p"], OptionForm::Attached),
    command("openssl ", &["-passin", "-passout", "-pass"], OptionForm::Prefixed("pass:")),
    command("htpasswd ", &["-b", "-bc", "-cb", "-nb", "-bn", "-bB", "-Bb", "-bBc", "-cBb"], OptionForm::Last),
    command("ansible ", &["ansible_password="], OptionForm::Attached),
];

/// How much of a command line is examined.
const MAX_LINE: usize = 600;

/// Finds the password in the command line that starts at `start`. `end` is the position after the program's name.
pub fn find_in_command(text: &str, start: usize, end: usize, command: &Command, found: &mut Vec<Secret>) {
    if !starts_word(text, start) {
        return;
    }
    let mut index = end;
    let limit = text.len().min(end + MAX_LINE);
    let mut awaited = false;
    // The newest word that is not an option, for a form that needs the last one.
    let mut last = None;
    let finish = |awaited: bool, last: Option<(usize, usize)>, found: &mut Vec<Secret>| {
        if let (OptionForm::Last, true, Some((start, end))) = (command.form, awaited, last) {
            push_argument(text, start, end, command.form, found);
        }
    };
    while index < limit {
        index = skip(text, index, |byte| byte == b' ' || byte == b'\t');
        // The end of the command, unless the line is continued.
        match at(text, index) {
            0 | b'\n' | b'|' | b';' | b'&' => return finish(awaited, last, found),
            _ if ends_string(text, index) => return finish(awaited, last, found),
            b'\\' if at(text, index + 1) == b'\n' => {
                index += 2;
                continue;
            }
            _ => {}
        }
        let (word_start, word_end, next) = word(text, index);
        // An escaped line break, or the quote after the command.
        if command.form == OptionForm::Last && word_end == word_start {
            return finish(awaited, last, found);
        }
        if !part(text, word_start, word_end).starts_with('-') {
            last = Some((word_start, word_end));
        }
        if awaited && command.form != OptionForm::Last {
            push_argument(text, word_start, word_end, command.form, found);
            awaited = false;
        } else {
            let content = part(text, word_start, word_end);
            for option in command.options {
                let Some(rest) = content.strip_prefix(option) else { continue };
                let is_long = option.starts_with("--");
                if rest.is_empty() {
                    awaited = command.form != OptionForm::Attached;
                } else if command.form == OptionForm::Last {
                    continue;
                } else if !is_long || rest.starts_with('=') {
                    let start = word_end - rest.len() + usize::from(rest.starts_with('='));
                    let quoted = usize::from(matches!(at(text, start), b'\'' | b'"'));
                    push_argument(
                        text,
                        start + quoted,
                        word_end - quoted.min(word_end - start),
                        command.form,
                        found,
                    );
                }
            }
        }
        index = next.max(index + 1);
    }
    finish(awaited, last, found);
}

/// Programs that read a password from their input, and how it is written there.
pub const READERS: &[(&str, OptionForm)] = &[
    ("sudo -S", OptionForm::Argument),
    ("chpasswd", OptionForm::After(':')),
    ("--password-stdin", OptionForm::Argument),
    ("--with-token", OptionForm::Argument),
    ("passwd --stdin", OptionForm::Argument),
];

/// Finds the password that `echo PASSWORD |` or `<<< PASSWORD` passes to a program, whose name starts at `start`.
pub fn find_piped(text: &str, start: usize, end: usize, form: OptionForm, found: &mut Vec<Secret>) {
    let line_end = skip(text, end, |byte| !b"\n|;&".contains(&byte)).min(end + MAX_LINE);
    if let Some(here) = part(text, end, line_end).find("<<<") {
        let (word_start, word_end, _) = word(text, skip(text, end + here + 3, |byte| byte == b' '));
        return push_argument(text, word_start, word_end, form, found);
    }
    // Not the start of a line in JSON, since a format of `printf` contains the same characters.
    let line_start = skip_back(text, start, 300, |byte| byte != b'\n');
    let line = part(text, line_start, start);
    let Some(pipe) = line.rfind('|') else { return };
    let Some(echo) = ["echo ", "printf "]
        .iter()
        .filter_map(|word| Some(line.get(..pipe)?.rfind(word)? + word.len()))
        .max()
    else {
        return;
    };
    let (mut index, pipe) = (line_start + echo, line_start + pipe);
    // The last word: options and a format precede it.
    let mut last = None;
    while index < pipe {
        let (word_start, word_end, next) = word(text, skip(text, index, |byte| byte == b' '));
        if word_end > word_start && word_end <= pipe {
            last = Some((word_start, word_end));
        }
        index = next.max(index + 1);
    }
    if let Some((word_start, word_end)) = last {
        push_argument(text, word_start, word_end, form, found);
    }
}

/// Finds the password in `net use \\server\share PASSWORD /user:NAME`, and in `net user NAME PASSWORD` if `is_account`.
pub fn find_net_password(text: &str, end: usize, is_account: bool, found: &mut Vec<Secret>) {
    let line_end = skip(text, end, |byte| !b"\n\r\"'`|&".contains(&byte)).min(end + MAX_LINE);
    let mut index = end;
    let mut names = usize::from(is_account);
    while index < line_end {
        let start = skip(text, index, |byte| byte == b' ').min(line_end);
        let end = skip(text, start, |byte| byte != b' ').min(line_end);
        let word = part(text, start, end);
        let is_other = word.starts_with(['/', '*', '-']) || word.contains('\\') || word.ends_with(':');
        if !is_other && names == 0 {
            return push_argument(text, start, end, OptionForm::Argument, found);
        }
        names -= usize::from(!is_other && names > 0);
        index = end + 1;
    }
}

/// Whether a string of JSON ends here, whose quote may be escaped.
fn ends_string(text: &str, index: usize) -> bool {
    let quote = skip(text, index, |byte| byte == b'\\');
    at(text, quote) == b'"' && matches!(at(text, quote + 1), b'}' | b']' | b',' | b':')
}

/// The word of a command line at `index`, without its quotes, and the position after it.
fn word(text: &str, index: usize) -> (usize, usize, usize) {
    let quote_at = skip(text, index, |byte| byte == b'\\');
    let quote = at(text, quote_at);
    if matches!(quote, b'"' | b'\'') {
        let start = quote_at + 1;
        let end = skip(text, start, |byte| byte != quote && byte != b'\n' && byte != b'\\');
        return (start, end, skip(text, end, |byte| byte == b'\\' || byte == quote));
    }
    let end = skip(text, index, |byte| !byte.is_ascii_whitespace() && byte != b'\\' && byte != b'`');
    // The command may be a string of JSON, which ends before the word does.
    let word = part(text, index, end);
    let string_end = ["\"}", "\"]", "\",", "\":"].iter().filter_map(|end| word.find(end)).min();
    let end = string_end.map_or(end, |length| index + length);
    (index, end, end)
}

fn push_argument(text: &str, start: usize, end: usize, form: OptionForm, found: &mut Vec<Secret>) {
    let argument = part(text, start, end);
    let start = match form {
        OptionForm::Argument | OptionForm::Attached | OptionForm::Last => start,
        OptionForm::After(separator) => match argument.find(separator) {
            Some(at) => start + at + 1,
            None => return,
        },
        OptionForm::Prefixed(prefix) if argument.starts_with(prefix) => start + prefix.len(),
        OptionForm::Prefixed(_) => return,
    };
    let value = part(text, start, end).trim_end_matches(['"', '\'']);
    let is_option = value.starts_with('-') && value.len() > 1 && is_word(at(text, start + 1));
    if value.len() >= 3 && !is_option && !is_placeholder(value) && value.parse::<u32>().is_err() {
        found.push(Secret { start, end: start + value.len(), label: "password" });
    }
}

#[cfg(test)]
mod tests {
    /// The secrets in a text.
    fn found(text: &str) -> Vec<&str> {
        crate::find(text).into_iter().filter_map(|secret| text.get(secret.start..secret.end)).collect()
    }

    #[test]
    fn a_password_that_is_piped_to_a_program_is_found() {
        for text in [
            "echo 'Kestrel-7781' | sudo -S apt update",
            "echo -n \"Kestrel-7781\" | docker login registry.test -u jane --password-stdin",
            "printf '%s\\n' Kestrel-7781 | gh auth login --with-token",
            "echo jane:Kestrel-7781 | chpasswd",
            "sudo -S ls <<< Kestrel-7781",
            r#"{"command":"echo \"Kestrel-7781\" | sudo -S ls"}"#,
        ] {
            assert_eq!(found(text), ["Kestrel-7781"], "{text}");
        }
        for text in
            ["echo $PASS | sudo -S ls", "cat list | chpasswd", "cat token.txt | gh auth login --with-token"]
        {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_password_is_found_by_its_place_in_a_command() {
        for text in [
            "htpasswd -bc .htpasswd jane Kestrel-7781",
            r#"{"command":"htpasswd -b .htpasswd jane Kestrel-7781"}"#,
            r"net use Z: \\files\share Kestrel-7781 /user:SHOP\jane",
            r"net use \\files\share /user:jane Kestrel-7781",
            "net user jane Kestrel-7781 /add",
            "openssl rsa -in key.pem -passin pass:Kestrel-7781 -out out.pem",
            "r = get(url, auth=('jane', 'Kestrel-7781'))",
            "server.login(\"jane@shop.test\", \"Kestrel-7781\")",
            "aws configure set aws_secret_access_key wJ8rXUtnFxMIK7MDxNGbPxRf/Kestrel-7781",
        ] {
            assert!(found(text).concat().contains("Kestrel-7781"), "{text}");
        }
        for text in [
            "htpasswd -c .htpasswd jane",
            "net user jane * /add",
            "net user",
            "openssl rsa -passin env:KEY_PASS -in key.pem",
            "you can set token limits here, or set password protection",
            "auth=(user, password)",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
