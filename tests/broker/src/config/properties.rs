//! Reading a properties file, as Kafka's `server.properties` is one (`java.util.Properties.load`).

/// Names and values in the order of the file: of a name that comes twice the last counts.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    logical_lines(text).iter().map(|line| split(line)).collect()
}

/// Lines without comments, and with those that end in an odd number of backslashes joined to the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let mut whole = open.take().unwrap_or_default();
        if backslashes % 2 == 1 {
            whole.push_str(line.get(..line.len() - 1).unwrap_or_default());
            open = Some(whole);
        } else {
            whole.push_str(line);
            lines.push(whole);
        }
    }
    lines.extend(open);
    lines
}

/// The name ends at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (String, String) {
    let mut name = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => name.extend(escaped(&mut letters)),
            '=' | ':' | ' ' | '\t' => {
                let rest = letters.as_str();
                let rest = if letter == ' ' || letter == '\t' { rest.trim_start_matches([' ', '\t']) } else { rest };
                let separated = matches!(letter, '=' | ':');
                let value = if separated { rest } else { rest.strip_prefix(['=', ':']).unwrap_or(rest) };
                return (name, unescaped(value.trim_start_matches([' ', '\t'])));
            }
            _ => name.push(letter),
        }
    }
    (name, String::new())
}

fn unescaped(text: &str) -> String {
    let mut value = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(escaped(&mut letters)),
            _ => value.push(letter),
        }
    }
    value
}

/// What stands for the letters behind a backslash.
fn escaped(letters: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match letters.next()? {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\x0c',
        'u' => {
            let digits: String = letters.by_ref().take(4).collect();
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn separators_white_space_and_comments_are_as_in_java() {
        let text = "# comment\n! too\n\n  a=1\nb : 2 \nc 3\nd\ne==4\nf\t=\t5\n";
        let want = [("a", "1"), ("b", "2 "), ("c", "3"), ("d", ""), ("e", "=4"), ("f", "5")];
        assert_eq!(parsed(text), want.map(|(name, value)| pair(name, value)));
    }

    #[test]
    fn lines_go_on_behind_a_backslash_and_escapes_are_read() {
        assert_eq!(
            parsed("a=1,\\\n   2\nb=x\\\\\nc\\:d=\\u0041\\tz"),
            [pair("a", "1,2"), pair("b", "x\\"), pair("c:d", "A\tz")]
        );
        assert_eq!(parsed("a=1\\"), [pair("a", "1")]);
    }
}
