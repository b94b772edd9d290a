//! The results as SVG: bars with whiskers from the smallest to the largest round, and marks at the targets.

use std::fmt::Write as _;

use super::page::{aim, compared};
use crate::metric::Metric;
use crate::peers::Program;
use crate::results::{Results, Spread};
use crate::scenario::{Group, Measure, SCENARIOS, Scenario};

const WIDTH: f64 = 760.0;
/// The position of bars, and their maximum length.
const LEFT: f64 = 130.0;
const SPAN: f64 = 520.0;
const HEAD: f64 = 58.0;
const BAR: f64 = 15.0;
const STEP: f64 = 21.0;
const LABEL: f64 = 26.0;
const FOOT: f64 = 34.0;
/// Maximum number of scale lines.
const TICKS_MAX: f64 = 7.0;

/// Colours follow the reader's choice of light or dark.
const STYLE: &str = "
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 15px; font-weight: 600 } .small { font-size: 11px; fill: #59636e } .group { font-weight: 600; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
    .paper { fill: #ffffff } .grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-dasharray: 3 3 }
    .whisker { stroke: #1f2328; stroke-width: 1.3 } .aim { stroke: #bc4c00; stroke-width: 2.5 }
    .nginx { fill: #4fae72 } .haproxy { fill: #5b93e0 } .envoy { fill: #b07ad6 } .relay { fill: #9aa4ae } .cardinal { fill: #d9534a }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .small { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #30363d }
      .group { stroke: #0d1117 } .one { stroke: #9198a1 } .whisker { stroke: #e6edf3 } .aim { stroke: #f0a04b }
      .nginx { fill: #2f8550 } .haproxy { fill: #2f6bc2 } .envoy { fill: #8a52b3 } .relay { fill: #656d76 } .cardinal { fill: #c2382f }
    }";

/// A plot.
struct Plot {
    title: &'static str,
    /// The unit of the bars.
    unit: String,
    rows: Vec<Row>,
    /// A ratio of 1 is marked.
    ratios: bool,
}

/// A group of bars.
struct Row {
    label: String,
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    /// A class of [`STYLE`].
    class: &'static str,
    value: Spread,
    text: String,
    aim: Option<f64>,
}

/// Name and content of the plot of each group with results.
pub(super) fn all(results: &Results) -> Vec<(String, String)> {
    let plots = Group::ALL.iter().filter_map(|group| Some((format!("{}.svg", group.file()), plot(*group, results)?)));
    plots.map(|(name, plot)| (name, svg(&plot))).collect()
}

fn plot(group: Group, results: &Results) -> Option<Plot> {
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| scenario.group == group).collect();
    let ratios = !scenarios.iter().any(|s| matches!(s.measure, Measure::Routes | Measure::Reload | Measure::Cold));
    let rows: Vec<Row> =
        scenarios.iter().flat_map(|s| if ratios { of_ratios(s, results) } else { of_values(s, results) }).collect();
    let unit = if ratios {
        "Cardinal's value as a multiple of the other's; the mark is what is aimed at".to_owned()
    } else {
        let metric = scenarios.first()?.headline;
        format!("{}; {} is better", metric.title(), if metric.more_is_better() { "more" } else { "less" })
    };
    (!rows.is_empty()).then_some(Plot { title: group.title(), unit, rows, ratios })
}

/// Cardinal's ratios to the others, with a row per compared metric.
fn of_ratios(scenario: &Scenario, results: &Results) -> Vec<Row> {
    let Some(rounds) = results.scenarios.get(scenario.name).and_then(|entry| entry.rounds()) else { return Vec::new() };
    let row = |metric: Metric| {
        let better = if metric.more_is_better() { "more is better" } else { "less is better" };
        let bars = Program::ALL.iter().filter_map(|other| {
            let value = rounds.ratio(Program::Cardinal.name(), other.name(), metric)?;
            let text = format!("{:.2}", value.median);
            let aim = aim(scenario, metric, *other).map(|aim| aim.at);
            (*other != Program::Cardinal).then(|| Bar {
                label: format!("to {}", other.name()),
                class: class(other.name()),
                value,
                text,
                aim,
            })
        });
        let label = format!("{}: {}, {better}", scenario.title, metric.title());
        Row { label, bars: bars.collect() }
    };
    compared(scenario).into_iter().map(row).filter(|row| !row.bars.is_empty()).collect()
}

/// The measured values.
fn of_values(scenario: &Scenario, results: &Results) -> Vec<Row> {
    let Some(rounds) = results.scenarios.get(scenario.name).and_then(|entry| entry.rounds()) else { return Vec::new() };
    let bars = rounds.names.iter().filter_map(|name| {
        let value = rounds.spread(name, scenario.headline)?;
        Some(Bar {
            label: name.clone(),
            class: class(name),
            value,
            text: scenario.headline.show(value.median),
            aim: None,
        })
    });
    vec![Row { label: scenario.title.to_owned(), bars: bars.collect() }]
}

fn class(name: &str) -> &'static str {
    let known = [("nginx", "nginx"), ("HAProxy", "haproxy"), ("Envoy", "envoy"), ("relay", "relay")];
    known.iter().find(|(start, _)| name.starts_with(start)).map_or("cardinal", |(_, class)| class)
}

fn svg(plot: &Plot) -> String {
    let bars = plot.rows.iter().flat_map(|row| &row.bars);
    let most = bars.map(|bar| bar.value.max.max(bar.aim.unwrap_or(0.0))).fold(f64::MIN_POSITIVE, f64::max);
    let step = nice(most / TICKS_MAX);
    let scale = SPAN / most;
    let height = HEAD + FOOT + plot.rows.iter().map(|row| LABEL + STEP * row.bars.len() as f64).sum::<f64>();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n  \
         <title>{title}</title>\n  <style>{STYLE}\n  </style>\n  \
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n  \
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>\n  <text class=\"small\" x=\"12\" y=\"42\">{}</text>\n",
        escaped(&plot.unit),
        title = escaped(plot.title),
    );
    let bottom = height - FOOT;
    let mut at = 0.0;
    while at <= most {
        let x = LEFT + at * scale;
        writeln!(text, "  <line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\"/>").ok();
        let y = bottom + 16.0;
        let label = tick(at, step);
        writeln!(text, "  <text class=\"small\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>").ok();
        at += step;
    }
    if plot.ratios && most >= 1.0 {
        let x = LEFT + scale;
        writeln!(text, "  <line class=\"one\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\"/>").ok();
    }
    let mut y = HEAD;
    for row in &plot.rows {
        writeln!(text, "  <text class=\"group\" x=\"12\" y=\"{:.1}\">{}</text>", y + 18.0, escaped(&row.label)).ok();
        y += LABEL;
        for bar in &row.bars {
            draw(&mut text, bar, y, scale);
            y += STEP;
        }
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, bar: &Bar, y: f64, scale: f64) {
    let (middle, base) = (y + BAR / 2.0, y + BAR - 3.5);
    let [min, median, max] = [bar.value.min, bar.value.median, bar.value.max].map(|v| LEFT + v.max(0.0) * scale);
    write!(
        text,
        "  <text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>
  <rect class=\"{}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>
",
        LEFT - 8.0,
        escaped(&bar.label),
        bar.class,
        median - LEFT,
    )
    .ok();
    if max > min {
        let (above, below) = (middle - 3.0, middle + 3.0);
        writeln!(
            text,
            "  <path class=\"whisker\" d=\"M{min:.1} {middle:.1}H{max:.1}M{min:.1} {above:.1}V{below:.1}M{max:.1} {above:.1}V{below:.1}\"/>"
        )
        .ok();
    }
    let mut end = max;
    if let Some(aim) = bar.aim {
        let x = LEFT + aim * scale;
        let (above, below) = (y - 2.0, y + BAR + 2.0);
        writeln!(text, "  <line class=\"aim\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{above:.1}\" y2=\"{below:.1}\"/>").ok();
        // The value is written next to its bar, but must not overlap the mark.
        if x > end - 4.0 && x < end + 7.0 + 8.0 * bar.text.len() as f64 {
            end = x;
        }
    }
    writeln!(text, "  <text x=\"{:.1}\" y=\"{base:.1}\">{}</text>", end + 7.0, escaped(&bar.text)).ok();
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|value| *value >= least * 0.999);
    found.unwrap_or(10.0 * power)
}

fn tick(value: f64, step: f64) -> String {
    if step >= 1.0 { format!("{value:.0}") } else { format!("{value:.*}", (-step.log10()).ceil() as usize) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_steps() {
        for (least, expect) in [(0.7, 1.0), (1.0, 1.0), (1.3, 2.0), (0.03, 0.05), (6_000.0, 10_000.0)] {
            assert!((nice(least) - expect).abs() < expect * 1e-9, "{least}: {}", nice(least));
        }
        assert_eq!([tick(0.0, 0.5), tick(1.5, 0.5), tick(0.05, 0.05), tick(20.0, 10.0)], ["0.0", "1.5", "0.05", "20"]);
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
