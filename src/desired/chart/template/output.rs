//! The text that a rendering writes, and which line of the template wrote each of its lines.

use super::Rendered;

/// What Go writes where there is nothing.
pub(super) const NO_VALUE: &str = "<no value>";

/// Where text comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// From the template's own text, beginning at this line: a line's end leads to the next.
    Text(u32),
    /// From an action at this line, however many lines it writes.
    Action(u32),
}

/// A text in the making.
#[derive(Debug, Default)]
pub(super) struct Output {
    text: String,
    lines: Vec<u32>,
    /// The line of the template that wrote the first visible character of the present line.
    present: Option<u32>,
    /// The line of the template that writing has come to.
    last: u32,
}

impl Output {
    pub(super) fn write(&mut self, text: &str, source: Source) {
        let (mut line, step) = match source {
            Source::Text(line) => (line, 1),
            Source::Action(line) => (line, 0),
        };
        for piece in text.split_inclusive('\n') {
            if self.present.is_none() && !piece.trim().is_empty() {
                self.present = Some(line);
            }
            if piece.ends_with('\n') {
                self.lines.push(self.present.take().unwrap_or(line));
                line = line.saturating_add(step);
            }
        }
        self.last = line;
        self.text.push_str(text);
    }

    /// Without the places where nothing was: Helm takes them out at the end, so until then a text that was
    /// included has them, counts as true for them, and has another digest.
    pub(super) fn without_gaps(mut self) -> Self {
        if self.text.contains(NO_VALUE) {
            self.text = self.text.replace(NO_VALUE, "");
        }
        self
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn into_rendered(self) -> Rendered {
        let mut this = self.without_gaps();
        this.lines.push(this.present.unwrap_or(this.last.max(1)));
        Rendered { text: this.text, lines: this.lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_first_visible_character() {
        let mut output = Output::default();
        output.write("a\n  ", Source::Text(1));
        output.write("b\nc\n", Source::Action(2));
        output.write("\n\nd: ", Source::Text(2));
        output.write("x", Source::Action(4));
        assert_eq!(output.into_rendered().lines, [1, 2, 2, 2, 3, 4]);
        assert_eq!(Output::default().into_rendered().lines, [1]);
    }
}
