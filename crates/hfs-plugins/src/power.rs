//! What a plugin may do, each thing by itself: named in a way that lasts, and said in words.

use std::fmt;

use crate::capability::Export;

/// One thing that a plugin may do once it is approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// The host calls it at such moments.
    Export(Export),
    /// It reads sessions.
    ReadSessions,
    /// It talks to a host.
    Network(String),
    /// It reads files below a folder.
    ReadFiles(String),
    /// It reads, changes and deletes files below a folder.
    WriteFiles(String),
    /// It keeps data of its own, so many bytes.
    Storage(u64),
}

impl Power {
    /// A person's words for it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Export(export) => export.words().to_owned(),
            Self::ReadSessions => "read all your saved conversations".into(),
            Self::Network(host) if host == "*" => "talk to any host on the internet".into(),
            Self::Network(host) => format!("talk to {host} over the network"),
            Self::ReadFiles(root) => format!("read the files in {root}"),
            Self::WriteFiles(root) => format!("read, change and delete files in {root}"),
            Self::Storage(bytes) => format!("keep up to {} of its own data", shown_bytes(*bytes)),
        }
    }
}

/// The name by which grants remember it.
impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Export(export) => write!(f, "export:{}", export.as_str()),
            Self::ReadSessions => f.write_str("session:read"),
            Self::Network(host) => write!(f, "network:{host}"),
            Self::ReadFiles(root) => write!(f, "filesystem.read:{root}"),
            Self::WriteFiles(root) => write!(f, "filesystem.write:{root}"),
            Self::Storage(bytes) => write!(f, "storage:{bytes}"),
        }
    }
}

/// Of `wanted`, what is not among the remembered names.
pub(crate) fn beyond<'a>(wanted: &'a [Power], granted: &'a [String]) -> impl Iterator<Item = &'a Power> {
    wanted.iter().filter(|power| !granted.contains(&power.to_string()))
}

fn shown_bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beyond_a_grant_is_each_power_that_it_does_not_name() {
        let wanted = [
            Power::Export(Export::OnMessage),
            Power::Network("a.example".into()),
            Power::Network("b.example".into()),
            Power::Storage(1 << 20),
        ];
        let granted = ["export:on-message", "network:a.example", "storage:1024"].map(str::to_owned).to_vec();
        let beyond: Vec<String> = beyond(&wanted, &granted).map(Power::words).collect();
        assert_eq!(beyond, ["talk to b.example over the network", "keep up to 1 MiB of its own data"]);
    }
}
