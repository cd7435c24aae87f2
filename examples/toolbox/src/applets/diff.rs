//! `diff`: unified, recursive, quiet.

use similar::{ChangeTag, TextDiff};

use crate::applet;
use crate::applets::files;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::{Parsed, parse};
use crate::runtime::executor::Local;
use crate::runtime::file::read_all;
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("diff", diff)];

async fn diff(context: &mut Context) -> Outcome {
    let long = [
        ("unified", 'u'),
        ("brief", 'q'),
        ("recursive", 'r'),
        ("new-file", 'N'),
        ("ignore-case", 'i'),
        ("report-identical-files", 's'),
        ("label", 'L'),
    ];
    let parsed = parse(&context.args, "uqrNibwBsaU:L:dTt", &long)?;
    let [left, right] = parsed.operands.as_slice() else { return Err(Fail::Message("two files are wanted".into(), 2)) };
    let mut names = [left.clone(), right.clone()];
    let kinds = names.clone().map(|name| name != "-" && context.status(&name, true).is_ok_and(|status| status.is_directory()));
    match kinds {
        [true, true] => return directories(context, left, right, &parsed).await,
        [true, false] => names[0] = format!("{left}/{}", crate::text::base_name(right)),
        [false, true] => names[1] = format!("{right}/{}", crate::text::base_name(left)),
        _ => {}
    }
    let [left, right] = &names;
    files_differ(context, left, right, &parsed).await
}

fn directories<'a>(context: &'a mut Context, left: &'a str, right: &'a str, parsed: &'a Parsed) -> Local<'a, Outcome> {
    Box::pin(async move {
        let mut names = Vec::new();
        for side in [left, right] {
            names.extend(files::list(&context.path(side)).or_else(|error| crate::context::because(side, &error))?);
        }
        names.sort_unstable();
        names.dedup();
        let mut status = 0;
        for name in names {
            let (own, other) = (format!("{left}/{name}"), format!("{right}/{name}"));
            let kinds = [&own, &other].map(|path| context.status(path, true).ok().map(|status| status.is_directory()));
            status = status.max(match kinds {
                [Some(true), Some(true)] if parsed.has('r') => directories(context, &own, &other, parsed).await?,
                [Some(true), Some(true)] => {
                    context.print(&format!("Common subdirectories: {own} and {other}\n")).await?;
                    0
                }
                [Some(false), Some(false)] => files_differ(context, &own, &other, parsed).await?,
                [Some(_), None] if !parsed.has('N') => {
                    context.print(&format!("Only in {left}: {name}\n")).await?;
                    1
                }
                [None, Some(_)] if !parsed.has('N') => {
                    context.print(&format!("Only in {right}: {name}\n")).await?;
                    1
                }
                [Some(false) | None, Some(false) | None] => files_differ(context, &own, &other, parsed).await?,
                _ => {
                    context.print(&format!("File {own} is not of the same kind as file {other}\n")).await?;
                    1
                }
            });
        }
        Ok(status)
    })
}

async fn content(context: &mut Context, name: &str, parsed: &Parsed) -> Result<String, Fail> {
    match context.open(name) {
        Ok(handle) => Ok(decode(&read_all(&handle).await?)),
        Err(error) if parsed.has('N') && error.raw_os_error() == Some(libc::ENOENT) => Ok(String::new()),
        Err(error) => Err(Fail::Message(format!("can't stat '{name}': {}", crate::sys::words(&error)), 2)),
    }
}

/// What is compared of a line.
fn key(line: &str, parsed: &Parsed) -> String {
    let mut key = line.to_string();
    if parsed.has('i') {
        key = key.to_lowercase();
    }
    if parsed.has('w') {
        key.retain(|character| !character.is_whitespace());
    } else if parsed.has('b') {
        key = key.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    key
}

async fn files_differ(context: &mut Context, left: &str, right: &str, parsed: &Parsed) -> Outcome {
    let (own, other) = (content(context, left, parsed).await?, content(context, right, parsed).await?);
    let split = |text: &str| text.split_inclusive('\n').map(str::to_string).collect::<Vec<String>>();
    let (own, other) = (split(&own), split(&other));
    let keys: Vec<Vec<String>> =
        [&own, &other].map(|lines| lines.iter().map(|line| key(line, parsed)).collect::<Vec<_>>()).into_iter().collect();
    let (Some(a), Some(b)) = (keys.first(), keys.get(1)) else { return Ok(2) };
    if a == b {
        if parsed.has('s') {
            context.print(&format!("Files {left} and {right} are identical\n")).await?;
        }
        return Ok(0);
    }
    if parsed.has('q') || [a, b].iter().any(|lines| lines.iter().any(|line| line.contains('\0'))) {
        context.print(&format!("Files {left} and {right} differ\n")).await?;
        return Ok(1);
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
    let difference = TextDiff::from_slices(&a, &b);
    let around = parsed.value('U').and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut labels = parsed.values('L');
    let heading = format!("--- {}\n+++ {}\n", labels.next().unwrap_or(left), labels.next().unwrap_or(right));
    context.print(&heading).await?;
    for group in difference.grouped_ops(around) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let span = |from: usize, to: usize| match to - from {
            1 => format!("{}", from + 1),
            0 => format!("{from},0"),
            count => format!("{},{count}", from + 1),
        };
        let old = span(first.old_range().start, last.old_range().end);
        let new = span(first.new_range().start, last.new_range().end);
        context.print(&format!("@@ -{old} +{new} @@\n")).await?;
        for operation in &group {
            for change in difference.iter_changes(operation) {
                let (mark, line) = match change.tag() {
                    ChangeTag::Equal => (' ', change.old_index().and_then(|index| own.get(index))),
                    ChangeTag::Delete => ('-', change.old_index().and_then(|index| own.get(index))),
                    ChangeTag::Insert => ('+', change.new_index().and_then(|index| other.get(index))),
                };
                let line = line.map_or("", String::as_str);
                let end = if line.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
                context.print(&format!("{mark}{line}{end}")).await?;
            }
        }
    }
    Ok(1)
}
