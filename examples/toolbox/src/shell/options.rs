//! The options of `set`.

/// Options by their meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// `-e`: a failure ends the shell.
    pub exit_on_error: bool,
    /// `-u`: a parameter that is not set is an error.
    pub no_unset: bool,
    /// `-x`: commands are shown before they run.
    pub trace: bool,
    /// `-v`: input is shown as it is read.
    pub verbose: bool,
    /// `-f`: no names of files for patterns.
    pub no_glob: bool,
    /// `-n`: commands are read and not run.
    pub no_exec: bool,
    /// `-a`: every assignment exports.
    pub all_export: bool,
    /// `-C`: `>` does not overwrite.
    pub no_clobber: bool,
    /// `-o pipefail`: the last failure of a pipeline is its status.
    pub pipe_fail: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-s`.
    pub from_input: bool,
}

impl Options {
    /// Options that have a letter or a name, with both; an empty letter is none.
    fn each(&mut self) -> [(char, &'static str, &mut bool); 11] {
        [
            ('e', "errexit", &mut self.exit_on_error),
            ('f', "noglob", &mut self.no_glob),
            ('i', "interactive", &mut self.interactive),
            ('n', "noexec", &mut self.no_exec),
            ('s', "stdin", &mut self.from_input),
            ('x', "xtrace", &mut self.trace),
            ('v', "verbose", &mut self.verbose),
            ('C', "noclobber", &mut self.no_clobber),
            ('a', "allexport", &mut self.all_export),
            ('u', "nounset", &mut self.no_unset),
            ('\0', "pipefail", &mut self.pipe_fail),
        ]
    }

    /// Changes the option of a letter; whether there is one. Some change nothing here and are taken all the same.
    pub fn set_letter(&mut self, letter: char, on: bool) -> bool {
        if matches!(letter, 'm' | 'b' | 'h' | 'I' | 'l') {
            return true;
        }
        self.each().into_iter().find(|(own, _, _)| *own == letter && letter != '\0').map(|(_, _, value)| *value = on).is_some()
    }

    /// Changes the option of a name; whether there is one.
    pub fn set_name(&mut self, name: &str, on: bool) -> bool {
        if matches!(name, "vi" | "emacs" | "monitor" | "notify" | "ignoreeof" | "nolog") {
            return true;
        }
        self.each().into_iter().find(|(_, own, _)| *own == name).map(|(_, _, value)| *value = on).is_some()
    }

    /// `$-`.
    pub fn letters(mut self) -> String {
        self.each().into_iter().filter(|(letter, _, value)| **value && *letter != '\0').map(|(letter, _, _)| letter).collect()
    }

    /// Names and whether they are on.
    pub fn names(mut self) -> Vec<(&'static str, bool)> {
        self.each().into_iter().map(|(_, name, value)| (name, *value)).collect()
    }
}
