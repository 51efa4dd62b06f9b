//! The plot: latency by percentile, both axes logarithmic, as SVG.

use std::fmt::Write as _;

/// One line of the plot.
#[derive(Debug)]
pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    /// Percentile and milliseconds.
    pub(super) points: &'a [(f64, f64)],
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Told apart in print and by people who see few colors: also by their dashes.
const STYLES: [(&str, &str); 6] = [
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "10 4"),
    ("#e69f00", "1 2"),
    ("#56b4e9", "8 2 2 2"),
];

/// Percentiles that are marked.
const MARKS: [(f64, &str); 6] = [
    (0.0, "0 %"),
    (90.0, "90 %"),
    (99.0, "99 %"),
    (99.9, "99.9 %"),
    (99.99, "99.99 %"),
    (99.999, "99.999 %"),
];

/// Draws the curves.
pub(super) fn svg(curves: &[Curve<'_>]) -> String {
    let latencies = || {
        curves
            .iter()
            .flat_map(|curve| curve.points)
            .map(|(_, millis)| millis.max(0.001))
    };
    let low = latencies().fold(f64::INFINITY, f64::min).log10().floor();
    let high = latencies().fold(0.001, f64::max).log10().ceil();
    let scale = Scale {
        low: if low.is_finite() { low } else { -1.0 },
        high: high.max(low + 1.0),
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    grid(&mut text, &scale);
    for (index, curve) in curves.iter().enumerate() {
        draw(&mut text, &scale, curve, index);
    }
    text.push_str("</svg>\n");
    text
}

struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// From the share of requests that are slower: 1, 0.1, 0.01, … are equally far apart.
    fn x(percentile: f64) -> f64 {
        let slower = (1.0 - percentile / 100.0).max(1e-5);
        LEFT + (WIDTH - LEFT - RIGHT) * (-slower.log10()) / 5.0
    }

    fn y(&self, millis: f64) -> f64 {
        let share = (millis.max(0.001).log10() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{what}");
    debug_assert!(written.is_ok(), "writing into a String");
}

fn grid(text: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (percentile, label) in MARKS {
        let x = Scale::x(percentile);
        put(
            text,
            format_args!(
                "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            ),
        );
    }
    let mut decade = scale.low;
    while decade <= scale.high {
        let millis = 10_f64.powf(decade);
        let y = scale.y(millis);
        put(
            text,
            format_args!(
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{millis} ms</text>",
                LEFT - 6.0,
                y + 4.0
            ),
        );
        decade += 1.0;
    }
    put(
        text,
        format_args!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">requests answered at least this fast</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 10.0
        ),
    );
}

fn draw(text: &mut String, scale: &Scale, curve: &Curve<'_>, index: usize) {
    let (color, dashes) = STYLES
        .get(index % STYLES.len())
        .copied()
        .unwrap_or(("#000", ""));
    let points: Vec<String> = curve
        .points
        .iter()
        .map(|(percentile, millis)| format!("{:.1},{:.1}", Scale::x(*percentile), scale.y(*millis)))
        .collect();
    put(
        text,
        format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        ),
    );
    let y = TOP + 16.0 + 20.0 * f64::from(u32::try_from(index).unwrap_or_default());
    let x = WIDTH - RIGHT + 12.0;
    put(
        text,
        format_args!(
            "<path d=\"M{x} {y}h24\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 30.0,
            y + 4.0,
            curve.name
        ),
    );
}
