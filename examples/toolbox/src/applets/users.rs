//! Who and where: `id`, `whoami`, `groups`, `hostname`, `uname`, `arch`.

use crate::applet;
use crate::context::{Applet, Context, Outcome, fail};
use crate::host::{Identity, identity};
use crate::options::parse;

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("arch", arch),
    applet!("groups", groups),
    applet!("hostname", hostname),
    applet!("id", id),
    applet!("logname", whoami),
    applet!("uname", uname),
    applet!("whoami", whoami),
];

const UNKNOWN: &str = "cannot be known: WASI tells no users, and there is neither /proc nor a host that knows";

fn name_in(file: &str, id: u32) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let wanted = id.to_string();
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&wanted))?;
    line.split(':').next().map(str::to_string)
}

/// A user's name, or the number where it has none.
pub fn user_name(id: u32) -> String {
    name_in("/etc/passwd", id).unwrap_or_else(|| id.to_string())
}

async fn id(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "ugGnr", &[("user", 'u'), ("group", 'g'), ("groups", 'G'), ("name", 'n')])?;
    let Some(Identity { user, group, groups }) = identity() else { return fail(UNKNOWN) };
    let named = parsed.has('n');
    let user_shown = |id: u32| if named { user_name(id) } else { id.to_string() };
    let group_shown = |id: u32| if named { name_in("/etc/group", id).unwrap_or_else(|| id.to_string()) } else { id.to_string() };
    let mut all = vec![group];
    all.extend(groups.into_iter().filter(|other| *other != group));
    if parsed.has('u') {
        context.print(&format!("{}\n", user_shown(user))).await?;
    } else if parsed.has('g') {
        context.print(&format!("{}\n", group_shown(group))).await?;
    } else if parsed.has('G') {
        let list: Vec<String> = all.into_iter().map(group_shown).collect();
        context.print(&format!("{}\n", list.join(" "))).await?;
    } else {
        let with = |id: u32, file: &str| match name_in(file, id) {
            Some(name) => format!("{id}({name})"),
            None => id.to_string(),
        };
        let list: Vec<String> = all.iter().map(|id| with(*id, "/etc/group")).collect();
        let groups = format!(" groups={}", list.join(","));
        context.print(&format!("uid={} gid={}{groups}\n", with(user, "/etc/passwd"), with(group, "/etc/group"))).await?;
    }
    Ok(0)
}

async fn whoami(context: &mut Context) -> Outcome {
    match identity() {
        Some(identity) => {
            context.print(&format!("{}\n", user_name(identity.user))).await?;
            Ok(0)
        }
        None => fail(UNKNOWN),
    }
}

async fn groups(context: &mut Context) -> Outcome {
    context.args = vec!["-Gn".into()];
    id(context).await
}

/// The pod's host name: from its file, else from the environment.
pub fn host_name(context_variable: Option<&str>) -> Option<String> {
    let file = std::fs::read_to_string("/etc/hostname").ok().map(|text| text.trim().to_string());
    file.filter(|name| !name.is_empty())
        .or_else(|| context_variable.map(str::to_string))
        .filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|text| text.trim().to_string()))
}

async fn hostname(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "sfidF:", &[])?;
    if !parsed.operands.is_empty() || parsed.has('F') {
        return fail("sethostname: Operation not permitted");
    }
    let Some(name) = host_name(context.variable("HOSTNAME")) else {
        return fail("cannot be known: no /etc/hostname, no HOSTNAME");
    };
    if parsed.has('i') {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let line = hosts.lines().find(|line| line.split_whitespace().skip(1).any(|own| own == name));
        let Some(address) = line.and_then(|line| line.split_whitespace().next()) else {
            return fail(format!("{name}: not in /etc/hosts"));
        };
        context.print(&format!("{address}\n")).await?;
        return Ok(0);
    }
    let (short, domain) = name.split_once('.').unwrap_or((&name, ""));
    let shown = if parsed.has('s') {
        short
    } else if parsed.has('d') {
        domain
    } else {
        &name
    };
    context.print(&format!("{shown}\n")).await?;
    Ok(0)
}

async fn uname(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "asnrvmpoi", &[("all", 'a')])?;
    let kernel = |file: &str, other: &str| {
        std::fs::read_to_string(format!("/proc/sys/kernel/{file}"))
            .map_or_else(|_| other.to_string(), |text| text.trim().to_string())
    };
    let fields = [
        ('s', "WASI".to_string()),
        ('n', host_name(context.variable("HOSTNAME")).unwrap_or_else(|| "localhost".into())),
        ('r', kernel("osrelease", "preview1")),
        ('v', kernel("version", "cri-wasm toolbox")),
        ('m', "wasm32".to_string()),
        ('o', "WASI".to_string()),
    ];
    let none = parsed.options.is_empty();
    let shown: Vec<String> = fields
        .into_iter()
        .filter(|(letter, _)| parsed.has('a') || parsed.has(*letter) || (none && *letter == 's'))
        .map(|(_, text)| text)
        .collect();
    context.print(&format!("{}\n", shown.join(" "))).await?;
    Ok(0)
}

async fn arch(context: &mut Context) -> Outcome {
    context.print("wasm32\n").await?;
    Ok(0)
}
