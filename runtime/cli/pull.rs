//! `cri-wasm pull`: the daemon pulls an image, and people see how far it is.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::client::{Client, plain};
use crate::proto::images::v1::{Part, Phase, PullRequest};

/// Longest password that is read from standard input, in bytes: tokens of some clouds take kilobytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// `pull`
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Reference of an image
    image: String,
    /// User name for the registry; the password comes from standard input
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// No bars; one line for each part that is done
    #[arg(long, short)]
    quiet: bool,
    /// Socket of the daemon [default: the node's]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Pulls on a runtime of its own. Prints the image's id.
pub(super) fn run(arguments: PullArgs) -> anyhow::Result<ExitCode> {
    let password = if arguments.password_stdin { password()? } else { String::new() };
    super::block_on(async {
        let socket = match &arguments.socket {
            Some(socket) => socket.clone(),
            None => crate::config::Config::load(None, crate::config::Overrides::default())?.socket(),
        };
        let mut client = Client::connect(&socket).await?;
        let username = arguments.username.unwrap_or_default();
        let request = PullRequest { reference: arguments.image, username, password };
        let mut answers = client.pulls.pull(request).await.map_err(plain)?.into_inner();
        let mut view = View::new(!arguments.quiet && std::io::stderr().is_terminal());
        while let Some(answer) = answers.message().await.map_err(plain)? {
            view.show(&answer.parts);
            if !answer.image_id.is_empty() {
                view.end();
                println!("{}", answer.image_id);
                return Ok(ExitCode::SUCCESS);
            }
        }
        bail!("the daemon ended in mid-pull; it goes on from there when the pull is repeated")
    })?
}

fn password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(MAX_PASSWORD).read_to_string(&mut text).context("reading the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What a person sees: a bar for each part, or, where nobody looks at a terminal, a line for each part that is done.
struct View {
    bars: Option<MultiProgress>,
    parts: HashMap<String, (Phase, ProgressBar)>,
}

impl View {
    fn new(with_bars: bool) -> View {
        View { bars: with_bars.then(MultiProgress::new), parts: HashMap::new() }
    }

    fn show(&mut self, parts: &[Part]) {
        for part in parts {
            let phase = part.phase();
            let known = self.parts.get(&part.name).map(|(known, _)| *known);
            if known != Some(phase) {
                self.enter(part, phase);
            }
            if let Some((_, bar)) = self.parts.get(&part.name)
                && part.total > 0
            {
                bar.set_length(part.total);
                bar.set_position(part.done);
            }
        }
    }

    /// A part comes, or goes on to its next phase.
    fn enter(&mut self, part: &Part, phase: Phase) {
        let ended = matches!(phase, Phase::Done | Phase::Exists);
        let name = short(&part.name);
        let Some(bars) = &self.bars else {
            if ended {
                eprintln!("{name} {}", word(phase));
            }
            self.parts.insert(part.name.clone(), (phase, ProgressBar::hidden()));
            return;
        };
        let (_, bar) = self.parts.entry(part.name.clone()).or_insert_with(|| (phase, bars.add(ProgressBar::no_length())));
        let counted = part.total > 0 && matches!(phase, Phase::Downloading | Phase::Unpacking);
        let template = match () {
            () if counted => "{prefix} {msg:12} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
            () if ended => "{prefix} {msg}",
            () => "{prefix} {msg:12} {spinner}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar.set_message(word(phase));
        if ended {
            bar.finish();
        }
        self.parts.entry(part.name.clone()).and_modify(|(known, _)| *known = phase);
    }

    /// Leaves the bars as they are on the screen, and what comes next below them.
    fn end(&mut self) {
        for (_, bar) in self.parts.values() {
            bar.abandon();
        }
        if self.bars.is_some() {
            eprintln!();
        }
    }
}

/// A digest by its first digits, a path by its end: what fits before a bar.
fn short(name: &str) -> String {
    /// Columns of a name.
    const WIDTH: usize = 24;
    let text = name.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(name);
    // From a registry: nothing that moves the cursor.
    let text: Vec<char> = text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    let cut = text.len().saturating_sub(WIDTH);
    let text: String = text.get(cut..).unwrap_or_default().iter().collect();
    format!("{text:WIDTH$}")
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Downloading => "downloading",
        Phase::Unpacking => "unpacking",
        Phase::Compiling => "compiling",
        Phase::Done => "done",
        Phase::Exists => "is here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_tells_them_apart_and_cannot_move_the_cursor() {
        assert_eq!(short(&format!("sha256:{}", "ab".repeat(32))).trim_end(), "abababababab");
        assert_eq!(short("/a/very/long/path/to/some/module.wasm"), "path/to/some/module.wasm");
        assert_eq!(short("/\u{1b}[2J").trim_end(), "/?[2J");
    }
}
