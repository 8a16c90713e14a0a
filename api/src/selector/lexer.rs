//! Cuts the text of a label selector into tokens. Judges nothing.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    End,
    ClosedParenthesis,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    OpenParenthesis,
}

/// The tokens of `text` with the text of each; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Vec<(Token, &str)> {
    // A NUL ends the text, as it does for Kubernetes' lexer.
    let mut rest = text.split('\0').next().unwrap_or_default();
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next() else {
            found.push((Token::End, ""));
            return found;
        };
        let (token, length) = if is_symbol(first) {
            symbol(rest)
        } else {
            word(rest)
        };
        let (literal, after) = rest.split_at(length);
        found.push((token, literal));
        rest = after;
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn symbol(text: &str) -> (Token, usize) {
    const SYMBOLS: [(&str, Token); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Not),
        ("(", Token::OpenParenthesis),
        (")", Token::ClosedParenthesis),
        (",", Token::Comma),
        (">", Token::GreaterThan),
        ("<", Token::LessThan),
    ];
    SYMBOLS
        .iter()
        .find(|(symbol, _)| text.starts_with(symbol))
        .map_or((Token::End, text.len()), |(symbol, token)| {
            (*token, symbol.len())
        })
}

fn word(text: &str) -> (Token, usize) {
    let length = text
        .find(|c| is_symbol(c) || is_space(c))
        .unwrap_or(text.len());
    let token = match &text[..length] {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    (token, length)
}
