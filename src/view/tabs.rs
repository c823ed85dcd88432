//! Columns that widen with what stands in them: text with tab stops becomes text with spaces, as Go's
//! `text/tabwriter` does it, because that is what gives kubectl's output its looks.
//!
//! A cell is text that a tab ends; what follows the last tab of a line is no cell and has no width. Cells
//! of neighbouring lines at the same place form a column, and a line without that cell ends it.

/// Lays out `text`. A column is as wide as its widest cell and `padding`, at least `least`.
pub fn lay_out(text: &str, least: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut layout = Layout {
        lines: &lines,
        least,
        padding,
        widths: Vec::new(),
        out: String::with_capacity(text.len() * 2),
    };
    layout.block(0, lines.len());
    // The text's own last line end is no line of its own.
    layout.out.pop();
    layout.out
}

struct Layout<'t> {
    lines: &'t [Vec<&'t str>],
    least: usize,
    padding: usize,
    /// Of the columns to the left of the one being looked at.
    widths: Vec<usize>,
    out: String,
}

impl Layout<'_> {
    fn has_cell(&self, line: usize, column: usize) -> bool {
        column + 1 < self.lines[line].len()
    }

    /// Lays out lines that share every column so far.
    fn block(&mut self, from: usize, to: usize) {
        let column = self.widths.len();
        let (mut done, mut at) = (from, from);
        while at < to {
            if !self.has_cell(at, column) {
                at += 1;
                continue;
            }
            self.write(done, at);
            done = at;
            let mut width = self.least;
            while at < to && self.has_cell(at, column) {
                let cell = self.lines[at][column].chars().count() + self.padding;
                width = width.max(cell);
                at += 1;
            }
            self.widths.push(width);
            self.block(done, at);
            self.widths.pop();
            done = at;
        }
        self.write(done, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            for (column, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column).filter(|_| column + 1 < line.len()) {
                    let gap = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_lines_share_columns_and_others_do_not() {
        let text = "Name:\tweb\nNamespace:\tshop\nContainers:\n  app:\n    Image:\tx\n    Command:\n      sh\nA:\tb\tc\nAA:\tb\n";
        let want = "Name:       web\nNamespace:  shop\nContainers:\n  app:\n    Image:  x\n    Command:\n      sh\nA:   b  c\nAA:  b\n";
        assert_eq!(lay_out(text, 0, 2), want);
    }

    #[test]
    fn a_column_has_a_least_width() {
        assert_eq!(lay_out("A\tB\n1\t2\n", 6, 3), "A     B\n1     2\n");
        assert_eq!(lay_out("", 6, 3), "");
    }
}
