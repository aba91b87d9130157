//! Permissions: the actions that a plugin may perform once it is approved.
//!
//! An approval stores the names of all permissions of the plugin (see [`crate::approval`]). A later version of the
//! plugin is compared with that list, so that the user sees what is new.

use std::fmt;

use crate::contract::Export;

/// An action that a plugin may perform once it is approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// The host calls this export.
    Export(Export),
    /// Read sessions.
    ReadSessions,
    /// Send HTTP requests to a host.
    Network(String),
    /// Read files in a folder and its subfolders.
    ReadFiles(String),
    /// Read, change and delete files in a folder and its subfolders.
    WriteFiles(String),
    /// Store data of its own, up to this number of bytes.
    Storage(u64),
}

impl Permission {
    /// A description for the user.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Export(export) => export.description().to_owned(),
            Self::ReadSessions => "read all your saved conversations".into(),
            Self::Network(host) if host == "*" => "talk to any host on the internet".into(),
            Self::Network(host) => format!("talk to {host} over the network"),
            Self::ReadFiles(folder) => format!("read every file in {}", folder_in_words(folder)),
            Self::WriteFiles(folder) => {
                format!("read, change and delete every file in {}", folder_in_words(folder))
            }
            Self::Storage(bytes) => format!("store up to {} of its own data", format_bytes(*bytes)),
        }
    }
}

/// The name in the approvals file and in JSON output. Do not change a name: hfs would treat it as a new permission in
/// every plugin that was approved with the old name.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Export(export) => write!(f, "export:{}", export.as_str()),
            Self::ReadSessions => f.write_str("session:read"),
            Self::Network(host) => write!(f, "network:{host}"),
            Self::ReadFiles(folder) => write!(f, "filesystem.read:{folder}"),
            Self::WriteFiles(folder) => write!(f, "filesystem.write:{folder}"),
            Self::Storage(bytes) => write!(f, "storage:{bytes}"),
        }
    }
}

/// What a path in a manifest stands for.
fn folder_in_words(folder: &str) -> String {
    let in_home = if folder == "~" { Some("") } else { folder.strip_prefix("~/") };
    match in_home.map(|rest| rest.trim_matches('/')) {
        Some("") => "your home directory and in its subfolders".to_owned(),
        Some(rest) => format!("the folder {rest} of your home directory and in its subfolders ({folder})"),
        None => format!("the folder {folder} of this computer and in its subfolders"),
    }
}

/// The permissions in `wanted` whose names are not in `granted`.
pub(crate) fn not_granted<'a>(
    wanted: &'a [Permission],
    granted: &'a [String],
) -> impl Iterator<Item = &'a Permission> {
    wanted.iter().filter(|permission| !granted.contains(&permission.to_string()))
}

fn format_bytes(bytes: u64) -> String {
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
    fn each_permission_that_the_approval_does_not_name_is_new() {
        let wanted = [
            Permission::Export(Export::OnMessage),
            Permission::Network("a.example".into()),
            Permission::Network("b.example".into()),
            Permission::Storage(1 << 20),
        ];
        let granted = ["export:on-message", "network:a.example", "storage:1024"].map(str::to_owned).to_vec();
        let new: Vec<String> = not_granted(&wanted, &granted).map(Permission::description).collect();
        assert_eq!(new, ["talk to b.example over the network", "store up to 1 MiB of its own data"]);
    }

    #[test]
    fn a_question_says_in_words_what_a_path_means() {
        for home in ["~", "~/"] {
            assert_eq!(
                Permission::ReadFiles(home.into()).description(),
                "read every file in your home directory and in its subfolders"
            );
        }
        assert_eq!(
            Permission::ReadFiles("~/notes/2026".into()).description(),
            "read every file in the folder notes/2026 of your home directory and in its subfolders (~/notes/2026)"
        );
        assert_eq!(
            Permission::WriteFiles("/srv/data".into()).description(),
            "read, change and delete every file in the folder /srv/data of this computer and in its subfolders"
        );
    }
}
