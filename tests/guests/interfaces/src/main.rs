//! `interfaces COMMAND ... [+ COMMAND ...] ...`: the commands of the library beside this, one after the other. What a command answers
//! is printed; one that fails says why on stderr and ends the guest with 1.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    for command in words.split(|word| word == "+") {
        match interfaces::run(&command.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(answer) => println!("{answer}"),
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
