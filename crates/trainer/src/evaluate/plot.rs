//! Four panels, errors over horizons, one line a column.

use std::fmt::Write;

use super::{
    metrics::Horizons,
    report::{Column, Report},
    windows::HORIZONS,
};

/// By column, the first one on top: INT8 lies on FP32 if all is well.
const STROKES: [&str; 4] = [
    r##"stroke="#0b6e4f" stroke-width="2.2""##,
    r##"stroke="#e0a458" stroke-width="6""##,
    r##"stroke="#c8553d" stroke-width="1.8" stroke-dasharray="7 4""##,
    r##"stroke="#3d5a98" stroke-width="1.8" stroke-dasharray="2 4""##,
];
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 690.0;
const TOP: f64 = 84.0;
const PANEL: [f64; 2] = [380.0, 225.0];
const MARGIN: [f64; 2] = [60.0, 66.0];
/// Grid lines of a panel.
const TICKS: u32 = 4;

struct Panel {
    title: &'static str,
    of: fn(&Horizons) -> &[f64],
    /// The top of the axis if it is known; else the largest value rounded up.
    top: Option<f64>,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Position error, game units",
        of: |h| &h.position,
        top: None,
    },
    Panel {
        title: "Right action states, share",
        of: |h| &h.action,
        top: Some(1.0),
    },
    Panel {
        title: "Percent error, %",
        of: |h| &h.percent,
        top: None,
    },
    Panel {
        title: "Speed error, units a frame",
        of: |h| &h.speed,
        top: None,
    },
];

pub(super) fn svg(report: &Report) -> String {
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{}" y="32" font-size="18" font-weight="600">{}: playing on its own, by frames since the last true one</text>
"##,
        MARGIN[0],
        escape(&report.about.model),
    );
    let mut x = MARGIN[0];
    for (column, stroke) in report.columns.iter().zip(STROKES) {
        let _ = writeln!(
            out,
            r##"<path d="M{x} 54h22" {stroke}/><text x="{}" y="59">{}</text>"##,
            x + 28.0,
            escape(&column.name)
        );
        x += 52.0 + 8.0 * column.name.len() as f64;
    }
    for (i, panel) in PANELS.iter().enumerate() {
        let left = MARGIN[0] + (i % 2) as f64 * (PANEL[0] + MARGIN[0] + 20.0);
        let top = TOP + (i / 2) as f64 * (PANEL[1] + MARGIN[1]);
        draw(&mut out, panel, &report.columns, [left, top + 20.0]);
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, panel: &Panel, columns: &[Column], [left, top]: [f64; 2]) {
    let [width, height] = PANEL;
    let values = columns.iter().flat_map(|column| (panel.of)(&column.all));
    let largest = panel
        .top
        .unwrap_or_else(|| round_up(values.copied().fold(0.0, f64::max)));
    let at = |horizon: f64, value: f64| {
        let x = left + width * (horizon - 1.0) / (HORIZONS - 1) as f64;
        (x, top + height * (1.0 - value / largest))
    };
    let _ = writeln!(
        out,
        r##"<text x="{left}" y="{}" font-weight="600">{}</text>"##,
        top - 10.0,
        panel.title
    );
    for tick in 0..=TICKS {
        let value = largest * f64::from(tick) / f64::from(TICKS);
        let (_, y) = at(1.0, value);
        let _ = writeln!(
            out,
            r##"<path d="M{left} {y:.1}h{width}" stroke="#d8dee4"/><text x="{}" y="{:.1}" text-anchor="end" fill="#57606a">{}</text>"##,
            left - 8.0,
            y + 4.0,
            short(value)
        );
    }
    for horizon in [1, 5, 10, 15, 20] {
        let (x, y) = at(f64::from(horizon), 0.0);
        let _ = writeln!(
            out,
            r##"<text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="#57606a">{horizon}</text>"##,
            y + 18.0
        );
    }
    for (column, stroke) in columns.iter().zip(STROKES).rev() {
        let points = (panel.of)(&column.all)
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let (x, y) = at((i + 1) as f64, *value);
                format!("{x:.1},{y:.1} ")
            });
        let _ = writeln!(
            out,
            r##"<polyline points="{}" fill="none" {stroke} stroke-linejoin="round"/>"##,
            points.collect::<String>().trim_end()
        );
    }
}

/// The next of 1, 2, 4, 6, 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    power
        * steps
            .into_iter()
            .find(|step| power * step >= value)
            .unwrap_or(10.0)
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
