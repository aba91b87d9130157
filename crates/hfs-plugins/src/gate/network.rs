//! Which hosts a plugin may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a manifest names under `permissions.network`.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowList(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: HostPattern,
    /// Without one, the usual ports of http and https.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// Any host that is public.
    Any,
    /// Every name below this one.
    Below(String),
    Name(String),
    Address(IpAddr),
}

impl AllowList {
    pub fn new(entries: &[String]) -> Self {
        Self(entries.iter().map(|entry| Allowed::new(entry)).collect())
    }

    /// Whether a host and port may be reached, and if so, whether at a private address, too: only a host that was
    /// named by its address, or as `localhost`, is meant to be there.
    pub fn allows(&self, host: &str, port: u16) -> Option<Reach> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = address_of(&host);
        let fitting = self.0.iter().filter(|allowed| match allowed.port {
            Some(named) => named == port,
            None => matches!(port, 80 | 443),
        });
        let reaches = fitting.filter_map(|allowed| match (&allowed.host, address) {
            (HostPattern::Address(named), Some(address)) => (*named == address).then_some(Reach::Private),
            (HostPattern::Any, _) => Some(Reach::Public),
            (HostPattern::Name(name), None) if *name == host => {
                Some(if name == "localhost" { Reach::Private } else { Reach::Public })
            }
            (HostPattern::Below(name), None) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                below.then_some(Reach::Public)
            }
            _ => None,
        });
        reaches.max()
    }
}

/// How far an allowed host may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// To public addresses only.
    Public,
    /// To private ones, too.
    Private,
}

impl Reach {
    pub fn includes(self, address: IpAddr) -> bool {
        self == Self::Private || is_public(address)
    }
}

impl Allowed {
    fn new(entry: &str) -> Self {
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let host = match (host, address_of(host)) {
            (_, Some(address)) => HostPattern::Address(address),
            ("*", None) => HostPattern::Any,
            (name, None) => match name.strip_prefix("*.") {
                Some(rest) => HostPattern::Below(rest.to_owned()),
                None => HostPattern::Name(name.to_owned()),
            },
        };
        Self { host, port }
    }
}

fn address_of(host: &str) -> Option<IpAddr> {
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    plain.parse().ok()
}

/// Whether an address is one of the internet's at large.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast alone; of it, what is for documentation is not.
    let [first, second, ..] = address.segments();
    (first & 0xe000) == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second < 0x200))
}

/// The IPv4 address that an IPv6 address stands for: mapped, 6to4, or behind a translator.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entries: &[&str], host: &str, port: u16) -> Option<Reach> {
        AllowList::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
            .allows(host, port)
    }

    #[test]
    fn a_host_is_allowed_when_it_is_named() {
        assert_eq!(allows(&["api.example.com"], "API.example.com.", 443), Some(Reach::Public));
        assert_eq!(allows(&["*.example.com"], "a.b.example.com", 80), Some(Reach::Public));
        assert_eq!(allows(&["*"], "anything.org", 443), Some(Reach::Public));
        assert_eq!(allows(&["localhost:8080"], "localhost", 8080), Some(Reach::Private));
        assert_eq!(allows(&["127.0.0.1:9"], "127.0.0.1", 9), Some(Reach::Private));
        assert_eq!(allows(&["[::1]:9"], "[::1]", 9), Some(Reach::Private));
        for (entries, host, port) in [
            (&["api.example.com"][..], "example.com", 443),
            (&["api.example.com"], "api.example.com", 22),
            (&["api.example.com:8443"], "api.example.com", 443),
            (&["*.example.com"], "example.com", 443),
            (&["*.example.com"], "evilexample.com", 443),
            (&["localhost"], "127.0.0.1", 80),
            (&[], "example.com", 443),
        ] {
            assert_eq!(allows(entries, host, port), None, "{entries:?} {host}:{port}");
        }
    }

    #[test]
    fn public_hosts_do_not_lead_to_private_addresses() {
        for (address, public) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.216.34", true),
            ("64:ff9b::a00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Reach::Public.includes(address), public, "{address}");
            assert!(Reach::Private.includes(address));
        }
    }
}
