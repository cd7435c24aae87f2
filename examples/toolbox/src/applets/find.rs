//! `find`.

mod expression;

use std::collections::VecDeque;

use crate::applet;
use crate::applets::files;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::dispatch::{self, Surroundings};
use crate::runtime::executor::{Local, tick};
use crate::runtime::file::OpenFile;
use crate::shell::pattern::Pattern;
use crate::sys::{Kind, Status};
use crate::text::base_name;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("find", find)];

/// Bytes of arguments that one call gets, as POSIX's smallest maximum, doubled.
const ARGUMENTS: usize = 8192;

enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Name(Pattern, bool),
    Path(Pattern),
    Kind(Vec<Kind>),
    Size(Compare, u64),
    Age(Compare, i64, fn(&Status) -> i64),
    Newer((i64, u32)),
    Links(Compare),
    Inode(Compare),
    Empty,
    Always(bool),
    Prune,
    Print(char),
    Exec(Vec<String>, usize),
    Delete,
    Quit,
}

#[derive(Clone, Copy)]
enum Compare {
    Less(i64),
    Equal(i64),
    More(i64),
}

impl Compare {
    fn parse(text: &str) -> Option<Self> {
        match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(rest), _) => rest.parse().ok().map(Compare::Less),
            (_, Some(rest)) => rest.parse().ok().map(Compare::More),
            _ => text.parse().ok().map(Compare::Equal),
        }
    }

    fn holds(self, value: i64) -> bool {
        match self {
            Compare::Less(bound) => value < bound,
            Compare::Equal(bound) => value == bound,
            Compare::More(bound) => value > bound,
        }
    }
}

struct Find {
    depth_first: bool,
    least: usize,
    most: usize,
    follow: bool,
    /// For each `-exec … {} +`: what has come together.
    batches: Vec<(Vec<String>, Vec<String>)>,
    status: u8,
    pruned: bool,
    quit: bool,
    acts: bool,
    now: i64,
}

async fn find(context: &mut Context) -> Outcome {
    let args = context.args.clone();
    let mut at = 0;
    let mut state = Find {
        depth_first: false,
        least: 0,
        most: usize::MAX,
        follow: false,
        batches: Vec::new(),
        status: 0,
        pruned: false,
        quit: false,
        acts: false,
        now: crate::sys::now().0,
    };
    while let Some(flag) = args.get(at).filter(|flag| matches!(flag.as_str(), "-L" | "-H" | "-P")) {
        state.follow = flag == "-L";
        at += 1;
    }
    let is_expression =
        |argument: &String| argument.starts_with('-') && argument.len() > 1 || matches!(argument.as_str(), "(" | ")" | "!" | ",");
    let start = at;
    while args.get(at).is_some_and(|argument| !is_expression(argument)) {
        at += 1;
    }
    let mut roots = args.get(start..at).unwrap_or_default().to_vec();
    if roots.is_empty() {
        roots.push(".".into());
    }
    let mut words: VecDeque<String> = args.get(at..).unwrap_or_default().iter().cloned().collect();
    let test = if words.is_empty() { Test::Always(true) } else { state.either(context, &mut words)? };
    if let Some(word) = words.front() {
        return fail(format!("unexpected '{word}'"));
    }
    let test = if state.acts { test } else { Test::And(vec![test, Test::Print('\n')]) };
    for root in roots {
        match context.status(&root, state.follow) {
            Ok(status) => state.visit(context, &root, status, 0, &test).await?,
            Err(error) => {
                context.complain_of(&root, &error).await;
                state.status = 1;
            }
        }
        if state.quit {
            break;
        }
    }
    for index in 0..state.batches.len() {
        state.run_batch(context, index).await?;
    }
    Ok(state.status)
}

impl Find {
    fn visit<'a>(
        &'a mut self,
        context: &'a mut Context,
        path: &'a str,
        status: Status,
        depth: usize,
        test: &'a Test,
    ) -> Local<'a, Result<(), Fail>> {
        Box::pin(async move {
            tick().await;
            self.pruned = false;
            if !self.depth_first && depth >= self.least {
                self.holds(context, path, &status, test).await?;
            }
            if status.is_directory() && depth < self.most && !self.quit && (self.depth_first || !self.pruned) {
                match files::list(&context.path(path)) {
                    Ok(names) => {
                        for name in names {
                            let inner = format!("{}/{name}", if path == "/" { "" } else { path.trim_end_matches('/') });
                            let found = context.status(&inner, self.follow).or_else(|_| context.status(&inner, false));
                            // What has gone meanwhile is no error.
                            if let Ok(status) = found {
                                self.visit(context, &inner, status, depth + 1, test).await?;
                            }
                            if self.quit {
                                return Ok(());
                            }
                        }
                    }
                    Err(error) => {
                        context.complain_of(path, &error).await;
                        self.status = 1;
                    }
                }
            }
            if self.depth_first && depth >= self.least && !self.quit {
                self.holds(context, path, &status, test).await?;
            }
            Ok(())
        })
    }

    fn holds<'a>(
        &'a mut self,
        context: &'a mut Context,
        path: &'a str,
        status: &'a Status,
        test: &'a Test,
    ) -> Local<'a, Result<bool, Fail>> {
        Box::pin(async move {
            Ok(match test {
                Test::And(list) => {
                    for test in list {
                        if !self.holds(context, path, status, test).await? {
                            return Ok(false);
                        }
                    }
                    true
                }
                Test::Or(list) => {
                    for test in list {
                        if self.holds(context, path, status, test).await? {
                            return Ok(true);
                        }
                    }
                    false
                }
                Test::Not(inner) => !self.holds(context, path, status, inner).await?,
                Test::Name(pattern, false) => pattern.matches(base_name(path)),
                Test::Name(pattern, true) => pattern.matches(&base_name(path).to_lowercase()),
                Test::Path(pattern) => pattern.matches(path),
                Test::Kind(kinds) => kinds.contains(&status.kind),
                Test::Size(compare, unit) => compare.holds(status.size.div_ceil(*unit) as i64),
                Test::Age(compare, unit, time) => compare.holds((self.now - time(status)).div_euclid(*unit)),
                Test::Newer(time) => status.modified > *time,
                Test::Links(compare) => compare.holds(status.links as i64),
                Test::Inode(compare) => compare.holds(status.inode as i64),
                Test::Empty => match status.kind {
                    Kind::File => status.size == 0,
                    Kind::Directory => files::list(&context.path(path)).is_ok_and(|names| names.is_empty()),
                    _ => false,
                },
                Test::Always(value) => *value,
                Test::Prune => {
                    self.pruned = true;
                    true
                }
                Test::Print(end) => {
                    context.print(&format!("{path}{end}")).await?;
                    true
                }
                Test::Exec(command, usize::MAX) => {
                    let command: Vec<String> = command.iter().map(|word| word.replace("{}", path)).collect();
                    run(context, &command, false).await? == 0
                }
                Test::Exec(_, batch) => {
                    let full = match self.batches.get_mut(*batch) {
                        Some((_, paths)) => {
                            paths.push(path.to_string());
                            paths.iter().map(|path| path.len() + 1).sum::<usize>() > ARGUMENTS
                        }
                        None => false,
                    };
                    if full {
                        self.run_batch(context, *batch).await?;
                    }
                    true
                }
                Test::Delete => {
                    let target = context.path(path);
                    if matches!(base_name(path), "." | "..") {
                        return Ok(true);
                    }
                    let result = if status.is_directory() { std::fs::remove_dir(&target) } else { std::fs::remove_file(&target) };
                    if let Err(error) = &result {
                        context.complain_of(path, error).await;
                        self.status = 1;
                    }
                    result.is_ok()
                }
                Test::Quit => {
                    self.quit = true;
                    true
                }
            })
        })
    }

    async fn run_batch(&mut self, context: &mut Context, index: usize) -> Result<(), Fail> {
        let Some((command, paths)) = self.batches.get_mut(index) else { return Ok(()) };
        if paths.is_empty() {
            return Ok(());
        }
        let mut command = command.clone();
        command.append(paths);
        if run(context, &command, false).await? != 0 {
            self.status = 1;
        }
        Ok(())
    }
}

/// Runs a command with what was printed so far before it. `no_input`: its standard input is empty.
pub async fn run(context: &mut Context, command: &[String], no_input: bool) -> Result<u8, Fail> {
    let Some((name, args)) = command.split_first() else { return fail("a command is missing") };
    context.out.flush().await?;
    let mut surroundings = Surroundings::of(context);
    if no_input {
        surroundings.fds.insert(0, std::rc::Rc::new(OpenFile::Null));
    }
    let label = context.name.clone();
    Ok(dispatch::run(&label, name, args.to_vec(), surroundings).await)
}
