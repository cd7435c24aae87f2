//! `tar`: what `kubectl cp` calls, and what people do. Archives are streams of any size; names of any length are written
//! as GNU does and read in GNU's and pax's way. Nothing that an archive says leads out of the directory it is unpacked in.

mod create;
mod extract;

use crate::applet;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::{Parsed, parse};
use crate::runtime::file::read_all;
use crate::shell::pattern::Pattern;
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("tar", tar)];

/// The unit of archives.
pub const BLOCK: usize = 512;

/// What to do, apart from where and with what.
pub struct Job {
    /// The options.
    pub parsed: Parsed,
    /// Members that are left out.
    pub excluded: Vec<Pattern>,
    /// The directory of the members, absolute.
    pub directory: String,
    /// Members that are wanted; none is all.
    pub names: Vec<String>,
}

impl Job {
    /// Whether a member is left out: by its whole name, or by any part of it behind a slash.
    pub fn excludes(&self, name: &str) -> bool {
        let name = name.trim_end_matches('/');
        self.excluded.iter().any(|pattern| {
            let mut rest = name;
            loop {
                let ends = rest.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([rest.len()]);
                if ends.into_iter().any(|end| rest.get(..end).is_some_and(|part| pattern.matches(part))) {
                    return true;
                }
                match rest.split_once('/') {
                    Some((_, tail)) => rest = tail,
                    None => return false,
                }
            }
        })
    }
}

/// The letters of the old way, `tar cf FILE`: those that want values find them behind the letters, in their order.
fn modern(args: &[String]) -> Vec<String> {
    let Some((first, rest)) = args.split_first() else { return Vec::new() };
    if first.starts_with('-') && !first.trim_start_matches('-').chars().any(|letter| matches!(letter, 'f' | 'C' | 'X' | 'T')) {
        return args.to_vec();
    }
    if first.starts_with("--")
        || (first.starts_with('-') && first.ends_with('f'))
        || !first.trim_start_matches('-').chars().all(char::is_alphabetic)
    {
        return args.to_vec();
    }
    let mut list = Vec::new();
    let mut rest = rest.iter();
    for letter in first.trim_start_matches('-').chars() {
        list.push(format!("-{letter}"));
        if matches!(letter, 'f' | 'C' | 'X' | 'T') {
            list.extend(rest.next().cloned());
        }
    }
    list.extend(rest.cloned());
    list
}

async fn tar(context: &mut Context) -> Outcome {
    let long = [
        ("create", 'c'),
        ("extract", 'x'),
        ("list", 't'),
        ("file", 'f'),
        ("gzip", 'z'),
        ("directory", 'C'),
        ("verbose", 'v'),
        ("to-stdout", 'O'),
        ("exclude", 'E'),
        ("exclude-from", 'X'),
        ("files-from", 'T'),
        ("touch", 'm'),
        ("preserve-permissions", 'p'),
        ("strip-components", 'S'),
        ("no-same-owner", 'o'),
        ("no-same-permissions", 'o'),
        ("keep-old-files", 'k'),
        ("overwrite", 'o'),
        ("numeric-owner", 'o'),
        ("dereference", 'h'),
        ("no-recursion", 'n'),
        ("warning", 'W'),
        ("absolute-names", 'P'),
        ("auto-compress", 'a'),
    ];
    let args = modern(&context.args);
    let mut parsed = parse(&args, "cxtf:zC:vOE:X:T:mpS:okhnW:Pa", &long)?;
    let mut excluded: Vec<Pattern> = parsed.values('E').map(Pattern::from_text).collect();
    let mut names = std::mem::take(&mut parsed.operands);
    for (letter, file) in parsed.options.clone() {
        if letter == 'X' || letter == 'T' {
            let handle = context.open(&file).or_else(|error| crate::context::because(&file, &error))?;
            let text = decode(&read_all(&handle).await?);
            match letter {
                'X' => excluded.extend(text.lines().map(Pattern::from_text)),
                _ => names.extend(text.lines().map(str::to_string)),
            }
        }
    }
    let directory = context.path(parsed.value('C').unwrap_or("."));
    if !crate::sys::status(&directory, true).is_ok_and(|status| status.is_directory()) {
        return fail(format!("can't change directory to '{}': No such file or directory", parsed.value('C').unwrap_or(".")));
    }
    let job = Job { excluded, directory, names, parsed };
    match ['c', 'x', 't'].iter().filter(|letter| job.parsed.has(**letter)).count() {
        1 => {}
        _ => return Err(Fail::Message("one of c, x and t has to be said".into(), 1)),
    }
    if job.parsed.has('c') { create::create(context, &job).await } else { extract::extract(context, &job).await }
}
