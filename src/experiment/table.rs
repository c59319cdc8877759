//! Tables of text, for people and papers.

/// A table of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Markdown,
    Csv,
    Latex,
}

impl Table {
    /// The whole table, with a line break at the end.
    pub fn write(&self, style: Style) -> String {
        match style {
            Style::Markdown => self.markdown(),
            Style::Csv => self.csv(),
            Style::Latex => self.latex(),
        }
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = "|---".repeat(self.head.len()) + "|\n";
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.head) + &rule + &rows
    }

    fn csv(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|c| csv_field(c)).collect();
            cells.join(",") + "\n"
        };
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.head) + &rows
    }

    /// For the package `booktabs`.
    fn latex(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|c| escape(c)).collect();
            format!("{} \\\\\n", cells.join(" & "))
        };
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!(
            "\\begin{{tabular}}{{l{}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n",
            "r".repeat(self.head.len().saturating_sub(1)),
            line(&self.head),
        )
    }
}

fn escape(text: &str) -> String {
    let one = |c: char| match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '\\' => "\\textbackslash{}".to_owned(),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        _ => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// A field of a CSV file.
pub fn csv_field(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn papers_take_them() {
        let latex = Table {
            head: vec!["a_b".into(), "100 %".into()],
            rows: vec![vec!["x & y".into(), "\\".into()]],
        };
        let latex = latex.write(Style::Latex);
        assert!(latex.contains("a\\_b & 100 \\% \\\\"), "{latex}");
        assert!(
            latex.contains("x \\& y & \\textbackslash{} \\\\"),
            "{latex}"
        );
    }
}
