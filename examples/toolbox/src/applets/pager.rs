//! `more` and `less`: a screen at a time where a person sits, `cat` everywhere else.

use crate::applet;
use crate::applets::stream::Inputs;
use crate::context::{Applet, Context, Outcome};
use crate::options::parse;
use crate::runtime::terminal::Mode;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("less", pager), applet!("more", pager)];

async fn pager(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "NRSFXemi", &[])?;
    let terminal = context.terminal.clone().filter(|_| context.out.handle().is_some_and(|handle| handle.is_terminal()));
    let mode = terminal.as_ref().map(|terminal| terminal.set_mode(Mode::Pager));
    let rows = crate::host::size(1).map_or(24, |size| size.1).max(2) - 1;
    let mut shown = 0;
    let mut inputs = Inputs::of(&parsed.operands, "can't open");
    'files: while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((mut line, ended)) = context.next(&mut lines).await? {
            if ended {
                line.push(b'\n');
            }
            context.bytes(&line).await?;
            shown += 1;
            let Some(terminal) = terminal.as_ref().filter(|_| shown >= rows) else { continue };
            context.print("\x1b[7m--More--\x1b[m").await?;
            context.out.flush().await?;
            let mut key = [0];
            let pressed = terminal.read(&mut key).await;
            context.print("\r\x1b[K").await?;
            match key {
                _ if pressed == 0 => break 'files,
                [b'q' | b'Q' | 4] => break 'files,
                [b'\r' | b'\n' | b'j'] => shown = rows.saturating_sub(1),
                _ => shown = 0,
            }
        }
    }
    context.out.flush().await?;
    if let (Some(terminal), Some(mode)) = (terminal, mode) {
        terminal.set_mode(mode);
    }
    Ok(inputs.status)
}
