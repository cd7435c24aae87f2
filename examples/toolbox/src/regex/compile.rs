//! From the text of a regular expression to its program.

use super::{Regex, Set, Step};

/// Repetitions are copies of what is repeated; this bounds what `(((a{255}){255}){255})` may become.
const STEPS: usize = 50_000;
/// Groups inside each other.
const DEPTH: usize = 100;
/// POSIX's RE_DUP_MAX.
const REPEAT: u32 = 255 * 4;

#[derive(Debug, Clone)]
enum Node {
    Step(Step),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Group(usize, Box<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

struct Parser<'a> {
    pattern: &'a [char],
    at: usize,
    extended: bool,
    groups: usize,
    closed: Vec<usize>,
    back_references: bool,
    depth: usize,
}

pub(super) fn compile(pattern: &str, extended: bool, fold: bool) -> Result<Regex, String> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut parser =
        Parser { pattern: &characters, at: 0, extended, groups: 0, closed: Vec::new(), back_references: false, depth: 0 };
    let node = parser.either()?;
    if parser.at < characters.len() {
        return Err("Unmatched ) or \\)".into());
    }
    let mut steps = Vec::new();
    emit(&node, &mut steps)?;
    steps.push(Step::Match);
    let first = first_bytes(&node, fold);
    Ok(Regex { steps, groups: parser.groups, fold, back_references: parser.back_references, first })
}

impl Parser<'_> {
    fn peek(&self, offset: usize) -> Option<char> {
        self.pattern.get(self.at + offset).copied()
    }

    /// Whether an operator stands here, which has a backslash in a basic expression and none in an extended one.
    fn operator(&self, character: char) -> bool {
        if self.extended {
            self.peek(0) == Some(character)
        } else {
            self.peek(0) == Some('\\') && self.peek(1) == Some(character)
        }
    }

    fn pass_operator(&mut self) {
        self.at += if self.extended { 1 } else { 2 };
    }

    fn either(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("Regular expression too big".into());
        }
        let mut branches = vec![self.sequence()?];
        while self.operator('|') {
            self.pass_operator();
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(match branches.len() {
            1 => branches.remove(0),
            _ => Node::Either(branches),
        })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes: Vec<Node> = Vec::new();
        // A star at the beginning of a basic expression stands for itself.
        let mut start = true;
        while let Some(character) = self.peek(0) {
            if self.operator('|') || (self.operator(')') && (self.depth > 1 || !self.extended)) {
                break;
            }
            if self.operator(')') {
                return Err("Unmatched ) or \\)".into());
            }
            if (!start || self.extended) && self.repetition(&mut nodes)? {
                continue;
            }
            if start && self.extended && matches!(character, '*' | '+' | '?') {
                // What is repeated is missing; the star stands for itself, as in glibc.
                self.at += 1;
                nodes.push(Node::Step(Step::Byte(character as u8)));
                start = false;
                continue;
            }
            let node = self.atom()?;
            start = matches!(node, Node::Step(Step::LineStart)) && !self.extended;
            nodes.push(node);
        }
        Ok(Node::Sequence(nodes))
    }

    fn repetition(&mut self, nodes: &mut Vec<Node>) -> Result<bool, String> {
        let (least, most) = if self.peek(0) == Some('*') {
            self.at += 1;
            (0, None)
        } else if self.operator('+') {
            self.pass_operator();
            (1, None)
        } else if self.operator('?') {
            self.pass_operator();
            (0, Some(1))
        } else if self.operator('{') && (!self.extended || self.peek(1).is_some_and(|next| next.is_ascii_digit() || next == ','))
        {
            self.pass_operator();
            let least = self.number();
            let most = if self.peek(0) == Some(',') {
                self.at += 1;
                self.number()
            } else {
                least
            };
            if !self.operator('}') {
                return Err("Unmatched { or \\{".into());
            }
            self.pass_operator();
            let least = least.unwrap_or(0);
            if most.is_some_and(|most| most < least) || least > REPEAT || most.is_some_and(|most| most > REPEAT) {
                return Err("Invalid content of {}".into());
            }
            (least, most)
        } else {
            return Ok(false);
        };
        if let Some(node) = nodes.pop() {
            nodes.push(Node::Repeat(Box::new(node), least, most));
        }
        Ok(true)
    }

    fn number(&mut self) -> Option<u32> {
        let mut value = None;
        while let Some(digit) = self.peek(0).and_then(|digit| digit.to_digit(10)) {
            value = Some((value.unwrap_or(0) * 10 + digit).min(100_000));
            self.at += 1;
        }
        value
    }

    fn atom(&mut self) -> Result<Node, String> {
        if self.operator('(') {
            self.pass_operator();
            self.groups += 1;
            let group = self.groups;
            let inner = self.either()?;
            if !self.operator(')') {
                return Err("Unmatched ( or \\(".into());
            }
            self.pass_operator();
            self.closed.push(group);
            return Ok(Node::Group(group, Box::new(inner)));
        }
        let character = self.peek(0).unwrap_or('\\');
        self.at += 1;
        let step = match character {
            '.' => Step::Any,
            '[' => self.bracket()?,
            '^' if self.extended || self.at == 1 || self.opens_before(self.at - 1) => Step::LineStart,
            '$' if self.extended || self.peek(0).is_none() || self.operator(')') || self.operator('|') => Step::LineEnd,
            '\\' => {
                let Some(next) = self.peek(0) else { return Err("Trailing backslash".into()) };
                self.at += 1;
                match next {
                    '<' => Step::WordStart,
                    '>' => Step::WordEnd,
                    'b' => Step::WordBoundary(true),
                    'B' => Step::WordBoundary(false),
                    '`' => Step::LineStart,
                    '\'' => Step::LineEnd,
                    'w' | 'W' => {
                        Step::Set(Box::new(Set { negated: next == 'W', ranges: vec![('_', '_')], classes: vec!["alnum".into()] }))
                    }
                    's' | 'S' => {
                        Step::Set(Box::new(Set { negated: next == 'S', ranges: Vec::new(), classes: vec!["space".into()] }))
                    }
                    'n' => Step::Byte(b'\n'),
                    't' => Step::Byte(b'\t'),
                    '1'..='9' => {
                        let group = next.to_digit(10).unwrap_or(0) as usize;
                        if !self.closed.contains(&group) {
                            return Err("Invalid back reference".into());
                        }
                        self.back_references = true;
                        Step::Back(group)
                    }
                    other => return Ok(literal(other)),
                }
            }
            other => return Ok(literal(other)),
        };
        Ok(Node::Step(step))
    }

    fn opens_before(&self, at: usize) -> bool {
        at >= 2 && self.pattern.get(at - 2) == Some(&'\\') && matches!(self.pattern.get(at - 1), Some('(' | '|'))
    }

    fn bracket(&mut self) -> Result<Step, String> {
        let wrong = || "Unmatched [, [^, [:, [., or [=".to_string();
        let mut set = Set { negated: self.peek(0) == Some('^'), ..Set::default() };
        if set.negated {
            self.at += 1;
        }
        let first = self.at;
        loop {
            let character = self.peek(0).ok_or_else(wrong)?;
            if character == ']' && self.at > first {
                self.at += 1;
                return Ok(Step::Set(Box::new(set)));
            }
            if character == '[' && matches!(self.peek(1), Some(':' | '.' | '=')) {
                let kind = self.peek(1).unwrap_or(':');
                let rest = self.pattern.get(self.at + 2..).unwrap_or_default();
                let length = rest.windows(2).position(|pair| pair == [kind, ']']).ok_or_else(wrong)?;
                let name: String = rest.iter().take(length).collect();
                self.at += length + 4;
                if kind == ':' {
                    const KNOWN: &str = "alpha digit alnum upper lower space blank punct cntrl print graph xdigit";
                    if !KNOWN.split(' ').any(|known| known == name) {
                        return Err("Invalid character class name".into());
                    }
                    set.classes.push(name);
                } else {
                    set.ranges.extend(name.chars().map(|character| (character, character)));
                }
                continue;
            }
            self.at += 1;
            if self.peek(0) == Some('-') && self.peek(1).is_some_and(|end| end != ']') {
                let end = self.peek(1).unwrap_or(character);
                if end < character {
                    return Err("Invalid range end".into());
                }
                set.ranges.push((character, end));
                self.at += 2;
            } else {
                set.ranges.push((character, character));
            }
        }
    }
}

fn literal(character: char) -> Node {
    let mut bytes = Vec::new();
    crate::text::push(&mut bytes, character);
    match bytes.as_slice() {
        [byte] => Node::Step(Step::Byte(*byte)),
        // As a set, which takes the character's other case into account.
        _ => Node::Step(Step::Set(Box::new(Set { ranges: vec![(character, character)], ..Set::default() }))),
    }
}

fn emit(node: &Node, steps: &mut Vec<Step>) -> Result<(), String> {
    if steps.len() > STEPS {
        return Err("Regular expression too big".into());
    }
    match node {
        Node::Step(step) => steps.push(step.clone()),
        Node::Sequence(nodes) => {
            for node in nodes {
                emit(node, steps)?;
            }
        }
        Node::Group(number, inner) => {
            steps.push(Step::Save(number * 2));
            emit(inner, steps)?;
            steps.push(Step::Save(number * 2 + 1));
        }
        Node::Either(branches) => {
            let mut jumps = Vec::new();
            for (index, branch) in branches.iter().enumerate() {
                if index + 1 == branches.len() {
                    emit(branch, steps)?;
                    break;
                }
                let split = steps.len();
                steps.push(Step::Split(split + 1, 0));
                emit(branch, steps)?;
                jumps.push(steps.len());
                steps.push(Step::Jump(0));
                let here = steps.len();
                set(steps, split, Step::Split(split + 1, here));
            }
            let end = steps.len();
            for jump in jumps {
                set(steps, jump, Step::Jump(end));
            }
        }
        Node::Repeat(inner, least, most) => {
            for _ in 0..*least {
                emit(inner, steps)?;
            }
            match most {
                None => {
                    let split = steps.len();
                    steps.push(Step::Split(split + 1, 0));
                    emit(inner, steps)?;
                    steps.push(Step::Jump(split));
                    let end = steps.len();
                    set(steps, split, Step::Split(split + 1, end));
                }
                Some(most) => {
                    let mut splits = Vec::new();
                    for _ in *least..*most {
                        splits.push(steps.len());
                        steps.push(Step::Split(0, 0));
                        emit(inner, steps)?;
                    }
                    let end = steps.len();
                    for split in splits {
                        set(steps, split, Step::Split(split + 1, end));
                    }
                }
            }
        }
    }
    Ok(())
}

fn set(steps: &mut [Step], index: usize, step: Step) {
    if let Some(place) = steps.get_mut(index) {
        *place = step;
    }
}

/// The bytes with which a match can begin; nothing if it can be empty or begin with anything.
fn first_bytes(node: &Node, fold: bool) -> Option<Box<[bool; 256]>> {
    match node {
        Node::Step(Step::Byte(byte)) => {
            let mut table = Box::new([false; 256]);
            for byte in if fold { [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()] } else { [*byte, *byte] } {
                if let Some(place) = table.get_mut(usize::from(byte)) {
                    *place = true;
                }
            }
            Some(table)
        }
        Node::Sequence(nodes) => first_bytes(nodes.first()?, fold),
        Node::Group(_, inner) => first_bytes(inner, fold),
        Node::Repeat(inner, least, _) if *least > 0 => first_bytes(inner, fold),
        Node::Either(branches) => {
            let mut table = Box::new([false; 256]);
            for branch in branches {
                let own = first_bytes(branch, fold)?;
                table.iter_mut().zip(own.iter()).for_each(|(place, value)| *place |= value);
            }
            Some(table)
        }
        _ => None,
    }
}
