//! The search that any toolchain can do: seeds, damaged at random, for as long as one likes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks through both")]

use std::error::Error;
use std::fs;
use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz_promises::{TARGETS, Target, fuzz_folder, mutated};

/// An input that takes longer is worth a look: what reads it is not linear.
const SLOW: Duration = Duration::from_secs(2);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds] = arguments.as_slice() else {
        for Target { name, promise, .. } in TARGETS {
            println!("{name:<16} {promise}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let target = Target::named(name).ok_or_else(|| format!("there is no target {name}"))?;
    search(target, Duration::from_secs(seconds.parse()?))
}

/// Tries inputs until the time is up or a promise is broken; then the input is kept.
fn search(target: &Target, time: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let seeds = target.seeds()?;
    let begin = Instant::now();
    let mut tried = 0_u64;
    while begin.elapsed() < time {
        let choices: Vec<u8> = (0..fastrand::usize(1..64)).map(|_| fastrand::u8(..)).collect();
        let input = mutated(&seeds, &choices);
        let started = Instant::now();
        let outcome = panic::catch_unwind(|| (target.check)(&input));
        tried += 1;
        if outcome.is_err() || started.elapsed() > SLOW {
            let what = if outcome.is_err() { "broke its promise" } else { "was slow" };
            let folder = fuzz_folder().join("artifacts").join(target.name);
            fs::create_dir_all(&folder)?;
            let path = folder.join(format!("found-{tried}-{:016x}", fastrand::u64(..)));
            fs::write(&path, &input)?;
            eprintln!("{} {what} on {}", target.name, path.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{}: {tried} inputs in {} s, every promise held", target.name, begin.elapsed().as_secs());
    Ok(ExitCode::SUCCESS)
}
