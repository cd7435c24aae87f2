//! What a script is made of, as the parser leaves it. Everything is shared by reference counts, because stages of a
//! pipeline and jobs run as tasks of their own.

use std::cell::OnceCell;
use std::rc::Rc;

/// A word before its expansion.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Word {
    /// Its parts, one behind the other.
    pub parts: Vec<Part>,
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Characters without quotes.
    Literal(String),
    /// Characters that were quoted.
    Quoted(String),
    /// What stands between double quotes.
    Double(Vec<Part>),
    /// `$x`, `${x}` and so on.
    Parameter(Box<Parameter>),
    /// `$( )` or backquotes.
    Command(Rc<List>),
    /// `$(( ))`.
    Arithmetic(Word),
}

/// A parameter and what is done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// A name, a number, or one of `@*#?-$!`.
    pub name: String,
    /// The operation.
    pub operation: Operation,
    /// `:` before the operation: an empty value counts as none.
    pub colon: bool,
    /// The word behind the operation.
    pub word: Word,
}

/// What is done with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Its value.
    Value,
    /// `${#x}`.
    Length,
    /// `-`: the word instead.
    Default,
    /// `=`: the word instead, and assigned.
    Assign,
    /// `?`: the word is an error.
    Error,
    /// `+`: the word if there is a value.
    Alternative,
    /// `#` and `##`.
    Prefix {
        /// The longest match.
        longest: bool,
    },
    /// `%` and `%%`.
    Suffix {
        /// The longest match.
        longest: bool,
    },
}

/// Commands one after the other.
pub type List = Vec<AndOr>;

/// Pipelines with `&&` and `||` between them.
#[derive(Debug, PartialEq)]
pub struct AndOr {
    /// The first one.
    pub first: Pipeline,
    /// The others, with `true` for `&&` before them.
    pub rest: Vec<(bool, Pipeline)>,
    /// `&` behind it.
    pub background: bool,
    /// As it was written, for `jobs`.
    pub text: String,
}

/// Commands with `|` between them.
#[derive(Debug, PartialEq)]
pub struct Pipeline {
    /// `!` before it.
    pub negated: bool,
    /// The stages.
    pub stages: Vec<Rc<Command>>,
}

/// A command and its redirections.
#[derive(Debug, PartialEq)]
pub struct Command {
    /// What it is.
    pub kind: CommandKind,
    /// Its redirections, in their order.
    pub redirections: Vec<Redirection>,
    /// The line where it begins, from 1.
    pub line: usize,
}

/// What a command is.
#[derive(Debug, PartialEq)]
pub enum CommandKind {
    /// Assignments and words.
    Simple {
        /// `name=value` before the words.
        assignments: Vec<(String, Word)>,
        /// The words.
        words: Vec<Word>,
    },
    /// `{ }`.
    Group(Rc<List>),
    /// `( )`.
    Subshell(Rc<List>),
    /// `if`: conditions with their lists, and `else`.
    If {
        /// `if` and each `elif`.
        arms: Vec<(Rc<List>, Rc<List>)>,
        /// `else`.
        otherwise: Option<Rc<List>>,
    },
    /// `while` and `until`.
    While {
        /// `until`.
        until: bool,
        /// The condition.
        condition: Rc<List>,
        /// The body.
        body: Rc<List>,
    },
    /// `for`.
    For {
        /// The variable.
        name: String,
        /// The words; none is `"$@"`.
        words: Option<Vec<Word>>,
        /// The body.
        body: Rc<List>,
    },
    /// `case`.
    Case {
        /// What is compared.
        word: Word,
        /// Patterns with their lists.
        arms: Vec<(Vec<Word>, Rc<List>)>,
    },
    /// A definition of a function.
    Function {
        /// Its name.
        name: String,
        /// Its body.
        body: Rc<Command>,
    },
}

/// A redirection.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirection {
    /// The descriptor that changes.
    pub descriptor: u32,
    /// How.
    pub kind: RedirectionKind,
}

/// How a descriptor is redirected.
#[derive(Debug, Clone, PartialEq)]
pub enum RedirectionKind {
    /// `<`.
    Read(Word),
    /// `>`; `true` is `>|`.
    Write(Word, bool),
    /// `>>`.
    Append(Word),
    /// `<>`.
    ReadWrite(Word),
    /// `<&` and `>&`.
    Duplicate(Word),
    /// `<<`: the text, which stands behind the line.
    Here(Rc<OnceCell<Word>>),
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// It ends too early: what is missing.
    Incomplete(&'static str),
    /// What stands where it must not.
    Unexpected(String),
    /// Something else.
    Other(String),
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SyntaxError::Incomplete(text) if text.starts_with('u') => write!(formatter, "syntax error: {text}"),
            SyntaxError::Incomplete(text) => write!(formatter, "syntax error: unexpected end of file (expecting {text})"),
            SyntaxError::Unexpected(text) => write!(formatter, "syntax error: unexpected {text}"),
            SyntaxError::Other(text) => write!(formatter, "syntax error: {text}"),
        }
    }
}

/// A parameter's name.
pub fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && characters.all(|other| other == '_' || other.is_ascii_alphanumeric())
}
