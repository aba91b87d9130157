//! The literals at which the search looks closer.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::command::{COMMANDS, Command, OptionForm, READERS};
use crate::formats::{FORMATS, Format};

/// What an anchor introduces.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Format(&'static Format),
    JsonWebToken,
    PrivateKey,
    PuttyKey,
    TelegramToken,
    DiscordToken,
    AzureSecret,
    AzureDevOps,
    /// A mark in the middle of a token, whose label this is.
    InfixedToken(&'static str),
    Url,
    OracleUrl,
    WebhookUrl,
    AuthScheme,
    Cookies,
    /// A part of names such as `DB_PASSWORD`.
    Name,
    /// A name in another script.
    ForeignName,
    /// Words that a password in quotes follows.
    QuotedPassword,
    /// The start of a call or a list with a user's name and a password.
    LoginPair,
    Command(&'static Command),
    /// A program that reads a password from its input.
    PasswordReader(OptionForm),
    /// `net use`, or `net user` if true.
    NetPassword(bool),
}

/// Parts that every name of a secret contains.
const NAMES: &[&str] = &[
    "passw",
    "passp",
    "passc",
    "pass",
    "pwd",
    "pword",
    "psk",
    "_pw",
    "secret",
    "token",
    "key",
    "auth",
    "cred",
    "jwt",
    "kennwort",
    "senha",
    "contrase",
    "mnemonic",
    "phrase",
    "&sig",
    "?sig",
    "signature",
    "cookie",
    "_pat",
    "bearer",
    "&appid",
    "?appid",
];
const FOREIGN_NAMES: &[&str] = &["пароль", "Пароль", "密码", "密碼", "パスワード", "비밀번호"];
const WEBHOOKS: &[&str] = &[
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/webhookb2/",
    "hooks.zapier.com/hooks/catch/",
    "open.feishu.cn/open-apis/bot/v2/hook/",
    "maker.ifttt.com/use/",
    "outlook.office.com/webhook/",
];

/// The table, built on first use.
pub static ANCHORS: LazyLock<Anchors> = LazyLock::new(Anchors::new);

/// A table that finds all anchors in one pass.
///
/// The first three bytes of an anchor select its entry. Few places in a text have an entry, and there the rest is compared.
/// An Aho-Corasick automaton of the same literals takes 5 ms to build, which every start of hfs would pay that checks an
/// address in its configuration, and finds no more than 150 MB/s, because its overlapping search has no prefilter. This
/// table is built in 50 us.
pub struct Anchors {
    /// For each three bytes, the number of the first anchor that starts with them; 0 if there is none.
    heads: Box<[u16]>,
    /// The anchors, counted from 1.
    entries: Vec<Entry>,
}

struct Entry {
    literal: Cow<'static, str>,
    anchor: Anchor,
    ignores_case: bool,
    /// The next anchor that starts with the same three bytes, or 0.
    next: u16,
}

/// Bits of the key of three bytes.
const KEY_BITS: u32 = 15;

/// The key of three bytes, equal for letters in both cases.
const fn key(first: u8, second: u8, third: u8) -> usize {
    (first as usize & 31) << 10 | (second as usize & 31) << 5 | (third as usize & 31)
}

impl Anchors {
    fn new() -> Self {
        let mut table = Self { heads: vec![0; 1 << KEY_BITS].into(), entries: Vec::new() };
        for format in FORMATS {
            if format.prefix.len() >= 3 {
                table.add(format.prefix, Anchor::Format(format), false);
                continue;
            }
            // A key needs three bytes: add each character that can follow.
            for next in (b'0'..=b'9').chain(b'A'..=b'F').chain(b'a'..=b'f').map(char::from) {
                table.add(format!("{}{next}", format.prefix), Anchor::Format(format), false);
            }
        }
        for command in COMMANDS {
            table.add(command.name, Anchor::Command(command), false);
        }
        READERS.iter().for_each(|(name, form)| table.add(*name, Anchor::PasswordReader(*form), false));
        table.add("net use ", Anchor::NetPassword(false), true);
        table.add("net user ", Anchor::NetPassword(true), true);
        ["auth=(", "auth = (", "auth=[", "auth: [", "basicauth(", "networkcredential(", ".login("]
            .iter()
            .for_each(|start| table.add(*start, Anchor::LoginPair, true));
        NAMES.iter().for_each(|name| table.add(*name, Anchor::Name, true));
        FOREIGN_NAMES.iter().for_each(|name| table.add(*name, Anchor::ForeignName, false));
        WEBHOOKS.iter().for_each(|webhook| table.add(*webhook, Anchor::WebhookUrl, true));
        ["bearer ", "basic "].iter().for_each(|scheme| table.add(*scheme, Anchor::AuthScheme, true));
        ["identified by", "convertto-securestring", "convertto-securestring -string"]
            .iter()
            .for_each(|words| table.add(*words, Anchor::QuotedPassword, true));
        ["jdbc:oracle:thin:", "jdbc:oracle:oci:"]
            .iter()
            .for_each(|url| table.add(*url, Anchor::OracleUrl, true));
        table.add("cookie:", Anchor::Cookies, true);
        table.add("eyJ", Anchor::JsonWebToken, false);
        table.add("-----BEGIN", Anchor::PrivateKey, false);
        table.add("Private-Lines:", Anchor::PuttyKey, false);
        table.add(":AA", Anchor::TelegramToken, false);
        table.add(".atlasv1.", Anchor::InfixedToken("Terraform token"), false);
        table.add("AZDO", Anchor::AzureDevOps, false);
        table.add(":fx", Anchor::InfixedToken("DeepL key"), false);
        table.add("://", Anchor::Url, false);
        for digit in '0'..='9' {
            table.add(format!("{digit}Q~"), Anchor::AzureSecret, false);
        }
        // The id at the start of a Discord token is a number in base64: its digits select the first three characters.
        for first in ["MD", "MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"] {
            for third in "AEIMQUYcgk".chars() {
                table.add(format!("{first}{third}"), Anchor::DiscordToken, false);
            }
        }
        table
    }

    fn add(&mut self, literal: impl Into<Cow<'static, str>>, anchor: Anchor, ignores_case: bool) {
        let literal = literal.into();
        let [first, second, third, ..] = literal.as_bytes() else { return };
        let Some(head) = self.heads.get_mut(key(*first, *second, *third)) else { return };
        let Ok(number) = u16::try_from(self.entries.len() + 1) else { return };
        let next = std::mem::replace(head, number);
        self.entries.push(Entry { literal, anchor, ignores_case, next });
    }

    /// Calls `visit` with the anchors in the text and their positions.
    pub fn find(&self, text: &str, mut visit: impl FnMut(Anchor, usize, usize)) {
        let bytes = text.as_bytes();
        let triples = bytes.iter().zip(bytes.iter().skip(1)).zip(bytes.iter().skip(2));
        for (start, ((first, second), third)) in triples.enumerate() {
            let mut number = self.heads.get(key(*first, *second, *third)).copied().unwrap_or(0);
            while number != 0 {
                let Some(entry) = self.entries.get(usize::from(number) - 1) else { break };
                let end = start + entry.literal.len();
                if let Some(found) = bytes.get(start..end) {
                    let literal = entry.literal.as_bytes();
                    let is_equal = if entry.ignores_case {
                        found.eq_ignore_ascii_case(literal)
                    } else {
                        found == literal
                    };
                    if is_equal {
                        visit(entry.anchor, start, end);
                    }
                }
                number = entry.next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_anchor_is_found_in_any_text() {
        for number in 1..=ANCHORS.entries.len() {
            let literal = &ANCHORS.entries.get(number - 1).unwrap().literal;
            let mut found = Vec::new();
            ANCHORS.find(&format!("a {literal} b"), |_, start, end| found.push((start, end)));
            assert!(found.contains(&(2, 2 + literal.len())), "{literal}");
        }
    }
}
