//! What needs no file: `echo`, `printf`, `true`, `false`, `sleep`, `seq`, `yes`, `basename`, `dirname`, `env`, `pwd`.

use std::rc::Rc;
use std::time::Duration;

use crate::applet;
use crate::applets::format;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::dispatch::{self, Surroundings};
use crate::options::parse;
use crate::runtime;
use crate::text::{base_name, directory_name};

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("basename", basename),
    applet!("clear", clear),
    applet!("dirname", dirname),
    applet!("echo", echo),
    applet!("env", env),
    applet!("false", no),
    applet!("nohup", nohup),
    applet!("printenv", printenv),
    applet!("printf", printf),
    applet!("pwd", pwd),
    applet!("reset", clear),
    applet!("seq", seq),
    applet!("sleep", sleep),
    applet!("sync", yes_done),
    applet!("timeout", timeout),
    applet!("true", yes_done),
    applet!("usleep", usleep),
    applet!("which", which),
    applet!("yes", yes),
];

async fn yes_done(_context: &mut Context) -> Outcome {
    Ok(0)
}

async fn no(_context: &mut Context) -> Outcome {
    Ok(1)
}

async fn clear(context: &mut Context) -> Outcome {
    context.print("\x1b[H\x1b[J").await?;
    Ok(0)
}

async fn echo(context: &mut Context) -> Outcome {
    let mut newline = true;
    let mut escapes = false;
    let mut first = 0;
    for argument in &context.args {
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else { break };
        if !letters.chars().all(|letter| matches!(letter, 'n' | 'e' | 'E')) {
            break;
        }
        for letter in letters.chars() {
            match letter {
                'n' => newline = false,
                'e' => escapes = true,
                _ => escapes = false,
            }
        }
        first += 1;
    }
    let text = context.args.get(first..).unwrap_or_default().join(" ");
    if escapes {
        let mut bytes = Vec::new();
        let stopped = format::unescape(&text, true, &mut bytes);
        context.bytes(&bytes).await?;
        newline &= !stopped;
    } else {
        context.print(&text).await?;
    }
    if newline {
        context.print("\n").await?;
    }
    Ok(0)
}

async fn printf(context: &mut Context) -> Outcome {
    let mut args = context.args.clone();
    if args.first().is_some_and(|first| first == "--") {
        args.remove(0);
    }
    let Some((template, values)) = args.split_first() else {
        return Err(Fail::Message("usage: printf FORMAT [ARGUMENT]...".into(), 2));
    };
    let mut bytes = Vec::new();
    let errors = format::printf(template, values, &mut bytes);
    context.bytes(&bytes).await?;
    for error in &errors {
        context.complain(error).await;
    }
    Ok(u8::from(!errors.is_empty()))
}

async fn basename(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "as:", &[])?;
    let names: &[String] = match parsed.operands.as_slice() {
        [] => return fail("missing operand"),
        list if parsed.has('a') || parsed.has('s') => list,
        list => &list[..1],
    };
    let suffix = parsed.value('s').or(if parsed.has('a') { None } else { parsed.operands.get(1).map(String::as_str) });
    for name in names {
        let base = base_name(name);
        let cut = suffix.and_then(|suffix| base.strip_suffix(suffix)).filter(|cut| !cut.is_empty()).unwrap_or(base);
        context.print(&format!("{cut}\n")).await?;
    }
    Ok(0)
}

async fn dirname(context: &mut Context) -> Outcome {
    let names = context.args.clone();
    if names.is_empty() {
        return fail("missing operand");
    }
    for name in names.iter().filter(|name| *name != "--") {
        context.print(&format!("{}\n", directory_name(name))).await?;
    }
    Ok(0)
}

async fn env(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "+iu:0", &[("ignore-environment", 'i'), ("unset", 'u'), ("null", '0')])?;
    let mut env = if parsed.has('i') { Default::default() } else { (*context.env).clone() };
    for name in parsed.values('u') {
        env.remove(name);
    }
    let mut operands = parsed.operands.as_slice();
    if operands.first().is_some_and(|first| first == "-") {
        env.clear();
        operands = operands.get(1..).unwrap_or_default();
    }
    while let Some((first, rest)) = operands.split_first() {
        let Some((name, value)) = first.split_once('=') else { break };
        env.insert(name.to_string(), value.to_string());
        operands = rest;
    }
    if let Some((name, args)) = operands.split_first() {
        context.out.flush().await?;
        let mut surroundings = Surroundings::of(context);
        surroundings.path = env.get("PATH").cloned();
        surroundings.env = Rc::new(env);
        return Ok(dispatch::run("env", name, args.to_vec(), surroundings).await);
    }
    let end = if parsed.has('0') { '\0' } else { '\n' };
    for (name, value) in &env {
        context.print(&format!("{name}={value}{end}")).await?;
    }
    Ok(0)
}

async fn printenv(context: &mut Context) -> Outcome {
    if context.args.is_empty() {
        return env(context).await;
    }
    let mut status = 0;
    for name in context.args.clone() {
        match context.variable(&name).map(str::to_string) {
            Some(value) => context.print(&format!("{value}\n")).await?,
            None => status = 1,
        }
    }
    Ok(status)
}

async fn pwd(context: &mut Context) -> Outcome {
    let cwd = context.cwd.clone();
    context.print(&format!("{cwd}\n")).await?;
    Ok(0)
}

/// Seconds of a time such as `1.5`, `2m` or `infinity`; nothing for what is no time.
pub fn duration(text: &str) -> Option<Duration> {
    if matches!(text, "infinity" | "inf") {
        return Some(Duration::MAX);
    }
    let (number, factor) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86400.0),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok().filter(|_| number.starts_with(|first: char| first.is_ascii_digit() || first == '.'))?;
    Some(Duration::try_from_secs_f64(number * factor).unwrap_or(Duration::MAX))
}

async fn sleep(context: &mut Context) -> Outcome {
    if context.args.is_empty() {
        return fail("missing operand");
    }
    let mut total = Duration::ZERO;
    for argument in &context.args {
        match duration(argument) {
            Some(time) => total = total.saturating_add(time),
            None => return fail(format!("invalid number '{argument}'")),
        }
    }
    runtime::sleep(total).await;
    Ok(0)
}

async fn usleep(context: &mut Context) -> Outcome {
    let time = context.args.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    runtime::sleep(Duration::from_micros(time)).await;
    Ok(0)
}

async fn seq(context: &mut Context) -> Outcome {
    let mut separator = "\n".to_string();
    let mut wide = false;
    let mut numbers: Vec<String> = Vec::new();
    let mut rest = context.args.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-w" => wide = true,
            "-s" => separator = rest.next().cloned().unwrap_or_default(),
            text => match text.strip_prefix("-s") {
                Some(value) => separator = value.to_string(),
                None => numbers.push(text.to_string()),
            },
        }
    }
    let (first, step, last) = match numbers.as_slice() {
        [last] => ("1", "1", last.as_str()),
        [first, last] => (first.as_str(), "1", last.as_str()),
        [first, step, last] => (first.as_str(), step.as_str(), last.as_str()),
        _ => return fail("usage: seq [-w] [-s SEPARATOR] [FIRST [STEP]] LAST"),
    };
    let places = [first, step].iter().map(|text| text.split_once('.').map_or(0, |(_, places)| places.len())).max().unwrap_or(0);
    let parse = |text: &str| text.parse::<f64>().map_err(|_| Fail::Message(format!("invalid number '{text}'"), 1));
    let (first, step, last) = (parse(first)?, parse(step)?, parse(last)?);
    if step == 0.0 {
        return fail("the step must not be 0");
    }
    let show = |value: f64| format!("{value:.places$}");
    let width = if wide { show(first).len().max(show(last).len()) } else { 0 };
    let mut index = 0.0;
    let mut begun = false;
    loop {
        // Multiplied rather than added, so that errors do not add up.
        let value = first + index * step;
        if (step > 0.0 && value > last + step.abs() * 1e-10) || (step < 0.0 && value < last - step.abs() * 1e-10) {
            break;
        }
        let text = show(value);
        let padded = match text.strip_prefix('-') {
            Some(digits) if wide => format!("-{digits:0>width$}", width = width.saturating_sub(1)),
            _ => format!("{text:0>width$}"),
        };
        if begun {
            context.print(&separator).await?;
        }
        context.print(&padded).await?;
        begun = true;
        index += 1.0;
    }
    if begun {
        context.print("\n").await?;
    }
    Ok(0)
}

async fn yes(context: &mut Context) -> Outcome {
    let line = if context.args.is_empty() { "y\n".to_string() } else { format!("{}\n", context.args.join(" ")) };
    let block = line.repeat((8192 / line.len()).max(1));
    loop {
        context.print(&block).await?;
    }
}

async fn which(context: &mut Context) -> Outcome {
    let mut status = 0;
    for name in context.args.clone().iter().filter(|name| !name.starts_with('-')) {
        let path = context.variable("PATH").map(str::to_string);
        match dispatch::find(name, path.as_deref(), &context.cwd) {
            dispatch::Found::Applet(_, Some(file)) | dispatch::Found::Script(_, _, _, file) => {
                context.print(&format!("{file}\n")).await?;
            }
            _ => status = 1,
        }
    }
    Ok(status)
}

async fn nohup(context: &mut Context) -> Outcome {
    let Some((name, args)) = context.args.split_first() else { return fail("missing operand") };
    Ok(dispatch::run("nohup", name, args.to_vec(), Surroundings::of(context)).await)
}

async fn timeout(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "+s:k:", &[("signal", 's'), ("kill-after", 'k')])?;
    let [time, name, args @ ..] = parsed.operands.as_slice() else {
        return fail("usage: timeout SECONDS PROGRAM [ARGUMENT]...");
    };
    let Some(time) = duration(time) else { return fail(format!("invalid number '{time}'")) };
    let program = dispatch::run("timeout", name, args.to_vec(), Surroundings::of(context));
    Ok(runtime::executor::first(program, runtime::sleep(time)).await.unwrap_or(143))
}
