//! Processes and the machine, from /proc where the pod has one: `ps`, `pgrep`, `pidof`, `top`, `free`, `uptime`, `nproc`.
//! Without /proc they say what cannot be known; a guest sees no process, its own included.

use std::time::Duration;

use crate::applet;
use crate::applets::numbers::human;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::parse;
use crate::regex::{Regex, Scratch};
use crate::runtime;
use crate::runtime::terminal::Mode;
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("free", free),
    applet!("nproc", nproc),
    applet!("pgrep", pgrep),
    applet!("pidof", pidof),
    applet!("pkill", pkill),
    applet!("ps", ps),
    applet!("top", top),
    applet!("uptime", uptime),
];

/// What is said where there is no /proc.
const NO_PROC: &str = "no /proc here, so that processes cannot be seen (the handler option procfs = true gives one)";

struct Process {
    pid: u32,
    parent: u32,
    state: String,
    user: String,
    memory: u64,
    name: String,
    command: String,
    ticks: u64,
}

/// A file of /proc; nothing if it is not there.
pub fn read(path: &str) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| decode(&bytes))
}

/// The processes that can be seen, by number; nothing without /proc.
fn processes() -> Option<Vec<Process>> {
    let mut list: Vec<Process> = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = decode(entry.file_name().as_encoded_bytes()).parse().ok()?;
            let stat = read(&format!("/proc/{pid}/stat"))?;
            // The name stands between parentheses and may hold any character.
            let (open, close) = (stat.find('(')?, stat.rfind(')')?);
            let name = stat.get(open + 1..close)?.to_string();
            let fields: Vec<&str> = stat.get(close + 2..)?.split(' ').collect();
            let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            let command = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = command.trim_end_matches('\0').replace('\0', " ");
            let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
            let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|line| line.split_whitespace().nth(1));
            Some(Process {
                pid,
                parent: number(1) as u32,
                state: fields.first().copied().unwrap_or("?").to_string(),
                user: user.and_then(|id| id.parse().ok()).map_or_else(|| "?".into(), super::users::user_name),
                memory: number(21),
                command: if command.is_empty() { format!("[{name}]") } else { command },
                name,
                ticks: number(11) + number(12),
            })
        })
        .collect();
    list.sort_by_key(|process| process.pid);
    (!list.is_empty()).then_some(list)
}

async fn ps(context: &mut Context) -> Outcome {
    let Some(list) = processes() else {
        context.print("PID   USER     TIME  COMMAND\n").await?;
        context.complain(NO_PROC).await;
        return Ok(1);
    };
    let columns = context.args.iter().position(|argument| argument == "-o").and_then(|at| context.args.get(at + 1)).cloned();
    let columns = columns.unwrap_or_else(|| "pid,user,time,args".into());
    let columns: Vec<&str> = columns.split(',').collect();
    let heading = |column: &str| match column {
        "pid" => "PID  ".to_string(),
        "ppid" => "PPID ".to_string(),
        "user" => "USER    ".to_string(),
        "time" => "TIME  ".trim_start().to_string(),
        "stat" => "STAT".to_string(),
        "vsz" | "rss" => column.to_uppercase(),
        _ => "COMMAND".to_string(),
    };
    let line: Vec<String> = columns.iter().map(|column| heading(column)).collect();
    context.print(&format!("{}\n", line.join(" ").trim_end())).await?;
    for process in list {
        let seconds = process.ticks / 100;
        let line: Vec<String> = columns
            .iter()
            .map(|column| match *column {
                "pid" => format!("{:>5}", process.pid),
                "ppid" => format!("{:>5}", process.parent),
                "user" => format!("{:<8}", process.user),
                "time" => format!("{:>3}:{:02}", seconds / 60, seconds % 60),
                "stat" => format!("{:<4}", process.state),
                "vsz" | "rss" => human(process.memory),
                "comm" => process.name.clone(),
                _ => process.command.clone(),
            })
            .collect();
        context.print(&format!("{}\n", line.join(" "))).await?;
    }
    Ok(0)
}

/// Processes whose name matches, or whose whole command line does.
fn matching(context: &Context, pattern: &str, full: bool, exact: bool) -> Result<Vec<Process>, Fail> {
    let regex = Regex::new(pattern, true, false).map_err(|error| Fail::Message(error, 2))?;
    let mut scratch = Scratch::default();
    let own = crate::shell::process_id();
    let mut list = processes().unwrap_or_default();
    let _ = context;
    list.retain(|process| {
        let text = if full { &process.command } else { &process.name };
        // A guest's process has the runtime's name; the command line begins with the guest's.
        let base = process.command.split(' ').next().map_or("", crate::text::base_name);
        let mut fits = |text: &str| {
            let found = regex.find(text.as_bytes(), 0, &mut scratch).and_then(|captures| captures.first().copied().flatten());
            found.is_some_and(|(from, to)| !exact || (from == 0 && to == text.len()))
        };
        process.pid != own && (fits(text) || (!full && fits(base)))
    });
    Ok(list)
}

async fn pgrep(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "flaxvonsP:u:", &[])?;
    let Some(pattern) = parsed.operands.first() else { return Err(Fail::Message("a pattern is missing".into(), 2)) };
    let list = matching(context, pattern, parsed.has('f'), parsed.has('x'))?;
    for process in &list {
        let shown = match (parsed.has('a'), parsed.has('l')) {
            (true, _) => format!("{} {}\n", process.pid, process.command),
            (_, true) => format!("{} {}\n", process.pid, process.name),
            _ => format!("{}\n", process.pid),
        };
        context.print(&shown).await?;
    }
    Ok(u8::from(list.is_empty()))
}

async fn pkill(context: &mut Context) -> Outcome {
    let args: Vec<String> = context.args.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
    let Some(pattern) = args.first() else { return Err(Fail::Message("a pattern is missing".into(), 2)) };
    let list = matching(context, pattern, context.args.iter().any(|argument| argument == "-f"), false)?;
    for process in &list {
        context.complain(&format!("{}: Operation not permitted", process.pid)).await;
    }
    Ok(1)
}

async fn pidof(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "so:", &[])?;
    let list = processes().unwrap_or_default();
    let mut found: Vec<String> = list
        .iter()
        .filter(|process| {
            let base = process.command.split(' ').next().map_or("", crate::text::base_name);
            parsed.operands.iter().any(|name| process.name == *name || base == name)
        })
        .map(|process| process.pid.to_string())
        .collect();
    found.reverse();
    if parsed.has('s') {
        found.truncate(1);
    }
    if found.is_empty() {
        return Ok(1);
    }
    context.print(&format!("{}\n", found.join(" "))).await?;
    Ok(0)
}

fn memory(field: &str) -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// `top` never ends by itself: pods use it to stay.
async fn top(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "bd:n:mH", &[])?;
    let wait =
        parsed.value('d').and_then(super::basic::duration).unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(100));
    let mut rounds: Option<u64> = parsed.value('n').and_then(|text| text.parse().ok());
    let terminal = context.out.handle().is_some_and(|handle| handle.is_terminal()) && !parsed.has('b');
    let keys = context.terminal.clone();
    let mode = keys.as_ref().map(|keys| keys.set_mode(Mode::Pager));
    let mut first = true;
    loop {
        let text = overview(terminal);
        if terminal {
            context.print("\x1b[H\x1b[J").await?;
        }
        // Into a log it is written once: a pod that stays for a year should not fill the disk.
        if terminal || first || parsed.has('b') || rounds.is_some() {
            context.print(&text).await?;
        }
        first = false;
        context.out.flush().await?;
        if let Some(left) = &mut rounds {
            *left = left.saturating_sub(1);
            if *left == 0 {
                break;
            }
        }
        match &keys {
            Some(keys) if terminal => {
                let mut key = [0];
                let pressed = runtime::executor::first(keys.read(&mut key), runtime::sleep(wait)).await;
                if matches!(pressed, Ok(0)) || (pressed.is_ok() && matches!(key, [b'q' | b'Q'])) {
                    break;
                }
            }
            _ => runtime::sleep(wait).await,
        }
    }
    if let (Some(keys), Some(mode)) = (&keys, mode) {
        keys.set_mode(mode);
    }
    Ok(0)
}

fn overview(terminal: bool) -> String {
    let mut text = String::new();
    if let (Some(total), Some(free)) = (memory("MemTotal"), memory("MemFree")) {
        let cached = memory("Cached").unwrap_or(0);
        let buffers = memory("Buffers").unwrap_or(0);
        text.push_str(&format!("Mem: {}K used, {free}K free, {buffers}K buff, {cached}K cached\n", total.saturating_sub(free)));
    }
    if let Some(load) = read("/proc/loadavg") {
        text.push_str(&format!("Load average: {}\n", load.trim()));
    }
    match processes() {
        Some(list) => {
            let heading = "  PID  PPID USER     STAT   RSS COMMAND";
            text.push_str(&if terminal { format!("\x1b[7m{heading}\x1b[m\n") } else { format!("{heading}\n") });
            let (columns, rows) = crate::host::size(1).unwrap_or((80, 24));
            let mut list = list;
            list.sort_by_key(|process| std::cmp::Reverse(process.ticks));
            for process in list.iter().take(if terminal { rows.saturating_sub(4) } else { usize::MAX }) {
                let line = format!(
                    "{:>5} {:>5} {:<8} {:<4} {:>5} {}",
                    process.pid,
                    process.parent,
                    process.user,
                    process.state,
                    human(process.memory * 4096),
                    process.command
                );
                text.extend(line.chars().take(if terminal { columns } else { 512 }));
                text.push('\n');
            }
        }
        None => text.push_str(&format!("top: {NO_PROC}\n")),
    }
    text
}

async fn free(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "hkmgb", &[])?;
    let Some(total) = memory("MemTotal") else {
        return Err(Fail::Message("no /proc/meminfo here, so that the memory cannot be known".into(), 1));
    };
    let get = |field| memory(field).unwrap_or(0);
    let show = |kib: u64| match () {
        () if parsed.has('h') => human(kib * 1024),
        () if parsed.has('b') => (kib * 1024).to_string(),
        () if parsed.has('m') => (kib / 1024).to_string(),
        () if parsed.has('g') => (kib / 1024 / 1024).to_string(),
        () => kib.to_string(),
    };
    let (free, shared, available) = (get("MemFree"), get("Shmem"), get("MemAvailable"));
    let cache = get("Buffers") + get("Cached") + get("SReclaimable");
    let used = total.saturating_sub(free + cache);
    let (swap, swap_free) = (get("SwapTotal"), get("SwapFree"));
    let columns = ["total", "used", "free", "shared", "buff/cache", "available"].map(|name| format!("{name:>12}")).concat();
    let row = |values: &[u64]| values.iter().map(|value| format!("{:>12}", show(*value))).collect::<String>();
    let text = format!(
        "      {columns}\nMem:  {}\nSwap: {}\n",
        row(&[total, used, free, shared, cache, available]),
        row(&[swap, swap.saturating_sub(swap_free), swap_free])
    );
    context.print(&text).await?;
    Ok(0)
}

async fn uptime(context: &mut Context) -> Outcome {
    let seconds = read("/proc/uptime").and_then(|text| text.split('.').next()?.parse::<u64>().ok());
    let now = super::date::format("%H:%M:%S", crate::sys::now().0, 0);
    let Some(seconds) = seconds else {
        context.print(&format!(" {now} up for a time that cannot be known without /proc\n")).await?;
        return Ok(0);
    };
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let mut up = if days > 0 { format!("{days} day{}, ", if days > 1 { "s" } else { "" }) } else { String::new() };
    up.push_str(&if hours > 0 { format!("{hours}:{minutes:02}") } else { format!("{minutes} min") });
    let load = read("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    context.print(&format!(" {now} up {up},  load average: {}\n", load.join(", "))).await?;
    Ok(0)
}

async fn nproc(context: &mut Context) -> Outcome {
    let count = read("/proc/cpuinfo")
        .map(|text| text.lines().filter(|line| line.starts_with("processor")).count())
        .filter(|count| *count > 0);
    context.print(&format!("{}\n", count.unwrap_or(1))).await?;
    Ok(0)
}
