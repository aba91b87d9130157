//! Passwords on command lines that have no name that says so, such as `mysql -pPASSWORD`.

use crate::Secret;
use crate::text::{at, is_word, part, skip, starts_word};
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
enum OptionForm {
    /// The argument of the option, attached or the next word.
    Argument,
    /// Attached to the option; a separate word means something else.
    Attached,
    /// The part of the argument after this character.
    After(char),
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
    command("zip ", &["-P"], OptionForm::Argument),
    command("7z ", &["-p"], OptionForm::Attached),
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
    while index < limit {
        index = skip(text, index, |byte| byte == b' ' || byte == b'\t');
        // The end of the command, unless the line is continued.
        match at(text, index) {
            0 | b'\n' | b'|' | b';' | b'&' => return,
            b'\\' if at(text, index + 1) == b'\n' => {
                index += 2;
                continue;
            }
            _ => {}
        }
        let (word_start, word_end, next) = word(text, index);
        if awaited {
            push_argument(text, word_start, word_end, command.form, found);
            awaited = false;
        } else {
            let content = part(text, word_start, word_end);
            for option in command.options {
                let Some(rest) = content.strip_prefix(option) else { continue };
                let is_long = option.starts_with("--");
                if rest.is_empty() {
                    awaited = command.form != OptionForm::Attached;
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
    (index, end, end)
}

fn push_argument(text: &str, start: usize, end: usize, form: OptionForm, found: &mut Vec<Secret>) {
    let argument = part(text, start, end);
    let start = match form {
        OptionForm::Argument | OptionForm::Attached => start,
        OptionForm::After(separator) => match argument.find(separator) {
            Some(at) => start + at + 1,
            None => return,
        },
    };
    let value = part(text, start, end).trim_end_matches(['"', '\'']);
    let is_option = value.starts_with('-') && value.len() > 1 && is_word(at(text, start + 1));
    if value.len() >= 3 && !is_option && !is_placeholder(value) && value.parse::<u32>().is_err() {
        found.push(Secret { start, end: start + value.len(), label: "password" });
    }
}
