//! One guest for most of the black-box tests: its arguments say what it does.
//!
//! `probe COMMAND [ARGUMENT ...] [+ COMMAND [ARGUMENT ...]] ...`
//!
//! Commands joined by `+` run one after the other; the first that fails ends the guest with exit code 1, having said
//! on stderr `COMMAND: SUBJECT: ERRNO`, with the errno's own name (`cat: /x: ENOENT`). A command written with a
//! leading `-` (`-cat /x`) reports in the same way, and the next one runs all the same. A wrong use ends with 2.
//!
//! Everything is written to the descriptor at once and unbuffered: one line is one `fd_write`.

mod errno;
mod files;
mod life;
mod output;
mod system;

use std::process::exit;

/// Why a command did not do what it was asked to.
enum Failure {
    /// The system refused: on what, and why.
    Refused(String, std::io::Error),
    /// The arguments make no sense; the text is the right use.
    Usage(&'static str),
}

type Outcome = Result<(), Failure>;

/// Names the subject of a failed system call.
trait On<T> {
    fn on(self, subject: &str) -> Result<T, Failure>;
}

impl<T> On<T> for std::io::Result<T> {
    fn on(self, subject: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Refused(subject.into(), error))
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut names = Vec::new();
    for command in words.split(|word| word == "+") {
        let Some((name, arguments)) = command.split_first() else { continue };
        let (name, carry_on) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        names.push(name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match run(name, &arguments) {
            Ok(()) => {}
            Err(Failure::Usage(usage)) => {
                output::err(&format!("usage: probe {usage}\n"));
                exit(2);
            }
            Err(Failure::Refused(subject, error)) => {
                output::err(&format!("{name}: {subject}: {}\n", errno::name(&error)));
                if !carry_on {
                    exit(1);
                }
            }
        }
    }
    if names.is_empty() {
        output::err("usage: probe COMMAND [ARGUMENT ...] [+ COMMAND ...]\n");
        exit(2);
    }
}

/// The whole list of commands.
fn run(name: &str, arguments: &[&str]) -> Outcome {
    match (name, arguments) {
        // What it prints.
        ("echo", words) => output::out(&format!("{}\n", words.join(" "))),
        ("err", words) => output::err(&format!("{}\n", words.join(" "))),
        ("partial", words) => output::out(&words.join(" ")),
        ("lines", [count, rest @ ..]) => output::lines(count, rest)?,
        ("long", [length]) => output::long(output::number(length)?),
        ("both", [count]) => output::both(output::number(count)?),
        ("binary", []) => output::binary(),
        ("stdin", []) => output::copy_stdin()?,

        // What it is told.
        ("args", _) => system::args(),
        ("env", names) => system::env(names),
        ("pwd", []) => system::pwd()?,
        ("clock", []) => system::clock()?,
        ("random", rest) => system::random(rest)?,
        ("preopens", []) => system::preopens(),
        ("tty", []) => system::tty(),

        // How it lives and ends.
        ("exit", [code]) => exit(output::number(code)? as u32 as i32),
        ("trap", []) => life::outer(),
        ("panic", []) => life::panic(),
        ("abort", []) => std::process::abort(),
        ("recurse", []) => life::recurse_for_ever(),
        ("spin", []) => life::spin(),
        ("spin-after-lines", [count]) => {
            output::lines(count, &[])?;
            life::spin()
        }
        ("sleep", [seconds]) => life::sleep(seconds)?,
        ("eat-memory", [size]) => life::eat_memory(size)?,
        ("open-files", [count, rest @ ..]) => life::open_files(output::number(count)?, rest)?,
        ("wait-for", [path, rest @ ..]) => life::wait_for(path, rest)?,

        // Files.
        ("cat", paths) => files::cat(paths)?,
        ("write", [path, text]) => files::write(path, text, false)?,
        ("append", [path, text]) => files::write(path, text, true)?,
        ("fill", [path, size]) => files::fill(path, size)?,
        ("ls", ["-r", path]) => files::list(path, true)?,
        ("ls", [path]) => files::list(path, false)?,
        ("stat", [path]) => files::stat(path, true)?,
        ("lstat", [path]) => files::stat(path, false)?,
        ("mkdir", [path]) => std::fs::create_dir(path).on(path)?,
        ("rm", [path]) => std::fs::remove_file(path).on(path)?,
        ("rmdir", [path]) => std::fs::remove_dir(path).on(path)?,
        ("rename", [from, to]) => std::fs::rename(from, to).on(from)?,
        ("link", [from, to]) => std::fs::hard_link(from, to).on(to)?,
        ("symlink", [target, link]) => files::symlink(target, link)?,
        ("readlink", [path]) => files::readlink(path)?,
        ("truncate", [path, size]) => files::truncate(path, output::number(size)?)?,
        ("touch", [path]) => files::touch(path)?,
        ("sync", [path]) => files::sync(path)?,
        _ => return Err(Failure::Usage("COMMAND: not known, or not with these arguments; see tests/guests/README.md")),
    }
    Ok(())
}
