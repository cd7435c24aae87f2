//! What a guest cannot do, in the words that people know: mounting, signals to processes, the network outwards.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::applet;
use crate::applets::signals::NAMES;
use crate::context::{Applet, Context, Outcome, fail};
use crate::runtime::executor::{ready, spawn};
use crate::runtime::file::{CHUNK, OpenFile};
use crate::sys;

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("brctl", brctl),
    applet!("chroot", chroot),
    applet!("ifconfig", network),
    applet!("ip", network),
    applet!("kill", kill),
    applet!("mknod", mknod),
    applet!("mkfifo", mknod),
    applet!("mount", mount),
    applet!("nc", nc),
    applet!("nslookup", network),
    applet!("ping", ping),
    applet!("ping6", ping),
    applet!("route", network),
    applet!("sysctl", sysctl),
    applet!("umount", umount),
    applet!("wget", wget),
];

async fn mount(context: &mut Context) -> Outcome {
    if context.args.is_empty() {
        let Ok(text) = std::fs::read_to_string("/proc/mounts") else {
            return fail("no /proc/mounts here, so that mounts cannot be seen");
        };
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            if let [device, point, kind, options, ..] = fields.as_slice() {
                context.print(&format!("{device} on {point} type {kind} ({options})\n")).await?;
            }
        }
        return Ok(0);
    }
    fail("permission denied (are you root?)")
}

async fn umount(context: &mut Context) -> Outcome {
    let name = context.args.last().cloned().unwrap_or_default();
    fail(format!("can't unmount {name}: Operation not permitted"))
}

async fn chroot(context: &mut Context) -> Outcome {
    let name = context.args.first().cloned().unwrap_or_default();
    fail(format!("can't change root directory to '{name}': Operation not permitted"))
}

async fn mknod(context: &mut Context) -> Outcome {
    let name = context.args.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    fail(format!("{name}: Operation not permitted"))
}

async fn brctl(context: &mut Context) -> Outcome {
    let name = context.args.get(1).cloned().unwrap_or_default();
    fail(format!("bridge {name}: Operation not permitted"))
}

async fn sysctl(context: &mut Context) -> Outcome {
    let mut status = 0;
    for name in context.args.clone().iter().filter(|argument| !argument.starts_with('-')) {
        let key = name.split('=').next().unwrap_or_default();
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        let result = match name.split_once('=') {
            Some((_, value)) => std::fs::write(&file, format!("{}\n", value.trim())).map(|()| value.trim().to_string()),
            None => std::fs::read_to_string(&file).map(|text| text.trim().to_string()),
        };
        match result {
            Ok(value) => context.print(&format!("{key} = {value}\n")).await?,
            Err(error) => {
                context.complain_of(&format!("error: '{key}'"), &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn ping(context: &mut Context) -> Outcome {
    let host = context.args.iter().rev().find(|argument| !argument.starts_with('-')).cloned();
    let Some(host) = host else { return fail("a host is missing") };
    context.print(&format!("PING {host} ({host}): 56 data bytes\n")).await?;
    fail("permission denied (are you root?)")
}

async fn network(context: &mut Context) -> Outcome {
    let name = context.name.clone();
    fail(format!(
        "a WASI preview 1 guest cannot ask the network; look at /etc/hosts, /etc/resolv.conf, or run {name} on the node"
    ))
}

async fn wget(_context: &mut Context) -> Outcome {
    fail("a WASI preview 1 guest has no outgoing sockets; try kubectl port-forward from outside")
}

async fn kill(context: &mut Context) -> Outcome {
    let args = context.args.clone();
    match args.split_first() {
        Some((flag, rest)) if flag == "-l" => {
            if rest.is_empty() {
                for (index, name) in NAMES.iter().enumerate() {
                    context.print(&format!("{:>2}) {name}\n", index + 1)).await?;
                }
            }
            for item in rest {
                let shown = match item.parse::<usize>() {
                    // A status above 128 names the signal that ended a program.
                    Ok(number) => NAMES
                        .get((if number > 128 { number - 128 } else { number }).wrapping_sub(1))
                        .map(|name| (*name).to_string()),
                    Err(_) => {
                        let name = item.to_ascii_uppercase();
                        let name = name.strip_prefix("SIG").unwrap_or(&name).to_string();
                        NAMES.iter().position(|own| *own == name).map(|index| (index + 1).to_string())
                    }
                };
                match shown {
                    Some(shown) => context.print(&format!("{shown}\n")).await?,
                    None => return fail(format!("bad signal name '{item}'")),
                }
            }
            Ok(0)
        }
        _ => {
            let mut names = args.as_slice();
            while let Some((flag, rest)) = names.split_first() {
                names = match flag.as_str() {
                    "-s" | "-n" => rest.get(1..).unwrap_or_default(),
                    flag if flag.starts_with('-') && flag.len() > 1 => rest,
                    _ => break,
                };
            }
            if names.is_empty() {
                return fail("you need to specify whom to kill");
            }
            for name in names {
                let why = if name.trim_start_matches('-').parse::<u64>().is_ok() {
                    "Operation not permitted (a WASI guest has no signals)"
                } else {
                    "bad pid"
                };
                context.complain(&format!("{name}: {why}")).await;
            }
            Ok(1)
        }
    }
}

/// `nc -l` on a socket that the host has opened for this guest; outwards there is no way.
async fn nc(context: &mut Context) -> Outcome {
    if !context.args.iter().any(|argument| argument.starts_with('-') && argument.contains('l')) {
        return fail("a WASI preview 1 guest has no outgoing sockets; nc -l uses a listening socket that the host gives");
    }
    let Some(listener) = (3..32).find(|fd| sys::descriptor_status(*fd).is_ok_and(|status| status.kind == sys::Kind::Socket))
    else {
        return fail("no listening socket was given to this guest (the pod's containerPorts give them)");
    };
    let connection = accept(listener).await?;
    let socket = OpenFile::host(connection);
    let (input, output) = (context.stdin()?, context.out.handle().cloned());
    let sender = Rc::clone(&socket);
    let sending = spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = input.read(&mut buffer).await {
            if sender.write(buffer.get(..count).unwrap_or_default()).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        if let Some(handle) = &output {
            handle.write(buffer.get(..count).unwrap_or_default()).await?;
        }
    }
    drop(sending);
    Ok(0)
}

async fn accept(listener: RawFd) -> io::Result<std::fs::File> {
    loop {
        ready(listener, false).await;
        match sys::accept(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                crate::runtime::sleep(std::time::Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
}
