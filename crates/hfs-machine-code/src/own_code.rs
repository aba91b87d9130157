//! The code of the running program.

use std::io;

/// Lets the operating system take back the memory in which it has mapped the program's code. What runs next is mapped again.
///
/// A page of code that runs is mapped with those around it, so a process that has done many things once, such as an import, keeps
/// most of its code mapped. Mapping again what an import needs takes about a millisecond. Does nothing on other systems than Linux.
///
/// # Errors
/// If the system does not tell where the code is, or refuses.
#[cfg(target_os = "linux")]
pub fn release_own_code() -> io::Result<()> {
    use rustix::mm::{Advice, madvise};

    let program = std::fs::read_link("/proc/self/exe")?;
    let mappings = std::fs::read_to_string("/proc/self/maps")?;
    for (start, length) in mappings.lines().filter_map(|line| code_of(line, &program.to_string_lossy())) {
        let address = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: The range is code that the system has mapped from the program's file when it started the program, and that stays
        // mapped until its end. It cannot be written, so each page has the content of the file, from which the system reads it
        // again. Nothing but a debugger changes pages of code; its breakpoints would be lost.
        #[allow(unsafe_code, reason = "the range is checked above")]
        unsafe {
            madvise(address, length, Advice::LinuxDontNeed)?;
        }
    }
    Ok(())
}

/// Does nothing on this system.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn release_own_code() -> io::Result<()> {
    Ok(())
}

/// The address and length of a mapping of the program's code that cannot be written, from a line of `/proc/self/maps`.
#[cfg(target_os = "linux")]
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let is_code = rest.starts_with("r-xp ") && rest.ends_with(&format!(" {program}"));
    let (start, end) = range.split_once('-').filter(|_| is_code)?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Kilobytes of this program's file that are mapped.
    fn mapped() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn released_code_takes_no_memory_and_still_runs() {
        let engine = wasmtime::Engine::default();
        let component = wat::parse_str("(component)").unwrap();
        let compile = || engine.precompile_component(&component).unwrap();
        let compiled = compile();
        let before = mapped();
        release_own_code().unwrap();
        let after = mapped();
        assert!(after < before, "{after} of {before} KB");
        assert_eq!(compile(), compiled);
    }

    #[test]
    fn only_code_of_the_program_is_released() {
        let code = "55d0a0000000-55d0a0003000 r-xp 01800000 fe:00 1234                       /usr/bin/hfs";
        assert_eq!(code_of(code, "/usr/bin/hfs"), Some((0x55d0_a000_0000, 0x3000)));
        for other in [
            code.replace("r-xp", "r--p"),
            code.replace("r-xp", "rwxp"),
            code.replace("/usr/bin/hfs", "/usr/lib/libc.so.6"),
            code.replace("/usr/bin/hfs", ""),
            "garbage".to_owned(),
        ] {
            assert_eq!(code_of(&other, "/usr/bin/hfs"), None, "{other}");
        }
    }
}
