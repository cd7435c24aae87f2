//! A person at the prompt.

use super::Shell;

impl Shell {
    /// Reads and runs commands until the person goes.
    pub async fn converse(mut self) -> u8 {
        self.run_to_end(|shell| Box::pin(shell.run_input())).await
    }
}
