//! Lines turned around or numbered: `tac`, `rev`, `nl`.

use crate::applet;
use crate::applets::stream::Inputs;
use crate::context::{Applet, Context, Outcome};
use crate::options::parse;
use crate::text::{decode, encode};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("nl", nl), applet!("rev", rev), applet!("tac", tac)];

async fn tac(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "", &[])?;
    let mut all = Vec::new();
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some(line) = context.next(&mut lines).await? {
            all.push(line);
        }
    }
    for (mut line, ended) in all.into_iter().rev() {
        if ended {
            line.push(b'\n');
        }
        context.bytes(&line).await?;
    }
    Ok(inputs.status)
}

async fn rev(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "", &[])?;
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((line, ended)) = context.next(&mut lines).await? {
            let mut text: String = decode(&line).chars().rev().collect();
            if ended {
                text.push('\n');
            }
            context.bytes(&encode(&text)).await?;
        }
    }
    Ok(inputs.status)
}

async fn nl(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "b:n:w:s:v:i:", &[])?;
    let all = parsed.value('b') == Some("a");
    let none = parsed.value('b') == Some("n");
    let width = parsed.value('w').and_then(|text| text.parse().ok()).unwrap_or(6_usize).min(1000);
    let separator = parsed.value('s').unwrap_or("\t");
    let mut number: i64 = parsed.value('v').and_then(|text| text.parse().ok()).unwrap_or(1);
    let step: i64 = parsed.value('i').and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((mut line, ended)) = context.next(&mut lines).await? {
            let prefix = if none || (line.is_empty() && !all) {
                " ".repeat(width + separator.len())
            } else {
                let shown = match parsed.value('n') {
                    Some("ln") => format!("{number:<width$}"),
                    Some("rz") => format!("{number:0>width$}"),
                    _ => format!("{number:>width$}"),
                };
                number += step;
                format!("{shown}{separator}")
            };
            context.print(&prefix).await?;
            if ended {
                line.push(b'\n');
            }
            context.bytes(&line).await?;
        }
    }
    Ok(inputs.status)
}
