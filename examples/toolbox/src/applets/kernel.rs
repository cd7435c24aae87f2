//! What the kernel tells of connections and of System V's objects, in /proc: `netstat`, `ipcs`.

use crate::applet;
use crate::applets::process::read;
use crate::context::{Applet, Context, Outcome};
use crate::options::parse;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("ipcs", ipcs), applet!("netstat", netstat)];

/// An address as /proc/net writes it: hexadecimal, every four bytes in the machine's order, and the port.
fn address(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> =
        (0..address.len() / 8).map(|index| u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok()).collect();
    let words = words?;
    let port = if port == 0 { "*".to_string() } else { port.to_string() };
    match words.as_slice() {
        [word] => Some(format!("{}:{port}", std::net::Ipv4Addr::from(word.swap_bytes()))),
        [..] if words.len() == 4 => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            Some(format!("{}:{port}", std::net::Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

async fn netstat(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "ltunaepWrx", &[])?;
    let states = [
        "",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
    ];
    let kinds = parsed.has('t') || parsed.has('u');
    let which = if parsed.has('l') {
        "only servers"
    } else if parsed.has('a') {
        "servers and established"
    } else {
        "w/o servers"
    };
    context
        .print(&format!(
            "Active Internet connections ({which})\nProto Recv-Q Send-Q Local Address           Foreign Address         State\n"
        ))
        .await?;
    let mut any = false;
    for (file, tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        if kinds && !parsed.has(if tcp { 't' } else { 'u' }) {
            continue;
        }
        let Some(text) = read(&format!("/proc/net/{file}")) else { continue };
        any = true;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, queues, ..] = fields.as_slice() else { continue };
            let state = usize::from_str_radix(state, 16).unwrap_or(0);
            let listens = if tcp { state == 10 } else { state == 7 };
            if (listens && !(parsed.has('l') || parsed.has('a'))) || (!listens && parsed.has('l')) {
                continue;
            }
            let queue = |part: Option<&str>| part.and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0);
            let (send, receive) = queues.split_once(':').map_or((None, None), |(send, receive)| (Some(send), Some(receive)));
            let (Some(local), Some(remote)) = (address(local), address(remote)) else { continue };
            let state = if tcp { states.get(state).copied().unwrap_or("") } else { "" };
            let row = format!("{file:<5} {:>6} {:>6} {local:<23} {remote:<23} {state}\n", queue(receive), queue(send));
            context.print(&row).await?;
        }
    }
    if !any {
        context.complain("no /proc/net here, so that connections cannot be seen").await;
        return Ok(1);
    }
    Ok(0)
}

async fn ipcs(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "mqsatulp", &[])?;
    let chosen = parsed.has('m') || parsed.has('q') || parsed.has('s');
    let mut any = false;
    for (letter, file, title, columns) in [
        ('q', "msg", "Message Queues", "key        msqid      owner      perms      used-bytes   messages"),
        ('m', "shm", "Shared Memory Segments", "key        shmid      owner      perms      bytes      nattch     status"),
        ('s', "sem", "Semaphore Arrays", "key        semid      owner      perms      nsems"),
    ] {
        if chosen && !parsed.has(letter) {
            continue;
        }
        let Some(text) = read(&format!("/proc/sysvipc/{file}")) else { continue };
        any = true;
        context.print(&format!("\n------ {title} --------\n{columns}\n")).await?;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let get = |index: usize| fields.get(index).copied().unwrap_or("");
            let key = get(0).parse::<i32>().unwrap_or(0);
            let owner = get(if letter == 'm' {
                7
            } else if letter == 's' {
                4
            } else {
                7
            });
            let owner = owner.parse().map_or_else(|_| "?".into(), super::users::user_name);
            let rest = match letter {
                'm' => format!("{:<10} {:<10}", get(3), get(6)),
                'q' => format!("{:<12} {:<12}", get(3), get(4)),
                _ => format!("{:<10}", get(3)),
            };
            context.print(&format!("0x{key:08x} {:<10} {owner:<10} {:<10} {rest}\n", get(1), get(2))).await?;
        }
    }
    if any {
        context.print("\n").await?;
        return Ok(0);
    }
    context.complain("no /proc/sysvipc here, so that nothing can be seen").await;
    Ok(1)
}
