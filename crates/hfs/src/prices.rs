//! The prices of models, from a table that is part of the program.

use std::sync::LazyLock;

use hfs_core::{Timestamp, Usage};
use hfs_engine::Prices;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const TABLE: &str = include_str!("prices.tsv");

/// The prices of the table.
pub const PUBLISHED: Prices = Prices { cost, checked: CHECKED };

/// When the table was last compared with what providers publish.
const CHECKED: &str = "2026-11-30";

/// The prices of a model, in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    from: Date,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

/// The lines of the table, with the name of the model.
static PRICES: LazyLock<Vec<(&str, Price)>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(model, rest)| Some((model, parse_price(rest)?)))
        .collect()
});

/// What a model's tokens cost in US dollars; `None` if the model's price is not known.
fn cost(model: &str, usage: Usage, at: Timestamp) -> Option<f64> {
    let name = base_name(model);
    let listed = PRICES.iter().map(|(listed, _)| *listed).filter(|listed| is_version_of(name, listed));
    let listed = listed.max_by_key(|listed| listed.len())?;
    let prices = || PRICES.iter().filter(|(model, _)| *model == listed).map(|(_, price)| price);
    let day = at.known().map(|at| at.to_jiff().to_zoned(TimeZone::UTC).date());
    let is_valid = |price: &&Price| day.is_none_or(|day| price.from <= day);
    let newest = prices().filter(is_valid).max_by_key(|price| price.from);
    let price = newest.or_else(|| prices().min_by_key(|price| price.from))?;
    // Where a provider names no price for its cache, it charges that of the input.
    let parts = [
        (Some(usage.uncached_tokens()), price.input),
        (Some(usage.completion_tokens), price.output),
        (usage.cache_read_tokens, price.cache_read.unwrap_or(price.input)),
        (usage.cache_write_tokens, price.cache_write.unwrap_or(price.input)),
    ];
    #[allow(clippy::cast_precision_loss, reason = "numbers of tokens are far below 2^52")]
    let dollars = parts.into_iter().map(|(tokens, price)| tokens.unwrap_or(0) as f64 * price).sum::<f64>();
    Some(dollars / 1e6)
}

/// Parses the columns of a line after the model.
fn parse_price(columns: &str) -> Option<Price> {
    let [from, input, output, read, write] = columns.split('\t').collect::<Vec<_>>().try_into().ok()?;
    let optional = |text: &str| text.parse().ok();
    Some(Price {
        from: from.parse().ok()?,
        input: input.parse().ok()?,
        output: output.parse().ok()?,
        cache_read: optional(read),
        cache_write: optional(write),
    })
}

/// The name of a model without the gateway or region that it is reached through, such as `anthropic/` or `us.anthropic.`.
fn base_name(model: &str) -> &str {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    name.rsplit_once("anthropic.").map_or(name, |(_, name)| name)
}

/// Whether `name` is `listed`, or a dated or preview version of it. `gpt-5.1-codex` is not a version of `gpt-5.1`, and has a line of
/// its own.
fn is_version_of(name: &str, listed: &str) -> bool {
    let Some(rest) = name.strip_prefix(listed) else { return false };
    let Some(version) = rest.strip_prefix(['-', '@', ':', '[']) else { return rest.is_empty() };
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 4
        || ["latest", "preview", "thinking", "chat-latest", "v1", "1m"]
            .iter()
            .any(|word| version.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(model: &str, usage: Usage, day: &str) -> Option<f64> {
        cost(model, usage, format!("{day}T12:00:00Z").parse().unwrap())
    }

    #[test]
    fn every_line_of_the_table_can_be_read() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(PRICES.len(), lines.count());
        for (model, _) in &*PRICES {
            assert!(cost(model, Usage::new(1, 1), Timestamp::UNKNOWN).is_some(), "{model}");
        }
        assert!(TABLE.lines().next().unwrap().contains(CHECKED));
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        let usage = Usage::new(1_000_000, 100_000).with_cache(Some(600_000), Some(300_000));
        let cost = dollars("claude-sonnet-4-5-20250929", usage, "2026-02-01").unwrap();
        assert!((cost - (0.1 * 3.0 + 0.1 * 15.0 + 0.6 * 0.3 + 0.3 * 3.75)).abs() < 1e-9, "{cost}");
    }

    #[test]
    fn the_price_at_the_time_of_the_message_counts() {
        let usage = Usage::new(1_000_000, 0);
        assert_eq!(dollars("o3", usage, "2025-05-01"), Some(10.0));
        assert_eq!(dollars("o3-2025-04-16", usage, "2025-07-01"), Some(2.0));
        assert_eq!(dollars("o3", usage, "2024-01-01"), Some(10.0), "before the first line");
        assert_eq!(cost("o3", usage, Timestamp::UNKNOWN), Some(2.0));
    }

    #[test]
    fn a_model_that_is_not_listed_has_no_price() {
        let usage = Usage::new(1_000_000, 0);
        for (model, price) in [
            ("anthropic/claude-opus-4-20250514", Some(15.0)),
            ("us.anthropic.claude-opus-4-5-20251101-v1:0", Some(5.0)),
            ("claude-opus-4-5@20251101", Some(5.0)),
            ("claude-sonnet-4-5[1m]", Some(3.0)),
            ("gpt-5.1-codex-mini", Some(0.25)),
            ("claude-opus-4-9", None),
            ("gpt-4.7", None),
            ("gpt-5x", None),
            ("llama3", None),
            ("", None),
        ] {
            assert_eq!(dollars(model, usage, "2026-02-01"), price, "{model}");
        }
    }
}
