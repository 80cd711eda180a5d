//! Lines by their shape: what differs from run to run is left out.
//!
//! Numbers, ports and times differ, addresses and weights do not, and nothing stays nothing: a 0 is no other number.
//! A line `…` of the page stands for any lines, and `…` within a line for anything in it.

use std::{fmt::Write as _, ops::Range};

/// What a command printed, without the line that says once how far local time is from UTC.
pub fn lines(printed: &str) -> Vec<String> {
    let mut lines: Vec<String> = printed.lines().map(|line| line.trim_end().to_owned()).collect();
    if lines.first().is_some_and(|line| line.contains("UTC")) {
        lines.remove(0);
    }
    lines
}

/// Lines as they stand in the page.
pub fn text(lines: &[impl AsRef<str>]) -> String {
    lines
        .iter()
        .fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

/// A line in the form that it always has, and where each byte of that form is from.
struct Shape {
    form: String,
    from: Vec<usize>,
}

impl Shape {
    fn of(line: &str) -> Self {
        let mut shape = Self {
            form: String::new(),
            from: Vec::new(),
        };
        let mut begin = 0;
        while begin < line.len() {
            let rest = &line[begin..];
            let blank = rest.starts_with(char::is_whitespace);
            let end = rest.find(|c: char| c.is_whitespace() != blank);
            let end = end.map_or(line.len(), |end| begin + end);
            if blank {
                shape.push(" ", begin);
            } else {
                shape.word(&line[begin..end], begin);
            }
            begin = end;
        }
        shape.from.push(line.len());
        shape
    }

    fn push(&mut self, form: &str, from: usize) {
        self.form.push_str(form);
        self.from.extend((0..form.len()).map(|byte| from + byte));
    }

    fn word(&mut self, word: &str, begin: usize) {
        match word.split_once('=') {
            // Connections that a real server has depend on how fast they end.
            Some(("a" | "i", number)) if number.parse::<u32>().is_ok() => {
                self.push(&word[..2], begin);
                self.push("#", begin + 2);
            }
            Some(("w", _)) => self.push(word, begin),
            // A duration, in whatever unit.
            None if ["ns", "us", "ms"].iter().any(|unit| {
                word.strip_suffix(unit)
                    .is_some_and(|number| number.parse::<f64>().is_ok())
            }) =>
            {
                self.push("#", begin);
            }
            _ => self.masked(word, begin),
        }
    }

    /// Appends a word with its numbers masked, but for addresses.
    fn masked(&mut self, word: &str, begin: usize) {
        let mut place = 0;
        while let Some(next) = word[place..].find(|c: char| c.is_ascii_digit()) {
            let first = place + next;
            let numeric = |c: char| c.is_ascii_digit() || c == '.';
            let end = word[first..]
                .find(|c| !numeric(c))
                .map_or(word.len(), |end| first + end);
            let number = word[first..end].trim_end_matches('.');
            self.push(&word[place..first], begin + place);
            // In a name, as in rs1, a digit is no number.
            let in_name = word[..first].ends_with(|c: char| c.is_ascii_alphabetic());
            let form = if number.matches('.').count() == 3 || in_name && number.len() == 1 {
                number
            } else if number.trim_matches(['0', '.']).is_empty() && !word[..first].ends_with(':') {
                "0"
            } else {
                "#"
            };
            self.push(form, begin + first);
            place = first + number.len();
        }
        self.push(&word[place..], begin + place);
    }

    /// Where the pieces of a shown line are in this one, as places of its text; none if it is another line.
    fn pieces(&self, shown: &str) -> Option<Vec<Range<usize>>> {
        let wanted: Vec<String> = shown.split('…').map(|piece| Self::of(piece).form).collect();
        let last = wanted.len() - 1;
        let mut place = 0;
        let mut found = Vec::new();
        for (index, piece) in wanted.iter().enumerate() {
            let rest = &self.form[place..];
            let begin = match index {
                0 if rest.starts_with(piece.as_str()) => 0,
                0 => return None,
                _ if index == last => rest.len().checked_sub(piece.len())?,
                _ => rest.find(piece.as_str())?,
            };
            if !rest.get(begin..)?.starts_with(piece.as_str()) {
                return None;
            }
            let end = place + begin + piece.len();
            found.push(self.from[place + begin]..self.from[end]);
            place = end;
        }
        (place == self.form.len()).then_some(found)
    }
}

/// Whether what is shown is what was printed.
pub fn fits(shown: &[&str], printed: &[String]) -> bool {
    let printed: Vec<Shape> = printed.iter().map(|line| Shape::of(line)).collect();
    let segments: Vec<&[&str]> = shown.split(|line| *line == "…").collect();
    let last = segments.len() - 1;
    let mut rest = &printed[..];
    for (index, segment) in segments.iter().enumerate() {
        let here = |rest: &[Shape]| {
            rest.len() >= segment.len()
                && rest
                    .iter()
                    .zip(*segment)
                    .all(|(line, shown)| line.pieces(shown).is_some())
        };
        let place = match index {
            _ if index == last && index > 0 => rest.len().checked_sub(segment.len()),
            0 => Some(0),
            _ => (0..=rest.len()).find(|&place| here(&rest[place..])),
        };
        match place.filter(|&place| here(&rest[place..])) {
            Some(place) => rest = &rest[place + segment.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// What is shown, as it is now: lines that fit with their new numbers, and others by what is most like them.
pub fn renewed(shown: &[&str], printed: &[String]) -> Vec<String> {
    if !shown.iter().any(|line| line.contains('…')) {
        return printed.to_vec();
    }
    let mut renewed = Vec::new();
    let mut from = 0;
    for line in shown {
        if *line == "…" {
            renewed.push("…".to_owned());
            continue;
        }
        let rest = &printed[from..];
        let fitting = rest
            .iter()
            .position(|printed| Shape::of(printed).pieces(line).is_some());
        let Some(place) = fitting.or_else(|| most_like(line, rest)) else {
            renewed.push((*line).to_owned());
            continue;
        };
        from += place + 1;
        renewed.push(match Shape::of(&rest[place]).pieces(line) {
            Some(pieces) => {
                let pieces: Vec<&str> = pieces.into_iter().map(|piece| &rest[place][piece]).collect();
                pieces.join("…")
            }
            None => rest[place].clone(),
        });
    }
    renewed
}

/// The line that has the most words of this one, if it has a third of them.
fn most_like(line: &str, printed: &[String]) -> Option<usize> {
    let words = Shape::of(line).form;
    let words: Vec<&str> = words.split([' ', ',']).collect();
    let common = |other: &String| {
        let other = Shape::of(other).form;
        let others: Vec<&str> = other.split([' ', ',']).collect();
        words.iter().filter(|word| others.contains(word)).count()
    };
    let counts: Vec<usize> = printed.iter().map(common).collect();
    let best = (0..counts.len()).rev().max_by_key(|&place| counts[place])?;
    (counts[best] * 3 >= words.len()).then_some(best)
}

/// Both, one below the other, and a mark before each line that has no like.
pub fn difference(name: &str, command: &str, shown: &[&str], printed: &[String]) -> String {
    let mut text = format!("{name}: $ {command}\n  the page:\n");
    for line in shown {
        let has = *line == "…"
            || printed
                .iter()
                .any(|printed| Shape::of(printed).pieces(line).is_some());
        let _ = writeln!(text, "  {} {line}", if has { ' ' } else { '-' });
    }
    text += "  printed:\n";
    for line in printed {
        let has = shown.iter().any(|shown| Shape::of(line).pieces(shown).is_some());
        let _ = writeln!(text, "  {} {line}", if has { ' ' } else { '+' });
    }
    text
}

#[test]
fn numbers_ports_and_times_may_differ_and_nothing_else() {
    let shown = "15:30:44.261333  tcp://10.0.0.1:80  wrr  10.1.0.2:36650 -> 10.2.2.2:80  w=3    a=0    i=0  10.5ms  scheduled";
    let fits = |other: &str| fits(&[shown], &[other.to_owned()]);
    assert!(fits(
        "01:00:00.000000  tcp://10.0.0.1:80  wrr  10.1.0.2:9 -> 10.2.2.2:80  w=3 a=1 i=22 1.5ms  scheduled"
    ));
    for other in [
        shown.replace("w=3", "w=0"),
        shown.replace("10.2.2.2", "10.2.1.2"),
        shown.replace("scheduled", "fatal"),
        shown.replace("10.5ms", "-"),
    ] {
        assert!(!fits(&other), "{other}");
    }
    assert!(fits(&shown.replace("10.5ms", "1502.8us")));
    assert_ne!(Shape::of("picks=0i").form, Shape::of("picks=3i").form);
    assert_eq!(
        Shape::of("picks=12i,share=0.25").form,
        Shape::of("picks=3i,share=1").form
    );
}

#[test]
fn what_is_left_out_may_be_anything() {
    let printed = ["a 1", "b x=1,y=2,z=0 5", "c"].map(str::to_owned);
    for shown in [
        &["…", "b x=9,…,z=0…", "…"][..],
        &["a 2", "…"],
        &["…"],
        &["a 7", "b … 9", "c", "…"],
    ] {
        assert!(fits(shown, &printed), "{shown:?}");
    }
    for shown in [
        &["a 1", "…", "d"][..],
        &["b …", "c"],
        &["…", "b x=9,…,z=1…", "…"],
        &["a 1"],
    ] {
        assert!(!fits(shown, &printed), "{shown:?}");
    }
    let renewed = renewed(&["…", "b x=9,…,z=0…", "…"], &printed);
    assert_eq!(renewed, ["…", "b x=1,…,z=0…", "…"]);
}
