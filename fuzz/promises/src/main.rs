//! Fuzzing without coverage guidance, on a stable toolchain: mutates the seeds at random for a given time.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

use std::error::Error;
use std::fs;
use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz_promises::{TARGETS, Target, fuzz_folder, mutate};

/// An input that takes longer counts as a finding: its reader is probably not linear.
const SLOW_INPUT: Duration = Duration::from_secs(2);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds] = arguments.as_slice() else {
        for Target { name, property, .. } in TARGETS {
            println!("{name:<16} {property}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let target = Target::named(name).ok_or_else(|| format!("there is no target {name}"))?;
    search(target, Duration::from_secs(seconds.parse()?))
}

/// Tries inputs until the time is up or the property is violated. Saves the input in that case.
fn search(target: &Target, time: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let seeds = target.seeds()?;
    let start = Instant::now();
    let mut tried = 0_u64;
    while start.elapsed() < time {
        let choices: Vec<u8> = (0..fastrand::usize(1..64)).map(|_| fastrand::u8(..)).collect();
        let input = mutate(&seeds, &choices);
        let check_start = Instant::now();
        let outcome = panic::catch_unwind(|| (target.check)(&input));
        tried += 1;
        if outcome.is_err() || check_start.elapsed() > SLOW_INPUT {
            let problem = if outcome.is_err() { "violates its property" } else { "is slow" };
            let folder = fuzz_folder().join("artifacts").join(target.name);
            fs::create_dir_all(&folder)?;
            let path = folder.join(format!("found-{tried}-{:016x}", fastrand::u64(..)));
            fs::write(&path, &input)?;
            eprintln!("{} {problem} on {}", target.name, path.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{}: {tried} inputs in {} s, the property held for all", target.name, start.elapsed().as_secs());
    Ok(ExitCode::SUCCESS)
}
