//! Plots of real runs, as small SVG files that are legible on light and on dark pages.

use std::fmt::Write as _;

use crate::experiment::{Market, Settings};
use crate::hexagon::SIDE_M;
use crate::shock;
use crate::statistics::{Estimate, estimate};
use crate::world::SLOT_SECS;

/// The seconds of the day that values are drawn of.
const MOMENTS: [u32; 6] = [3 * 3_600, 8 * 3_600, 12 * 3_600, 15 * 3_600, 18 * 3_600, 22 * 3_600];
/// From little to much: viridis (S. van der Walt and N. Smith, 2015), a little lighter at its dark end.
const SHADES: [&str; 8] = ["#46327e", "#3f5a94", "#31688e", "#27808e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
const COLOURS: [&str; 3] = ["#d95f02", "#1b9e77", "#7570b3"];

/// An SVG file that is being written.
struct Svg(String);

impl Svg {
    fn new(width: u32, height: u32, title: &str) -> Svg {
        Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n\
             <style>text{{font:12px sans-serif;fill:#333}}.axis{{stroke:#888;fill:none}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ddd}}}}</style>\n"
        ))
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    fn axis(&mut self, path: &str) {
        let _ = writeln!(self.0, "<path class=\"axis\" d=\"{path}\"/>");
    }

    fn line(&mut self, path: &str, colour: &str) {
        let _ = writeln!(self.0, "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" d=\"{path}\"/>");
    }

    fn filled(&mut self, path: &str, colour: &str) {
        let _ = writeln!(self.0, "<path fill=\"{colour}\" d=\"{path}\"/>");
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// All plots, by file name.
pub fn plots(settings: &Settings) -> Vec<(&'static str, String)> {
    let market = Market::new(settings);
    vec![
        ("values.svg", values(&market, settings)),
        ("income.svg", income(&market, settings)),
        ("shock.svg", crowd(settings)),
    ]
}

/// What places are worth to V1D3 at six times of a day.
fn values(market: &Market, settings: &Settings) -> String {
    const PANEL: f64 = 150.0;
    let day = market.draw(settings.first_seed, None);
    let seen = market.values(&day, &market.v1d3(), &MOMENTS);
    let most = seen.iter().flatten().copied().fold(0.0, f64::max);
    let side = market.city().hexagons.side_m();
    // Hexagons at the edge reach beyond it.
    let scale = (PANEL - 8.0) / (side + 2.0 * SIDE_M);
    let mut svg = Svg::new(3 * PANEL as u32, 2 * (PANEL as u32 + 20) + 30, "V of the places of a city over a day");
    for (at, (values, moment)) in seen.iter().zip(MOMENTS).enumerate() {
        let (left, top) = ((at % 3) as f64 * PANEL + 4.0, (at / 3) as f64 * (PANEL + 20.0) + 18.0);
        svg.text(left, top - 4.0, "start", &format!("{:02}:00", moment / 3_600));
        let mut paths = vec![String::new(); SHADES.len()];
        for (hexagon, value) in values.iter().enumerate() {
            let centre = market.city().hexagons.centre(hexagon as u32);
            let shade = (value / most * SHADES.len() as f64).clamp(0.0, SHADES.len() as f64 - 1.0) as usize;
            let (x, y) = (left + (centre.x + SIDE_M) * scale, top + (side - centre.y + SIDE_M) * scale);
            let r = SIDE_M * scale;
            let (half, wide) = (r / 2.0, r * 0.866);
            let _ = write!(
                paths[shade],
                "M{x:.1} {:.1}l{wide:.1} {half:.1}v{r:.1}l-{wide:.1} {half:.1}l-{wide:.1}-{half:.1}v-{r:.1}z",
                y - r
            );
        }
        for (path, shade) in paths.iter().zip(SHADES).filter(|(path, _)| !path.is_empty()) {
            svg.filled(path, shade);
        }
    }
    let below = 2.0 * (PANEL + 20.0);
    for (at, shade) in SHADES.iter().enumerate() {
        svg.filled(&format!("M{} {}h20v10h-20z", 40 + 20 * at, below + 8.0), shade);
    }
    svg.text(34.0, below + 18.0, "end", "0");
    svg.text(206.0, below + 18.0, "start", &format!("V = {most:.1} fees"));
    svg.end()
}

/// The income of a day by policy, with intervals.
fn income(market: &Market, settings: &Settings) -> String {
    const ROW: f64 = 30.0;
    let agents = market.agents();
    let mut totals = vec![Vec::new(); agents.len()];
    for seed in settings.days() {
        let day = market.draw(seed, None);
        for (totals, agent) in totals.iter_mut().zip(&agents) {
            totals.push(market.run(&day, agent, &[], false).0.total() / 1_000.0);
        }
    }
    let estimates: Vec<Estimate> = totals.iter().map(|totals| estimate(totals)).collect();
    let least = estimates.iter().map(|e| e.mean - e.half_width).fold(f64::INFINITY, f64::min);
    let most = estimates.iter().map(|e| e.mean + e.half_width).fold(0.0, f64::max);
    let step = libm::pow(10.0, libm::floor(libm::log10((most - least).max(1e-6)))) / 2.0;
    let (low, high) = ((least / step).floor() * step, (most / step).ceil() * step);
    let x = |value: f64| 130.0 + (value - low) / (high - low) * 300.0;
    let bottom = 10.0 + ROW * agents.len() as f64;
    let mut svg = Svg::new(470, bottom as u32 + 50, "Total income of a day by policy");
    svg.axis(&format!("M130 {bottom}H430"));
    let ticks = ((high - low) / step).round() as usize;
    for tick in 0..=ticks {
        let value = low + step * tick as f64;
        svg.axis(&format!("M{:.1} {bottom}v4", x(value)));
        if tick % ticks.div_ceil(6) == 0 {
            svg.text(x(value), bottom + 18.0, "middle", &format!("{value:.0}"));
        }
    }
    let scale = settings.scale;
    let label = format!("thousands of fees a day, a city of {scale} of the size, {} days, 95 %", settings.seeds);
    svg.text(235.0, bottom + 38.0, "middle", &label);
    for (at, (agent, estimate)) in agents.iter().zip(&estimates).enumerate() {
        let y = 10.0 + ROW * (at as f64 + 0.5);
        svg.text(122.0, y + 4.0, "end", &agent.name.replace('_', " "));
        let (from, until) = (x(estimate.mean - estimate.half_width), x(estimate.mean + estimate.half_width));
        svg.line(
            &format!("M{from:.1} {y:.1}H{until:.1}M{from:.1} {:.1}v8M{until:.1} {:.1}v8", y - 4.0, y - 4.0),
            COLOURS[1],
        );
        svg.filled(&format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", x(estimate.mean) - 4.0), COLOURS[1]);
    }
    svg.end()
}

/// The part of a crowd's fares that is won, up to each time, with an interval at the end.
fn crowd(settings: &Settings) -> String {
    let answers = shock::answers(settings);
    let begins = (settings.shock.at / SLOT_SECS) as usize;
    let slots = begins..begins + (settings.shock.secs / SLOT_SECS) as usize + 6;
    let upto = |days: &[Vec<f64>], end: usize| -> Vec<f64> {
        days.iter().map(|day| day[begins..end].iter().sum::<f64>() * 100.0).collect()
    };
    let ends: Vec<Estimate> = answers.iter().map(|answer| estimate(&upto(&answer.won, slots.end))).collect();
    let most = ends.iter().map(|e| e.mean + e.half_width).fold(1.0, f64::max);
    let high = (most / 5.0).ceil() * 5.0;
    let x = |slot: usize| 50.0 + (slot - begins) as f64 / slots.len() as f64 * 300.0;
    let y = |percent: f64| 210.0 - percent / high * 190.0;
    let mut svg = Svg::new(500, 250, "The part of a crowd's fares that is won");
    svg.axis("M50 20V210H350");
    for tick in 0..=(high / 5.0) as u32 {
        let percent = f64::from(tick) * 5.0;
        svg.axis(&format!("M46 {:.1}h4", y(percent)));
        svg.text(42.0, y(percent) + 4.0, "end", &format!("{percent:.0} %"));
    }
    for slot in (begins..=slots.end).step_by(3) {
        svg.axis(&format!("M{:.1} 210v4", x(slot)));
        svg.text(x(slot), 228.0, "middle", &format!("{:02}:{:02}", slot / 6, slot % 6 * 10));
    }
    svg.text(50.0, 12.0, "start", "of the crowd's fares, won up to a time");
    for (answer, colour) in answers.iter().zip(COLOURS) {
        let mut path = format!("M{:.1} {:.1}", x(begins), y(0.0));
        for slot in slots.clone() {
            let _ = write!(path, "L{:.1} {:.1}", x(slot + 1), y(estimate(&upto(&answer.won, slot + 1)).mean));
        }
        svg.line(&path, colour);
    }
    // Names side by side in the order of what was won, not on each other.
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by(|a, b| ends[*b].mean.total_cmp(&ends[*a].mean));
    let mut above = f64::NEG_INFINITY;
    for (rank, at) in order.into_iter().enumerate() {
        let Estimate { mean, half_width } = ends[at];
        let right = 356.0 + 6.0 * rank as f64;
        let (top, bottom) = (y(mean + half_width), y(mean - half_width));
        svg.line(&format!("M{right:.1} {top:.1}V{bottom:.1}"), COLOURS[at]);
        let place = (y(mean) + 4.0).max(above + 14.0);
        svg.text(378.0, place, "start", &format!("{} {mean:.1} %", answers[at].name));
        svg.filled(&format!("M372 {:.1}h4v8h-4z", place - 8.0), COLOURS[at]);
        above = place;
    }
    svg.end()
}
