//! Reads label selectors: `app=web,tier in (front, back),!canary`.

use std::collections::BTreeSet;

use super::{
    Operator, Requirement,
    lexer::{Token, tokens},
};
use crate::{field::quote, names};

/// The requirements of a selector, by key.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser {
        tokens: tokens(text),
        position: 0,
    };
    let mut requirements = parser.selector()?;
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(requirements)
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, literal) => {
                    return Err(format!(
                        "found '{literal}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            let requirement = self
                .requirement()
                .map_err(|e| format!("unable to parse requirement: {e}"))?;
            requirements.push(requirement);
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    let (token, literal) = self.peek();
                    if !matches!(token, Token::Identifier | Token::Not) {
                        return Err(format!("found '{literal}', expected: identifier after ','"));
                    }
                }
                (_, literal) => {
                    return Err(format!(
                        "found '{literal}', expected: ',' or 'end of string'"
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek().0 == Token::Not;
        if negated {
            self.next();
        }
        let (token, key) = self.next();
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            // Kubernetes prints the missing path of this error as Go prints nil.
            let problems = problems.join("; ");
            return Err(format!("<nil>: Invalid value: {}: {problems}", quote(key)));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if let (Token::End | Token::Comma, _) = self.peek() {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let (token, literal) = self.next_operator();
        let (operator, values) = match token {
            Token::In => (Operator::In, self.values()?),
            Token::NotIn => (Operator::NotIn, self.values()?),
            Token::Equals | Token::DoubleEquals => (Operator::In, self.exact_value()?),
            Token::NotEquals => (Operator::NotIn, self.exact_value()?),
            Token::GreaterThan => (Operator::GreaterThan, self.exact_value()?),
            Token::LessThan => (Operator::LessThan, self.exact_value()?),
            _ => {
                return Err(format!(
                    "found '{literal}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let values = values.into_iter().map(str::to_owned).collect();
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<&'a str>, String> {
        if let (Token::End | Token::Comma, _) = self.peek() {
            return Ok(BTreeSet::from([""]));
        }
        match self.next() {
            (Token::Identifier, value) => Ok(BTreeSet::from([value])),
            (_, literal) => Err(format!("found '{literal}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<&'a str>, String> {
        let (token, literal) = self.next();
        if token != Token::OpenParenthesis {
            return Err(format!("found '{literal}' expected: '('"));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => {
                let values = self.identifiers()?;
                self.next();
                Ok(values)
            }
            (Token::ClosedParenthesis, _) => {
                self.next();
                Ok(BTreeSet::from([""]))
            }
            (_, literal) => Err(format!(
                "found '{literal}', expected: ',', ')' or identifier"
            )),
        }
    }

    /// Up to, not including, the closing parenthesis; a missing item is the empty value.
    fn identifiers(&mut self) -> Result<BTreeSet<&'a str>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.insert(value);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::ClosedParenthesis, _) => return Ok(values),
                        (_, literal) => {
                            return Err(format!("found '{literal}', expected: ',' or ')'"));
                        }
                    }
                }
                (Token::Comma, _) => {
                    let after = self.peek().0;
                    if values.is_empty() || matches!(after, Token::ClosedParenthesis | Token::Comma)
                    {
                        values.insert("");
                    }
                    if after == Token::ClosedParenthesis {
                        return Ok(values);
                    }
                }
                (_, literal) => {
                    return Err(format!("found '{literal}', expected: ',', or identifier"));
                }
            }
        }
    }

    /// The next token where a key or a value may stand: there `in` and `notin` are plain words.
    fn peek(&self) -> (Token, &'a str) {
        match self.tokens.get(self.position) {
            Some((Token::In | Token::NotIn, literal)) => (Token::Identifier, literal),
            Some(found) => *found,
            None => (Token::End, ""),
        }
    }

    fn next(&mut self) -> (Token, &'a str) {
        let found = self.peek();
        self.position += 1;
        found
    }

    fn next_operator(&mut self) -> (Token, &'a str) {
        let found = self.tokens.get(self.position).copied();
        self.position += 1;
        found.unwrap_or((Token::End, ""))
    }
}
