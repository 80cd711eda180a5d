//! Reading the host's apt configuration: both formats of a list of sources.

/// One suite at one address, as apt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// As apt is told it, possibly with a slash at its end.
    pub(crate) address: String,
    /// A release's name, or one with a suffix: bookworm-security.
    pub(crate) suite: String,
}

/// Reads `deb [options] ADDRESS SUITE COMPONENT…` lines.
pub(crate) fn one_line_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => match options.split_once(']') {
                Some((_, rest)) => rest,
                None => continue,
            },
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(address), Some(suite)) = (words.next(), words.next()) {
            sources.push(Source {
                address: address.to_owned(),
                suite: suite.to_owned(),
            });
        }
    }
    sources
}

/// Reads stanzas with `Types`, `URIs` and `Suites`; a disabled stanza counts for nothing.
pub(crate) fn deb822_sources(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut sources = Vec::new();
    for stanza in lines.join("\n").split("\n\n") {
        let field = |name: &str| -> Vec<&str> {
            let mut words = Vec::new();
            let mut inside = false;
            for line in stanza.lines() {
                if line.starts_with([' ', '\t']) {
                    // A continuation belongs to the field above it.
                } else if let Some((key, _)) = line.split_once(':') {
                    inside = key.eq_ignore_ascii_case(name);
                }
                if inside {
                    let value = if line.starts_with([' ', '\t']) {
                        line
                    } else {
                        line.split_once(':').map_or("", |(_, value)| value)
                    };
                    words.extend(value.split_whitespace());
                }
            }
            words
        };
        if field("Enabled")
            .first()
            .is_some_and(|word| word.eq_ignore_ascii_case("no"))
            || !field("Types").contains(&"deb")
        {
            continue;
        }
        for address in field("URIs") {
            for suite in field("Suites") {
                sources.push(Source {
                    address: address.to_owned(),
                    suite: suite.to_owned(),
                });
            }
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str, suite: &str) -> Source {
        Source {
            address: address.into(),
            suite: suite.into(),
        }
    }

    #[test]
    fn one_line_sources_are_read_with_and_without_options() {
        let text = "# comment\ndeb-src http://mirror.test/debian a main\n\
                    deb [arch=amd64 signed-by=/k] http://mirror.test/debian bookworm main contrib\n\
                    deb   http://mirror.test/debian-security bookworm-security main\n";
        assert_eq!(
            one_line_sources(text),
            [
                source("http://mirror.test/debian", "bookworm"),
                source("http://mirror.test/debian-security", "bookworm-security"),
            ]
        );
    }

    #[test]
    fn deb822_stanzas_are_read_and_disabled_ones_skipped() {
        let text = "Types: deb deb-src\n# where it came from\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm\n bookworm-updates\nComponents: main\n\n\
                    Types: deb\nURIs: http://mirror.test/off\nSuites: x\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://mirror.test/src\nSuites: x\n";
        assert_eq!(
            deb822_sources(text),
            [
                source("http://mirror.test/debian", "bookworm"),
                source("http://mirror.test/debian", "bookworm-updates"),
            ]
        );
    }
}
