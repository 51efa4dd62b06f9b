//! Who owned which key when, as SVG: a row of each key, a color of each pod, a line where something was
//! done. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::outcome::{OwnedBy, Timeline};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 14.0;
const ROW: f64 = 12.0;
const BOTTOM: f64 = 30.0;

/// Told apart by people who see few colors; more pods begin anew, told apart by their titles.
const COLORS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999",
];

/// Draws it.
#[must_use]
pub fn svg(timeline: &Timeline) -> String {
    let pods: BTreeSet<&str> = timeline
        .rows
        .iter()
        .flat_map(|row| &row.spans)
        .map(|span| pod(&span.owner))
        .collect();
    let colors: BTreeMap<&str, &str> = pods
        .iter()
        .copied()
        .zip(COLORS.into_iter().cycle())
        .collect();
    let rows = f64::from(u32::try_from(timeline.rows.len()).unwrap_or(u32::MAX));
    let height = TOP + rows * ROW + BOTTOM;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let scale = Scale(timeline.length);
    let mut y = TOP;
    for row in &timeline.rows {
        put(
            &mut text,
            format_args!(
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + ROW - 3.0,
                escaped(&row.key)
            ),
        );
        for span in &row.spans {
            let color = colors.get(pod(&span.owner)).copied().unwrap_or("#000000");
            draw(&mut text, &scale, span, y, color);
        }
        y += ROW;
    }
    marks(&mut text, &scale, timeline, y);
    axis(&mut text, &scale, y);
    legend(&mut text, &colors);
    text.push_str("</svg>\n");
    text
}

/// Milliseconds to a place on the page.
struct Scale(f64);

impl Scale {
    fn x(&self, at: f64) -> f64 {
        let share = if self.0 > 0.0 {
            (at / self.0).clamp(0.0, 1.0)
        } else {
            0.0
        };
        LEFT + (WIDTH - LEFT - RIGHT) * share
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{what}");
    debug_assert!(written.is_ok(), "writing into a String");
}

fn draw(text: &mut String, scale: &Scale, span: &OwnedBy, y: f64, color: &str) {
    let (from, to) = (scale.x(span.from), scale.x(span.to));
    put(
        text,
        format_args!(
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"><title>{} from epoch {}, {:.3} s to {:.3} s</title></rect>",
            y + 1.0,
            (to - from).max(0.3),
            ROW - 2.0,
            escaped(&span.owner),
            span.epoch,
            span.from / 1000.0,
            span.to / 1000.0
        ),
    );
}

fn marks(text: &mut String, scale: &Scale, timeline: &Timeline, bottom: f64) {
    for mark in &timeline.marks {
        let x = scale.x(mark.at);
        put(
            text,
            format_args!(
                "<path d=\"M{x:.1} {:.0}V{bottom:.1}\" stroke=\"#000000\" stroke-width=\"0.6\" stroke-dasharray=\"2 2\"><title>{:.3} s: {}</title></path>",
                TOP - 6.0,
                mark.at / 1000.0,
                escaped(&mark.what)
            ),
        );
    }
}

/// Seconds, at most a dozen labels.
fn axis(text: &mut String, scale: &Scale, bottom: f64) {
    let seconds = scale.0 / 1000.0;
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let step = steps
        .into_iter()
        .find(|step| seconds / step <= 12.0)
        .unwrap_or(1200.0);
    let mut at = 0.0;
    while at <= seconds {
        let x = scale.x(at * 1000.0);
        put(
            text,
            format_args!(
                "<path d=\"M{x:.1} {bottom:.1}v4\" stroke=\"#444444\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
                bottom + 15.0
            ),
        );
        at += step;
    }
}

fn legend(text: &mut String, colors: &BTreeMap<&str, &str>) {
    let x = WIDTH - RIGHT + 10.0;
    let mut y = TOP;
    for (pod, color) in colors {
        put(
            text,
            format_args!(
                "<rect x=\"{x:.0}\" y=\"{y:.1}\" width=\"10\" height=\"8\" fill=\"{color}\"/><text x=\"{:.0}\" y=\"{:.1}\">{}</text>",
                x + 14.0,
                y + 8.0,
                escaped(pod)
            ),
        );
        y += 13.0;
    }
}

/// A holder without its incarnation: a pod that comes back keeps its color.
fn pod(holder: &str) -> &str {
    holder.split_once('#').map_or(holder, |(pod, _)| pod)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
