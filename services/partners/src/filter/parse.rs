//! From text to an expression, by recursive descent. Precedence as in CloudEvents SQL 1.0: NOT, comparisons, AND, XOR, OR.

/// The longest expression, in bytes.
pub const LONGEST: usize = 1024;
/// How deep it may nest.
const DEEPEST: usize = 32;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A value.
    Literal(Literal),
    /// An attribute, by its name.
    Attribute(String),
    /// Whether an attribute is there.
    Exists(String),
    /// Not.
    Not(Box<Expression>),
    /// Both, one of them, or exactly one.
    Logic(Logic, Box<Expression>, Box<Expression>),
    /// A comparison.
    Compare(Compare, Box<Expression>, Box<Expression>),
    /// Whether a text is like a pattern.
    Like(Box<Expression>, Vec<Piece>),
    /// Whether a value is one of several.
    In(Box<Expression>, Vec<Expression>),
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i32),
    /// Yes or no.
    Boolean(bool),
}

/// How two conditions are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    /// Both.
    And,
    /// One of them.
    Or,
    /// Exactly one.
    Xor,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The same.
    Equal,
    /// Not the same.
    Unequal,
    /// Below.
    Less,
    /// Below, or the same.
    LessOrEqual,
    /// Above.
    Greater,
    /// Above, or the same.
    GreaterOrEqual,
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This character.
    One(char),
    /// Any one character.
    Any,
    /// Any number of characters.
    Many,
}

/// Why a text is no expression of the subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter cannot be used: {0}")]
pub struct FilterError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Number(i32),
    Sign(&'static str),
}

/// Reads an expression.
///
/// # Errors
/// What is wrong with it, or beyond the subset.
pub fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > LONGEST {
        return fault(format!("it is longer than {LONGEST} bytes"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let expression = parser.or(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => fault(format!("{} is not expected there", shown(Some(token)))),
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError(text.into()))
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "the end".to_owned(),
        Some(Token::Word(word)) => format!("'{}'", word.chars().take(40).collect::<String>()),
        Some(Token::Text(_)) => "a text".to_owned(),
        Some(Token::Number(number)) => format!("'{number}'"),
        Some(Token::Sign(sign)) => format!("'{sign}'"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&character) = characters.get(at) {
        let next = characters.get(at + 1).copied();
        match character {
            c if c.is_whitespace() => at += 1,
            '\'' | '"' => {
                let mut word = String::new();
                at += 1;
                loop {
                    match (characters.get(at), characters.get(at + 1)) {
                        (Some('\\'), Some(escaped)) => {
                            // What a pattern escapes stays escaped for it.
                            if !matches!(escaped, '\'' | '"' | '\\') {
                                word.push('\\');
                            }
                            word.push(*escaped);
                            at += 2;
                        }
                        (Some(end), _) if *end == character => break,
                        (Some(other), _) => {
                            word.push(*other);
                            at += 1;
                        }
                        (None, _) => return fault("a text has no closing quote"),
                    }
                }
                at += 1;
                tokens.push(Token::Text(word));
            }
            c if c.is_ascii_digit()
                || (c == '-' && next.is_some_and(|next| next.is_ascii_digit()) && begins_value(&tokens)) =>
            {
                let digits = characters.iter().skip(at + 1).take_while(|c| c.is_ascii_digit()).count();
                let word: String = characters.iter().skip(at).take(digits + 1).collect();
                match word.parse() {
                    Ok(number) => tokens.push(Token::Number(number)),
                    Err(_) => return fault("a whole number does not fit into 32 bits"),
                }
                at += digits + 1;
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let word: String = characters
                    .iter()
                    .skip(at)
                    .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
                    .collect();
                at += word.len();
                tokens.push(Token::Word(word));
            }
            _ => {
                let sign = match (character, next) {
                    ('!', Some('=')) => "!=",
                    ('<', Some('>')) => "<>",
                    ('<', Some('=')) => "<=",
                    ('>', Some('=')) => ">=",
                    ('=', _) => "=",
                    ('<', _) => "<",
                    ('>', _) => ">",
                    ('(', _) => "(",
                    (')', _) => ")",
                    (',', _) => ",",
                    ('+' | '-' | '*' | '/' | '%', _) => {
                        return fault(format!("arithmetic is not supported: '{character}'"));
                    }
                    _ => return fault(format!("'{character}' has no meaning")),
                };
                at += sign.len();
                tokens.push(Token::Sign(sign));
            }
        }
    }
    Ok(tokens)
}

/// Whether a value may come next, so that a minus belongs to a number.
fn begins_value(tokens: &[Token]) -> bool {
    match tokens.last() {
        None => true,
        Some(Token::Sign(sign)) => *sign != ")",
        Some(Token::Word(word)) => is_keyword(word),
        Some(Token::Text(_) | Token::Number(_)) => false,
    }
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 9] = ["AND", "OR", "XOR", "NOT", "LIKE", "IN", "EXISTS", "TRUE", "FALSE"];
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(is_it);
        is_it
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(own)) if *own == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn or(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut left = self.xor(depth)?;
        while self.keyword("OR") {
            left = Expression::Logic(Logic::Or, Box::new(left), Box::new(self.xor(depth)?));
        }
        Ok(left)
    }

    fn xor(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut left = self.and(depth)?;
        while self.keyword("XOR") {
            left = Expression::Logic(Logic::Xor, Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut left = self.comparison(depth)?;
        while self.keyword("AND") {
            left = Expression::Logic(Logic::And, Box::new(left), Box::new(self.comparison(depth)?));
        }
        Ok(left)
    }

    fn comparison(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth > DEEPEST {
            return fault(format!("it nests more than {DEEPEST} deep"));
        }
        if self.keyword("NOT") {
            return Ok(Expression::Not(Box::new(self.comparison(depth + 1)?)));
        }
        let left = self.value(depth)?;
        let is_not = self.keyword("NOT");
        let found = if self.keyword("LIKE") {
            Expression::Like(Box::new(left), self.pattern()?)
        } else if self.keyword("IN") {
            Expression::In(Box::new(left), self.list(depth)?)
        } else if is_not {
            return fault("NOT is followed by LIKE or IN there");
        } else if let Some(compare) = self.compare() {
            return Ok(Expression::Compare(compare, Box::new(left), Box::new(self.value(depth)?)));
        } else {
            return Ok(left);
        };
        Ok(if is_not { Expression::Not(Box::new(found)) } else { found })
    }

    fn compare(&mut self) -> Option<Compare> {
        let compare = match self.peek()? {
            Token::Sign("=") => Compare::Equal,
            Token::Sign("!=" | "<>") => Compare::Unequal,
            Token::Sign("<") => Compare::Less,
            Token::Sign("<=") => Compare::LessOrEqual,
            Token::Sign(">") => Compare::Greater,
            Token::Sign(">=") => Compare::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(compare)
    }

    fn value(&mut self, depth: usize) -> Result<Expression, FilterError> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Expression::Literal(Literal::Text(unescaped(&text)))),
            Some(Token::Number(number)) => Ok(Expression::Literal(Literal::Integer(number))),
            Some(Token::Sign("(")) => {
                let inner = self.or(depth + 1)?;
                if self.sign(")") {
                    Ok(inner)
                } else {
                    fault(format!("')' is missing before {}", shown(self.peek())))
                }
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("EXISTS") => match self.next() {
                Some(Token::Word(name)) if !is_keyword(&name) => Ok(Expression::Exists(attribute(&name)?)),
                token => {
                    fault(format!("EXISTS is followed by an attribute, not by {}", shown(token.as_ref())))
                }
            },
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("TRUE") => {
                Ok(Expression::Literal(Literal::Boolean(true)))
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("FALSE") => {
                Ok(Expression::Literal(Literal::Boolean(false)))
            }
            Some(Token::Word(word)) if !is_keyword(&word) => {
                if matches!(self.peek(), Some(Token::Sign("("))) {
                    let name: String = word.to_ascii_uppercase().chars().take(40).collect();
                    return fault(format!("functions are not supported: {name}"));
                }
                Ok(Expression::Attribute(attribute(&word)?))
            }
            token => fault(format!("a value is expected, not {}", shown(token.as_ref()))),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Expression>, FilterError> {
        if !self.sign("(") || self.sign(")") {
            return fault("IN is followed by values in parentheses");
        }
        let mut list = vec![self.value(depth + 1)?];
        while self.sign(",") {
            list.push(self.value(depth + 1)?);
        }
        if self.sign(")") { Ok(list) } else { fault("the list of IN is not closed") }
    }

    fn pattern(&mut self) -> Result<Vec<Piece>, FilterError> {
        let Some(Token::Text(text)) = self.next() else {
            return fault("LIKE is followed by a text in quotes");
        };
        let (mut pattern, mut characters) = (Vec::new(), text.chars());
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some(escaped @ ('%' | '_')) => pattern.push(Piece::One(escaped)),
                    other => {
                        pattern.push(Piece::One('\\'));
                        pattern.extend(other.map(Piece::One));
                    }
                },
                '%' => pattern.push(Piece::Many),
                '_' => pattern.push(Piece::Any),
                other => pattern.push(Piece::One(other)),
            }
        }
        pattern.dedup_by(|a, b| *a == Piece::Many && *b == Piece::Many);
        Ok(pattern)
    }
}

/// Outside a pattern '%' and '_' need no backslash.
fn unescaped(text: &str) -> String {
    text.replace("\\%", "%").replace("\\_", "_")
}

fn attribute(name: &str) -> Result<String, FilterError> {
    let name = name.to_ascii_lowercase();
    if matches!(name.as_str(), "data" | "data_base64") {
        return fault("a filter sees attributes, not data");
    }
    Ok(name)
}
