use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    metrics::{Horizons, TeacherForced},
    plot,
};

/// A column's name when it is measured in the arithmetic that is shipped.
pub const INT8: &str = "INT8";
/// A column's name when it is measured in the arithmetic of training.
pub const FP32: &str = "FP32";

/// Horizons that a table shows: 1, 5, 10, 20 own frames.
const SHOWN: [usize; 4] = [1, 5, 10, 20];

/// Fidelity of a world beside the baselines, on the same frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was measured on what.
    pub about: About,
    /// Subjects in the order given, then the baselines.
    pub columns: Vec<Column>,
}

/// What was measured on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The world's name.
    pub model: String,
    /// Validation matches.
    pub matches: u64,
    /// Their frames.
    pub frames: u64,
    /// Starts on its own.
    pub starts: u64,
    /// Which chose them.
    pub seed: u64,
}

/// One subject's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The subject.
    pub name: String,
    /// One frame ahead.
    pub teacher_forced: TeacherForced,
    /// On its own, every start.
    pub all: Horizons,
    /// On its own, starts after which nobody is dead or on the way back.
    pub alive: Horizons,
}

/// A line of the table: what, and each column's figure.
struct Line {
    label: String,
    decimals: usize,
    /// An error, not a share of what is right.
    lower_is_better: bool,
    values: Vec<Option<f64>>,
}

impl Report {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// An SVG plot of the errors by horizon.
    pub fn svg(&self) -> String {
        plot::svg(self)
    }

    /// The table in Markdown, with what was measured above it.
    pub fn markdown(&self) -> String {
        let head = self
            .columns
            .iter()
            .map(|column| format!(" {} |", column.name));
        let rule = self.columns.iter().map(|_| "---:|");
        let mut text = format!(
            "{self_about}\n\n| |{}\n|---|{}\n",
            head.chain(self.gap().map(|_| " INT8 worse by |".to_owned()))
                .collect::<String>(),
            rule.chain(self.gap().map(|_| "---:|")).collect::<String>(),
            self_about = self.about,
        );
        for line in self.lines() {
            let cells = self
                .cells(&line)
                .into_iter()
                .map(|cell| format!(" {cell} |"));
            text += &format!("| {} |{}\n", line.label, cells.collect::<String>());
        }
        text
    }

    /// Positions of INT8 and FP32, if both were measured.
    fn gap(&self) -> Option<(usize, usize)> {
        let find = |name| self.columns.iter().position(|column| column.name == name);
        Some((find(INT8)?, find(FP32)?))
    }

    /// A line's figures as text, the gap last.
    fn cells(&self, line: &Line) -> Vec<String> {
        let number = |value: &Option<f64>| match value {
            Some(value) => format!("{value:.*}", line.decimals),
            None => "–".to_owned(),
        };
        let mut cells: Vec<String> = line.values.iter().map(number).collect();
        if let Some((int8, fp32)) = self.gap() {
            let percent = line.values[int8]
                .zip(line.values[fp32])
                .map(|(int8, fp32)| {
                    let worse = if line.lower_is_better {
                        int8 / fp32
                    } else {
                        fp32 / int8
                    };
                    format!("{:+.1} %", 100.0 * (worse - 1.0))
                });
            cells.push(percent.unwrap_or_else(|| "–".to_owned()));
        }
        cells
    }

    fn lines(&self) -> Vec<Line> {
        let line = |lower_is_better, label: &str, decimals, of: &dyn Fn(&Column) -> Option<f64>| {
            let values = self.columns.iter().map(of).collect();
            Line {
                label: label.to_owned(),
                decimals,
                lower_is_better,
                values,
            }
        };
        let mut lines = vec![
            line(true, "one frame ahead: position error", 4, &|c| {
                Some(c.teacher_forced.position)
            }),
            line(false, "action right", 4, &|c| Some(c.teacher_forced.action)),
            line(false, "action right where it changes", 3, &|c| {
                c.teacher_forced.action_changed
            }),
            line(false, "hits, precision", 3, &|c| {
                c.teacher_forced.damage.precision()
            }),
            line(false, "hits, recall", 3, &|c| {
                c.teacher_forced.damage.recall()
            }),
            line(false, "stocks, precision", 3, &|c| {
                c.teacher_forced.stock.precision()
            }),
            line(false, "stocks, recall", 3, &|c| {
                c.teacher_forced.stock.recall()
            }),
        ];
        for part in [
            Part {
                name: "on its own",
                of: |c| &c.all,
            },
            Part {
                name: "nobody dead",
                of: |c| &c.alive,
            },
        ] {
            let of = part.of;
            lines.push(line(true, &format!("**{}**: RC5", part.name), 3, &|c| {
                Some(of(c).rc5)
            }));
            lines.push(line(true, "RC10", 3, &|c| Some(of(c).rc10)));
            lines.push(line(true, "RC20", 3, &|c| Some(of(c).rc20)));
            let mut each = |lower,
                            what: &str,
                            decimals,
                            of: &dyn Fn(&Column, usize) -> f64,
                            shown: &[usize]| {
                for &h in shown {
                    let label = format!("{what}, h{h}");
                    lines.push(line(lower, &label, decimals, &|c| Some(of(c, h - 1))));
                }
            };
            each(true, "position error", 3, &|c, i| of(c).position[i], &SHOWN);
            each(false, "action right", 3, &|c, i| of(c).action[i], &SHOWN);
            each(
                true,
                "percent error",
                3,
                &|c, i| of(c).percent[i],
                &SHOWN[2..],
            );
            each(true, "speed error", 4, &|c, i| of(c).speed[i], &SHOWN[2..]);
        }
        lines
    }
}

/// Which windows a part of the table averages over.
struct Part {
    name: &'static str,
    of: fn(&Column) -> &Horizons,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} validation matches, {} frames, {} starts (seed {}). Positions in game units.",
            self.model, self.matches, self.frames, self.starts, self.seed
        )
    }
}

/// The table as plain text.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.about)?;
        let mut head: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        head.extend(self.gap().map(|_| "INT8 worse by".to_owned()));
        let row = |label: &str, cells: &[String]| {
            let cells = cells.iter().zip(&head).map(|(cell, head)| {
                let width = head.len().max(8);
                format!("  {cell:>width$}")
            });
            format!("{label:<34}{}", cells.collect::<String>())
        };
        writeln!(f, "{}", row("", &head))?;
        for line in self.lines() {
            writeln!(
                f,
                "{}",
                row(&line.label.replace("**", ""), &self.cells(&line))
            )?;
        }
        Ok(())
    }
}
