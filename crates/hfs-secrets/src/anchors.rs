//! The literals at which the search looks closer, in one automaton.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind};

use crate::command::{COMMANDS, Command};
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
    Command(&'static Command),
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

/// The automaton, built on first use.
pub static ANCHORS: LazyLock<Anchors> = LazyLock::new(Anchors::new);

/// An automaton that finds all anchors in one pass.
pub struct Anchors {
    automaton: Option<AhoCorasick>,
    anchors: Vec<Anchor>,
}

impl Anchors {
    fn new() -> Self {
        let mut all: Vec<(String, Anchor)> = Vec::new();
        let mut add = |literal: &str, anchor: Anchor| all.push((literal.to_owned(), anchor));
        for format in FORMATS {
            add(format.prefix, Anchor::Format(format));
        }
        for command in COMMANDS {
            add(command.name, Anchor::Command(command));
        }
        NAMES.iter().for_each(|name| add(name, Anchor::Name));
        FOREIGN_NAMES.iter().for_each(|name| add(name, Anchor::ForeignName));
        WEBHOOKS.iter().for_each(|webhook| add(webhook, Anchor::WebhookUrl));
        ["bearer ", "basic "].iter().for_each(|scheme| add(scheme, Anchor::AuthScheme));
        add("cookie:", Anchor::Cookies);
        add("eyJ", Anchor::JsonWebToken);
        add("-----BEGIN", Anchor::PrivateKey);
        add("Private-Lines:", Anchor::PuttyKey);
        add(":AA", Anchor::TelegramToken);
        add("Q~", Anchor::AzureSecret);
        add(".atlasv1.", Anchor::InfixedToken("Terraform token"));
        add("azdo", Anchor::AzureDevOps);
        add(":fx", Anchor::InfixedToken("DeepL key"));
        add("://", Anchor::Url);
        add("jdbc:oracle:thin:", Anchor::OracleUrl);
        add("jdbc:oracle:oci:", Anchor::OracleUrl);
        ["identified by", "convertto-securestring", "convertto-securestring -string"]
            .iter()
            .for_each(|words| add(words, Anchor::QuotedPassword));
        // The id at the start of a Discord token is a number in base64: its digits select the first three characters.
        for first in ["MD", "MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"] {
            for third in "AEIMQUYcgk".chars() {
                add(&format!("{first}{third}"), Anchor::DiscordToken);
            }
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(all.iter().map(|(literal, _)| literal));
        // Building fails only for more or longer literals than the table has.
        debug_assert!(automaton.is_ok());
        Self { automaton: automaton.ok(), anchors: all.into_iter().map(|(_, anchor)| anchor).collect() }
    }

    /// The anchors in the text with their positions.
    pub fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (Anchor, usize, usize)> + 't {
        let input = Input::new(text).anchored(Anchored::No);
        let matches =
            self.automaton.iter().flat_map(move |automaton| automaton.find_overlapping_iter(input.clone()));
        matches.filter_map(|found| {
            let anchor = *self.anchors.get(found.pattern().as_usize())?;
            Some((anchor, found.start(), found.end()))
        })
    }
}
