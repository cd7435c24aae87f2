//! Assignments, and what hangs on them: exporting, read-only variables, `local`, the arithmetic's variables.

use super::arithmetic::Variables;
use super::syntax::is_name;
use super::{Flow, Shell, Variable};

impl Shell {
    /// Assigns a variable.
    pub async fn assign(&mut self, name: &str, value: &str) -> Result<(), Flow> {
        match self.assign_quietly(name, value) {
            Ok(()) => Ok(()),
            Err(message) => Err(self.fatal(&message).await),
        }
    }

    /// Assigns a variable; why it cannot be is a text.
    pub fn assign_quietly(&mut self, name: &str, value: &str) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!("{name}: bad variable name"));
        }
        let export = self.options.all_export;
        let variable = self.variables.entry(name.to_string()).or_default();
        if variable.read_only {
            return Err(format!("{name}: is read only"));
        }
        variable.value = Some(value.to_string());
        variable.exported |= export;
        if name == "OPTIND" {
            self.option_offset = 0;
        }
        Ok(())
    }

    /// Hides a variable until the function ends; it keeps its value and is exported as before.
    pub fn make_local(&mut self, name: &str) {
        let current = self.variables.get(name).cloned();
        if let Some(scope) = self.scopes.last_mut() {
            scope.entry(name.to_string()).or_insert(current);
        }
    }

    /// Begins a function.
    pub fn enter_scope(&mut self) {
        self.scopes.push(Default::default());
    }

    /// Gives hidden variables back, until so many functions are left.
    pub fn leave_scopes(&mut self, left: usize) {
        while self.scopes.len() > left {
            for (name, variable) in self.scopes.pop().unwrap_or_default() {
                self.put_back(&name, variable);
            }
        }
    }

    /// How many functions run.
    pub fn scope_count(&self) -> usize {
        self.scopes.len()
    }

    /// Makes a variable what it was.
    pub fn put_back(&mut self, name: &str, variable: Option<Variable>) {
        match variable {
            Some(variable) => self.variables.insert(name.to_string(), variable),
            None => self.variables.remove(name),
        };
    }
}

impl Variables for Shell {
    fn get(&self, name: &str) -> Option<String> {
        self.value(name)
    }

    fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
        self.assign_quietly(name, &value.to_string())
    }

    fn strict(&self) -> bool {
        self.options.no_unset
    }
}

/// A value in quotes, so that the shell reads it as one word.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word as a person would write it: with quotes only where they are needed.
pub fn quoted_if_needed(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "_-./:=+,@%^".contains(character);
    if !text.is_empty() && text.chars().all(plain) { text.to_string() } else { quoted(text) }
}
